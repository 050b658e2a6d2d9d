"""What the comparisons with the primary method show, in sentences, experiment by experiment."""

from collections.abc import Iterator

import pandas as pd

from isnetlib.findings import (
    ALPHA,
    MAIN_TESTS,
    NOT_SHOWN,
    exploratory,
    hint,
    main_comparisons,
    matches,
    number,
    once,
    signed,
    test_sets_of,
    verdict,
)
from isnetlib.names import PRIMARY_METHOD, method_name, metric_name, name_of_test_set
from isnetlib.stats import METRICS


def comparison_sentences(comparisons: pd.DataFrame, experiment: str) -> Iterator[str]:
    """One sentence a test set: which methods the primary one is ahead of, which do better, and where nothing is shown,
    with the smallest difference that would have been found.
    """
    rows, a = main_comparisons(comparisons, experiment), method_name(PRIMARY_METHOD)
    for test_set in test_sets_of(rows):
        own = rows[rows["test_set"] == test_set]
        by_verdict = {said: [] for said in ("ahead", "behind", NOT_SHOWN)}
        for _, row in own.iterrows():
            by_verdict[verdict(row)].append(_compared_name(row))
        ahead, behind, open_ = (", ".join(by_verdict[said]) for said in ("ahead", "behind", NOT_SHOWN))
        parts = [f"{a} does better than {ahead}"] if ahead else [f"{a} is not shown to do better than any other method"]
        parts += [f"{a} does worse than {behind}"] if behind else []
        parts += [f"no difference is shown to {open_}"] if open_ else []
        yield f"{name_of_test_set(test_set).capitalize()}: {'; '.join(parts)}."


def difference_sentences(comparisons: pd.DataFrame, experiment: str, test_set: str | None) -> Iterator[str]:
    """What the comparisons on one test set say of each other method: who does worse than the primary one, who better,
    who is shown to match, and of whom nothing is shown, with the differences.
    """
    rows = main_comparisons(comparisons, experiment)
    rows, primary = rows[rows["test_set"] == test_set], method_name(PRIMARY_METHOD)
    told = {}
    for _, row in rows.iterrows():
        said = "match" if verdict(row) == NOT_SHOWN and matches(row) else verdict(row)
        told.setdefault(said, []).append(f"{method_name(row['b'])} ({signed(-row['difference'])})")
    heads = {
        "ahead": "Shown to do worse than",
        "behind": "Shown to do better than",
        "match": "Shown to match",
        NOT_SHOWN: "Neither is shown of these beside",
    }
    for said, head in heads.items():
        if said in told:
            where = f"on {name_of_test_set(test_set)} cases (difference in brackets, each taken alone)"
            yield f"{head} {primary} {where}: {', '.join(told[said])}."


def contrary_sentences(comparisons: pd.DataFrame, experiment: str) -> Iterator[str]:
    """Where a further metric of classification shows what the primary one does not, a sentence a metric and verdict."""
    rows = comparisons[(comparisons["experiment"] == experiment) & comparisons["test"].isin(MAIN_TESTS)]
    main, primary = main_comparisons(comparisons, experiment), method_name(PRIMARY_METHOD)
    known = {(row["test_set"], row["b"]): verdict(row) for _, row in main.iterrows()}
    found: dict[tuple[str, str], list[str]] = {}
    for _, row in rows[rows["metric"].isin(METRICS) & ~rows["primary"].astype(bool)].iterrows():
        if (said := verdict(row)) not in (NOT_SHOWN, known.get((row["test_set"], row["b"]))):
            told = (
                f"{signed(row['difference'])} to {method_name(row['b'])} on {name_of_test_set(row['test_set'])} cases"
            )
            found.setdefault((row["metric"], said), []).append(told)
    for (metric, said), told in found.items():
        yield f"By {metric_name(metric)}, {primary} is {said}: {', '.join(told)}."


def _compared_name(row: pd.Series) -> str:
    """The other method, whether the comparison is exploratory, and what it could have found where it shows nothing."""
    notes = [hint(row)] if exploratory(row) else []
    if verdict(row) == NOT_SHOWN and pd.notna(row["detectable"]) and not once(row):
        notes.append(f"detectable: {number(row['detectable'])}")
    return method_name(row["b"]) + (f" ({', '.join(notes)})" if notes else "")


def claims(comparisons: pd.DataFrame, experiment: str) -> dict[str, str]:
    """What may be concluded, in three sentences: planned (the family), equivalence, detectable (of the planned
    comparisons, where there are any).
    """
    rows = main_comparisons(comparisons, experiment)
    planned = rows[~rows.apply(exploratory, axis=1).astype(bool)] if len(rows) else rows
    found = {}
    if len(planned):
        verdicts = [verdict(row) for _, row in planned.iterrows()]
        ahead, behind, open_ = (verdicts.count(said) for said in ("ahead", "behind", NOT_SHOWN))
        told = f"{ahead} show {method_name(PRIMARY_METHOD)} ahead, {behind} behind, and {open_} show no difference"
        found["planned"] = f"Of {len(planned)} planned comparisons {told}."
    if len(rows):
        same, margin = rows[rows["p_equivalent"] < ALPHA], rows["margin"].iloc[0]
        pairs = [f"{method_name(row.b)} ({name_of_test_set(row.test_set)})" for row in same.itertuples()]
        names = ", ".join(pairs) or "no method"
        found["equivalence"] = f"Shown to match to within {margin:g}, each taken alone (TOST, p < {ALPHA}): {names}."
    could = (planned if len(planned) else rows)["detectable"].dropna()
    if len(could):
        whose = "of the planned comparisons" if len(planned) else "of the comparisons"
        told = f"The smallest detectable difference {whose}, which four of five repetitions would show,"
        highest = number(could.max()) if could.max() <= 1 else "more than 1, the largest that there can be"
        found["detectable"] = f"{told} lies from {number(could.min())} to {highest}."
    return found
