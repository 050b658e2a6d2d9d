"""Accuracy, macro F1 and AUC of labels y (n,) 0..K-1 or (n, K) of 0/1 and scores p (n, K).

`accuracy`, `macro_f1` and `auc` also take weights of the cases (draws, n), such as `case_weights`, and then give the
value of each draw (draws,). Whole weights make their sums exact, whatever the order and the threads. `ESTIMATES` has
the same values with how they vary with the cases.
"""

import functools
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np


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
    """Without weights, every case counts once, and the one value is returned."""

    @functools.wraps(metric)
    def checked(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
        check_scores(y, p)
        if weights is None:
            return float(metric(y, p, np.ones((1, len(p))))[0])
        if weights.ndim != 2 or weights.shape[1] != len(p):
            raise ValueError(f"weights must be (draws, {len(p)}) for {len(p)} cases, not of shape {weights.shape}")
        return metric(y, p, weights)

    return checked


def _truth_and_answer(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, K) bool: is the case of the class, is it called so (highest score; several labels: score of at least 0.5)."""
    if y.ndim == 2:
        return y == 1, p >= 0.5
    classes = np.arange(p.shape[1])
    return y[:, None] == classes, p.argmax(1)[:, None] == classes


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean along axis 1 over what is not NaN; NaN where nothing is left."""
    return _ratio(np.nansum(values, 1), np.isfinite(values).sum(1))


def _right(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """How many answers of a case are right: 1 or 0, of several labels up to K. (n,)"""
    truth, said = _truth_and_answer(y, p)
    return (truth == said if y.ndim == 2 else truth & said).sum(1)


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
    truth, said = (one.astype(float) for one in _truth_and_answer(y, p))
    f1 = _ratio(2 * (weights @ (truth * said)), weights @ (truth + said))
    return _mean_of_defined(np.where(weights @ truth > 0, f1, np.nan))


def f1_estimate(y: np.ndarray, p: np.ndarray) -> Estimate:
    """Macro F1 with the parts of the jackknife: part_i = sqrt((n - 1) / n) (mean of f_-j over j - f_-i), f_-i being
    macro F1 without case i (Efron & Stein 1981, Ann. Stat. 9, 586). One case: the part is 0.
    """
    value, n = macro_f1(y, p), len(p)
    truth, said = (one.astype(float) for one in _truth_and_answer(y, p))
    hits, claims = truth * said, truth + said
    f1 = _ratio(2 * (hits.sum(0) - hits), claims.sum(0) - claims)  # without case i
    without = _mean_of_defined(np.where(truth.sum(0) - truth > 0, f1, np.nan))
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
        below = (one * (other.cumsum(1) - other / 2)).sum(1)
        areas.append(_ratio(below, one.sum(1) * other.sum(1)))
    return _mean_of_defined(np.stack(areas or [np.full(len(weights), np.nan)], 1))


def auc_estimate(y: np.ndarray, p: np.ndarray) -> Estimate:
    """`auc` with the parts of DeLong, DeLong & Clarke-Pearson (1988, Biometrics 44, 837, eq. 5), mean over the pairs of
    classes or the labels:

        part_i = (V_i - mean of V over the group of i) / sqrt(m (m - 1)),    m cases in that group

    V_i: the share of the other group that case i is on the right side of, ties counting half. NaN, with parts of 0,
    where nothing can be compared.
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
            parts[cases[group]] += _spread(placed[group], placed[~group]) / len(compared)
        areas.append(placed[ones].mean())
    return Estimate(float(np.mean(areas)) if areas else np.nan, parts)


def _spread(placed: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Parts (m,) of one group; a group of one case shows no spread and takes the standard deviation of the other's."""
    m = len(placed)
    if m == 1:
        return np.full(1, other.std(ddof=1) if len(other) > 1 else 0.0)
    return (placed - placed.mean()) / (m * (m - 1)) ** 0.5


ESTIMATES = {"accuracy": accuracy_estimate, "macro_f1": f1_estimate, "auc": auc_estimate}
