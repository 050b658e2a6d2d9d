"""Tests of right and wrong answers on the same independent cases."""

import numpy as np

from isnetlib.stats.intervals import Difference, t_quantile

EXACT_BELOW = 10_000  # discordant cases: exact below, where it takes no time; chi-squared from there on


def paired_share_variance(difference: float, variance: float, n: int) -> float:
    """Variance of a paired difference of shares after one more case in favour of each side (Bonett & Price 2012, J.
    Educ. Behav. Stat. 37, 479).

    variance: of the mean over n cases (sum of squares / n^2); it stays above 0 where one method is always right and
    the other never. ValueError: no case."""
    if n < 1:
        raise ValueError("a difference of shares needs at least one case")
    squares = n * (n * variance + difference**2) + 2
    return (squares - (n * difference) ** 2 / (n + 2)) / (n + 2) ** 2


def mcnemar(a: np.ndarray, b: np.ndarray) -> Difference:
    """McNemar's test of two classifiers on the same independent cases, exact up to 10,000 discordant ones; interval by
    Bonett & Price. a, b (n,) right or wrong.
    """
    from statsmodels.stats import contingency_tables  # takes longer to import than all that a report needs

    a, b = _right_or_wrong([a, b], "McNemar's test")
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    table = [[int((a & b).sum()), only_a], [only_b, int((~a & ~b).sum())]]
    centre = (only_a - only_b) / (n + 2)
    difference = (only_a - only_b) / n
    variance = paired_share_variance(difference, ((only_a + only_b) / n - difference**2) / n, n)
    half = t_quantile(np.inf) * variance**0.5
    low, high = np.clip([centre - half, centre + half], -1, 1)
    exact = only_a + only_b < EXACT_BELOW
    p = float(contingency_tables.mcnemar(table, exact=exact, correction=False).pvalue)
    name = "McNemar, exact" if exact else "McNemar, chi-squared"
    return Difference(difference, float(low), float(high), name, p, "cases", variance**0.5, df=np.inf)


def cochran(right: np.ndarray) -> tuple[float, int, float]:
    """Cochran's Q (1950, Biometrika 37, 256) of several classifiers on the same independent cases: are all equally
    often right? right (n, methods) -> (Q, degrees of freedom, p). No case on which they differ: Q = 0, p = 1.
    """
    right = np.stack(_right_or_wrong(list(np.asarray(right).T), "Cochran's test"), 1)
    if right.shape[1] < 2:
        raise ValueError("Cochran's test needs at least two methods")
    if (right == right[:, :1]).all():
        return 0.0, right.shape[1] - 1, 1.0
    from statsmodels.stats.contingency_tables import cochrans_q

    found = cochrans_q(right.astype(float))
    return float(found.statistic), right.shape[1] - 1, float(found.pvalue)


def _right_or_wrong(columns: list, test: str) -> list[np.ndarray]:
    columns = [np.asarray(column) for column in columns]
    if len({column.shape for column in columns}) > 1 or not columns or columns[0].ndim != 1 or not len(columns[0]):
        raise ValueError(f"{test} needs the same cases for all, found {[column.shape for column in columns]}")
    if not all(np.isin(column, (0, 1)).all() for column in columns):
        raise ValueError(f"{test} needs 1 (right) or 0 (wrong) for every case; NaN is neither")
    return [column.astype(bool) for column in columns]
