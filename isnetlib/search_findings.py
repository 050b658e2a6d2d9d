"""The search for loss weights, from search.csv: how much was tried, and where the best value lies at an end."""

from collections.abc import Iterator

import pandas as pd

from isnetlib.findings import experiments, listed, methods, number
from isnetlib.names import method_name

GUESSING = 0.6  # AUC: hardly better than answers at random


def effort_sentence(frames: list[pd.DataFrame]) -> str:
    """How many values were tried of how many methods, over the search.csv of all studies; "" without any."""
    if not frames:
        return ""
    rows = pd.concat([frame.assign(table=k) for k, frame in enumerate(frames)])
    tried = rows.groupby(["table", "experiment", "method"]).size()
    values = f"{tried.min()}" if tried.min() == tried.max() else f"{tried.min()} to {tried.max()}"
    where = ", ".join(experiments(rows))
    told = f"{values} values of it were tried, judged by validation images alone"
    return f"Where a method has a loss weight, {told} ({rows['method'].nunique()} methods; {where})."


def range_sentence(frames: list[pd.DataFrame]) -> str:
    """Which methods had every value tried with several ranges of the foreground, and so more trials than the others;
    "" of none. frames: range_trials.csv of all studies.
    """
    if not frames:
        return ""
    rows = pd.concat(frames)
    ranges = rows.groupby(["experiment", "method"])["range_high"].agg(["nunique", "size"])
    several = ranges[ranges["nunique"] > 1].reset_index()
    if several.empty:
        return ""
    who = listed([method_name(method) for method in methods(several)])
    pairs = rows[["range_low", "range_high"]].drop_duplicates().sort_values("range_high")
    ends = [f"{low:g} to {high:g}" for low, high in pairs.to_numpy()]
    where = ", ".join(experiments(several))
    told = f"{who} had up to {several['size'].max()} trials: on {where} every value was tried with several ranges"
    return f"{told} that the relevance inside the mask is kept within ({', '.join(ends)})."


def edge_sentences(frame: pd.DataFrame) -> Iterator[str]:
    """One sentence an experiment: for which methods the value chosen is the largest or the smallest that was tried."""
    for experiment in experiments(frame):
        rows = frame[frame["experiment"] == experiment]
        at = {"largest": [], "smallest": []}
        for method in methods(rows):
            own = rows[rows["method"] == method]
            for row in own[own["chosen"].astype(bool)].itertuples():
                name = f"{method_name(method)} ({row.option} {row.value:g})"
                for end, value in (("largest", own["value"].max()), ("smallest", own["value"].min())):
                    at[end] += [name] if row.value == value and len(own) > 1 else []
        told = [f"the {end} that was tried for {listed(found)}" for end, found in at.items() if found]
        if told:
            yield f"On {experiment} the loss weight chosen is {', '.join(told)}: one beyond might serve better."
        yield from failed_sentences(rows, experiment)


def failed_sentences(rows: pd.DataFrame, experiment: str) -> Iterator[str]:
    """The methods for which no value that was tried had an AUC of `GUESSING` by the rule. rows: of an experiment."""
    for method in methods(rows[rows["metric"] == "auc"]):
        own = rows[rows["method"] == method]
        best = own[["swapped", "internal"]].min(axis=1).max()
        if best < GUESSING:
            told = f"On {experiment} no value tried for {method_name(method)} reached an AUC of {GUESSING:g} both"
            lower = f"on images as they are and with swapped backgrounds (the lower of the two at best {number(best)})"
            yield f"{told} {lower}: at every value it reads the background, or has not learnt."
