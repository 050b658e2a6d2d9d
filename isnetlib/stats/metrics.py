"""Metrics: (labels, scores, weights of the cases) -> one value, or one a bootstrap draw; and what each case adds.

The spread over cases is written down case by case, see `Estimate`. Parts of methods and seeds on the same cases are
averaged and subtracted like the values, so that whatever is compared stays paired.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A value and what each case adds to its error: the variance over cases is the sum of squares of `parts` (n,)."""

    value: float
    parts: np.ndarray

    @property
    def variance(self) -> float:
        return float((self.parts**2).sum())


def average(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of estimates on the same cases, as of several seeds; the parts stay paired case by case."""
    return Estimate(float(np.mean([e.value for e in estimates])), np.mean([e.parts for e in estimates], 0))


def check_scores(y: np.ndarray, p: np.ndarray) -> None:
    """Labels (n,) 0..K-1 or (n, K) of 0/1, scores (n, K). ValueError says what is wrong."""
    if p.ndim != 2 or not len(p):
        raise ValueError(f"scores must be (cases, classes) with at least one case, not of shape {p.shape}")
    if y.shape not in {p.shape[:1], p.shape}:
        raise ValueError(f"labels of shape {y.shape} do not fit scores of shape {p.shape}")
    if not np.isfinite(p).all() or not np.isfinite(y.astype(float)).all():
        raise ValueError("labels and scores must be finite numbers, found NaN or infinity")
    highest = p.shape[1] - 1 if y.ndim == 1 else 1
    if y.min() < 0 or y.max() > highest or (y != np.round(y)).any():
        raise ValueError(f"labels must be whole numbers from 0 to {highest}, found {np.unique(y)[:20].tolist()}")


def _case_counts(weights: np.ndarray | None, n: int) -> np.ndarray:
    """Weights (draws, n), or one draw that has every case once. ValueError where they do not fit n cases."""
    weights = np.ones((1, n)) if weights is None else weights
    if weights.ndim != 2 or weights.shape[1] != n:
        raise ValueError(f"weights must be (draws, {n}) for {n} cases, not of shape {weights.shape}")
    return weights


def correct(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Per case whether the answer is the label, 1.0 or 0.0; several labels: the share that is right. -> (n,)"""
    truth, said = _truth_and_answer(y, p)
    return (truth == said).mean(1) if y.ndim == 2 else (truth & said).any(1).astype(float)


def mean(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Weighted mean over the finite values, NaN where there is none. weights (draws, n) -> (draws,); None: float.

    Values are taken to 2^-30 (1e-9), so with whole weights all sums are exact, whatever their order and the threads.
    """
    finite, w = np.isfinite(values), _case_counts(weights, len(values))
    rounded = np.round(np.where(finite, values, 0.0) * 2**30) / 2**30
    total, count = (w @ np.stack([rounded, finite], 1)).T  # w is read once
    return _as_given(_ratio(total, count), weights)


def mean_estimate(values: np.ndarray) -> Estimate:
    """Mean of the finite values (n,) with the parts (value - mean) / sqrt(n (n - 1)); 0 where a value is not known."""
    values = np.asarray(values, float)
    finite, centre = np.isfinite(values), mean(values)
    n = finite.sum()
    return Estimate(centre, np.where(finite, values - centre, 0.0) / max(n * (n - 1), 1) ** 0.5)


def accuracy(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Share of cases that are right; several labels: of cases and labels."""
    return mean(correct(y, p), weights)


def macro_f1(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Mean over the classes (labels) that occur of F1 = 2 TP / (2 TP + FP + FN)."""
    truth, said = _truth_and_answer(y, p)
    present = truth.any(0)
    hits, claims = (truth & said)[:, present].astype(float), (truth.astype(float) + said)[:, present]
    hit, claimed = np.hsplit(_case_counts(weights, len(p)) @ np.hstack([hits, claims]), 2)
    return _as_given(_mean_of_defined(_ratio(2 * hit, claimed)), weights)


def f1_estimate(y: np.ndarray, p: np.ndarray) -> Estimate:
    """Macro F1 with the parts of the jackknife: part_i = sqrt((n - 1) / n) (mean of f_-j over j - f_-i), f_-i being
    macro F1 without case i (Efron & Stein 1981, Ann. Stat. 9, 586). One case: the part is 0.
    """
    truth, said = _truth_and_answer(y, p)
    hits, claims = (truth & said).astype(float), truth.astype(float) + said
    present = truth.sum(0) - truth > 0  # without case i
    f1 = np.where(present, _ratio(2 * (hits.sum(0) - hits), claims.sum(0) - claims), np.nan)
    without, n = _mean_of_defined(f1), len(p)
    parts = ((n - 1) / n) ** 0.5 * (_mean_of_defined(without[None]) - without)
    return Estimate(macro_f1(y, p), np.nan_to_num(parts))


def _truth_and_answer(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, K) bool: is the case of the class, is it called so (highest score; several labels: score of at least 0.5)."""
    check_scores(y, p)
    if y.ndim == 2:
        return y == 1, p >= 0.5
    classes = np.arange(p.shape[1])
    return y[:, None] == classes, p.argmax(1)[:, None] == classes


def auc(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Area under the ROC curve, ties counting half. Two classes: the usual one; more: the mean over pairs of classes
    (Hand & Till 2001, Mach. Learn. 45, eq. 7), which class frequencies do not touch; several labels: the mean over
    labels. NaN where nothing can be compared. Whole weights make all sums exact, whatever their order.
    """
    w, areas = _case_counts(weights, len(p)), []
    for scores, ones, others in _compared(y, p):
        own, below = w.T[ones], _below(scores, ones, others, w)
        areas.append(_ratio(np.einsum("kd,kd->d", own, below), own.sum(0) * (w @ others)))
    return _as_given(_mean_of_defined(np.stack(areas, 1)) if areas else np.full(len(w), np.nan), weights)


def auc_estimate(y: np.ndarray, p: np.ndarray) -> Estimate:
    """`auc` with the parts of DeLong, DeLong & Clarke-Pearson (1988, Biometrics 44, 837, eq. 5), mean over the pairs of
    classes or the labels:

        part_i = (V_i - mean of V over the group of i) / sqrt(m (m - 1)),    m cases in that group

    V_i: the share of the other group that case i is on the right side of, ties counting half. NaN, with parts of 0,
    where nothing can be compared.
    """
    areas, parts, pairs, once = [], np.zeros(len(p)), _compared(y, p), np.ones((1, len(p)))
    for scores, ones, others in pairs:
        left = _below(scores, ones, others, once)[:, 0] / others.sum()
        right = _below([-s for s in scores], others, ones, once)[:, 0] / ones.sum()
        areas.append(left.mean())
        parts[ones] += _spread(left, right) / len(pairs)
        parts[others] += _spread(right, left) / len(pairs)
    return Estimate(float(np.mean(areas)) if pairs else np.nan, parts)


def _compared(y: np.ndarray, p: np.ndarray) -> list[tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
    """What an AUC compares: (scores that should be higher in the first group than in the other, group, other group)."""
    check_scores(y, p)
    if y.ndim == 2:
        pairs = [([p[:, k]], y[:, k] == 1, y[:, k] == 0) for k in range(p.shape[1])]
        return [pair for pair in pairs if pair[1].any() and pair[2].any()]
    return [([p[:, i], -p[:, j]], y == i, y == j) for i, j in combinations(np.unique(y), 2)]


def _below(scores: list[np.ndarray], ones: np.ndarray, others: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weight of the others below each one, ties counting half, mean over the scores. (ones, draws)"""
    below = 0.0
    for s in scores:
        order = np.flatnonzero(others)[np.argsort(s[others])]
        sums = np.zeros((len(order) + 1, len(weights)))  # of the weights of the lowest 0, 1, ... others
        if len(weights) == 1:
            np.cumsum(weights[0, order], out=sums[1:, 0])
        else:
            for k, case in enumerate(order):  # of many draws faster than np.cumsum, and exact
                np.add(sums[k], weights[:, case], out=sums[k + 1])
        places = (np.searchsorted(s[order], s[ones], side) for side in ("left", "right"))
        below += sum(sums[place] for place in places)
    return below / (2 * len(scores))


def _spread(placed: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Parts (m,) of one group; a group of one case shows no spread and takes the standard deviation of the other's."""
    m = len(placed)
    if m == 1:
        return np.full(1, other.std(ddof=1) if len(other) > 1 else 0.0)
    return (placed - placed.mean()) / (m * (m - 1)) ** 0.5


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean along axis 1 over what is not NaN; NaN where nothing is left."""
    return _ratio(np.nansum(values, 1), np.isfinite(values).sum(1))


def _as_given(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray | float:
    """One float where no weights were given, else the values of all draws."""
    return float(values[0]) if weights is None else values


ESTIMATES = {"accuracy": lambda y, p: mean_estimate(correct(y, p)), "macro_f1": f1_estimate, "auc": auc_estimate}
