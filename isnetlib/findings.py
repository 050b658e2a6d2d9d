"""What the tables say, in words: frames in, numbers as text and sentences out. Nothing is claimed that a condition on
the numbers does not bear out.
"""

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pandas as pd

from isnetlib.names import (
    LOWER_IS_BETTER,
    METHOD_NAMES,
    PRIMARY_METHOD,
    RIVALS,
    TEST_SET_NAMES,
    UPPER_BOUNDS,
    in_order,
    method_name,
    metric_name,
    name_of_test_set,
)

ALPHA = 0.05
MAIN_TESTS = ("two-level t", "paired t over cases")  # one a pair; the others are second looks
NOT_SHOWN = "no difference shown"
NOT_DEFINED = "n/a"
FEW = 7  # more curves than that cannot be told apart
REVERSED = 0.1  # deceiving above biased by more than this, of the metric: several times a usual margin of equivalence


def rounded(value: float, decimals: int = 3) -> Decimal:
    """Of the six decimals that a table holds, so that noise of floats decides nothing; a half goes away from zero."""
    held = Decimal(f"{float(value):.6f}")
    return held.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP) + 0  # + 0: no negative zero


def number(value: float, decimals: int = 3) -> str:
    """With so many decimals; a missing value is "n/a"."""
    return NOT_DEFINED if pd.isna(value) else f"{rounded(value, decimals)}"


def signed(value: float) -> str:
    """Three decimals with a sign; a missing value is "n/a"."""
    return NOT_DEFINED if pd.isna(value) else f"{rounded(value):+}"


def listed(items: list[str]) -> str:
    """a; a and b; a, b and c. An item that holds a comma itself is told apart by semicolons."""
    between = "; " if any(", " in item for item in items) and len(items) > 2 else ", "
    return " and ".join(part for part in (between.join(items[:-1]), *items[-1:]) if part)


def span(low: float, high: float) -> str:
    """[low, high], or the word that there is no interval."""
    return "no interval" if pd.isna(low) or pd.isna(high) else f"[{number(low)}, {number(high)}]"


