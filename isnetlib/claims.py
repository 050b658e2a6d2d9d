"""The claim of the papers, comparison by comparison: is the primary method ahead of each of the five rivals where
the background misleads, or where the images come from sources that training never saw?

Frames of all studies in (`tables.read`, by name of the study), one frame and sentences out.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from isnetlib import findings
from isnetlib.names import (
    ELSEWHERE,
    LIMITS,
    METHOD_NAMES,
    PRIMARY_METHOD,
    RIVALS,
    data_kind,
    in_order,
    is_home,
    method_name,
    name_of_test_set,
)

NOT_RUN = "not run"
KEYS = ["study", "experiment", "test_set"]
OF_CSV = "metric difference low high test n seeds_a seeds_b p p_holm detectable margin p_equivalent family".split()
COLUMNS = [*KEYS, "kind", "b", *OF_CSV, "verdict", "words", "line"]
KIND_WORDS = {
    "simulated": "simulated images",
    "real, bias planted": "real images with a planted bias",
    "real": "real images",
}
NEAR = 0.1  # of an AUC to that of guessing
FEWER = " \N{DAGGER}"
FEWER_SENTENCE = (
    "\N{DAGGER} Over fewer cases of the test set than others, for not all folds were run: to be compared with them by "
    "the comparisons alone, which are over the cases that both methods were tested on."
)
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


def main_rows(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The comparisons of the primary metric, with their line in the file; none of experiments that show a limit."""
    rows = frames["comparisons"]
    rows = rows.assign(line=np.arange(len(rows)) + 2)  # the head is line 1
    rows = rows[rows["primary"].astype(bool) & rows["test"].isin(findings.MAIN_TESTS)]
    return rows[~rows["experiment"].isin(LIMITS)]


