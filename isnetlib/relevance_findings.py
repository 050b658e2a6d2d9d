"""Where the networks look, in sentences: the background's share of the relevance, beside its share of the area."""

from collections.abc import Iterator

import pandas as pd

from isnetlib import constants_findings, findings
from isnetlib.findings import listed, number
from isnetlib.names import (
    ELSEWHERE,
    LIMITS,
    PLANTED_LABEL,
    PRIMARY_METHOD,
    UPPER_BOUNDS,
    method_name,
    metric_name,
    name_of_test_set,
)
from isnetlib.overview import ISNETS, MATCH

HIGH = 0.25  # of the background's share of the area: so much relevance there would be read as a sign of dependence
EXAMPLES = 2
FALL = 0.1  # of the metric: far more than chance moves it
METRICS = ("background_share", "chance_share")
BOXES = ("box_hit", "box_chance", "chance_share")


def background_sentences(seeds: pd.DataFrame, experiment: str, constants: pd.DataFrame | None = None) -> Iterator[str]:
    """The background's share of the area on the hardest test set, its share of each method's relevance there, which
    methods have no less of it than of the area, and those of `examples`. constants: constants.csv, where it is there.
    """
    shares, chance = shares_of(seeds, experiment)
    if shares.empty:
        return
    name = name_of_test_set(findings.hardest(seeds, experiment))
    told = "; ".join(f"{method_name(method)} {number(share)}" for method, share in shares.items())
    yield f"On {name} cases the background has {number(chance)} of the area. Its share of the relevance: {told}."
    above = [method_name(method) for method in shares.index[shares >= chance]]
    if above:
        yield f"No less than its share of the area: {listed(above)}."
    yield from examples(seeds, experiment)
    yield from hole_sentences(seeds, experiment, constants)
    yield from box_sentences(seeds, experiment)


def examples(seeds: pd.DataFrame, experiment: str) -> Iterator[str]:
    """Methods whose relevance lies in the background to a large part and that do as well as the primary method on the
    hardest test set: those with the largest shares, at most `EXAMPLES`. Nothing where the object lies outside the mask,
    or where the mean over labels hides who is misled.
    """
    if experiment in LIMITS or experiment in PLANTED_LABEL:
        return
    (shares, chance), worst = shares_of(seeds, experiment), findings.hardest(seeds, experiment)
    rows = findings.primary(seeds, experiment)
    own = rows[rows["test_set"] == worst]
    at = own[own["cases"] == own["cases"].max()].set_index("method")["mean"].dropna()  # of folds, who was in all
    if PRIMARY_METHOD not in at or shares.empty:
        return
    apart = [PRIMARY_METHOD, *UPPER_BOUNDS, *findings.reversed_methods(seeds, experiment)]
    other = shares.drop(apart, errors="ignore").sort_values(ascending=False)
    found = [m for m in other.index[other >= HIGH * chance] if at.get(m, -1.0) >= at[PRIMARY_METHOD] - MATCH]
    for method in found[:EXAMPLES]:
        told = f"{method_name(method)} has {number(shares[method])} of its relevance in the background, and reaches"
        where = f"{metric_name(rows['metric'].iloc[0])} {number(at[method])} on {name_of_test_set(worst)} cases"
        yield f"{told} {where} all the same ({method_name(PRIMARY_METHOD)}: {number(at[PRIMARY_METHOD])})."


