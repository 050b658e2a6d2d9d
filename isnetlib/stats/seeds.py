"""Several seeds: their spread, and differences that allow for other seeds and other cases."""

import numpy as np
from scipy.special import stdtr

from isnetlib.stats.intervals import NO_INTERVAL, Difference, Interval, t_quantile


def seed_interval(values: np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)) -> tuple[float, float, Interval]:
    """Mean, standard deviation and t interval of the mean over seeds, cut at the metric's bounds.

    One seed has no spread and no interval; seeds that all agree have no interval; a seed whose metric is not defined
    leaves neither mean nor interval. ValueError: no seed.
    """
    values = _values(values)
    if np.isnan(values).any():
        return np.nan, np.nan, NO_INTERVAL
    if len(values) < 2:
        return float(values.mean()), np.nan, NO_INTERVAL
    sd = float(values.std(ddof=1))
    if sd < 1e-12:  # rounding of equal values
        return float(values.mean()), 0.0, NO_INTERVAL
    half = t_quantile(len(values) - 1) * sd / len(values) ** 0.5
    low, high = np.clip([values.mean() - half, values.mean() + half], *bounds)
    return float(values.mean()), sd, Interval(float(low), float(high), "t over seeds")


def _values(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"the metric of at least one seed is needed, found {values.tolist()}")
    return values


def paired_over_seeds(a: np.ndarray, b: np.ndarray) -> Difference:
    """Paired t test of the metric of the same seeds (same split and order of the data), a - b; the cases are fixed.

    ValueError where the seeds differ in number; one seed, or one difference throughout: no interval (p = 1 if it is 0).
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"paired seeds need as many values of either method, found {a.shape} and {b.shape}")
    mean, sd, interval = seed_interval(a - b, (-np.inf, np.inf))
    name, se = "paired t over seeds", sd / len(a) ** 0.5
    if interval is NO_INTERVAL:
        p = 1.0 if mean == 0 else np.nan
    else:
        p = float(2 * stdtr(len(a) - 1, -abs(mean) / se))
    return Difference(mean, interval.low, interval.high, name, p, "seeds", np.nan, se, len(a) - 1)


def two_level(a: np.ndarray, b: np.ndarray, case_variance: float, groups: int, limit: float = np.inf) -> Difference:
    """Difference of two methods' means over seeds, with the spread of cases and of seeds: t with Satterthwaite's
    degrees of freedom.

        variance = case_variance + var(a) / len(a) + var(b) / len(b)

    a, b: the metric of each seed, all on the same cases; case_variance: the variance over cases of the difference of
    the means over seeds (paired); groups: number of independent cases or patients. Networks of different methods are
    independent, even where their seeds carry the same number. Noise between seed and case enters both terms, so the
    interval errs on the wide side (Owen & Eckles 2012). A percentile bootstrap over 3 to 5 seeds would be far too
    narrow. Where a method has one seed, only the cases vary and `unit` says so. NaN of a seed: no interval and no p.
    ValueError: no seed.
    """
    a, b = _values(a), _values(b)
    difference, seeds = float(a.mean() - b.mean()), min(len(a), len(b)) > 1
    parts = [(case_variance, groups - 1)]
    parts += [(x.var(ddof=1) / len(x), len(x) - 1) for x in (a, b)] if seeds else []
    test, unit = ("two-level t", "cases x seeds") if seeds else ("paired t over cases", "cases")
    se = [parts[0][0] ** 0.5, sum(v for v, _ in parts[1:]) ** 0.5 if seeds else np.nan]
    variance, df = _satterthwaite(parts)
    if np.isnan(df):  # nothing varies, or one case: only equality can be stated
        return Difference(difference, np.nan, np.nan, test, 1.0 if difference == 0 else np.nan, unit, *se)
    half = t_quantile(df) * variance**0.5
    p = float(2 * stdtr(df, -abs(difference) / variance**0.5))
    low, high = np.clip([difference - half, difference + half], -limit, limit)
    return Difference(difference, float(low), float(high), test, 1.0 if difference == 0 else p, unit, *se, df)


def _satterthwaite(parts: list[tuple[float, int]]) -> tuple[float, float]:
    """Sum of independent variances, given with their degrees of freedom, and its own; NaN where there are none."""
    variance = sum(v for v, _ in parts)
    if not variance > 0 or not all(df > 0 for v, df in parts if v > 0):
        return variance, np.nan
    return variance, variance**2 / sum(v**2 / df for v, df in parts if v > 0)


def two_level_bootstrap(
    values: np.ndarray, draws: np.ndarray, groups: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Standard errors of the mean over seeds: of the cases alone, of the seeds alone, of both together.

    values (S,): the metric of each seed; draws (S, D): the same over D bootstrap samples of the cases, shared by all
    seeds; groups: independent cases or patients. Cases within seeds: for each sample of the cases S seeds are drawn
    with replacement. Each bootstrap lacks the factor n / (n - 1), which is put back; the noise between seed and case
    enters once. One seed: the seeds' error is NaN and both together is that of the cases. One group, no draw in which
    all seeds have a value, or a seed without one: all three are NaN. ValueError: no seed.
    """
    values, draws = _values(values), np.asarray(draws, float)
    draws = draws[:, np.isfinite(draws).all(0)]
    count = len(values)
    if groups < 2 or not draws.shape[1] or np.isnan(values).any():
        return np.nan, np.nan, np.nan
    scale = groups / (groups - 1)
    cases = draws.mean(0).var() * scale
    if count < 2:
        return float(cases**0.5), np.nan, float(cases**0.5)
    seeds = values.var(ddof=1) / count
    drawn = rng.integers(count, size=(count, draws.shape[1]))
    nested = np.take_along_axis(draws, drawn, 0).mean(0) - draws.mean(0)  # seeds, and seeds within cases
    return float(cases**0.5), float(seeds**0.5), float((cases + nested.var() * count / (count - 1)) ** 0.5)


def over_seeds(values: np.ndarray, case_variance: float, groups: int, bounds: tuple[float, float]) -> Interval:
    """t interval of the mean over seeds that allows for other cases and other seeds, cut at the metric's bounds.

    As `two_level` for one method. One seed: none, because nothing is known of others.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return NO_INTERVAL
    variance, df = _satterthwaite([(case_variance, groups - 1), (values.var(ddof=1) / len(values), len(values) - 1)])
    if np.isnan(df):
        return NO_INTERVAL
    half = t_quantile(df) * variance**0.5
    low, high = np.clip([values.mean() - half, values.mean() + half], *bounds)
    return Interval(float(low), float(high), "two-level t")
