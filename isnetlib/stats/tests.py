"""Differences of two methods with their tests, and what may be said of several of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import bdtr, nctdtr, ndtr, stdtr

from isnetlib.stats.intervals import around, satterthwaite, t_quantile
from isnetlib.stats.metrics import Estimate


class Difference(NamedTuple):
    """A difference a - b with its 95 % interval, its unrounded p, and what varies (`unit`)."""

    difference: float
    low: float
    high: float
    test: str
    p: float
    unit: str
    se_cases: float = np.nan
    se_seeds: float = np.nan
    df: float = np.nan


def paired_share_variance(difference: float, variance: float, n: int) -> float:
    """Variance of a paired difference of shares after one more case in favour of each side (Bonett & Price 2012, J.
    Educ. Behav. Stat. 37, 479).

    variance: of the mean over n cases (sum of squares / n^2); it stays above 0 where one method is always right and
    the other never.
    """
    squares = n * (n * variance + difference**2) + 2
    return (squares - (n * difference) ** 2 / (n + 2)) / (n + 2) ** 2


def mcnemar(a: np.ndarray, b: np.ndarray) -> Difference:
    """McNemar's exact test of two classifiers on the same independent cases; interval by Bonett & Price. a, b (n,) 1
    (right) or 0 (wrong). ValueError: other numbers, or different cases.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim != 1 or not len(a) or not np.isin([a, b], (0, 1)).all():
        raise ValueError("McNemar's test needs 1 (right) or 0 (wrong) for each of the same cases, and NaN is neither")
    n, only_a, only_b = len(a), int((a > b).sum()), int((b > a).sum())
    difference = (only_a - only_b) / n
    variance = paired_share_variance(difference, ((only_a + only_b) / n - difference**2) / n, n)
    low, high = around((only_a - only_b) / (n + 2), t_quantile(np.inf) * variance**0.5, (-1, 1))
    p = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
    return Difference(difference, low, high, "McNemar, exact", p, "cases", variance**0.5, df=np.inf)


def delong(a: Estimate, b: Estimate) -> Difference:
    """DeLong's paired test of two AUCs on the same cases: z = (a - b) / sqrt(sum of (part_a - part_b)^2).

    No spread of the difference: p = 1 if the AUCs are equal, else NaN.
    """
    difference, se = a.value - b.value, float((((a.parts - b.parts) ** 2).sum()) ** 0.5)
    if not se > 1e-9:  # rounding of zero
        return Difference(difference, np.nan, np.nan, "DeLong", 1.0 if abs(difference) < 1e-12 else np.nan, "cases")
    low, high = around(difference, t_quantile(np.inf) * se, (-1, 1))
    return Difference(difference, low, high, "DeLong", float(2 * ndtr(-abs(difference) / se)), "cases", se, df=np.inf)


def two_level(a: np.ndarray, b: np.ndarray, case_variance: float, groups: int, limit: float = np.inf) -> Difference:
    """Difference of two methods' means over seeds, with the spread of cases and of seeds: t with Satterthwaite's
    degrees of freedom.

        variance = case_variance + var(a) / len(a) + var(b) / len(b)

    a, b: the metric of each seed, all on the same cases; case_variance: over cases, of the difference of the means over
    seeds (paired); groups: independent cases or patients. Networks of different methods are independent, even where
    seeds carry the same number. Noise between seed and case enters both terms, so the interval errs on the wide side
    (Owen & Eckles 2012). Of one seed, only the cases vary and `unit` says so. NaN of a seed: no interval and no p.
    """
    difference, several = float(np.mean(a) - np.mean(b)), min(len(a), len(b)) > 1
    parts = [(np.var(x, ddof=1) / len(x), len(x) - 1) for x in (a, b)] if several else []
    variance, df = satterthwaite([(case_variance, groups - 1), *parts])
    low = high = np.nan
    p = 1.0 if difference == 0 else np.nan  # where nothing varies, or of one case, only equality can be stated
    if not np.isnan(df):
        low, high = around(difference, t_quantile(df) * variance**0.5, (-limit, limit))
        p = float(2 * stdtr(df, -abs(difference) / variance**0.5))
    test, unit = ("two-level t", "cases x seeds") if several else ("paired t over cases", "cases")
    se_seeds = sum(v for v, _ in parts) ** 0.5 if several else np.nan
    return Difference(difference, low, high, test, p, unit, case_variance**0.5, se_seeds, df)


def holm(p: Sequence[float]) -> np.ndarray:
    """Adjusted p of one family (Holm 1979): the k-th smallest of m times m - k + 1, never below a smaller one's nor
    above 1. A NaN counts as 1 in the number of tests and stays NaN.
    """
    p = np.asarray(p, float)
    order, adjusted = np.argsort(p), np.empty(len(p))  # NaN last
    stepped = np.nan_to_num(p, nan=1.0)[order] * np.arange(len(p), 0, -1)
    adjusted[order] = np.maximum.accumulate(stepped).clip(max=1)
    return np.where(np.isnan(p), np.nan, adjusted)


def equivalence(difference: float, se: float, df: float, margin: float) -> float:
    """p of the two one-sided t tests (TOST; Schuirmann 1987) that the difference lies within +- margin, which is above
    0: below 0.05 the methods match to within the margin. NaN where there is no error to judge by.
    """
    if not se > 0 or not df > 0:
        return np.nan
    return float(max(stdtr(df, -(difference + margin) / se), stdtr(df, (difference - margin) / se)))


def detectable(se: float, df: float) -> float:
    """Smallest true difference that a two-sided t test at 5 % finds with a power of 0.8, with this error (noncentral t;
    its other tail is below 1e-6). NaN where there is no error to judge by.
    """
    if not se > 0 or not df > 0:
        return np.nan
    df = min(df, 1e6)  # the noncentral t has no infinite case
    critical = t_quantile(df)
    return float(se * brentq(lambda shift: 1 - nctdtr(df, shift, critical) - 0.8, 0, 2 * critical + 5, xtol=1e-9))
