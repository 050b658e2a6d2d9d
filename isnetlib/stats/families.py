"""What is said of several comparisons, and of the size of a difference: Holm, equivalence, what could be detected."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import nctdtr, stdtr

from isnetlib.stats.intervals import LEVEL, t_quantile

POWER = 0.8


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p of one family (Holm 1979): the k-th smallest of m times m - k + 1, never below a smaller one's nor
    above 1. A NaN counts as 1 in the number of tests and stays NaN. ValueError for a p that is none.

    Not statsmodels' `multipletests`, which collects garbage at every call: a sixth of the tables' time.
    """
    p = np.asarray(p, float)
    if ((p < 0) | (p > 1)).any():
        raise ValueError(f"p lies between 0 and 1, found {p.tolist()}")
    if not len(p):
        return p
    order = np.argsort(np.where(np.isnan(p), 1.0, p), kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(np.nan_to_num(p, nan=1.0)[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return np.where(np.isnan(p), np.nan, adjusted)


def equivalence(difference: float, se: float, df: float, margin: float) -> float:
    """p of the two one-sided t tests (TOST; Schuirmann 1987) that the difference lies within +- margin.

    Below 0.05: "matches to within the margin", and the 90 % interval lies inside. NaN where there is no error to judge
    by. ValueError for a margin that is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"the margin of equivalence must be above 0, found {margin}")
    if not se > 0 or not df > 0:
        return np.nan
    return float(max(stdtr(df, -(difference + margin) / se), stdtr(df, (difference - margin) / se)))


def detectable(se: float, df: float, power: float = POWER) -> float:
    """Smallest true difference that a two-sided t test at 5 % finds with the given power, with this error (noncentral
    t). NaN where there is no error to judge by. ValueError for a power that no test has.
    """
    if not 1 - LEVEL < power < 1:
        raise ValueError(f"the power must lie between {1 - LEVEL:.2f}, which chance alone has, and 1, found {power}")
    if not se > 0 or not df > 0:
        return np.nan
    df = min(df, 1e6)  # the noncentral t has no infinite case
    critical = t_quantile(df)

    def missing(shift: float) -> float:  # the tail on the other side is below 1e-6 at such a power
        return 1 - nctdtr(df, shift, critical) - power

    return float(se * brentq(missing, 0.0, 2 * critical + 5, xtol=1e-9))
