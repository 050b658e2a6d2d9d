"""What is told beside the claim: its rivals on other test sets, methods outside the five, who reads backwards, and the
one label of several that a background tells. studies: frames by table, by study, as `isnetlib.claims` takes them.
"""

from collections.abc import Collection, Iterator

import pandas as pd

from isnetlib import claims, findings, overview
from isnetlib.names import (
    LIMITS,
    METHOD_NAMES,
    PLANTED_LABEL,
    PRIMARY_METHOD,
    RIVALS,
    UPPER_BOUNDS,
    is_home,
    method_name,
    name_of_test_set,
)
from isnetlib.overview import ISNETS


def conclusion(studies: dict[str, dict[str, pd.DataFrame]]) -> Iterator[str]:
    """All that may be said: the claim itself, its rivals on the other test sets, the methods outside the five, who
    reads the background in reverse, and the one label that it tells.
    """
    yield from claims.claim_sentences(rows := claims.claim(studies))
    yield from claims.guess_sentences(rows, studies)
    yield from label_sentences(studies)
    yield from reverse_sentences(studies)
    yield from home_sentences(studies)
    yield from outside_sentences(studies)


def home_sentences(studies: dict[str, dict[str, pd.DataFrame]]) -> Iterator[str]:
    """What the planned comparisons on the other test sets gave, which are no part of the claim, and whom the primary
    method is behind there.
    """
    rows = pd.concat([claims.main_rows(frames).assign(study=study) for study, frames in studies.items()])
    rows = rows[rows["family"].fillna("").ne("") & rows["test_set"].map(is_home).astype(bool)]
    if rows.empty:
        return
    there = {name for frames in studies.values() for name in frames["comparisons"]["experiment"] if name in LIMITS}
    verdicts = rows.apply(findings.verdict, axis=1)
    ahead, behind, level = (int((verdicts == said).sum()) for said in ("ahead", "behind", findings.NOT_SHOWN))
    sets = ", ".join(name_of_test_set(name) for name in findings.test_sets_of(rows))
    counts = f"ahead in {ahead}, behind in {behind}, and in {level} no difference is shown"
    told = f"of {len(rows)} more planned comparisons {method_name(PRIMARY_METHOD)} is {counts}"
    limits = f" ({', '.join(sorted(there))}, where it was expected to lose, is in neither count)" if there else ""
    yield f"On the other test sets ({sets}), which are no part of the claim: {told}{limits}."
    if behind:
        yield f"Of these, {method_name(PRIMARY_METHOD)} is behind on {claims.by_whom(rows[verdicts == 'behind'])}."


def outside_sentences(studies: dict[str, dict[str, pd.DataFrame]]) -> Iterator[str]:
    """Where comparisons on the test sets of the claim show methods outside the five rivals to be ahead of the primary
    method, or to match it. Neither other ISNets nor upper bounds are such methods, nor who reads marks in reverse.
    """
    found = []
    for frames in studies.values():
        rows = claims.main_rows(frames)
        rows = rows[~rows["b"].isin([*RIVALS, *UPPER_BOUNDS]) & ~rows["b"].str.startswith(ISNETS)]
        rows = rows[~rows["test_set"].map(is_home).astype(bool)]
        for experiment, own in rows.groupby("experiment", sort=False):
            found.append(own[~own["b"].isin(findings.reversed_methods(frames["seeds"], experiment))])
    rows = pd.concat(found) if found else pd.DataFrame()
    if rows.empty:
        return
    said = rows.apply(findings.verdict, axis=1)
    ahead, level = said == "behind", (said == findings.NOT_SHOWN) & rows.apply(findings.matches, axis=1)
    primary = method_name(PRIMARY_METHOD)
    within = " or ".join(f"{margin:g}" for margin in sorted(rows["margin"].unique()))
    for those, what in ((ahead, f"ahead of {primary}"), (level, f"matching {primary} to within {within}")):
        if those.any():
            told = f"Methods outside the five (not planned, p not adjusted for their number) {what}"
            yield f"{told}: {claims.by_whom(rows[those])}."


def reverse_sentences(studies: dict[str, dict[str, pd.DataFrame]]) -> Iterator[str]:
    """`findings.reverse_sentences` of every study and experiment."""
    for study, frames in studies.items():
        for experiment in findings.experiments(frames["seeds"]):
            for sentence in findings.reverse_sentences(frames["seeds"], experiment):
                yield f"On {experiment} ({study}), {sentence}"


def label_sentences(
    studies: dict[str, dict[str, pd.DataFrame]], among: Collection[str] = tuple(METHOD_NAMES)
) -> Iterator[str]:
    """`overview.label_sentences` of every study and experiment: means over labels hide the one that is told."""
    for frames in studies.values():
        for name in PLANTED_LABEL:
            yield from overview.label_sentences(frames, name, among)
