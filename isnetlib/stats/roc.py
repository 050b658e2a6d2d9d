"""The ROC curve of several networks together, with a band over cases."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from isnetlib.stats.metrics import case_counts, check_networks, check_scores, mean_of_defined, ratio

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
    value, drawn = (np.mean([_sensitivities(y, p, w) for p in scores], 0) for w in (ones, weights))
    drawn = drawn[np.isfinite(drawn).all(1)]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0) if len(drawn) else np.full((2, len(RATES)), np.nan)
    return pd.DataFrame({"false_positive_rate": RATES, "sensitivity": value[0], "low": low, "high": high})


def _sensitivities(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Mean over labels of the sensitivity at `RATES` -> (draws, rates)."""
    check_scores(y, p)
    if y.ndim == 1 and p.shape[1] != 2:
        raise ValueError(f"a ROC curve needs two classes or labels, found {p.shape[1]} classes")
    columns = [(y == 1, p[:, 1])] if y.ndim == 1 else [(y[:, k] == 1, p[:, k]) for k in range(p.shape[1])]
    return mean_of_defined(np.stack([_curve(*column, w) for column in columns], 1))


def _curve(positive: np.ndarray, score: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The highest sensitivity of a threshold whose false positive rate is no higher; cases of one score together."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits, false = (np.cumsum((w * side)[:, order], 1)[:, last] for side in (positive, ~positive))
    hits, false = (np.pad(sums, [(0, 0), (1, 0)]) for sums in (hits, false))  # the threshold that nothing passes
    total = np.where(false[:, -1] > 0, hits[:, -1], 0.0)
    at = np.stack([(false <= rate * false[:, -1:] + 1e-9).sum(1) - 1 for rate in RATES], 1)
    return ratio(np.take_along_axis(hits, at, 1), total[:, None])
