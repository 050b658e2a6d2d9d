"""95 % intervals over cases, over patients, over seeds, and over cases and seeds together."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from isnetlib.stats.metrics import Estimate

LEVEL = 0.95
DRAWS = 2000  # 50 draws beyond each end of a 95 % interval


class Interval(NamedTuple):
    """Ends of a 95 % interval and the name of the way it was found; NaN and "none" where there is none."""

    low: float
    high: float
    name: str


NO_INTERVAL = Interval(np.nan, np.nan, "none")


def t_quantile(df: float) -> float:
    """Half the width of a 95 % interval in standard errors: Student's t, or the normal distribution for df infinite."""
    return float(stdtrit(df, (1 + LEVEL) / 2))


def around(value: float, half: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """value +- half, cut at the bounds."""
    low, high = np.clip([value - half, value + half], *bounds)
    return float(low), float(high)


def wilson(share: float, n: float, name: str = "wilson", df: float = np.inf) -> Interval:
    """Wilson's score interval (1927) for a share of n independent cases:

        |share - end| = t sqrt(end (1 - end) / n)  solved for both ends

    A mean share over several networks is taken as that of one network with as many right: exact where the networks
    agree, too wide otherwise. No case, or NaN: none. ValueError for a share outside [0, 1].
    """
    if not n > 0 or np.isnan(share):
        return NO_INTERVAL
    if not -1e-9 <= share <= 1 + 1e-9:  # rounding of a mean
        raise ValueError(f"a share lies between 0 and 1, found {share}")
    share, squared = min(max(share, 0.0), 1.0), t_quantile(df) ** 2 / n
    half = (squared * share * (1 - share) + squared**2 / 4) ** 0.5
    return Interval(*around((share + squared / 2) / (1 + squared), half / (1 + squared), (0, 1)), name)


def score_interval(estimate: Estimate, name: str, df: float = np.inf) -> Interval:
    """Wilson's interval for a share-like value (macro F1, AUC) as of the number of cases that would give the same
    variance, value (1 - value) / variance. df: the variance's degrees of freedom, see `degrees`.

    Value 0 or 1: as many cases as there are. No spread in between (a constant score): none.
    """
    value, variance = estimate.value, estimate.variance
    if min(value, 1 - value) < 1e-12:  # a value that is no share is refused by `wilson`
        return wilson(value, len(estimate.parts), name)
    if not variance > 1e-18:  # rounding of zero
        return NO_INTERVAL
    return wilson(value, value * (1 - value) / variance, name, df)


def degrees(parts: np.ndarray) -> float:
    """Satterthwaite's degrees of freedom of sum(d^2), 2 (sum d^2)^2 / (sum d^4 - (sum d^2)^2 / n), at least 2.

    Near 1 DeLong's variance of an AUC rests on few cases and needs them. The jackknife's errs on the large side
    (Efron & Stein 1981) and does without: with them the interval of macro F1 covers too often.
    """
    squares, fourths = (parts**2).sum(), (parts**4).sum()
    rest = fourths / squares**2 - 1 / len(parts) if squares > 0 else 0.0
    return float(max(2 / rest, 2)) if rest > 1e-12 else np.inf


def mean_interval(estimate: Estimate, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    """Value +- t sqrt(variance) with n - 1 degrees of freedom, cut at the bounds; none where nothing varies."""
    n, error = len(estimate.parts), estimate.variance**0.5
    if n < 2 or not error > 1e-12:  # rounding of equal values
        return NO_INTERVAL
    return Interval(*around(estimate.value, t_quantile(n - 1) * error, bounds), "t over cases")


def case_weights(groups: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """How often each case is in each bootstrap sample: whole groups (patients) are drawn with replacement. groups
    (n,) -> (draws, n), in memory case by case, which is fast to sort. ValueError: no case, or one without a group.
    """
    groups = np.asarray(groups)
    if not len(groups) or pd.isna(groups).any():
        raise ValueError("every case needs a group (its patient, or itself), and there must be a case")
    names, group = np.unique(groups, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return np.ascontiguousarray(drawn.T, dtype=float)[group].T


def bootstrap_interval(values: np.ndarray, name: str = "bootstrap") -> Interval:
    """Percentiles of the values of a metric over bootstrap samples; draws in which it is not defined are left out."""
    values = values[np.isfinite(values)]
    if not len(values) or np.ptp(values) < 1e-12:  # rounding of a constant
        return NO_INTERVAL
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), name)


def variance_over_cases(draws: np.ndarray, groups: int) -> float:
    """Variance over cases from bootstrap draws, with the factor G / (G - 1) that a bootstrap of G groups lacks."""
    draws = draws[np.isfinite(draws)]
    return float(draws.var() * groups / (groups - 1)) if len(draws) and groups > 1 else np.nan


def satterthwaite(parts: list[tuple[float, int]]) -> tuple[float, float]:
    """Sum of independent variances, given with their degrees of freedom, and its own; NaN where there are none."""
    variance = sum(v for v, _ in parts)
    if not variance > 1e-24 or not all(df > 0 for v, df in parts if v > 0):
        return variance, np.nan
    return variance, variance**2 / sum(v**2 / df for v, df in parts if v > 0)


def over_seeds(values, bounds: tuple[float, float], case_variance: float = 0.0, groups: int = 0) -> Interval:
    """Of the mean over seeds, cut at the metric's bounds: t with the spread of the seeds and, where groups says how
    many, of the independent cases, as `two_level` for one method. values (seeds,); one seed: none.
    """
    count, df = len(values), np.nan
    if count > 1:
        variance, df = satterthwaite([(case_variance, groups - 1), (np.var(values, ddof=1) / count, count - 1)])
    if np.isnan(df):
        return NO_INTERVAL
    ends = around(float(np.mean(values)), t_quantile(df) * variance**0.5, bounds)
    return Interval(*ends, "two-level t" if groups else "t over seeds")
