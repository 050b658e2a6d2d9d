"""Every method in one table, and what is to be said of a rival that does as well as the primary method.

Frames in, a frame and sentences out; the numbers are those of seeds.csv, comparisons.csv, runs.csv and cost.csv.
"""

from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pandas as pd

from isnetlib import findings, wording
from isnetlib.names import PRIMARY_METHOD, UPPER_BOUNDS, is_home, method_name, metric_name, name_of_test_set

ISNETS = "isnet_"  # the names of the ISNets, and of what is one thing changed in them, start so
MATCH = 0.01  # a mean no more than this below the primary method's counts as doing as well; the same as the gap's goal


def overview(frames: dict[str, pd.DataFrame], experiment: str) -> pd.DataFrame:
    """One row a method: method, upper_bound, the mean of the primary metric on each test set (by its name),
    background_share and dice on the hardest one, parameters (trained), run_time_parameters, training and inference.

    The last three come from cost.csv as measured on the runs' own network (ratios to the standard classifier); NaN
    where that was not measured. frames: `tables.read`.
    """
    seeds = frames["seeds"]
    rows, worst = findings.primary(seeds, experiment), findings.hardest(seeds, experiment)
    runs = frames["runs"][frames["runs"]["experiment"] == experiment]
    cost = own_cost(frames.get("cost"), runs.loc[runs["method"] == "standard", "parameters"].mean())
    found = []
    for method in findings.methods(rows):
        row = {"method": method, "upper_bound": method in UPPER_BOUNDS}
        row |= {name: _mean(rows, method=method, test_set=name) for name in findings.test_sets_of(rows)}
        where = {"experiment": experiment, "method": method, "test_set": worst}
        row |= {metric: _mean(seeds, metric=metric, **where) for metric in ("background_share", "dice")}
        trained = runs[runs["method"] == method]["parameters"]
        found.append(row | {"parameters": trained.mean()} | cost.get(method, _NO_COST))
    return pd.DataFrame(found)


_NO_COST = dict.fromkeys(("run_time_parameters", "training", "inference"), np.nan)


def own_cost(cost: pd.DataFrame | None, parameters: float = np.nan) -> dict[str, dict[str, float]]:
    """By method: run_time_parameters, training (step) and inference as ratios to the standard classifier's, from the
    network of cost.csv that was measured with the most methods, which is the study's own; of equals the last. Empty
    where that network has not the `parameters` of the experiment's own standard classifier, if they are known.
    """
    if cost is None or cost.empty or "parameters" not in cost:
        return {}
    trained = cost[cost["phase"] == "training"]
    trained = trained[~trained["variant"].str.contains("+", regex=False)]  # options of a method are no further method
    counts = trained.groupby("network", sort=False)["variant"].nunique()
    own = cost[cost["network"] == counts[::-1].idxmax()]
    if np.isfinite(parameters) and not (own.loc[own["variant"] == "standard", "parameters"] == parameters).any():
        return {}
    found = {}
    for method, rows in own.groupby("variant"):
        training, inference = (findings.cell(rows, phase=phase) for phase in ("training", "inference"))
        if training is not None and inference is not None:
            found[method] = {
                "run_time_parameters": inference["parameters"],
                "training": training["ratio_to_plain_step"],
                "inference": inference["ratio_to_plain_inference"],
            }
    return found


def rival_sentences(
    seeds: pd.DataFrame, comparisons: pd.DataFrame, experiment: str, reasons: bool = True
) -> Iterator[str]:
    """What `level_rivals` finds in sentences, each with the reason why it might be so, where that is wanted."""
    for method, sentence in level_rivals(seeds, comparisons, experiment):
        yield f"{sentence} Why it might: {wording.WHY[method]}." if reasons and method in wording.WHY else sentence


def level_rivals(seeds: pd.DataFrame, comparisons: pd.DataFrame, experiment: str) -> Iterator[tuple[str | None, str]]:
    """Each rival whose mean is above the primary method's, or no more than `MATCH` below, on the test sets of the claim
    (none: the hardest one), with a sentence: how they stand, and whether the comparison shows a difference. Where there
    is no such rival, None and a sentence that says so. Neither upper bounds nor ISNets are rivals, nor is who reads the
    mark in reverse.
    """
    rows, worst = findings.rivals(findings.primary(seeds, experiment)), findings.hardest(seeds, experiment)
    sets = [name for name in findings.test_sets_of(rows) if not is_home(name)]
    tests, apart = findings.main_comparisons(comparisons, experiment), findings.reversed_methods(seeds, experiment)
    for test_set in sets or [worst]:
        at = rows[rows["test_set"] == test_set].set_index("method")["mean"].dropna()
        others = [m for m in findings.methods(rows) if m in at and not m.startswith(ISNETS) and m not in apart]
        if PRIMARY_METHOD in at and others:
            yield from _level_with(at, others, tests[tests["test_set"] == test_set], test_set, rows["metric"].iloc[0])


def _level_with(at: pd.Series, others: list[str], tests: pd.DataFrame, test_set: str, metric: str) -> Iterator[tuple]:
    """`level_rivals` of one test set. at: mean by method; tests: its comparisons."""
    own, name, primary = at[PRIMARY_METHOD], name_of_test_set(test_set), method_name(PRIMARY_METHOD)
    level = [method for method in others if at[method] >= own - MATCH]
    for method in level:
        test = findings.cell(tests, b=method)
        said = findings.NOT_SHOWN if test is None else findings.verdict(test)
        above = findings.rounded(at[method]) - findings.rounded(own)  # as printed
        unplanned = test is not None and findings.exploratory(test)
        told = f"{method_name(method)} {_stands(said, above, unplanned)} {primary} on {name} cases"
        numbers = f"{metric_name(metric)} {findings.number(at[method])} against {findings.number(own)}"
        alone = unplanned and said != findings.NOT_SHOWN
        hint = f"; exploratory, {findings.p_value(test['p'])}, not adjusted" if alone else ""
        yield method, f"{told} ({numbers}; {SAID[said]}{hint})."
    if not level:
        told = f"reaches {primary} on {name} cases, or comes within {MATCH:g} of it"
        yield None, f"No rival {told} ({metric_name(metric)} {findings.number(own)})."


SAID = {
    "ahead": f"the comparison shows {method_name(PRIMARY_METHOD)} ahead",
    "behind": "the comparison shows it",
    findings.NOT_SHOWN: "the comparison shows no difference",
}


def _stands(said: str, above: Decimal, unplanned: bool) -> str:
    """How a rival stands to the primary method: said is the verdict on the latter, above the difference of the printed
    means. What was not planned is a hint, and beats nobody.
    """
    if said == "behind" and not unplanned:
        return "beats"
    return "has a higher mean than" if above > 0 else f"comes within {MATCH:g} of"


def _mean(frame: pd.DataFrame, **where) -> float:
    row = findings.cell(frame, **where)
    return np.nan if row is None else float(row["mean"])
