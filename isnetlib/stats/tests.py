"""Tests of a difference of two methods, as `two_level` gives it, and of several of them."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import nctdtr, stdtr

from isnetlib.stats.intervals import Spread, t_quantile


def paired_share_variance(difference: float, variance: float, n: int) -> float:
    """Variance of a paired difference of shares after one more case in favour of each side (Bonett & Price 2012, J.
    Educ. Behav. Stat. 37, 479).

    variance: of the mean over n cases (sum of squares / n^2); it stays above 0 where one method is always right and
    the other never.
    """
    squares = n * (n * variance + difference**2) + 2
    return (squares - (n * difference) ** 2 / (n + 2)) / (n + 2) ** 2


def holm(p: Sequence[float]) -> np.ndarray:
    """Adjusted p of one family (Holm 1979): the k-th smallest of m times m - k + 1, never below a smaller one's nor
    above 1. A NaN counts as 1 in the number of tests and stays NaN.
    """
    p = np.asarray(p, float)
    order, adjusted = np.argsort(p), np.empty(len(p))  # NaN last
    stepped = np.nan_to_num(p, nan=1.0)[order] * np.arange(len(p), 0, -1)
    adjusted[order] = np.maximum.accumulate(stepped).clip(max=1)
    return np.where(np.isnan(p), np.nan, adjusted)


def equivalence(found: Spread, margin: float) -> float:
    """p of the two one-sided t tests (TOST; Schuirmann 1987) that the difference lies within +- margin, which is above
    0: below 0.05 the methods match to within the margin.
    """
    return float(stdtr(found.df, (abs(found.value) - margin) / found.se))


def detectable(found: Spread) -> float:
    """Smallest true difference that a two-sided t test at 5 % finds with a power of 0.8, with this error (noncentral t;
    its other tail is below 1e-6).
    """
    if np.isnan(found.df):
        return np.nan
    df = min(found.df, 1e6)  # the noncentral t has no infinite case
    critical = t_quantile(df)
    return found.se * brentq(lambda shift: nctdtr(df, shift, critical) - 0.2, 0, 2 * critical + 5, xtol=1e-9)
