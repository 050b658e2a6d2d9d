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
OF_CSV = "metric difference low high p p_holm detectable margin p_equivalent family".split()
COLUMNS = [*KEYS, "kind", "b", *OF_CSV, "verdict", "words", "line"]
KIND_WORDS = {
    "simulated": "with simulated images",
    "real, bias planted": "with real images and a planted bias",
    "real": "with real images",
}


def claim(studies: dict[str, dict[str, pd.DataFrame]]) -> pd.DataFrame:
    """One row a study, experiment, test set of the claim and rival b: `OF_CSV` of its row in comparisons.csv, kind (of
    images), verdict ("ahead", "behind", "no difference shown", "not run"), words (the same, and whether the methods are
    shown to match) and line, that of the row in the file.

    A rival that is not in the table yet has a row without numbers. Experiments without a planned comparison have none,
    nor have those that show a limit (`names.LIMITS`).
    """
    found = []
    for study, frames in studies.items():
        rows = _planned(frames["comparisons"])
        for (experiment, test_set), own in rows.groupby(["experiment", "test_set"], sort=False):
            key = {"study": study, "experiment": experiment, "test_set": test_set, "kind": data_kind(experiment)}
            found += [key | _row(own, rival) for rival in in_order(RIVALS, METHOD_NAMES)]
    frame = pd.DataFrame(found, columns=COLUMNS)
    order = {name: k for k, name in enumerate(findings.test_sets_of(frame))}
    places = [frame["study"].map(list(studies).index), frame["experiment"], frame["test_set"].map(order)]
    return frame.iloc[np.lexsort(places[::-1])].reset_index(drop=True) if len(frame) else frame


def _planned(comparisons: pd.DataFrame) -> pd.DataFrame:
    """The planned comparisons of the primary metric on the test sets of the claim, with their line in the file."""
    rows = comparisons.assign(line=np.arange(len(comparisons)) + 2)  # the head is line 1
    rows = rows[rows["primary"].astype(bool) & rows["test"].isin(findings.MAIN_TESTS)]
    rows = rows[~rows["experiment"].isin(LIMITS)]
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
    """What may be said of the claim, in two to five sentences: the count, by kind of images, which rivals are ahead or
    level and where, and what is still to be made. rows: `claim`.
    """
    own, primary = made(rows), method_name(PRIMARY_METHOD)
    if own.empty:
        yield f"No planned comparison with {primary} was made yet."
        return
    ahead, behind, neither = (int((own["verdict"] == said).sum()) for said in ("ahead", "behind", findings.NOT_SHOWN))
    where = "on test sets where the background misleads or the source is new"
    told = f"{primary} is ahead in {ahead}, behind in {behind}, and in {neither} no difference is shown"
    yield f"Of {len(own)} planned comparisons {where}: {told}."
    parts = [
        f"{int((part['verdict'] == 'ahead').sum())} of {len(part)} {KIND_WORDS.get(kind, f'({kind})')}"
        for kind, part in own.groupby("kind")
    ]
    yield f"{primary} is ahead in {', '.join(parts)}."
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
