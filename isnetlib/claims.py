"""The claim of the papers, comparison by comparison: is the primary method ahead of each of the five rivals where
the background misleads, or where the images come from sources that training never saw?

Frames of all studies in (`tables.read`, by name of the study), one frame and sentences out.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from isnetlib import findings
from isnetlib.names import (
    LIMITS,
    METHOD_NAMES,
    METRIC_NAMES,
    PRIMARY_METHOD,
    RIVALS,
    UPPER_BOUNDS,
    data_kind,
    in_order,
    is_home,
    method_name,
    name_of_test_set,
)
from isnetlib.overview import ISNETS

NOT_RUN = "not run"
REVERSED = 0.1  # deceiving above biased by more than this, of the metric: several times a usual margin of equivalence
KEYS = ["study", "experiment", "test_set"]
OF_CSV = "metric difference low high p p_holm detectable margin p_equivalent family".split()
COLUMNS = [*KEYS, "kind", "b", *OF_CSV, "verdict", "words", "line"]
KIND_WORDS = {
    "simulated": "simulated images",
    "real, bias planted": "real images with a planted bias",
    "real": "real images",
}
DIGITS = "handwritten digits with a planted mark"  # real images, too, but nobody should take them for films


def claim(studies: dict[str, dict[str, pd.DataFrame]]) -> pd.DataFrame:
    """One row a study, experiment, test set of the claim and rival b: `OF_CSV` of its row in comparisons.csv, kind (of
    images), verdict ("ahead", "behind", "no difference shown", "not run"), words (the same, and whether the methods are
    shown to match) and line, that of the row in the file.

    A rival that is not in the table yet has a row without numbers. Experiments without a planned comparison have none,
    nor have those that show a limit (`names.LIMITS`).
    """
    found = []
    for study, frames in studies.items():
        rows = _planned(frames)
        for (experiment, test_set), own in rows.groupby(["experiment", "test_set"], sort=False):
            key = {"study": study, "experiment": experiment, "test_set": test_set, "kind": data_kind(experiment)}
            found += [key | _row(own, rival) for rival in in_order(RIVALS, METHOD_NAMES)]
    frame = pd.DataFrame(found, columns=COLUMNS)
    order = {name: k for k, name in enumerate(findings.test_sets_of(frame))}
    places = [frame["study"].map(list(studies).index), frame["experiment"], frame["test_set"].map(order)]
    return frame.iloc[np.lexsort(places[::-1])].reset_index(drop=True) if len(frame) else frame


def _main(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The comparisons of the primary metric, with their line in the file; none of experiments that show a limit."""
    rows = frames["comparisons"]
    rows = rows.assign(line=np.arange(len(rows)) + 2)  # the head is line 1
    rows = rows[rows["primary"].astype(bool) & rows["test"].isin(findings.MAIN_TESTS)]
    return rows[~rows["experiment"].isin(LIMITS)]


