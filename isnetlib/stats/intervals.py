"""95 % intervals over cases, over patients, and over cases and seeds together: pairs (low, high), NaN where none is."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from isnetlib.stats.metrics import Estimate

LEVEL = 0.95
DRAWS = 2000  # 50 draws beyond each end of a 95 % interval
NONE = (np.nan, np.nan)


def t_quantile(df: float) -> float:
    """Half the width of a 95 % interval in standard errors: Student's t, or the normal distribution for df infinite."""
    return float(stdtrit(df, (1 + LEVEL) / 2))


def wilson(share: float, n: float, df: float = np.inf) -> tuple[float, float]:
    """Wilson's score interval (1927) for a share of n independent cases:

        |share - end| = t sqrt(end (1 - end) / n)  solved for both ends

    A mean share over several networks is taken as that of one network with as many right: exact where the networks
    agree, too wide otherwise.
    """
    squared = t_quantile(df) ** 2 / n
    centre, half = share + squared / 2, (squared * share * (1 - share) + squared**2 / 4) ** 0.5
    return tuple(np.clip([(centre - half) / (1 + squared), (centre + half) / (1 + squared)], 0, 1).tolist())


def score_interval(estimate: Estimate, df: float = np.inf) -> tuple[float, float]:
    """Wilson's interval for a share-like value (macro F1, AUC) as of the number of cases that would give the same
    variance, value (1 - value) / variance. df: the variance's degrees of freedom, see `degrees`.

    Value 0 or 1: as many cases as there are. No spread in between (a constant score): none.
    """
    value, variance = estimate.value, estimate.variance
    if min(value, 1 - value) < 1e-12:
        return wilson(value, len(estimate.parts))
    if not variance > 1e-18:  # rounding of zero
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
