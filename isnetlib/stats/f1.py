"""F1, precision, recall and specificity: what each case adds to macro F1, and posteriors from the confusion matrix."""

import numpy as np

from isnetlib.stats.intervals import DRAWS, LEVEL, NO_INTERVAL, Estimate, Interval, numbered
from isnetlib.stats.metrics import macro_f1, mean_of_defined, ratio, truth_and_answer


def f1_estimate(y: np.ndarray, p: np.ndarray) -> Estimate:
    """Macro F1 with the parts of the jackknife: part_i = sqrt((n - 1) / n) (mean of f_-j over j - f_-i), f_-i being
    macro F1 without case i (Efron & Stein 1981, Ann. Stat. 9, 586). One case: the part is 0.
    """
    truth, said = truth_and_answer(y, p)
    hits, claims = (truth & said).astype(float), truth.astype(float) + said
    present = truth.sum(0) - truth > 0  # without case i
    f1 = np.where(present, ratio(2 * (hits.sum(0) - hits), claims.sum(0) - claims), np.nan)
    without = mean_of_defined(f1)
    n = len(without)
    parts = ((n - 1) / n) ** 0.5 * (np.nanmean(without) - without) if np.isfinite(without).any() else np.zeros(n)
    return Estimate(macro_f1(y, p), np.nan_to_num(parts))


def bayesian_weights(groups: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """Weights of the Bayesian bootstrap (Rubin 1981, Ann. Stat. 9, 130): one standard exponential a group (patient).
    groups (n,) -> (draws, n). Methods that share them are compared on the same cases.
    """
    count, group = numbered(groups)
    return rng.standard_exponential((draws, count))[:, group]


def class_measures(y: np.ndarray, p: np.ndarray) -> dict[str, np.ndarray]:
    """f1, precision, recall and specificity of each class or label, (K,) each, NaN where not defined or where the
    class does not occur.
    """
    truth, said = truth_and_answer(y, p)
    counts = ((truth & said).sum(0), truth.sum(0), said.sum(0), len(y))
    return {name: np.where(truth.any(0), values, np.nan) for name, values in _measures(*counts).items()}


def posterior(
    y: np.ndarray, p: np.ndarray, weights: np.ndarray, rng: np.random.Generator, uniform: bool = False
) -> dict[str, np.ndarray]:
    """Posterior draws (draws, K) of f1, precision, recall and specificity of each class, and (draws,) of macro_f1.

    The model of Zhang, Wang & Zhao (ICTIR 2015) with proper bookkeeping of its priors: the K x K shares of (true class,
    answer) are Dirichlet(prior + confusion counts), which is mu ~ Dirichlet(row sums) for the classes and, apart from
    it, theta_i ~ Dirichlet(row i) for the answers. A draw is a gamma number a cell: the sum of the exponential
    `weights` (draws, n) (`bayesian_weights`) of the cell's cases, and Gamma(prior) from `rng`.

    Prior: 1/2 in each right cell, and 1/2 shared out among all wrong ones. So it adds half an error to the whole
    table, as Jeffreys' prior does to a binomial; uniform priors (`uniform`: 1 a cell, those of the literature) add
    K (K - 1), which an accurate classifier of many classes cannot outweigh. Several labels: one such table of two
    classes a label. What `class_measures` does not define (a class that does not occur, the precision of one that is
    never called) is NaN: only the prior would speak.
    """
    truth, said = truth_and_answer(y, p)
    tables = np.hstack([truth & said, truth, said], dtype=float)
    tp, actual, called = np.hsplit(weights @ tables, 3)  # the weights are read once
    extra = _pseudo_cases(truth.shape[1], len(weights), rng, several=y.ndim == 2, uniform=uniform)
    total = weights.sum(1, keepdims=True) + extra[3]
    drawn = _measures(tp + extra[0], actual + extra[1], called + extra[2], total)
    defined = class_measures(y, p)
    drawn = {name: np.where(np.isnan(defined[name]), np.nan, values) for name, values in drawn.items()}
    return drawn | {"macro_f1": mean_of_defined(drawn["f1"])}


def _measures(tp, actual, called, total) -> dict[str, np.ndarray]:
    """From the numbers of right answers, cases and answers of each class (..., K), and of all cases."""
    recall, precision, f1 = ratio(tp, actual), ratio(tp, called), ratio(2 * tp, actual + called)
    specificity = ratio(total - actual - called + tp, total - actual)
    return {"f1": f1, "precision": precision, "recall": recall, "specificity": specificity}


def _pseudo_cases(classes: int, draws: int, rng: np.random.Generator, several: bool, uniform: bool) -> list[np.ndarray]:
    """Gamma draws of the prior's cells, as additions to tp, actual, called (draws, K) and total."""
    size = 2 if several else classes
    prior = np.full((size, size), 0.5 / (size * max(size - 1, 1)))
    np.fill_diagonal(prior, 0.5)
    prior = np.ones_like(prior) if uniform else prior
    cells = rng.standard_gamma(prior, (draws, classes, 2, 2) if several else (draws, classes, classes))
    if several:
        return [cells[..., 1, 1], cells[..., 1, :].sum(-1), cells[..., :, 1].sum(-1), cells.sum((-1, -2))]
    return [cells.diagonal(axis1=1, axis2=2), cells.sum(2), cells.sum(1), cells.sum((1, 2))[:, None]]


def shortest(draws: np.ndarray, name: str = "posterior, shortest") -> Interval:
    """The shortest interval that holds 95 % of the draws; none where a draw is not defined."""
    if not len(draws) or np.isnan(draws).any():
        return NO_INTERVAL
    ordered = np.sort(draws)
    held = int(np.ceil(LEVEL * len(ordered)))
    start = int((ordered[held - 1 :] - ordered[: len(ordered) - held + 1]).argmin())
    return Interval(float(ordered[start]), float(ordered[start + held - 1]), name)


def probability_better(a: np.ndarray, b: np.ndarray) -> float:
    """Share of posterior draws in which a is higher, ties counting half; NaN where a draw is not defined. a, b: draws
    that share their case weights.
    """
    if a.shape != b.shape or not len(a):
        raise ValueError(f"a and b need the same draws, found {a.shape} and {b.shape}")
    if np.isnan(a).any() or np.isnan(b).any():
        return np.nan
    return float(((a > b) + 0.5 * (a == b)).mean())