def _planned(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Those that were planned, on the test sets of the claim."""
    rows = _main(frames)
    return rows[rows["family"].fillna("").ne("") & ~rows["test_set"].map(is_home).astype(bool)]


def _row(rows: pd.DataFrame, rival: str) -> dict:
    row = findings.cell(rows, b=rival)
    if row is None:
        return {"b": rival, "metric": rows["metric"].iloc[0], "verdict": NOT_RUN, "words": NOT_RUN}
    told = {"verdict": findings.verdict(row), "words": findings.verdict_words(row), "line": int(row["line"])}
    return {"b": rival} | {name: row[name] for name in OF_CSV} | told


def made(rows: pd.DataFrame) -> pd.DataFrame:
    """The comparisons of `claim` that were made."""
    return rows[rows["verdict"] != NOT_RUN]


def title(rows: pd.DataFrame) -> str:
    """In how many of the comparisons made the primary method is ahead, and behind, for a figure. rows: `claim`."""
    verdicts = list(made(rows)["verdict"])
    counts = f"ahead in {verdicts.count('ahead')}, behind in {verdicts.count('behind')} of {len(verdicts)}"
    return f"{method_name(PRIMARY_METHOD)}: {counts} planned comparisons"


def conclusion(studies: dict[str, dict[str, pd.DataFrame]]) -> Iterator[str]:
    """All that may be said: the claim itself, its rivals on the other test sets, the methods outside the five, and who
    reads the background in reverse.
    """
    yield from claim_sentences(claim(studies))
    yield from home_sentences(studies)
    yield from outside_sentences(studies)
    yield from reverse_sentences(studies)


def claim_sentences(rows: pd.DataFrame) -> Iterator[str]:
    """What may be said of the claim, in one to five sentences: the count, by kind of images where there are several,
    which rivals are ahead or level and where, and what is still to be made. rows: `claim`.
    """
    own, primary = made(rows), method_name(PRIMARY_METHOD)
    if own.empty:
        yield f"No planned comparison with {primary} was made yet."
        return
    ahead, behind, neither = (int((own["verdict"] == said).sum()) for said in ("ahead", "behind", findings.NOT_SHOWN))
    where = "on test sets where the background misleads or the source is new"
    told = f"{primary} is ahead in {ahead}, behind in {behind}, and in {neither} no difference is shown"
    parts = list(own.groupby(own["experiment"].map(images_words), sort=False))
    alone = f", all on {parts[0][0]}" if len(parts) == 1 else ""
    yield f"Of {len(own)} planned comparisons {where}{alone}: {told}."
    if not alone:
        counts = [f"{int((part['verdict'] == 'ahead').sum())} of {len(part)} on {words}" for words, part in parts]
        yield f"{primary} is ahead in {findings.listed(counts)}."
    for said, told in (("behind", f"{primary} is behind"), (findings.NOT_SHOWN, "No difference is shown to")):
        parts = [
            _against(part, int((own["b"] == rival).sum()))
            for rival, part in own[own["verdict"] == said].groupby("b", sort=False)
        ]
        if parts:
            yield f"{told} {'; '.join(parts)}."
    if len(rows) > len(own):
        yield f"{len(rows) - len(own)} more are planned, and not made yet: the rival was not run."


def _against(rows: pd.DataFrame, of: int) -> str:
    """A rival, in how many of its comparisons and where, by how much, and what they could have found."""
    where = ", ".join(f"{row.experiment} {name_of_test_set(row.test_set)}" for row in rows.itertuples())
    differences = _range(rows["difference"], findings.signed)
    told = f"{where}; difference {differences}, smallest detectable {_range(rows['detectable'], findings.number)}"
    return f"{method_name(rows['b'].iloc[0])} in {len(rows)} of {of} ({told})"


def _range(values: pd.Series, form: Callable[[float], str]) -> str:
    ends = [form(value) for value in (values.min(), values.max())]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def images_words(experiment: str) -> str:
    """What the images of an experiment are, in a few words that follow "on"."""
    kind = data_kind(experiment)
    return DIGITS if experiment == "digits" else KIND_WORDS.get(kind, kind)


def home_sentences(studies: dict[str, dict[str, pd.DataFrame]]) -> Iterator[str]:
    """What the planned comparisons on the other test sets gave, which are no part of the claim, and whom the primary
    method is behind there.
    """
    rows = pd.concat([_main(frames).assign(study=study) for study, frames in studies.items()])
    rows = rows[rows["family"].fillna("").ne("") & rows["test_set"].map(is_home).astype(bool)]
    if rows.empty:
        return
    verdicts = rows.apply(findings.verdict, axis=1)
    ahead, behind, level = (int((verdicts == said).sum()) for said in ("ahead", "behind", findings.NOT_SHOWN))
    sets = ", ".join(name_of_test_set(name) for name in findings.test_sets_of(rows))
    counts = f"ahead in {ahead}, behind in {behind}, and in {level} no difference is shown"
    told = f"of {len(rows)} more planned comparisons {method_name(PRIMARY_METHOD)} is {counts}"
    whom = f". Behind: {_by_whom(rows[verdicts == 'behind'])}" if behind else ""
    yield f"On the other test sets ({sets}), which are no part of the claim: {told}{whom}."


def _by_whom(rows: pd.DataFrame) -> str:
    """Test sets and the rivals that are ahead there; test sets with the same rivals stand together."""
    places = {}
    for (experiment, test_set), own in rows.groupby(["experiment", "test_set"], sort=False):
        rivals = [method_name(name) for name in in_order(own["b"], METHOD_NAMES)]
        names = "all five" if len(rivals) == len(RIVALS) else ", ".join(rivals)
        places.setdefault(names, []).append(f"{experiment} {name_of_test_set(test_set)}")
    return "; ".join(f"{', '.join(where)} ({names})" for names, where in places.items())


def outside_sentences(studies: dict[str, dict[str, pd.DataFrame]]) -> Iterator[str]:
    """By study and experiment, the methods outside the five rivals that comparisons on the test sets of the claim show
    to be ahead of the primary method or to match it. Neither other ISNets nor upper bounds are such methods.
    """
    for study, frames in studies.items():
        rows = _main(frames)
        rows = rows[~rows["b"].isin([*RIVALS, *UPPER_BOUNDS]) & ~rows["b"].str.startswith(ISNETS)]
        rows = rows[~rows["test_set"].map(is_home).astype(bool)]
        for experiment, own in rows.groupby("experiment", sort=False):
            parts = [part for name in findings.test_sets_of(own) for part in _outside(own[own["test_set"] == name])]
            if parts:
                yield f"Outside the five, so not planned, on {experiment} ({study}): {'; '.join(parts)}."


def _outside(rows: pd.DataFrame) -> Iterator[str]:
    """`outside_sentences` of one test set: who is ahead, and who is not but matches."""
    where, primary = f"on {name_of_test_set(rows['test_set'].iloc[0])} cases", method_name(PRIMARY_METHOD)
    said = rows.apply(findings.verdict, axis=1)
    ahead, level = said == "behind", (said != "behind") & rows.apply(findings.matches, axis=1)
    for found, one, several, end in (
        (rows[ahead], "is", "are", f"ahead of {primary} {where}"),
        (rows[level], "matches", "match", f"{primary} to within {rows['margin'].iloc[0]:g} {where}"),
    ):
        names = [method_name(method) for method in in_order(found["b"], METHOD_NAMES)]
        if names:
            yield f"{findings.listed(names)} {several if len(names) > 1 else one} {end}"


def reverse_sentences(studies: dict[str, dict[str, pd.DataFrame]]) -> Iterator[str]:
    """Methods that do much better where the mark is that of a wrong class (`REVERSED`): they are misled as others are,
    and to be ahead on deceiving cases is no merit of theirs.
    """
    for study, frames in studies.items():
        seeds = frames["seeds"]
        seeds = seeds[seeds["primary"].astype(bool) & (seeds["selection"] == "swapped")]
        for row in seeds[(seeds["test_set"] == "gap") & (seeds["mean"] < -REVERSED)].itertuples():
            own = seeds[(seeds["experiment"] == row.experiment) & (seeds["method"] == row.method)]
            biased, deceiving = (own[own["test_set"] == name]["mean"].iloc[0] for name in ("biased", "deceiving"))
            scores = f"{findings.number(biased)} on biased and {findings.number(deceiving)} on deceiving cases"
            metric = METRIC_NAMES.get(row.metric, row.metric)
            told = f"{method_name(row.method)} reads the mark in reverse ({metric} {scores}), which is no resistance"
            yield f"On {row.experiment} ({study}), {told}."


def absent(rows: pd.DataFrame, planned: pd.DataFrame) -> list[tuple[str, str]]:
    """(study, experiment) that plans comparisons of the claim but has none in the tables. planned: study, experiment
    and method of every run of the studies, as `study.status` gives it.
    """
    found = []
    for (study, experiment), own in planned.groupby(["study", "experiment"], sort=False):
        methods, there = set(own["method"]), made(rows)
        wanted = PRIMARY_METHOD in methods and methods & set(RIVALS) and experiment not in LIMITS
        if wanted and there[(there["study"] == study) & (there["experiment"] == experiment)].empty:
            found.append((study, experiment))
    return found
