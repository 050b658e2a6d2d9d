"""Metrics, intervals and tests: arrays in, numbers out; random draws come from the Generator passed.

Two kinds of uncertainty are kept apart. *Cases*: other images (or patients) might have been in the test set. *Seeds*:
the same training, started anew, gives another network. An interval over cases holds for the trained networks;
`two_level` knows both. Simulation says how often intervals cover and tests err (notebooks/benches/simulation.py).

Degenerate input: AUC and macro F1 leave absent classes out (AUC of one class: NaN); AUC of a constant score is 0.5,
without an interval; all cases right, or all wrong, have one all the same, as Wilson's for a share, over patients none;
identical predictions differ by 0 with p = 1, and an interval for accuracy only (one more case in favour of each).
"""

import functools
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import nctdtr, stdtr, stdtrit

NONE = (np.nan, np.nan)


class Estimate(NamedTuple):
    """A value and how it varies with the cases. parts: what each case adds to the error (n,), whose squares sum to the
    variance; or, where `patients` says how many were drawn, the value in each bootstrap draw (draws,).
    """

    value: float
    parts: np.ndarray
    patients: int = 0

    @property
    def variance(self) -> float:
        if not self.patients:
            return float((self.parts**2).sum())
        draws = self.parts[np.isfinite(self.parts)]  # a draw without a class has no AUC
        enough = len(draws) and self.patients > 1
        return float(draws.var() * self.patients / (self.patients - 1)) if enough else np.nan

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Difference on the same cases, which stay paired."""
        return Estimate(self.value - other.value, self.parts - other.parts, self.patients)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of estimates on the same cases, as of several seeds; the parts stay paired case by case."""
    values, parts, patients = zip(*estimates, strict=True)
    return Estimate(float(np.mean(values)), np.mean(parts, 0), patients[0])


# --- metrics of labels y (n,) 0..K-1 or (n, K) of 0/1 and scores p (n, K)
def check_scores(y: np.ndarray, p: np.ndarray) -> None:
    """ValueError says what is wrong with labels and scores."""
    if p.ndim != 2 or not len(p):
        raise ValueError(f"scores must be (cases, classes) with at least one case, not of shape {p.shape}")
    if y.shape not in {p.shape[:1], p.shape}:
        raise ValueError(f"labels of shape {y.shape} do not fit scores of shape {p.shape}")
    if not np.isfinite(p).all() or not np.isfinite(y.astype(float)).all():
        raise ValueError("labels and scores must be finite numbers, found NaN or infinity")
    highest = p.shape[1] - 1 if y.ndim == 1 else 1
    if y.min() < 0 or y.max() > highest or (y != np.round(y)).any():
        raise ValueError(f"labels must be whole numbers from 0 to {highest}, found {np.unique(y)[:20].tolist()}")