def box_sentences(seeds: pd.DataFrame, experiment: str) -> Iterator[str]:
    """How often the pixel with the most relevance lies in a radiologist's box, by method, most often first, with the
    interval over cases and what chance alone would give, anywhere and inside the mask; nothing where no film has boxes.
    """
    rows = seeds[(seeds["experiment"] == experiment) & seeds["metric"].isin(BOXES)]
    for test_set in findings.test_sets_of(rows):
        own = rows[rows["test_set"] == test_set]
        if "box_hit" not in set(own["metric"]):
            continue
        hits = own[own["metric"] == "box_hit"].sort_values("mean", ascending=False, kind="stable")
        told = "; ".join(
            f"{method_name(row.method)} {number(row.mean)} {findings.span(row.cases_low, row.cases_high)}"
            for row in hits.itertuples()
        )
        chances = own.groupby("metric")["mean"].mean()
        chance = f"a pixel drawn at random would in {number(chances['box_chance'])}"
        if "chance_share" in chances:  # boxes may reach beyond the mask
            inside = chances["box_chance"] / (1 - chances["chance_share"])
            chance += f", one drawn inside the mask in at most some {number(inside, 2)}"
        where = f"On {name_of_test_set(test_set)} films with boxes, which radiologists drew around findings"
        cases = f"{int(hits['cases'].max())} films; {chance}"
        yield f"{where}, the pixel with the most relevance lies in a box as often as this ({cases}): {told}."


def hole_sentences(seeds: pd.DataFrame, experiment: str, constants: pd.DataFrame | None = None) -> Iterator[str]:
    """ISNets that hardly look at the background, by their heatmaps, and fall all the same by more than `FALL` from the
    easiest to the hardest test set. Where both hold the same objects, the background must be the reason, on a path that
    `constants` tells.
    """
    shares, chance = shares_of(seeds, experiment)
    rows, worst = findings.primary(seeds, experiment), findings.hardest(seeds, experiment)
    best = findings.easiest(seeds, experiment)
    if worst in ELSEWHERE and (rows["metric"] == "macro_f1").all():  # other classes there, so another scale
        return
    for method in (m for m in shares.index if m.startswith(ISNETS) and shares[m] < HIGH * chance):
        own = rows[rows["method"] == method].set_index("test_set")["mean"]
        if own.get(best, 0.0) - own.get(worst, 0.0) > FALL:
            metric, where = metric_name(rows["metric"].iloc[0]), f"{name_of_test_set(worst)} cases"
            path = "" if worst in ELSEWHERE else constants_findings.path_sentence(constants, experiment, method)
            told = (
                f"{method_name(method)} has only {number(shares[method])} of its relevance in the background on {where}"
            )
            scores = f"{metric} {number(own[best])} on {name_of_test_set(best)} cases to {number(own[worst])}"
            yield f"{told}, and falls from {scores} all the same: {path or _why(rows, best, worst)}."


def _why(rows: pd.DataFrame, best: str, worst: str) -> str:
    """What a fall says: on other cases nothing of the background, where a network without any falls, too."""
    if worst not in ELSEWHERE:
        return (
            "either relevances in the mask cancel, so that a small share outside decides, or the background acts on "
            "a path that the heatmap does not show; which, was not tested"
        )
    cut = rows[rows["method"] == "pipeline"].set_index("test_set")["mean"]
    if not {best, worst} <= set(cut.index):
        return "these are other cases, and why is not shown"
    told = f"{method_name('pipeline')}, which sees little of the background,"
    scores = f"from {number(cut[best])} to {number(cut[worst])}"
    return f"these are other cases, and why is not shown ({told} goes {scores})"


def shares_of(seeds: pd.DataFrame, experiment: str) -> tuple[pd.Series, float]:
    """The background's share of the relevance on the hardest test set by method, in the order of a report, and its
    mean share of the area; an empty series where no mask is known.
    """
    rows = seeds[(seeds["experiment"] == experiment) & (seeds["test_set"] == findings.hardest(seeds, experiment))]
    found = {metric: rows[rows["metric"] == metric].set_index("method")["mean"].dropna() for metric in METRICS}
    shares = found["background_share"]
    return shares[[method for method in findings.methods(rows) if method in shares]], found["chance_share"].mean()


def unmarked_sentence(seeds: pd.DataFrame, experiment: str) -> str:
    """That swapping backgrounds changes nothing on unbiased digits, where the table says so; else ""."""
    rows = seeds[(seeds["experiment"] == experiment) & (seeds["test_set"] == "unbiased")]
    rows = rows[rows["metric"] == "logit_change"]
    if experiment != "digits" or rows.empty or not (rows["mean"].abs() < 0.0005).all():
        return ""
    return "Unbiased digits have no mark, so there a swap changes nothing."
