"""The ROC curve of several networks together, with a band over cases."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from isnetlib.stats.metrics import by_score, case_counts, check_networks, check_scores, mean_of_defined, ratio

RATES = np.linspace(0, 1, 41)  # false positive rates of the table


def roc_curve(y: np.ndarray, scores: Sequence[np.ndarray], weights: np.ndarray) -> pd.DataFrame:
    """Sensitivity at each false positive rate of `RATES`, mean over networks, a row a rate: false_positive_rate,
    sensitivity, low, high (percentiles of the bootstrap with `weights` (draws, n)). NaN where a side is empty.

    Two classes: of the second; several labels: mean over labels. scores: (n, K) a network. Points are not joined: a
    constant score has sensitivity 0 below a rate of 1. ValueError for more classes, and where there is no network.
    """
    check_networks(scores)
    weights = case_counts(weights, len(y))
    ones = np.ones((1, len(y)))
    value, drawn = (np.mean([sensitivities(y, p, w, RATES) for p in scores], 0) for w in (ones, weights))
    drawn = drawn[np.isfinite(drawn).all(1)]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0) if len(drawn) else np.full((2, len(RATES)), np.nan)
    return pd.DataFrame({"false_positive_rate": RATES, "sensitivity": value[0], "low": low, "high": high})


def sensitivities(y: np.ndarray, p: np.ndarray, w: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Mean over labels of the highest sensitivity of a threshold whose false positive rate is no higher -> (draws,
    rates). y, p, w: labels, scores and weights as `roc_curve` takes them.
    """
    check_scores(y, p)
    if y.ndim == 1 and p.shape[1] != 2:
        raise ValueError(f"a ROC curve and its sensitivities need two classes or labels, found {p.shape[1]} classes")
    columns = [(y == 1, p[:, 1])] if y.ndim == 1 else [(y[:, k] == 1, p[:, k]) for k in range(p.shape[1])]
    return mean_of_defined(np.stack([_curve(*column, w, rates) for column in columns], 1))


def _curve(positive: np.ndarray, score: np.ndarray, w: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """One column's sensitivities (draws, rates)."""
    cases = by_score(positive, score, w)
    passing = _last(cases.negatives, rates[:, None] * cases.negatives[-1] + 1e-9)
    thresholds = np.searchsorted(cases.false, np.arange(len(cases.negatives)), "right") - 1  # by negatives that pass
    hits = cases.positives[cases.hits[thresholds][passing], np.arange(len(w))]
    return ratio(hits, np.where(cases.negatives[-1] > 0, cases.positives[-1], 0.0)).T


def _last(sums: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Last row of the rising `sums` (m, draws) that does not exceed the bound (rates, draws), by bisection."""
    found, step = np.zeros(bounds.shape, int), 1 << len(sums).bit_length()
    while step := step // 2:
        ahead = np.minimum(found + step, len(sums) - 1)
        found = np.where(sums[ahead, np.arange(sums.shape[1])] <= bounds, ahead, found)
    return found
