"""Metrics: (labels, scores, weights) -> one value, or one a draw; and what each case adds to a mean."""

from collections.abc import Callable, Sequence
from itertools import combinations

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
    if not (np.asarray(weights) >= 0).all():  # NaN is not, either
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
    """Weighted mean over the cases whose value is finite; NaN if none is. weights (draws, n) -> (draws,); None: float.

    Values are taken to 2^-30 (1e-9): with whole weights all sums are then exact, whatever their order and the threads.
    """
    finite = np.isfinite(values)
    grid = np.round(np.ldexp(np.where(finite, values, 0.0), 30)) / 2**30
    w = case_counts(weights, len(values))
    return as_given(ratio(w @ grid, w @ finite.astype(float)), weights)


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
    f1 = ratio(2 * (w @ hits), w @ claims)
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
    above = sum((s[ones, None] > s[others]) + 0.5 * (s[ones, None] == s[others]) for s in scores) / len(scores)
    left, right = weights[:, ones], weights[:, others]
    return ratio(np.einsum("dk,dk->d", left @ above, right), left.sum(1) * right.sum(1))


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
