"""Every method in one table, and what is to be said of a rival that does as well as the primary method.

Frames in, a frame and sentences out; the numbers are those of seeds.csv, comparisons.csv, runs.csv and cost.csv.
"""

from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd

from isnetlib import findings, wording
from isnetlib.names import (
    METHOD_NAMES,
    PLANTED_LABEL,
    PRIMARY_METHOD,
    UPPER_BOUNDS,
    in_order,
    is_home,
    method_name,
    metric_name,
    name_of_test_set,
)

ISNETS = "isnet_"  # the names of the ISNets, and of what is one thing changed in them, start so
MISLED = 0.05  # AUC: almost every pair of cases is ordered wrongly
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
    background in reverse.
    """
    rows, worst = findings.rivals(findings.primary(seeds, experiment)), findings.hardest(seeds, experiment)
    sets = [name for name in findings.test_sets_of(rows) if not is_home(name)]
    tests, apart = findings.main_comparisons(comparisons, experiment), findings.reversed_methods(seeds, experiment)
    for test_set in sets or [worst]:
        at = rows[(rows["test_set"] == test_set) & rows["mean"].notna()]
        others = [m for m in findings.methods(at) if not m.startswith(ISNETS) and m not in apart]
        if PRIMARY_METHOD in set(at["method"]) and others:
            yield from _level_with(at, others, tests[tests["test_set"] == test_set])


def _level_with(rows: pd.DataFrame, others: list[str], tests: pd.DataFrame) -> Iterator[tuple]:
    """`level_rivals` of one test set. rows: the primary metric's there; tests: the comparisons."""
    found, at = findings.leads(rows, tests), rows.set_index("method")["mean"]
    others = [method for method in others if method in found.index]
    level = [method for method in others if found.loc[method, "lead"] >= -MATCH]
    for method in level:
        yield method, _stand(rows["test_set"].iloc[0], rows["metric"].iloc[0], at, found.loc[method], tests)
    if others and not level:
        primary, name = method_name(PRIMARY_METHOD), name_of_test_set(rows["test_set"].iloc[0])
        shown = [findings.verdict(test) == "ahead" for _, test in tests[tests["b"].isin(others)].iterrows()]
        score = f"{metric_name(rows['metric'].iloc[0])} {findings.number(at[PRIMARY_METHOD])}"
        told = f"reaches {primary} on {name} cases, or comes within {MATCH:g} of it ({score};"
        yield None, f"No rival {told} the comparisons show it ahead of {sum(shown)} of {len(others)})."


def _stand(test_set: str, metric: str, at: pd.Series, lead: pd.Series, tests: pd.DataFrame) -> str:
    """How a rival that is level, or above, stands to the primary method, in a sentence. at: mean by method; lead: the
    rival's row of `findings.leads`.
    """
    method, test = lead.name, findings.cell(tests, b=lead.name)
    said = findings.NOT_SHOWN if test is None else findings.verdict(test)
    unplanned = test is not None and findings.exploratory(test)
    stands = _stands(said, bool(lead["above"]), unplanned)
    told = f"{method_name(method)} {stands} {method_name(PRIMARY_METHOD)} on {name_of_test_set(test_set)} cases"
    numbers = f"{findings.number(at[method])} against {findings.number(at[PRIMARY_METHOD])}"
    if pd.notna(lead["shared"]):
        numbers = findings.signed(lead["lead"]) + findings.shared_words(lead["shared"])
    hint = f"; exploratory, {findings.p_value(test['p'])}, not adjusted" if unplanned and said in WORDS else ""
    hint += "; it was trained once" if test is not None and findings.once(test) else ""
    return f"{told} ({metric_name(metric)} {numbers}; {WORDS.get(said, 'the comparison shows no difference')}{hint})."


def better_sentences(seeds: pd.DataFrame, comparisons: pd.DataFrame, experiment: str) -> Iterator[str]:
    """Of `level_rivals` those that comparisons show to do better, a sentence a test set, and who the others are."""
    found, primary = list(level_rivals(seeds, comparisons, experiment)), method_name(PRIMARY_METHOD)
    tests = findings.main_comparisons(comparisons, experiment)
    tests = tests[tests["b"].isin([method for method, _ in found]) & ~tests["test_set"].map(is_home).astype(bool)]
    behind = tests[tests.apply(findings.verdict, axis=1) == "behind"] if len(tests) else tests
    for test_set in findings.test_sets_of(behind):
        own = behind[behind["test_set"] == test_set].set_index("b")
        told = [_noted(own.loc[method]) for method in in_order(own.index, METHOD_NAMES)]
        yield f"Shown to do better than {primary} on {name_of_test_set(test_set)} cases: {', '.join(told)}."
    left = in_order({method for method, _ in found} - {None, *behind["b"]}, METHOD_NAMES)
    if left:
        who = findings.listed([method_name(method) for method in left])
        yield f"Rivals that come near it or have a higher mean on some test set, without a difference shown: {who}."
    yield from (sentence for method, sentence in found if method is None)


def _noted(row: pd.Series) -> str:
    """The other method of a comparison, how far it is ahead, and whether that is a hint alone."""
    hint = f"; {findings.hint(row)}" if findings.exploratory(row) else ""
    return f"{method_name(row.name)} ({findings.signed(-row['difference'])}{hint})"


WORDS = {"ahead": f"the comparison shows {method_name(PRIMARY_METHOD)} ahead", "behind": "the comparison shows it"}


def _stands(said: str, above: bool, unplanned: bool) -> str:
    """How a rival stands to the primary method, of which `said` is the verdict. What was not planned is a hint, and
    beats nobody.
    """
    if said == "behind" and not unplanned:
        return "beats"
    return "has a higher mean than" if above else f"comes within {MATCH:g} of"


def label_sentences(
    frames: dict[str, pd.DataFrame], experiment: str, among: Collection[str] = tuple(METHOD_NAMES)
) -> Iterator[str]:
    """Where the background tells one label of several: by that label's own AUC on deceiving cases, which methods are
    wholly misled, and which are not, of those that are `among`; else nothing. frames: `tables.read`.
    """
    label = PLANTED_LABEL.get(experiment)
    if label is None or "labels" not in frames:
        return
    rows = frames["labels"].query("experiment == @experiment and label == @label")
    at = rows.query("test_set == 'deceiving' and metric == 'auc'").set_index("method")["value"].dropna()
    if PRIMARY_METHOD not in at:
        return
    at = at[at.index.isin(among)]
    misled = [method_name(method) for method in in_order(at.index, METHOD_NAMES) if at[method] < MISLED]
    others = [m for m in in_order(at.index, METHOD_NAMES) if at[m] >= MISLED]
    parts = [f"wholly misled (below {MISLED:g}): {findings.listed(misled)}"] if misled else []
    told = ", ".join(f"{method_name(m)} {findings.number(at[m])}" for m in others)
    means = "0.5 is guessing; means over trainings or folds, of which some may be misled and others have learnt little"
    parts += [f"not wholly ({means}): {told}"] if others else []
    end = " Where two are wholly misled, their mean AUCs differ by the other labels alone." if len(misled) > 1 else ""
    told = f"The background of {experiment} tells one label of several, {label}. By its AUC on deceiving cases"
    yield f"{told} {'; '.join(parts)}.{end}"


def _mean(frame: pd.DataFrame, **where) -> float:
    row = findings.cell(frame, **where)
    return np.nan if row is None else float(row["mean"])