def _planned(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Those that were planned, on the test sets of the claim."""
    rows = main_rows(frames)
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


def claim_sentences(rows: pd.DataFrame) -> Iterator[str]:
    """What may be said of the claim, in a few sentences: the counts, where a rival is ahead, which differences would
    not have been found, and on how much it rests. rows: `claim`.
    """
    yield from count_sentences(rows)
    own = made(rows)
    behind, neither = (own[own["verdict"] == said] for said in ("behind", findings.NOT_SHOWN))
    if len(behind):
        yield f"{method_name(PRIMARY_METHOD)} is behind on {by_whom(behind)}."
    if len(neither):
        told = "Where no difference is shown, the smallest detectable difference is"
        could = _range(neither["detectable"], findings.number)
        yield f"{told} {could}: differences below it may well be there."
    yield from scope_sentences(rows)


def count_sentences(rows: pd.DataFrame) -> Iterator[str]:
    """In how many comparisons the primary method is ahead, behind, or neither is shown: of all, by kind of images
    where there are several, and by rival. rows: `claim`.
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
        yield f"By kind of images: {'; '.join(f'on {words} {_by_experiment(part)}' for words, part in parts)}."
    rivals = [f"{method_name(rival)} {_counts(part)}" for rival, part in own.groupby("b", sort=False)]
    yield f"By rival: {'; '.join(rivals)}."


def guess_sentences(rows: pd.DataFrame, studies: dict[str, dict[str, pd.DataFrame]]) -> Iterator[str]:
    """In how many of those where it is ahead the primary method's own AUC is near guessing: it is not misled where the
    rival is, and knows hardly more. rows: `claim`.
    """
    ahead = made(rows)
    ahead = ahead[(ahead["verdict"] == "ahead") & (ahead["metric"] == "auc")]
    found = {}
    for (study, experiment, test_set), own in ahead.groupby(KEYS, sort=False):
        at = {"experiment": experiment, "test_set": test_set, "method": PRIMARY_METHOD, "metric": "auc"}
        mean = findings.cell(studies[study]["seeds"], **at)["mean"]
        if abs(mean - 0.5) < NEAR:
            found[f"{experiment} {name_of_test_set(test_set)} {findings.number(mean)}"] = len(own)
    if found:
        told = f"In {sum(found.values())} of those where {method_name(PRIMARY_METHOD)} is ahead, it is near guessing"
        yield f"{told}, where the rivals are misled (AUC, 0.5 is guessing: {', '.join(found)})."


def scope_sentences(rows: pd.DataFrame) -> Iterator[str]:
    """How many of the comparisons made rest on a single training a method, whether any is on images from elsewhere, and
    how many are still to be made. rows: `claim`.
    """
    own = made(rows)
    single = int((own["test"] == findings.OVER_CASES).sum())
    if single:
        told = "intervals over cases alone: each case was tested by one training of a method (a single one, or folds)"
        yield f"{single} of the {len(own)} have {told}, and of other trainings they say nothing."
    if len(own) and not own["test_set"].isin(ELSEWHERE).any():
        yield "No test set of a new source is among them: that part of the claim is not tested yet."
    if 0 < len(own) < len(rows):
        yield f"{len(rows) - len(own)} more are planned, and not made yet: the rival was not run."


def trainings(rows: pd.DataFrame) -> str:
    """How many trainings of a method tested each case, in the comparisons made among rows: "3 to 5", "" of none."""
    own = made(rows)
    once = len(own) and (own["test"] == findings.OVER_CASES).all()
    return "1" if once else from_to(own[["seeds_a", "seeds_b"]].stack())


def from_to(counts: pd.Series) -> str:
    """The least and the greatest of whole numbers: "3 to 5", or "5"; "" of none."""
    return "" if counts.empty else _range(counts, lambda value: f"{int(value)}")


def _counts(rows: pd.DataFrame) -> str:
    """In how many comparisons the primary method is ahead, and behind."""
    ahead, behind = (int((rows["verdict"] == said).sum()) for said in ("ahead", "behind"))
    return f"ahead in {ahead}, behind in {behind} of {len(rows)}"


def _by_experiment(rows: pd.DataFrame) -> str:
    """`_counts`, and those of each experiment where there are several."""
    parts = [f"{name} {_counts(own)}" for name, own in rows.groupby("experiment", sort=False)]
    return _counts(rows) + (f" ({', '.join(parts)})" if len(parts) > 1 else "")


def _range(values: pd.Series, form: Callable[[float], str]) -> str:
    ends = [form(value) for value in (values.min(), values.max())]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def images_words(experiment: str) -> str:
    """What the images of an experiment are, in a few words that follow "on"."""
    kind = data_kind(experiment)
    return DIGITS if experiment == "digits" else KIND_WORDS.get(kind, kind)


def by_whom(rows: pd.DataFrame) -> str:
    """Test sets and the methods b that are ahead, or match, there; test sets with the same methods stand together."""
    places = {}
    for (experiment, test_set), own in rows.groupby(["experiment", "test_set"], sort=False):
        single = dict(zip(own["b"], own.apply(findings.once, axis=1), strict=True))
        others = in_order(own["b"], METHOD_NAMES)
        told = [method_name(name) + " (one training)" * (single[name] and name not in RIVALS) for name in others]
        names = "all five" if set(others) == set(RIVALS) else ", ".join(told)
        places.setdefault(names, []).append(f"{experiment} {name_of_test_set(test_set)}")
    return "; ".join(f"{', '.join(where)} ({names})" for names, where in places.items())


def scores(rows: pd.DataFrame, studies: dict[str, dict[str, pd.DataFrame]]) -> dict:
    """Primary metric, mean over seeds, of every method on each test set of the claim: columns (study, experiment, test
    set, metric), lines (method, its means as text) and partial: whether some are over fewer cases than others of their
    column (`FEWER`), which folds not run leave out.
    """
    keys = [tuple(key) for key in rows[[*KEYS, "metric"]].drop_duplicates().to_numpy()]
    means = {}
    for study, name, test_set, metric in keys:
        own = findings.primary(studies[study]["seeds"], name)
        own = own[own["test_set"] == test_set]
        for row in own.itertuples():
            mark = FEWER * bool(row.cases < own["cases"].max())
            means.setdefault(row.method, {})[study, name, test_set, metric] = findings.number(row.mean) + mark
    lines = [(method, [means[method].get(key, "") for key in keys]) for method in in_order(means, METHOD_NAMES)]
    return {"columns": keys, "lines": lines, "partial": any(FEWER in "".join(cells) for _, cells in lines)}


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
