"""Metrics, intervals and tests: arrays in, numbers out; random draws come from the `numpy.random.Generator` passed.

Two kinds of uncertainty are kept apart. *Cases*: other images (or patients) of the same kind might have been in the
test set. *Seeds*: the same training, started anew, gives another network. An interval over cases holds for the
trained networks; one over seeds for the training procedure, on these cases; `two_level` for both.

The bootstrap works with weights: `case_weights` says how often each case is drawn, and a metric takes those weights
and returns one value a draw. So methods and seeds that share the weights are compared on the same resampled cases,
and whatever is averaged or subtracted afterwards stays paired.

Conventions for degenerate input:
- one class absent: accuracy as ever; macro F1 averages over the classes that occur; AUC (of the sample or of a draw) is
  the mean over what can be compared, NaN where nothing can;
- a constant score: AUC is 0.5, by ties;
- a metric that is the same in every draw, or in every seed: no interval (NaN, named "none"), because what a sample does
  not hold cannot be seen in it;
- n = 1: one case has a Wilson interval but no bootstrap, one seed has no interval over seeds;
- NaN: an error in labels or scores; in another number of a case (no mask known) that case is left out;
- identical predictions: difference 0 and p = 1, with an interval for accuracy only (one more case in favour of each).
"""

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats as distributions
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95
DRAWS = 2000  # 50 draws beyond each end of a 95 % interval


class Interval(NamedTuple):
    """Ends of a 95 % interval and the name of the way it was found; NaN and "none" where there is none."""

    low: float
    high: float
    name: str


NO_INTERVAL = Interval(np.nan, np.nan, "none")


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


# ---- metrics: (labels, scores, weights) -> one value, or one a draw ----


def check_scores(y: np.ndarray, p: np.ndarray) -> None:
    """Labels (n,) 0..K-1 or (n, K) of 0/1, scores (n, K). ValueError says what is wrong."""
    y, p = np.asarray(y), np.asarray(p)
    if p.ndim != 2 or not len(p):
        raise ValueError(f"scores must be (cases, classes) with at least one case, not of shape {p.shape}")
    if y.shape not in {p.shape[:1], p.shape}:
        raise ValueError(f"labels of shape {y.shape} do not fit scores of shape {p.shape}")
    if not np.isfinite(p).all() or not np.isfinite(y.astype(float)).all():
        raise ValueError("labels and scores must be finite numbers, found NaN or infinity")
    highest = p.shape[1] - 1 if y.ndim == 1 else 1
    if y.min() < 0 or y.max() > highest or (y != np.round(y)).any():
        raise ValueError(f"labels must be whole numbers from 0 to {highest}, found {np.unique(y)[:20].tolist()}")


