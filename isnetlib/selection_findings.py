"""What the rule that chooses the epoch changes, from metrics.csv (by the named rule) and selection.csv (the other)."""

from collections.abc import Iterator

import pandas as pd

from isnetlib import findings
from isnetlib.names import TEST_SET_NAMES, in_order, method_name, name_of_test_set

UNTRAINED = 0.02  # of the metric: more than that below what in-distribution selection has at home


def selection_table(metrics: pd.DataFrame, selection: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """Primary metric, mean over seeds, by the named rule (swapped) and by in-distribution selection (internal)."""
    keys = ["method", "test_set"]
    means = [findings.primary(frame, experiment).groupby(keys)["value"].mean() for frame in (metrics, selection)]
    table = pd.concat(means, axis=1, keys=["swapped", "internal"]).reset_index()
    table["difference"] = table["swapped"] - table["internal"]
    order = {name: k for k, name in enumerate([*findings.methods(table), *in_order(table["test_set"], TEST_SET_NAMES)])}
    return table.sort_values(["method", "test_set"], key=lambda column: column.map(order), ignore_index=True)


def selection_sentences(
    metrics: pd.DataFrame, selection: pd.DataFrame, seeds: pd.DataFrame, experiment: str
) -> Iterator[str]:
    """What the named rule changes on the hardest test set, method by method."""
    worst, table = findings.hardest(seeds, experiment), selection_table(metrics, selection, experiment)
    for row in table[(table["test_set"] == worst) & table["difference"].notna()].itertuples():
        changed = abs(row.difference) >= 0.0005
        change = f"changes it by {findings.signed(row.difference)}" if changed else "makes no difference"
        told = f"{findings.number(row.internal)} by in-distribution selection; the named rule {change}"
        yield f"{method_name(row.method)}, on {name_of_test_set(worst)} cases: {told}."


def first_epoch_sentences(
    runs: pd.DataFrame, metrics: pd.DataFrame, selection: pd.DataFrame, seeds: pd.DataFrame, experiment: str
) -> Iterator[str]:
    """The methods of which the named rule kept the first epoch that counts in half of their runs or more, if runs.csv
    tells which that is, with their scores by either rule, and which of them that left untrained.
    """
    rows = runs[runs["experiment"] == experiment]
    if "epoch_first" not in rows:
        return
    first = (rows["epoch_swapped"] == rows["epoch_first"]).groupby(rows["method"]).mean() >= 0.5
    table, worst = selection_table(metrics, selection, experiment), findings.hardest(seeds, experiment)
    told, untrained = [], []
    for method in (method for method in findings.methods(rows) if first[method]):
        own = table[table["method"] == method].set_index("test_set")
        if worst in own.index:
            told.append(f"{method_name(method)}, {_by_either(own, worst)}")
            home = own["internal"].idxmax()
            untrained += [method_name(method)] * bool(own["difference"][home] < -UNTRAINED)
    if told:
        yield f"In at least half of their runs the rule kept the first epoch that counts: {'; '.join(told)}."
    if untrained:
        yield f"It left {findings.listed(untrained)} hardly trained, by the scores on cases like the training images."


def _by_either(own: pd.DataFrame, worst: str) -> str:
    """Scores of a method by the rule and by in-distribution selection, on the hardest test set and on the one where the
    latter is best. own: rows of `selection_table` by test set.
    """
    sets = list(dict.fromkeys([worst, own["internal"].idxmax()]))
    ours = " and ".join(f"{findings.number(own['swapped'][name])} on {name_of_test_set(name)} cases" for name in sets)
    other = " and ".join(findings.number(own["internal"][name]) for name in sets)
    return f"{ours} (by in-distribution selection {other})"
