"""Calibration, and sensitivity at a fixed specificity: (labels, scores, weights) -> one value, or one a draw."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from isnetlib.stats.intervals import bootstrap_interval
from isnetlib.stats.metrics import as_given, case_counts, check_networks, check_scores, correct, mean_of_defined, ratio

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
    inside = place[:, :, None] == np.arange(BINS)
    numbers = (inside, inside * right[:, :, None], inside * confidence[:, :, None])
    return tuple(np.hsplit(w @ np.hstack([number.sum(1) for number in numbers], dtype=float), 3))  # w is read once


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
    check_scores(y, p)
    if y.ndim == 1 and p.shape[1] != 2:
        raise ValueError(f"sensitivity at a fixed specificity needs two classes or labels, found {p.shape[1]} classes")
    if not 0 < specificity <= 1:
        raise ValueError(f"specificity must lie between 0 and 1, found {specificity}")
    w = case_counts(weights, len(p))
    columns = [(y == 1, p[:, 1])] if y.ndim == 1 else [(y[:, k] == 1, p[:, k]) for k in range(p.shape[1])]
    return as_given(mean_of_defined(np.stack([_sensitivity(*c, w, specificity) for c in columns], 1)), weights)


def _sensitivity(positive: np.ndarray, score: np.ndarray, w: np.ndarray, specificity: float) -> np.ndarray:
    order = np.argsort(score, kind="stable")
    score, hits, misses = score[order], (w * positive)[:, order], (w * ~positive)[:, order]
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)  # of each score: nothing above is cut in two
    below, found = np.cumsum(misses, 1)[:, last], np.cumsum(hits, 1)[:, last]
    first = (below >= specificity * below[:, -1:] - 1e-9).argmax(1)[:, None]
    defined = np.where(below[:, -1] > 0, found[:, -1], 0.0)
    return ratio(found[:, -1] - np.take_along_axis(found, first, 1)[:, 0], defined)