def correct(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Per case: 1.0 where the highest score is the label's; several labels: the share of labels on the right side of
    0.5. -> (n,)
    """
    check_scores(y, p)
    return (p.argmax(1) == y).astype(float) if y.ndim == 1 else ((p >= 0.5) == (y == 1)).mean(1)


def mean(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Weighted mean over the cases whose value is finite; NaN if none is. weights (draws, n) -> (draws,); None: float.

    Values are taken to 2^-30 (1e-9): with whole weights all sums are then exact, whatever their order and the threads.
    """
    finite = np.isfinite(values)
    grid = np.round(np.ldexp(np.where(finite, values, 0.0), 30)) / 2**30
    w = np.ones((1, len(values))) if weights is None else weights
    return _as_given(_ratio(w @ grid, w @ finite.astype(float)), weights)


def accuracy(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Share of cases that are right; several labels: of cases and labels."""
    return mean(correct(y, p), weights)


def macro_f1(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Mean over the classes that occur of F1 = 2 TP / (2 TP + FP + FN); several labels: positive where the score is
    at least 0.5.
    """
    check_scores(y, p)
    classes = np.arange(p.shape[1])
    truth, said = (y[:, None] == classes, p.argmax(1)[:, None] == classes) if y.ndim == 1 else (y == 1, p >= 0.5)
    w = np.ones((1, len(p))) if weights is None else weights
    present = truth.any(0)
    hits, claims = (truth & said)[:, present].astype(float), (truth.astype(float) + said)[:, present]
    f1 = _ratio(2 * (w @ hits), w @ claims)
    return _as_given(_mean_of_defined(f1), weights)


def auc(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Area under the ROC curve, ties counting half. Two classes: the usual one; more: the mean over pairs of classes
    (Hand & Till 2001, Mach. Learn. 45, eq. 7), which class frequencies do not touch; several labels: the mean over
    labels. NaN where nothing can be compared.

    Weights are whole numbers, so all sums are exact, whatever their order and the number of threads.
    """
    check_scores(y, p)
    w = np.ones((1, len(p))) if weights is None else weights
    if y.ndim == 2:
        areas = [_area([p[:, k]], y[:, k] == 1, y[:, k] == 0, w) for k in range(p.shape[1])]
    else:
        pairs = combinations(np.unique(y), 2)
        areas = [_area([p[:, i], -p[:, j]], y == i, y == j, w) for i, j in pairs]
    return _as_given(_mean_of_defined(np.stack(areas, 1)) if areas else np.full(len(w), np.nan), weights)


def _area(scores, ones, others, weights) -> np.ndarray:
    """P(score of a one > score of another), mean over the scores -> (draws,)"""
    above = sum((s[ones, None] > s[others]) + 0.5 * (s[ones, None] == s[others]) for s in scores) / len(scores)
    left, right = weights[:, ones], weights[:, others]
    return _ratio(np.einsum("dk,dk->d", left @ above, right), left.sum(1) * right.sum(1))


def _ratio(numerator, denominator) -> np.ndarray:
    """Quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean along axis 1 over what is not NaN; NaN where nothing is left."""
    return _ratio(np.nansum(values, 1), np.isfinite(values).sum(1))


def _as_given(values, weights):
    return float(values[0]) if weights is None else values


# ---- intervals ----


def case_weights(groups: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """How often each case is in each bootstrap sample: whole groups (patients) are drawn with replacement. groups
    (n,) -> (draws, n)
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    return rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)[:, group].astype(float)


def bootstrap_interval(values: np.ndarray, name: str = "bootstrap") -> Interval:
    """Percentiles of the values of a metric over bootstrap samples; draws in which it is not defined are left out."""
    values = values[np.isfinite(values)]
    if not len(values) or np.ptp(values) < 1e-12:  # rounding of a constant
        return NO_INTERVAL
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), name)


def wilson(share: float, n: int) -> Interval:
    """Wilson's score interval (1927) for a share of n independent cases. A mean share over several networks is taken
    as that of one network with as many right: exact where the networks agree, too wide otherwise."""
    low, high = proportion_confint(share * n, n, alpha=1 - LEVEL, method="wilson")
    return Interval(max(float(low), 0.0), min(float(high), 1.0), "wilson")


