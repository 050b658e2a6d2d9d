"""95 % intervals over cases, over patients, and over cases and seeds together: pairs (low, high), NaN where none is;
and tests of differences of two methods, as `two_level` gives them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import nctdtr, stdtr, stdtrit

from isnetlib.stats.metrics import Estimate

LEVEL = 0.95
DRAWS = 2000  # 50 draws beyond each end of a 95 % interval
NONE = (np.nan, np.nan)


def t_quantile(df: float) -> float:
    """Half the width of a 95 % interval in standard errors: Student's t, or the normal distribution for df infinite."""
    return float(stdtrit(df, (1 + LEVEL) / 2))


def wilson(share: float, n: float, df: float = np.inf) -> tuple[float, float]:
    """Wilson's score interval (1927) for a share of n independent cases: both ends that solve

        |share - end| = t sqrt(end (1 - end) / n)

    A mean share over several networks is taken as one network's: exact where they agree, too wide otherwise.
    """
    squared = t_quantile(df) ** 2 / n
    centre, half = share + squared / 2, (squared * share * (1 - share) + squared**2 / 4) ** 0.5
    return tuple(np.clip([(centre - half) / (1 + squared), (centre + half) / (1 + squared)], 0, 1).tolist())


def score_interval(estimate: Estimate, df: float = np.inf) -> tuple[float, float]:
    """Wilson's interval for a share-like value (macro F1, AUC) as of the number of cases that would give the same
    variance, value (1 - value) / variance; value 0 or 1: as many cases as there are. df: of the variance (`degrees`).
    """
    value, variance = estimate.value, estimate.variance
    if min(value, 1 - value) < 1e-12:
        return wilson(value, len(estimate.parts))
    if not variance > 1e-18:  # rounding of zero: a constant score
        return NONE
    return wilson(value, value * (1 - value) / variance, df)


def degrees(parts: np.ndarray) -> float:
    """Satterthwaite's degrees of freedom of sum(d^2), 2 (sum d^2)^2 / (sum d^4 - (sum d^2)^2 / n), at least 2.

    Near 1 DeLong's variance of an AUC rests on few cases and needs them. The jackknife's errs on the large side
    (Efron & Stein 1981) and does without: with them the interval of macro F1 covers too often.
    """
    squares, fourths = (parts**2).sum(), (parts**4).sum()
    rest = fourths / squares**2 - 1 / len(parts) if squares > 0 else 0.0
    return float(max(2 / rest, 2)) if rest > 1e-12 else np.inf


def case_weights(groups: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """How often each case is in each bootstrap sample: whole groups (patients) are drawn with replacement. groups
    (n,) -> (draws, n). ValueError: no case, or one without a group.
    """
    groups = np.asarray(groups)
    if not len(groups) or pd.isna(groups).any():
        raise ValueError("every case needs a group (its patient, or itself), and there must be a case")
    names, group = np.unique(groups, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return drawn[:, group].astype(float)


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """Percentiles of the values of a metric over bootstrap samples; draws in which it is not defined are left out."""
    values = values[np.isfinite(values)]
    if not len(values) or np.ptp(values) < 1e-12:  # rounding of a constant
        return NONE
    return tuple(np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist())


class Spread(NamedTuple):
    """A value with its 95 % t interval, standard error and degrees of freedom; NaN where nothing is known to vary."""

    value: float
    low: float
    high: float
    se: float
    df: float

    @property
    def p(self) -> float:
        """Two-sided t test against 0. Where nothing is known to vary only equality can be stated: 1, else NaN."""
        return 1.0 if self.value == 0 else float(2 * stdtr(self.df, -abs(self.value) / self.se))


def t_interval(value: float, parts: list[tuple[float, int]], bounds: tuple[float, float] = (-np.inf, np.inf)) -> Spread:
    """value +- t sqrt(sum of independent variances), cut at the bounds. parts: each variance with its own degrees of
    freedom; Satterthwaite (1946) gives those of the sum.
    """
    variance = sum(v for v, _ in parts)
    if not variance > 1e-24 or not all(df > 0 for v, df in parts if v > 0):  # rounding of zero
        return Spread(value, *NONE, *NONE)
    df = variance**2 / sum(v**2 / df for v, df in parts if v > 0)
    half = t_quantile(df) * variance**0.5
    low, high = np.clip([value - half, value + half], *bounds).tolist()
    return Spread(value, low, high, float(variance**0.5), float(df))


def two_level(case_variance: float, groups: int, *methods, bounds: tuple[float, float] = (-1, 1)) -> Spread:
    """`t_interval` of a method's mean over seeds, or of the difference of two methods' means, with the spread of cases
    and of seeds: variance = case_variance + sum over methods of var(seeds) / number of seeds.

    methods: of one or two, the metric of each seed, all on the same cases; case_variance: over cases, of the mean over
    seeds or the (paired) difference of means; groups: independent cases or patients. Networks of different methods are
    independent, even where seeds carry the same number. Noise between seed and case enters both terms, so the interval
    errs on the wide side (Owen & Eckles 2012). Where a method has one seed, only the cases vary.
    """
    value, parts = float(np.subtract.reduce([*map(np.mean, methods)])), [(case_variance, groups - 1)]
    if min(map(len, methods)) > 1:
        parts += [(np.var(seeds, ddof=1) / len(seeds), len(seeds) - 1) for seeds in methods]
    return t_interval(value, parts, bounds)


# --- tests


def paired_share_variance(difference: float, variance: float, n: int) -> float:
    """Variance of a paired difference of shares after one more case in favour of each side (Bonett & Price 2012, J.
    Educ. Behav. Stat. 37, 479): above 0 even where one method is always right and the other never.

    variance: of the mean over n cases (sum of squares / n^2).
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
    """p of the two one-sided t tests (TOST; Schuirmann 1987) that the difference lies within +- margin, above 0."""
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
