"""Titles of figures, each a finding: frames in, one line out."""

import numpy as np
import pandas as pd

from isnetlib.findings import (
    NOT_SHOWN,
    exploratory,
    hardest,
    main_comparisons,
    number,
    primary,
    reversed_methods,
    rivals,
    verdict,
)
from isnetlib.names import LIMITS, PRIMARY_METHOD, method_name, metric_name, name_of_test_set


def scores_title(seeds: pd.DataFrame, experiment: str) -> str:
    """Metric, the lowest and the highest mean of it on the hardest test set, and the primary method's: of the methods
    that were tested on the most cases (folds), without `reversed_methods`.
    """
    test_set, rows = hardest(seeds, experiment), rivals(primary(seeds, experiment))
    rows = rows[(rows["test_set"] == test_set) & rows["mean"].notna()].sort_values("mean")
    rows = rows[rows["cases"] == rows["cases"].max()]
    reverse = [method for method in reversed_methods(seeds, experiment) if method in set(rows["method"])]
    rows = rows[~rows["method"].isin(reverse)]
    if rows.empty:
        return f"{experiment}: nothing to compare"
    means = {row.method: f"{method_name(row.method)} {number(row.mean)}" for row in rows.itertuples()}
    told = list(means.values())
    parts = [f"from {told[0]} to {told[-1]}" if len(told) > 1 else told[0]]
    parts += [means[method] for method in list(means)[1:-1] if method == PRIMARY_METHOD]
    parts += (
        [f"without {', '.join(map(method_name, reverse))}, which reads the background in reverse"] if reverse else []
    )
    return (
        f"{experiment}, {metric_name(rows['metric'].iloc[0])} on {name_of_test_set(test_set)} cases: {'; '.join(parts)}"
    )


def forest_title(comparisons: pd.DataFrame, experiment: str) -> str:
    """In how many of an experiment's comparisons the primary method is ahead, and behind (`_counted`)."""
    return f"{method_name(PRIMARY_METHOD)}: {_counted(main_comparisons(comparisons, experiment))}"


def p_title(comparisons: pd.DataFrame, experiment: str) -> str:
    """How many of the planned comparisons show a difference, by the adjusted p."""
    rows = [row for _, row in main_comparisons(comparisons, experiment).iterrows() if not exploratory(row)]
    shown = sum(verdict(row) != NOT_SHOWN for row in rows)
    return f"{shown} of {len(rows)} planned comparisons show a difference" if rows else "Exploratory comparisons alone"


def summary_title(rows: pd.DataFrame) -> str:
    """Ahead and behind over all experiments (`_counted`) but those of `LIMITS`. rows: the main comparisons of each."""
    return f"All test sets, with those beside the claim: {_counted(rows[~rows['experiment'].isin(LIMITS)])}"


def _counted(rows: pd.DataFrame) -> str:
    """Ahead and behind of the planned comparisons; of all, where none was planned."""
    rows = [row for _, row in rows.iterrows()]
    planned = [row for row in rows if not exploratory(row)]
    verdicts, kind = [verdict(row) for row in planned or rows], "planned" if planned else "exploratory"
    ahead, behind = verdicts.count("ahead"), verdicts.count("behind")
    return f"ahead in {ahead}, behind in {behind} of {len(verdicts)} {kind} comparisons"


def calibration_title(intervals: pd.DataFrame, experiment: str) -> str:
    """The lowest and the highest calibration error, mean over test sets."""
    rows = intervals[(intervals["experiment"] == experiment) & (intervals["measure"] == "calibration_error")]
    means = rivals(rows).groupby("method")["value"].mean().dropna().sort_values()
    if means.empty:
        return f"{experiment}: no calibration error"
    low, high = (f"{method_name(means.index[k])} {number(means.iloc[k])}" for k in (0, -1))
    where = f"{experiment}, calibration error, mean over test sets"
    return f"{where}: " + (f"from {low} to {high}" if len(means) > 1 else low)


def curve_title(log: pd.DataFrame, metric: str) -> str:
    """Validation as trained against validation with swapped backgrounds at the last epoch, mean over seeds."""
    last = log[log["epoch"] == log.groupby("seed")["epoch"].transform("max")]
    values = [last[f"{kind}_{metric}"].mean() if f"{kind}_{metric}" in last else np.nan for kind in ("val", "swapped")]
    return f"ends at {number(values[0])}, swapped {number(values[1])}"


def search_title(frame: pd.DataFrame) -> str:
    """For how many methods the value chosen is an end of what was tried. frame: rows of search.csv, one experiment."""
    ends, chosen = frame.groupby("method")["value"].agg(["min", "max"]), frame[frame["chosen"]].set_index("method")
    at = int(((chosen["value"] == ends["min"]) | (chosen["value"] == ends["max"])).sum())
    return f"{frame['experiment'].iloc[0]}: for {at} of {len(ends)} methods an end of the range was best"