def p_value(p: float) -> str:
    """p to three decimals, or that it is smaller, or that there is none."""
    return "no p" if pd.isna(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def experiments(frame: pd.DataFrame) -> list[str]:
    return sorted(frame["experiment"].unique())


def methods(frame: pd.DataFrame) -> list[str]:
    return in_order(frame["method"], METHOD_NAMES)


def main_methods(frame: pd.DataFrame) -> list[str]:
    """The methods that curves show: all where they are few, else those of the planned comparisons, if there are any."""
    found = methods(frame)
    planned = [method for method in found if method in (PRIMARY_METHOD, *RIVALS)]
    return planned if len(found) > FEW and len(planned) > 1 else found


def test_sets_of(frame: pd.DataFrame) -> list[str]:
    """Test sets in the order of a report; the gap, which is none, is left out."""
    return [name for name in in_order(frame["test_set"], TEST_SET_NAMES) if name != "gap"]


def primary(frame: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """The rows of an experiment's primary metric."""
    return frame[(frame["experiment"] == experiment) & frame["primary"].astype(bool)]


def rivals(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of methods that may be compared: upper bounds, which see the true masks at test time, are left out."""
    return frame[~frame["method"].isin(UPPER_BOUNDS)]


def cell(frame: pd.DataFrame, **where) -> pd.Series | None:
    """The one row with these values, or None."""
    found = np.ones(len(frame), bool)
    for column, value in where.items():
        found &= (frame[column] == value).to_numpy(bool)
    return frame.iloc[found.argmax()] if found.any() else None


def hardest(seeds: pd.DataFrame, experiment: str) -> str | None:
    """The test set on which the standard classifier (without one: all together) does worst, of equals the last."""
    means = _by_test_set(seeds, experiment)
    return None if means.empty else means[::-1].idxmin()


def easiest(seeds: pd.DataFrame, experiment: str) -> str | None:
    """The test set on which it does best, of equals the first."""
    means = _by_test_set(seeds, experiment)
    return None if means.empty else means.idxmax()


def _by_test_set(seeds: pd.DataFrame, experiment: str) -> pd.Series:
    rows = rivals(primary(seeds, experiment))
    rows = rows[(rows["test_set"] != "gap") & rows["mean"].notna()]
    standard = rows[rows["method"] == "standard"]
    return (standard if len(standard) else rows).groupby("test_set")["mean"].mean()[test_sets_of(rows)]


def reversed_methods(seeds: pd.DataFrame, experiment: str) -> list[str]:
    """Methods that do much better where the mark is that of a wrong class (`REVERSED`): they are misled as others are,
    and to be ahead on deceiving cases is no merit of theirs.
    """
    rows = primary(seeds, experiment)
    return list(rows.loc[(rows["test_set"] == "gap") & (rows["mean"] < -REVERSED), "method"])


def reverse_sentences(seeds: pd.DataFrame, experiment: str) -> Iterator[str]:
    """One sentence for each of `reversed_methods`, with its scores."""
    rows = primary(seeds, experiment)
    for method in in_order(reversed_methods(seeds, experiment), METHOD_NAMES):
        biased, deceiving = (cell(rows, method=method, test_set=name) for name in ("biased", "deceiving"))
        scores = f"{number(biased['mean'])} on biased and {number(deceiving['mean'])} on deceiving cases"
        metric = metric_name(biased["metric"])
        yield f"{method_name(method)} reads the mark in reverse ({metric} {scores}), which is no resistance."


def result_sentences(seeds: pd.DataFrame, comparisons: pd.DataFrame, experiment: str) -> Iterator[str]:
    """Each method on the easiest and the hardest test set, the same two for all, then whose mean on the hardest is
    above the primary one's, and whether the comparisons show it.
    """
    rows, best, worst = primary(seeds, experiment), easiest(seeds, experiment), hardest(seeds, experiment)
    if worst is None:
        return
    name, metric = name_of_test_set(worst), metric_name(rows["metric"].iloc[0])
    at = rows[rows["test_set"] == worst].set_index("method")["mean"].dropna()
    for method in methods(rows):
        one = rows[(rows["method"] == method) & (rows["test_set"] != "gap")].set_index("test_set")["mean"].dropna()
        if method in at and best in one and best != worst:
            values = f"{number(one[best])} on {name_of_test_set(best)} cases and {number(at[method])} on {name} ones"
            yield f"{method_name(method)}: {metric} {values}."
        elif method in at:
            yield f"{method_name(method)}: {metric} {number(at[method])} on {name} cases."
    if PRIMARY_METHOD in at and len(at) > 1:
        tests = main_comparisons(comparisons, experiment)
        apart = [*UPPER_BOUNDS, *reversed_methods(seeds, experiment)]
        yield from _above(at.drop(apart, errors="ignore"), tests[tests["test_set"] == worst], name)


def _above(at: pd.Series, tests: pd.DataFrame, name: str) -> Iterator[str]:
    """The methods whose mean is above the primary one's: those that a comparison shows, and the others. at: mean by
    method; tests: comparisons on the same test set, called `name`.
    """
    primary, shown, others = method_name(PRIMARY_METHOD), [], []
    for method in at.index[at.map(rounded) > rounded(at[PRIMARY_METHOD])]:  # as printed
        test = cell(tests, b=method)
        hint = " (exploratory)" if test is not None and exploratory(test) else ""
        behind = test is not None and verdict(test) == "behind"
        (shown if behind else others).append(method_name(method) + (hint if behind else ""))
    if shown:
        yield f"{listed(shown)} {'do' if len(shown) > 1 else 'does'} better than {primary} on {name} cases."
    if others:
        have = "have" if len(others) > 1 else "has"
        yield f"{listed(others)} {have} a higher mean than {primary} on {name} cases; no difference is shown."
    if not (shown or others):
        yield f"No other method has a higher mean than {primary} on {name} cases."


def exploratory(row: pd.Series) -> bool:
    """Whether a comparison belongs to no family."""
    return pd.isna(row["family"]) or row["family"] == ""


def verdict(row: pd.Series) -> str:
    """Method a is "ahead", "behind" or no difference is shown: by the adjusted p in a family, the plain p outside."""
    p = row["p"] if exploratory(row) else row["p_holm"]
    if pd.isna(p) or p >= ALPHA or row["difference"] == 0:
        return NOT_SHOWN
    return "ahead" if (row["difference"] < 0) == (row["metric"] in LOWER_IS_BETTER) else "behind"


def verdict_words(row: pd.Series) -> str:
    """`verdict` for a table: where no difference is shown, also whether the methods are shown to match (TOST)."""
    if verdict(row) == NOT_SHOWN and matches(row):
        return f"no difference shown; matches to within {row['margin']:g}"
    return verdict(row)


def matches(row: pd.Series) -> bool:
    """Whether two one-sided tests show that the methods differ by less than the margin."""
    return bool(pd.notna(row["p_equivalent"]) and row["p_equivalent"] < ALPHA)


def main_comparisons(comparisons: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """The comparisons of the primary metric over cases and seeds, without the further tests of the same pair."""
    rows = primary(comparisons, experiment)
    return rows[rows["test"].isin(MAIN_TESTS)]


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


def _compared_name(row: pd.Series) -> str:
    """The other method, whether the comparison is exploratory, and what it could have found where it shows nothing."""
    notes = ["exploratory"] if exploratory(row) else []
    if verdict(row) == NOT_SHOWN and pd.notna(row["detectable"]):
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
        told = f"The smallest detectable difference {whose}, one that is found in four of five such studies,"
        found["detectable"] = f"{told} lies from {number(could.min())} to {number(could.max())}."
    return found
