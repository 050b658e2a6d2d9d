"""What an estimate, an interval and a difference are, and 95 % intervals over cases."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

LEVEL = 0.95
DRAWS = 2000  # 50 draws beyond each end of a 95 % interval


class Interval(NamedTuple):
    """Ends of a 95 % interval and the name of the way it was found; NaN and "none" where there is none."""

    low: float
    high: float
    name: str


NO_INTERVAL = Interval(np.nan, np.nan, "none")


class Estimate(NamedTuple):
    """A value and what each case adds to its error: the variance over cases is the sum of squares of `parts` (n,)."""

    value: float
    parts: np.ndarray

    @property
    def variance(self) -> float:
        return float((self.parts**2).sum())


class Difference(NamedTuple):
    """A difference a - b with its 95 % interval, the test by name, its unrounded p and what varies (`unit`)."""

    difference: float
    low: float
    high: float
    test: str
    p: float
    unit: str
    se_cases: float = np.nan
    se_seeds: float = np.nan
    df: float = np.nan


def t_quantile(df: float) -> float:
    """Half the width of a 95 % interval in standard errors: Student's t, or the normal distribution for df infinite."""
    return float(stdtrit(df, (1 + LEVEL) / 2))


def average(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of estimates on the same cases, as of several seeds; the parts stay paired case by case. ValueError: no
    estimate, or different numbers of cases.
    """
    if len({len(e.parts) for e in estimates}) != 1:
        raise ValueError(f"estimates on the same cases are needed, found {[len(e.parts) for e in estimates]} cases")
    return Estimate(float(np.mean([e.value for e in estimates])), np.mean([e.parts for e in estimates], 0))


def wilson(share: float, n: int) -> Interval:
    """Wilson's score interval (1927) for a share of n independent cases. A mean share over several networks is taken
    as that of one network with as many right: exact where the networks agree, too wide otherwise. No case, or NaN:
    none. ValueError for a share outside [0, 1].
    """
    if not n > 0 or np.isnan(share):
        return NO_INTERVAL
    from statsmodels.stats.proportion import proportion_confint  # slow to import, and a report needs none of it

    _check_share(share)
    low, high = proportion_confint(share * n, n, alpha=1 - LEVEL, method="wilson")
    return Interval(max(float(low), 0.0), min(float(high), 1.0), "wilson")


def _check_share(value: float) -> None:
    if not -1e-9 <= value <= 1 + 1e-9:  # rounding of a mean
        raise ValueError(f"a share lies between 0 and 1, found {value}")


def score_interval(estimate: Estimate, name: str, df: float = np.inf) -> Interval:
    """Wilson's interval for a share-like value (macro F1, AUC) as of n_e cases that would give the same variance:

        n_e = value (1 - value) / variance,    |value - end| = t sqrt(end (1 - end) / n_e)  solved for both ends

    df: degrees of freedom of the variance, see `degrees`. Value 0 or 1: n_e = n. No spread in between (a constant
    score): none.
    """
    value, variance = estimate.value, estimate.variance
    if np.isnan(value):
        return NO_INTERVAL
    _check_share(value)
    if min(value, 1 - value) < 1e-12:
        return wilson(round(value), len(estimate.parts))._replace(name=name)
    if not variance > 1e-18:  # rounding of zero
        return NO_INTERVAL
    squared = t_quantile(df) ** 2 * variance / (value * (1 - value))  # t^2 / n_e
    half = (squared * value * (1 - value) + squared**2 / 4) ** 0.5
    low, high = ((value + squared / 2 + sign * half) / (1 + squared) for sign in (-1, 1))
    return Interval(max(float(low), 0.0), min(float(high), 1.0), name)


def degrees(parts: np.ndarray) -> float:
    """Satterthwaite's degrees of freedom of sum(d^2), 2 (sum d^2)^2 / (sum d^4 - (sum d^2)^2 / n), at least 2.

    Near 1 DeLong's variance of an AUC rests on few cases and needs them. The jackknife's errs on the large side
    (Efron & Stein 1981) and does without: with them the interval of macro F1 covers too often.
    """
    squares, fourths = (parts**2).sum(), (parts**4).sum()
    if np.isnan(squares):
        return np.nan
    rest = fourths / squares**2 - 1 / len(parts) if squares > 0 else 0.0
    return float(max(2 / rest, 2)) if rest > 1e-12 else np.inf


def mean_interval(estimate: Estimate, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    """Value +- t sqrt(variance) with n - 1 degrees of freedom, cut at the bounds; none where nothing varies."""
    n, half = len(estimate.parts), estimate.variance**0.5
    if n < 2 or not half > 1e-12:  # rounding of equal values
        return NO_INTERVAL
    half *= t_quantile(n - 1)
    low, high = np.clip([estimate.value - half, estimate.value + half], *bounds)
    return Interval(float(low), float(high), "t over cases")


def case_weights(groups: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """How often each case is in each bootstrap sample: whole groups (patients) are drawn with replacement. groups
    (n,) -> (draws, n), in memory case by case: what sorts cases by their scores then moves whole rows.
    """
    count, group = numbered(groups)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    return np.ascontiguousarray(drawn.T, dtype=float)[group].T


def numbered(groups: np.ndarray) -> tuple[int, np.ndarray]:
    """How many groups there are, and the number of each case's (n,). ValueError: no case, or one without a group."""
    groups = np.asarray(groups)
    if not len(groups) or pd.isna(groups).any():
        raise ValueError(
            "every case needs a group (its patient, or itself), and there must be a case; found none or NaN"
        )
    names, group = np.unique(groups, return_inverse=True)
    return len(names), group


def bootstrap_interval(values: np.ndarray, name: str = "bootstrap") -> Interval:
    """Percentiles of the values of a metric over bootstrap samples; draws in which it is not defined are left out."""
    values = values[np.isfinite(values)]
    if not len(values) or np.ptp(values) < 1e-12:  # rounding of a constant
        return NO_INTERVAL
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), name)


def variance_over_cases(draws: np.ndarray, groups: int) -> float:
    """Variance over cases from bootstrap draws of a difference, with the factor G / (G - 1) that a bootstrap of G
    groups lacks.
    """
    draws = draws[np.isfinite(draws)]
    return float(draws.var() * groups / (groups - 1)) if len(draws) and groups > 1 else np.nan
