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
OVER_CASES = "paired t over cases"  # where no two trainings of a method saw the same case
MAIN_TESTS = ("two-level t", OVER_CASES)  # one a pair; the others are second looks
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


def leads(rows: pd.DataFrame, tests: pd.DataFrame) -> pd.DataFrame:
    """How each method stands to the primary one on a test set, by method: lead (its mean less the primary method's),
    above (whether it is, in the digits that are printed) and shared.

    Methods with other folds than the primary one were tested on other cases: their lead is that of the comparison, over
    the `shared` cases (else NaN), and without one they are left out. rows: the primary metric's of one test set, with
    the primary method's; tests: `main_comparisons` there.
    """
    at = rows.dropna(subset="mean").set_index("method")
    own, folds = at.loc[PRIMARY_METHOD], at.get("folds", pd.Series("", at.index)).fillna("").astype(str)
    found = pd.DataFrame({"lead": at["mean"] - own["mean"], "above": at["mean"].map(rounded) > rounded(own["mean"])})
    found["shared"] = np.nan
    for method in at.index[folds != folds[PRIMARY_METHOD]]:
        test = cell(tests, b=method)
        lead = np.nan if test is None else -test["difference"]
        found.loc[method] = [lead, bool(lead > 0 and rounded(lead) > 0), np.nan if test is None else test["n"]]
    return found.dropna(subset="lead")


def shared_words(shared: float) -> str:
    """Of how many cases both methods were tested on, where these are not all; else ""."""
    return "" if pd.isna(shared) else f" on the {int(shared)} cases that both were tested on"


def once(row: pd.Series) -> bool:
    """Whether the other method of a comparison was trained once, and the primary one more often, on the same images."""
    return row["seeds_b"] == 1 < row["seeds_a"]


def reversed_methods(seeds: pd.DataFrame, experiment: str) -> list[str]:
    """Methods that do much better where the mark is that of a wrong class (`REVERSED`): they are misled as others are,
    and to be ahead on deceiving cases is no merit of theirs.
    """
    rows = primary(seeds, experiment)
    if (rows["test_set"] == "gap").any():
        return list(rows.loc[(rows["test_set"] == "gap") & (rows["mean"] < -REVERSED), "method"])
    means = {name: rows[rows["test_set"] == name].set_index("method")["mean"] for name in ("internal", "deceiving")}
    falls = (means["internal"] - means["deceiving"]).dropna()
    return list(falls.index[falls < -REVERSED])


def reverse_sentences(seeds: pd.DataFrame, experiment: str) -> Iterator[str]:
    """One sentence for each of `reversed_methods`, with its scores, and how much they differ between trainings."""
    rows = primary(seeds, experiment)
    home = "biased" if (rows["test_set"] == "biased").any() else "internal"
    for method in in_order(reversed_methods(seeds, experiment), METHOD_NAMES):
        own, deceiving = (cell(rows, method=method, test_set=name) for name in (home, "deceiving"))
        scores = f"{number(own['mean'])} on {home} and {number(deceiving['mean'])} on deceiving cases"
        several = deceiving["n"] > 1 and deceiving["unit"] == "seeds"
        told = f"; standard deviation over {int(deceiving['n'])} trainings {number(deceiving['sd'])}"
        scores += told + ", so not all of them do" * bool(deceiving["sd"] > REVERSED) if several else ""
        metric = metric_name(own["metric"])
        yield f"{method_name(method)} reads the background in reverse ({metric} {scores}), which is no resistance."


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
        tests, apart = tests[tests["test_set"] == worst], [*UPPER_BOUNDS, *reversed_methods(seeds, experiment)]
        yield from _above(leads(rows[rows["test_set"] == worst], tests).drop(apart, errors="ignore"), tests, name)


def _above(found: pd.DataFrame, tests: pd.DataFrame, name: str) -> Iterator[str]:
    """The methods whose mean is above the primary one's: those that a comparison shows, and the others. found: `leads`;
    tests: comparisons on the same test set, called `name`.
    """
    primary, shown, others = method_name(PRIMARY_METHOD), [], []
    for method in found.index[found["above"].astype(bool)]:
        test = cell(tests, b=method)
        note = f" ({hint(test)})" if test is not None and exploratory(test) else ""
        behind = test is not None and verdict(test) == "behind"
        (shown if behind else others).append(method_name(method) + (note if behind else ""))
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


def over_cases(row: pd.Series) -> bool:
    """Whether a comparison allows for other cases alone: each case was tested by one training of a method."""
    return row["test"] == OVER_CASES


def hint(row: pd.Series) -> str:
    """What weakens a comparison that was not planned: that alone, or that the other method was trained once, too."""
    return "exploratory, one training" if once(row) else "exploratory"


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