def _by_draw(metric: Callable) -> Callable:
    """A metric that takes weights of the cases (draws, n), as of `case_weights`, and gives the value of each draw
    (draws,); without weights its one value. Whole weights make sums exact, whatever the order and the threads.
    """

    @functools.wraps(metric)
    @np.errstate(invalid="ignore")  # 0 / 0: not defined, NaN
    def checked(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
        check_scores(y, p)
        return float(metric(y, p, np.ones((1, len(p))))[0]) if weights is None else metric(y, p, weights)

    return checked


def _counts(y: np.ndarray, p: np.ndarray) -> list[np.ndarray]:
    """(n, K) of 0/1: is the case of the class, is it called so (highest score; several labels: 0.5 or more), both."""
    classes = np.arange(p.shape[1])
    truth, said = (y == 1, p >= 0.5) if y.ndim == 2 else (y[:, None] == classes, p.argmax(1)[:, None] == classes)
    return [one.astype(float) for one in (truth, said, truth & said)]


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean along axis 1 over what is not NaN."""
    return np.nansum(values, 1) / np.isfinite(values).sum(1)


def _right(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """How many answers of a case are right: 1 or 0, of several labels up to K. (n,)"""
    truth, said, both = _counts(y, p)
    return (truth == said if y.ndim == 2 else both).sum(1)


@_by_draw
def accuracy(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of cases that are right; several labels: of cases and labels."""
    return weights @ _right(y, p) / (weights.sum(1) * y[0].size)


def accuracy_estimate(y: np.ndarray, p: np.ndarray) -> Estimate:
    """Accuracy with the parts (right - accuracy) / sqrt(n (n - 1)); one case: the part is 0."""
    value, n = accuracy(y, p), len(p)
    return Estimate(value, (_right(y, p) / y[0].size - value) / max(n * (n - 1), 1) ** 0.5)


@_by_draw
def macro_f1(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the classes (labels) that occur (in the draw) of F1 = 2 TP / (2 TP + FP + FN)."""
    return _f1(*(weights @ one for one in _counts(y, p)))


def _f1(truth: np.ndarray, said: np.ndarray, both: np.ndarray) -> np.ndarray:
    return _mean_of_defined(np.where(truth > 0, 2 * both / (truth + said), np.nan))


@np.errstate(invalid="ignore")
def f1_estimate(y: np.ndarray, p: np.ndarray) -> Estimate:
    """Macro F1 with the parts of the jackknife: part_i = sqrt((n - 1) / n) (mean of f_-j over j - f_-i), f_-i being
    macro F1 without case i (Efron & Stein 1981, Ann. Stat. 9, 586). One case: the part is 0.
    """
    value, n = macro_f1(y, p), len(p)
    without = _f1(*(one.sum(0) - one for one in _counts(y, p)))
    parts = ((n - 1) / n) ** 0.5 * (_mean_of_defined(without[None]) - without)
    return Estimate(value, np.nan_to_num(parts))


def _compared(y: np.ndarray, p: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What an AUC is the mean of: (cases, their scores, which of them should score higher), twice a pair of classes."""
    if y.ndim == 2:
        return [(np.arange(len(p)), s, of == 1) for of, s in zip(y.T, p.T, strict=True) if 0 < of.sum() < len(of)]
    pairs = [(i, j, np.flatnonzero((y == i) | (y == j))) for i, j in combinations(np.unique(y), 2)]
    return [(cases, s[cases], y[cases] == i) for i, j, cases in pairs for s in (p[:, i], -p[:, j])]


@_by_draw
def auc(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, ties counting half. Two classes: the usual one; more: the mean over pairs of classes
    (Hand & Till 2001, Mach. Learn. 45, eq. 7), which class frequencies do not touch; several labels: the mean over
    labels. NaN where nothing can be compared.
    """
    areas = []
    for cases, scores, ones in _compared(y, p):
        order = np.argsort(scores)
        levels = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # where another score begins
        drawn = weights[:, cases[order]]
        one, other = (np.add.reduceat(drawn * group[order], levels, axis=1) for group in (ones, ~ones))
        areas.append((one * (other.cumsum(1) - other / 2)).sum(1) / (one.sum(1) * other.sum(1)))
    return _mean_of_defined(np.stack(areas or [np.full(len(weights), np.nan)], 1))


def auc_estimate(y: np.ndarray, p: np.ndarray) -> Estimate:
    """`auc` with the parts of DeLong, DeLong & Clarke-Pearson (1988, Biometrics 44, 837, eq. 5), mean over the pairs of
    classes or the labels: (V_i - mean of V) / sqrt(m (m - 1)) in a group of m cases (of one: the other's spread), V_i
    being the share of the other group that case i is on the right side of. NaN, with parts of 0, where there is no AUC.
    """
    check_scores(y, p)
    areas, parts, compared = [], np.zeros(len(p)), _compared(y, p)
    for cases, scores, ones in compared:
        placed = np.empty(len(cases))
        level = np.unique(scores, return_inverse=True)[1]
        for group, sign in ((ones, 1), (~ones, -1)):
            other = np.bincount(level[~group], minlength=level.max() + 1)
            placed[group] = sign * (other.cumsum() - other / 2)[level[group]] / other.sum()
        for group in (ones, ~ones):
            own, other = placed[group], placed[~group]
            m, k = len(own), len(other)
            spread = (own - own.mean()) / (m * (m - 1)) ** 0.5 if m > 1 else other.std(ddof=min(k - 1, 1))
            parts[cases[group]] += spread / len(compared)
        areas.append(placed[ones].mean())
    return Estimate(float(np.mean(areas)) if areas else np.nan, parts)


ESTIMATES = {"accuracy": accuracy_estimate, "macro_f1": f1_estimate, "auc": auc_estimate}


# --- 95 % intervals, pairs (low, high) or NaN where none is, and tests
def t_quantile(df: float) -> float:
    """Half the width of a 95 % interval in standard errors: Student's t, or the normal distribution for df infinite."""
    return float(stdtrit(df, 0.975))


def wilson(share: float, n: float, df: float = np.inf) -> tuple[float, float]:
    """Wilson's score interval (1927) for a share of n independent cases: |share - end| = t sqrt(end (1 - end) / n) for
    both ends. A mean share over several networks is taken as one network's: exact where they agree, too wide otherwise.
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
    """Satterthwaite's degrees of freedom of sum(d^2), 2 (sum d^2)^2 / (sum d^4 - (sum d^2)^2 / n), at least 2. Near 1
    DeLong's variance of an AUC rests on few cases and needs them; the jackknife's errs on the large side, and with them
    the interval of macro F1 would cover too often.
    """
    squares, fourths = (parts**2).sum(), (parts**4).sum()
    rest = fourths / squares**2 - 1 / len(parts) if squares > 0 else 0.0
    return float(max(2 / rest, 2)) if rest > 1e-12 else np.inf


def case_weights(groups: np.ndarray, rng: np.random.Generator, draws: int = 2000) -> np.ndarray:
    """How often each case is in each bootstrap sample: whole groups (n,) are drawn with replacement. (draws, n)"""
    names, group = np.unique(groups, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return drawn[:, group].astype(float)


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """Percentiles of the values of a metric over bootstrap samples; draws in which it is not defined are left out."""
    values = values[np.isfinite(values)]
    if not len(values) or np.ptp(values) < 1e-12:  # rounding of a constant
        return NONE
    return tuple(np.quantile(values, [0.025, 0.975]).tolist())


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
    """value +- t sqrt(sum of independent variances), cut at the bounds. parts: variances with their degrees of freedom,
    of which Satterthwaite (1946) makes those of the sum.
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
    and, where each has several, of seeds: case_variance + sum over methods of var(seeds) / number of seeds.

    methods: of one or two, the metric of each seed, all on the same cases; case_variance: of the mean or the (paired)
    difference of means; groups: independent cases or patients. Seeds of one number are independent in two methods.
    Noise between seed and case enters both terms, so the interval errs on the wide side (Owen & Eckles 2012).
    """
    value, parts = float(np.subtract.reduce([*map(np.mean, methods)])), [(case_variance, groups - 1)]
    if min(map(len, methods)) > 1:
        parts += [(np.var(seeds, ddof=1) / len(seeds), len(seeds) - 1) for seeds in methods]
    return t_interval(value, parts, bounds)


def paired_share_variance(difference: float, variance: float, n: int) -> float:
    """Variance of a paired difference of shares after one more case in favour of each side (Bonett & Price 2012, J.
    Educ. Behav. Stat. 37, 479): above 0 even where one method is always right and the other never. variance: of the
    mean over n cases (sum of squares / n^2).
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
    """Smallest true difference that a two-sided t test at 5 % finds with a power of 0.8, with this error."""
    if np.isnan(found.df):
        return np.nan
    df = min(found.df, 1e6)  # the noncentral t has no infinite case
    critical = t_quantile(df)  # the other tail is below 1e-6
    return found.se * brentq(lambda shift: nctdtr(df, shift, critical) - 0.2, 0, 2 * critical + 5, xtol=1e-9)
