"""Every method in one table, and what is to be said of a rival that does as well as the primary method.

Frames in, a frame and sentences out; the numbers are those of seeds.csv, comparisons.csv, runs.csv and cost.csv.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from isnetlib import findings
from isnetlib.names import PRIMARY_METHOD, UPPER_BOUNDS, WHY, method_name, metric_name, name_of_test_set

MATCH = 0.01  # a mean no more than this below the primary method's is called a match; the same as the gap's goal


def overview(frames: dict[str, pd.DataFrame], experiment: str) -> pd.DataFrame:
    """One row a method: method, upper_bound, the mean of the primary metric on each test set (by its name),
    background_share and dice on the hardest one, parameters (trained), run_time_parameters, training and inference.

    The last three come from cost.csv as measured on the runs' own network (ratios to the standard classifier); NaN
    where that was not measured. frames: `tables.read`.
    """
    seeds = frames["seeds"]
    rows, worst = findings.primary(seeds, experiment), findings.hardest(seeds, experiment)
    runs, cost = frames["runs"], own_cost(frames.get("cost"))
    found = []
    for method in findings.methods(rows):
        row = {"method": method, "upper_bound": method in UPPER_BOUNDS}
        row |= {name: _mean(rows, method=method, test_set=name) for name in findings.test_sets_of(rows)}
        where = {"experiment": experiment, "method": method, "test_set": worst}
        row |= {metric: _mean(seeds, metric=metric, **where) for metric in ("background_share", "dice")}
        trained = runs[(runs["experiment"] == experiment) & (runs["method"] == method)]["parameters"]
        found.append(row | {"parameters": trained.mean()} | cost.get(method, _NO_COST))
    return pd.DataFrame(found)


_NO_COST = dict.fromkeys(("run_time_parameters", "training", "inference"), np.nan)


def own_cost(cost: pd.DataFrame | None) -> dict[str, dict[str, float]]:
    """By method: run_time_parameters, training (step) and inference as ratios to the standard classifier's, from the
    network of cost.csv that was measured with the most methods, which is the study's own; of equals the last.
    """
    if cost is None or cost.empty or "parameters" not in cost:
        return {}
    trained = cost[cost["phase"] == "training"]
    trained = trained[~trained["variant"].str.contains("+", regex=False)]  # options of a method are no further method
    counts = trained.groupby("network", sort=False)["variant"].nunique()
    own = cost[cost["network"] == counts[::-1].idxmax()]
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


def rival_sentences(seeds: pd.DataFrame, comparisons: pd.DataFrame, experiment: str) -> Iterator[str]:
    """Each rival whose mean on the hardest test set is above the primary method's, or no more than `MATCH` below: how
    they stand, whether the comparison shows a difference, and why it might be so. Neither upper bounds nor ISNets are
    rivals.
    """
    rows, worst = findings.rivals(findings.primary(seeds, experiment)), findings.hardest(seeds, experiment)
    at = rows[rows["test_set"] == worst].set_index("method")["mean"].dropna()
    if PRIMARY_METHOD not in at or len(at) < 2:
        return
    own, tests = at[PRIMARY_METHOD], findings.main_comparisons(comparisons, experiment)
    others = [method for method in findings.methods(rows) if method in at and not method.startswith("isnet_")]
    level = [method for method in others if at[method] >= own - MATCH]
    name, metric = name_of_test_set(worst), metric_name(rows["metric"].iloc[0])
    for method in level:
        stands = "beats" if at[method] > own else "matches"
        test = findings.cell(tests, b=method, test_set=worst)
        shown = test is not None and findings.verdict(test) != findings.NOT_SHOWN
        told = f"{method_name(method)} {stands} {method_name(PRIMARY_METHOD)} on {name} cases"
        told += f" ({metric} {findings.number(at[method])} against {findings.number(own)}; "
        told += "the comparison shows a difference)" if shown else "the comparison shows no difference)"
        yield f"{told}. Why it might: {WHY[method]}." if method in WHY else f"{told}."
    if others and not level:
        told = f"reaches {method_name(PRIMARY_METHOD)} on {name} cases, or comes within {MATCH:g} of it"
        yield f"No rival {told} ({metric} {findings.number(own)})."


def _mean(frame: pd.DataFrame, **where) -> float:
    row = findings.cell(frame, **where)
    return np.nan if row is None else float(row["mean"])
