"""What the simulation of coverage.csv says of the intervals that the tables really use, and what it leaves open."""

from collections.abc import Iterator

import pandas as pd

from isnetlib.findings import listed, number
from isnetlib.names import metric_name

CONSERVATIVE = 0.03  # of false positives, where 0.05 are allowed


def coverage_sentences(coverage: pd.DataFrame, seeds: pd.DataFrame, intervals: pd.DataFrame | None) -> Iterator[str]:
    """By measure the interval over cases that seeds.csv uses and in how many settings it holds, then what intervals.csv
    uses, what are alternatives, and what was not simulated.
    """
    rows = coverage[coverage["what"] == "coverage"]
    used = used_intervals(seeds)
    for measure, name in used:
        if len(own := _of(rows, measure, name)):
            yield f"The interval over cases of {metric_name(measure)} is \u201c{name}\u201d: {_holds(own)}."
    further = [] if intervals is None else intervals[["measure", "interval"]].drop_duplicates().itertuples(index=False)
    for measure, name in further:
        if (measure, name) not in used and len(own := _of(rows, measure, name)):
            yield f"That of {metric_name(measure)} in intervals.csv is \u201c{name}\u201d: {_holds(own)}."
    yield from _conservative(coverage[coverage["what"] == "false positives"])
    yield from _left_open(rows, used)


def _conservative(rows: pd.DataFrame) -> Iterator[str]:
    """The tests that find a difference where there is none in far fewer cases than the 5 % allowed."""
    for name, own in rows.groupby("name", sort=False):
        if own["share"].max() < CONSERVATIVE:
            told = f"never in more than {number(own['share'].max())} of studies without a difference"
            yield f"\u201c{name}\u201d is cautious: it errs {told}, so it misses more of those that are there."


def _left_open(rows: pd.DataFrame, used: list[tuple[str, str]]) -> Iterator[str]:
    told = [f"{metric_name(measure)} (\u201c{name}\u201d)" for measure, name in used if _of(rows, measure, name).empty]
    yield "The other intervals of these measures are alternatives, shown to compare."
    if told:
        yield f"Not simulated: the intervals over cases of {listed(told)}."
    if (rows["seeds"] == 1).all():
        yield "All coverage is of one network on many samples of cases: intervals over seeds were not simulated."
    if not rows["measure"].str.contains("difference").any():
        yield (
            "Nor were intervals of differences (comparisons, and the gap): of comparisons only how often p is below "
            "0.05 where there is no difference, the false positives."
        )


def used_intervals(seeds: pd.DataFrame) -> list[tuple[str, str]]:
    """(measure, interval over cases) of seeds.csv, without those that are none; the gap, a difference, is left out."""
    rows = seeds[(seeds["test_set"] != "gap") & (seeds["metric"] != "chance_share")]
    rows = rows[rows["cases_interval"].notna() & (rows["cases_interval"] != "none")]
    return list(rows[["metric", "cases_interval"]].drop_duplicates().itertuples(index=False, name=None))


def _of(rows: pd.DataFrame, measure: str, name: str) -> pd.DataFrame:
    return rows[(rows["measure"] == measure) & (rows["name"] == name)]


def _holds(rows: pd.DataFrame) -> str:
    return f"it holds in {int(rows['holds'].astype(bool).sum())} of {len(rows)} settings"
