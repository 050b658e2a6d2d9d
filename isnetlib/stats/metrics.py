"""Metrics: (labels, scores, weights) -> one value, or one a draw; and what each case adds to a mean."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from isnetlib.stats.intervals import Estimate


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


def check_networks(scores: Sequence[np.ndarray]) -> None:
    """ValueError where there are no scores of any network."""
    if not len(scores):
        raise ValueError("scores of at least one network are needed, found none")


def case_counts(weights: np.ndarray | None, n: int) -> np.ndarray:
    """Weights (draws, n) as they are, or one draw that has every case once. ValueError where they do not fit n cases,
    or are negative or NaN.
    """
    if weights is None:
        return np.ones((1, n))
    if np.ndim(weights) != 2 or np.shape(weights)[1] != n:
        raise ValueError(f"weights must be (draws, {n}) for {n} cases, not of shape {np.shape(weights)}")
    if not np.min(weights, initial=0) >= 0:  # NaN is not, either
        raise ValueError("weights say how often a case is drawn: they must be numbers of 0 or more, not NaN")
    return weights


def truth_and_answer(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, K) bool: is the case of the class, is it called so (highest score; several labels: score of at least 0.5)."""
    check_scores(y, p)
    if y.ndim == 2:
        return y == 1, p >= 0.5
    classes = np.arange(p.shape[1])
    return y[:, None] == classes, p.argmax(1)[:, None] == classes


def correct(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Per case: 1.0 where the highest score is the label's; several labels: the share of labels on the right side of
    0.5. -> (n,)
    """
    check_scores(y, p)
    return (p.argmax(1) == y).astype(float) if y.ndim == 1 else ((p >= 0.5) == (y == 1)).mean(1)


def mean(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Weighted mean over the finite values, NaN where there is none. weights (draws, n) -> (draws,); None: float."""
    finite, w = np.isfinite(values), case_counts(weights, len(values))
    total, count = (w @ np.stack([exact(np.where(finite, values, 0.0)), finite], 1)).T  # w is read once
    return as_given(ratio(total, count), weights)


def exact(values: np.ndarray) -> np.ndarray:
    """Values to 2^-30 (1e-9): with whole weights all sums are then exact, whatever their order and the threads."""
    return np.round(np.ldexp(values, 30)) / 2**30


def mean_estimate(values: np.ndarray) -> Estimate:
    """Mean over the cases whose value is finite, with parts (x - mean) / sqrt(n (n - 1)); 0 for the cases left out."""
    values = np.asarray(values, float)
    finite, centre = np.isfinite(values), mean(values)
    n = int(finite.sum())
    scale = max(n * (n - 1), 1) ** 0.5
    return Estimate(centre, np.where(finite, np.where(finite, values, 0.0) - centre, 0.0) / scale)


def accuracy(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Share of cases that are right; several labels: of cases and labels."""
    return mean(correct(y, p), weights)


def macro_f1(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Mean over the classes that occur of F1 = 2 TP / (2 TP + FP + FN); several labels: positive where the score is
    at least 0.5.
    """
    truth, said = truth_and_answer(y, p)
    w = case_counts(weights, len(p))
    present = truth.any(0)
    hits, claims = (truth & said)[:, present].astype(float), (truth.astype(float) + said)[:, present]
    hit, claimed = np.hsplit(w @ np.hstack([hits, claims]), 2)  # w is read once
    f1 = ratio(2 * hit, claimed)
    return as_given(mean_of_defined(f1), weights)


def auc(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Area under the ROC curve, ties counting half. Two classes: the usual one; more: the mean over pairs of classes
    (Hand & Till 2001, Mach. Learn. 45, eq. 7), which class frequencies do not touch; several labels: the mean over
    labels. NaN where nothing can be compared.

    Weights are whole numbers, so all sums are exact, whatever their order and the number of threads.
    """
    check_scores(y, p)
    w = case_counts(weights, len(p))
    areas = [_area(scores, ones, others, w) for scores, ones, others in compared(y, p)]
    return as_given(mean_of_defined(np.stack(areas, 1)) if areas else np.full(len(w), np.nan), weights)


def compared(y: np.ndarray, p: np.ndarray) -> list[tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
    """What an AUC compares: (scores that should be higher in the first group than in the other, group, other group)."""
    if y.ndim == 2:
        pairs = [([p[:, k]], y[:, k] == 1, y[:, k] == 0) for k in range(p.shape[1])]
        return [pair for pair in pairs if pair[1].any() and pair[2].any()]
    return [([p[:, i], -p[:, j]], y == i, y == j) for i, j in combinations(np.unique(y), 2)]


def _area(scores, ones, others, weights) -> np.ndarray:
    """P(score of a one > score of another), mean over the scores -> (draws,)"""
    left, right = weights.T[ones], weights.T[others]
    below = sum(_below(s[ones], s[others], right) for s in scores) / len(scores)
    return ratio(np.einsum("kd,kd->d", left, below), left.sum(0) * right.sum(0))


def _below(ones: np.ndarray, others: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Weighted number of the others with a lower score than each one, ties counting half. rows (others, draws): their
    weights. -> (ones, draws)
    """
    order = np.argsort(others)
    sums, ordered = running(rows[order]), others[order]
    return (sums[np.searchsorted(ordered, ones)] + sums[np.searchsorted(ordered, ones, "right")]) / 2


def running(rows: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, ... rows: (n, draws) -> (n + 1, draws). Faster than `np.cumsum`."""
    sums = np.zeros((len(rows) + 1, rows.shape[1]))
    for k, row in enumerate(rows):
        np.add(sums[k], row, out=sums[k + 1])
    return sums


class Sorted(NamedTuple):
    """Cases by falling score. positives, negatives (their number + 1, draws): weights of the first 0, 1, ... of them.
    hits, false (thresholds + 1,): how many pass each threshold, a distinct score; first the one that nothing passes.
    """

    positives: np.ndarray
    negatives: np.ndarray
    hits: np.ndarray
    false: np.ndarray


def by_score(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> Sorted:
    """What the curves over all thresholds are made of. positive (n,) bool, score (n,), weights (draws, n)."""
    order = np.argsort(-score, kind="stable")
    side = positive[order]
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # cases of one score together
    hits, false = (np.append(0, np.cumsum(passed)[last]) for passed in (side, ~side))
    return Sorted(running(weights.T[order[side]]), running(weights.T[order[~side]]), hits, false)


def ratio(numerator, denominator) -> np.ndarray:
    """Quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean along axis 1 over what is not NaN; NaN where nothing is left."""
    return ratio(np.nansum(values, 1), np.isfinite(values).sum(1))


def as_given(values, weights):
    """One float where no weights were given, else the values of all draws."""
    return float(values[0]) if weights is None else values


Metric = Callable[..., "np.ndarray | float"]
METRICS: dict[str, Metric] = {"accuracy": accuracy, "macro_f1": macro_f1, "auc": auc}
