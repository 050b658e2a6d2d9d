"""Calibration, and sensitivity at a fixed specificity: (labels, scores, weights) -> one value, or one a draw."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from isnetlib.stats.intervals import bootstrap_interval
from isnetlib.stats.metrics import as_given, case_counts, check_networks, check_scores, correct, exact, ratio
from isnetlib.stats.roc import sensitivities

BINS = 10


def _confidence(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, whether right, and bin of every answer. Several labels: every label is an answer of its own."""
    check_scores(y, p)
    if p.min() < 0 or p.max() > 1 + 1e-9:
        raise ValueError(f"calibration needs probabilities from 0 to 1, found {p.min()} to {p.max()}")
    confidence = p.max(1) if y.ndim == 1 else np.maximum(p, 1 - p)
    right = correct(y, p) if y.ndim == 1 else ((p >= 0.5) == (y == 1)).astype(float)
    return confidence, right, np.minimum((confidence * BINS).astype(int), BINS - 1)


def _sums(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted number of answers, of right ones and sum of confidences in every bin -> (draws, BINS) each."""
    confidence, right, place = (x.reshape(len(p), -1) for x in _confidence(y, p))
    sums = np.zeros((3, BINS, len(w)))
    for k in np.unique(place):
        inside = place == k
        held = np.flatnonzero(inside.any(1))  # the others add nothing, so their weights need not be read
        numbers = [(inside * number).sum(1) for number in (np.ones_like(right), right, exact(confidence))]
        sums[:, k] = np.stack(numbers)[:, held] @ w.T[held]
    return tuple(sums.transpose(0, 2, 1))


def expected_calibration_error(y, p, weights: np.ndarray | None = None) -> np.ndarray | float:
    """sum over bins of (answers in the bin / all) |share right - mean confidence|, ten equal bins of the winning
    class's probability (Guo et al. 2017, eq. 3). It is hardly ever 0: small samples
    look worse calibrated than they are.
    """
    w = case_counts(weights, len(p))
    answers, right, confidence = _sums(y, p, w)
    return as_given(ratio(np.abs(right - confidence).sum(1), answers.sum(1)), weights)


def reliability(y: np.ndarray, scores: Sequence[np.ndarray], weights: np.ndarray) -> pd.DataFrame:
    """The reliability curve of several networks together, a row a bin that holds an answer: bin, confidence, accuracy,
    low, high (bootstrap with `weights` (draws, n), which all networks share), n (answers). scores: (n, K) a network.
    One case has no interval. ValueError: no network, or scores that are no probabilities.
    """
    check_networks(scores)
    weights = case_counts(weights, len(y))
    ones = np.ones((1, len(y)))
    answers, right, confidence = (sum(sums) for sums in zip(*(_sums(y, p, ones) for p in scores), strict=True))
    drawn, hits, _ = (sum(sums) for sums in zip(*(_sums(y, p, weights) for p in scores), strict=True))
    rows = []
    for k in np.flatnonzero(answers[0]):
        interval = bootstrap_interval(ratio(hits[:, k], drawn[:, k]))
        means = {"confidence": confidence[0, k] / answers[0, k], "accuracy": right[0, k] / answers[0, k]}
        rows.append({"bin": int(k)} | means | {"low": interval.low, "high": interval.high, "n": int(answers[0, k])})
    return pd.DataFrame(rows, columns=["bin", "confidence", "accuracy", "low", "high", "n"])


def sensitivity_at_specificity(
    y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None, specificity: float = 0.95
) -> np.ndarray | float:
    """Share of positives above the lowest threshold at which at least `specificity` of the negatives are not above it.

    Two classes: of the second; several labels: mean over labels. The threshold is found anew in every draw. NaN where
    a side is empty. ValueError for more classes, where there is no one threshold.
    """
    if not 0 < specificity <= 1:
        raise ValueError(f"specificity must lie between 0 and 1, found {specificity}")
    w = case_counts(weights, len(p))
    return as_given(sensitivities(y, p, w, np.array([1 - specificity]))[:, 0], weights)
