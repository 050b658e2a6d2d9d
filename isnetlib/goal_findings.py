"""The goals that were named before the runs (`names.GOALS`): which are met, and by how much the others are missed."""

from collections.abc import Iterator

import pandas as pd

from isnetlib import findings
from isnetlib.names import ABLATIONS, GOALS, NETWORKS, method_name, metric_name, name_of_test_set, primary_metric


def goals(seeds: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """Goals named before the runs: method, test_set, metric, goal, mean (over seeds), met, margin (below 0: missed)."""
    found, own = [], seeds[seeds["experiment"] == experiment]
    for start, test_set, metric, side, value in GOALS.get(experiment, []):
        rows = own[(own["test_set"] == test_set) & (own["metric"] == metric) & own["method"].str.startswith(start)]
        for method in findings.methods(rows[~rows["method"].isin([*ABLATIONS, *NETWORKS])]):
            mean = findings.cell(rows, method=method)["mean"]
            margin = mean - value if side == "at least" else value - mean
            found.append((method, test_set, metric, f"{side} {value:g}", mean, bool(margin >= 0), margin))
    return pd.DataFrame(found, columns=["method", "test_set", "metric", "goal", "mean", "met", "margin"])


def goal_sentences(seeds: pd.DataFrame, experiment: str) -> Iterator[str]:
    """How many goals are met; for each method those that it misses, with the goal, the mean and by how much."""
    frame = goals(seeds, experiment)
    if frame.empty:
        return
    own = frame[frame["method"] != "standard"]
    asked = own["goal"].str.startswith("at least") & (own["metric"] == primary_metric(experiment))
    yield f"{int(frame['met'].sum())} of {len(frame)} goals that were named before the runs are met."
    if len(frame[frame["met"]]) and (frame[frame["met"]]["metric"] == "background_share").all():
        yield "Those that are met ask for small shares of relevance alone, which is what an ISNet is trained for."
    if not asked.any():
        yield "None of them asks how well an ISNet classifies: one that learns nothing has no gap, either."
    missed = frame[~frame["met"]]
    for method in findings.methods(missed):
        told = []
        for row in missed[missed["method"] == method].itertuples():
            where = "" if row.test_set == "gap" else f"{metric_name(row.metric)} on "
            measure = f"{where}{name_of_test_set(row.test_set)}{'' if row.test_set == 'gap' else ' cases'}"
            mean, margin = findings.number(row.mean), findings.number(-row.margin)
            told.append(f"{measure} {mean} ({row.goal} asked, missed by {margin})")
        yield f"{method_name(method)} misses: {'; '.join(told)}."
