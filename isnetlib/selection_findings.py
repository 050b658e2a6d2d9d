"""What the rule that chooses the epoch changes, from metrics.csv (by the named rule) and selection.csv (the other)."""

from collections.abc import Iterator

import pandas as pd

from isnetlib import findings
from isnetlib.names import TEST_SET_NAMES, in_order, method_name, name_of_test_set


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