def seed_interval(values: np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)) -> tuple[float, float, Interval]:
    """Mean, standard deviation and t interval of the mean over seeds, cut at the metric's bounds.

    One seed has no spread and no interval; seeds that all agree have no interval.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return float(values.mean()), np.nan, NO_INTERVAL
    sd = float(values.std(ddof=1))
    if sd < 1e-12:  # rounding of equal values
        return float(values.mean()), 0.0, NO_INTERVAL
    half = distributions.t.ppf((1 + LEVEL) / 2, len(values) - 1) * sd / len(values) ** 0.5
    low, high = np.clip([values.mean() - half, values.mean() + half], *bounds)
    return float(values.mean()), sd, Interval(float(low), float(high), "t over seeds")


# ---- comparisons ----


def two_level(a: np.ndarray, b: np.ndarray, case_variance: float, groups: int, limit: float = np.inf) -> Difference:
    """Difference of two methods' means over seeds, with the spread of cases and of seeds: t with Satterthwaite's
    degrees of freedom.

        variance = case_variance + var(a) / len(a) + var(b) / len(b)

    a, b: the metric of each seed, all on the same cases; case_variance: the variance over cases of the difference of
    the means over seeds (paired bootstrap, or `paired_share_variance`); groups: number of independent cases or
    patients. Networks of different methods are independent, even where their seeds carry the same number. Noise
    between seed and case enters both terms, so the interval errs on the wide side (Owen & Eckles 2012). A percentile
    bootstrap over 3 to 5 seeds would be far too narrow. Where a method has one seed, only the cases vary and `unit`
    says so.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    difference, seeds = float(a.mean() - b.mean()), min(len(a), len(b)) > 1
    parts = [(case_variance, groups - 1)]
    parts += [(x.var(ddof=1) / len(x), len(x) - 1) for x in (a, b)] if seeds else []
    test, unit = ("two-level t", "cases x seeds") if seeds else ("paired t over cases", "cases")
    variance, se = sum(v for v, _ in parts), [parts[0][0] ** 0.5, sum(v for v, _ in parts[1:]) ** 0.5]
    if not seeds:
        se[1] = np.nan
    if not variance > 0 or not all(
        df > 0 for v, df in parts if v > 0
    ):  # nothing varies, or one case: only equality can be stated
        return Difference(difference, np.nan, np.nan, test, 1.0 if difference == 0 else np.nan, unit, *se)
    df = variance**2 / sum(v**2 / df for v, df in parts if v > 0)
    half = distributions.t.ppf((1 + LEVEL) / 2, df) * variance**0.5
    p = float(2 * distributions.t.sf(abs(difference) / variance**0.5, df))
    low, high = np.clip([difference - half, difference + half], -limit, limit)
    return Difference(difference, float(low), float(high), test, 1.0 if difference == 0 else p, unit, *se)


def variance_over_cases(draws: np.ndarray, groups: int) -> float:
    """Variance over cases from bootstrap draws of a difference, with the factor G / (G - 1) that a bootstrap of G
    groups lacks.
    """
    draws = draws[np.isfinite(draws)]
    return float(draws.var() * groups / (groups - 1)) if len(draws) and groups > 1 else np.nan


def paired_share_variance(difference: float, variance: float, n: int) -> float:
    """Variance of a paired difference of shares after one more case in favour of each side (Bonett & Price 2012, J.
    Educ. Behav. Stat. 37, 479).

    variance: of the mean over n cases (sum of squares / n^2); it stays above 0 where one method is always right and
    the other never."""
    squares = n * (n * variance + difference**2) + 2
    return (squares - (n * difference) ** 2 / (n + 2)) / (n + 2) ** 2


def mcnemar(a: np.ndarray, b: np.ndarray) -> Difference:
    """Exact McNemar test of two classifiers on the same independent cases; interval by Bonett & Price. a, b (n,)
    right or wrong.
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape or not len(a):
        raise ValueError(f"McNemar's test needs the same cases for both, found {a.shape} and {b.shape}")
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    table = [[int((a & b).sum()), only_a], [only_b, int((~a & ~b).sum())]]
    centre = (only_a - only_b) / (n + 2)
    difference = (only_a - only_b) / n
    half = (
        distributions.norm.ppf((1 + LEVEL) / 2)
        * paired_share_variance(difference, ((only_a + only_b) / n - difference**2) / n, n) ** 0.5
    )
    low, high = np.clip([centre - half, centre + half], -1, 1)
    p = float(statsmodels_mcnemar(table, exact=True).pvalue)
    return Difference(difference, float(low), float(high), "McNemar, exact, on seed-averaged scores", p, "cases")


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p of one family. A NaN counts as 1 in the number of tests and stays NaN."""
    p = np.asarray(p, float)
    if not len(p):
        return p
    adjusted = multipletests(np.where(np.isnan(p), 1.0, p), method="holm")[1]
    return np.where(np.isnan(p), np.nan, adjusted)


Metric = Callable[..., "np.ndarray | float"]
METRICS: dict[str, Metric] = {"accuracy": accuracy, "macro_f1": macro_f1, "auc": auc}
