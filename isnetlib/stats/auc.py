"""AUC: what each case adds to it (DeLong), the paired test, and average precision."""

import numpy as np
from scipy.special import ndtr

from isnetlib.stats.intervals import Difference, Estimate, t_quantile
from isnetlib.stats.metrics import as_given, by_score, case_counts, check_scores, compared, mean_of_defined, ratio


def auc_estimate(y: np.ndarray, p: np.ndarray) -> Estimate:
    """`stats.auc` with the parts of DeLong, DeLong & Clarke-Pearson (1988, Biometrics 44, 837, eq. 5):

        part_i = (V_i - mean of V over the class of i) / sqrt(m (m - 1)),    m cases in that class

    V_i: the share of the other class that case i is on the right side of, ties counting half. More than two classes
    (Hand & Till) and several labels: V is the mean over the pairs or labels. A class of one case shows no spread: it
    gets the mean one of the others. NaN, with parts of 0, where nothing can be compared.
    """
    check_scores(y, p)
    pairs = compared(y, p)
    if not pairs:
        return Estimate(np.nan, np.zeros(len(p)))
    areas, parts = [], np.zeros(len(p))
    placed = np.zeros(len(p))
    for scores, ones, others in pairs:
        left, right = (
            np.mean(sides, 0) for sides in zip(*(_placements(s[ones], s[others]) for s in scores), strict=True)
        )
        areas.append(left.mean())
        if y.ndim == 2:  # groups differ from label to label
            parts += (_spread([left, right], [ones, others])) / len(pairs)
        else:
            placed[ones] += left / len(pairs)
            placed[others] += right / len(pairs)
    if y.ndim == 1:
        groups = [y == k for k in np.unique(y)]
        parts = _spread([placed[group] for group in groups], groups)
    return Estimate(float(np.mean(areas)), parts)


def _placements(ones: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each one the share of others below it, for each other the share of ones above it; ties count half."""
    low, high = np.sort(others), np.sort(ones)
    below = (np.searchsorted(low, ones) + np.searchsorted(low, ones, "right")) / (2 * len(others))
    above = 1 - (np.searchsorted(high, others) + np.searchsorted(high, others, "right")) / (2 * len(ones))
    return below, above


def _spread(placements: list[np.ndarray], groups: list[np.ndarray]) -> np.ndarray:
    """Parts (n,) of the cases in `groups`, masks (n,), from their placements."""
    parts = np.zeros(len(groups[0]))
    variances = [v.var(ddof=1) for v in placements if len(v) > 1]
    for values, group in zip(placements, groups, strict=True):
        m = len(values)
        parts[group] = (values - values.mean()) / (m * (m - 1)) ** 0.5 if m > 1 else np.mean(variances or 0) ** 0.5
    return parts


def delong(a: Estimate, b: Estimate) -> Difference:
    """DeLong's paired test of two AUCs on the same cases: z = (a - b) / sqrt(sum of (part_a - part_b)^2).

    ValueError where the cases differ in number. No spread of the difference: p = 1 if the AUCs are equal, else NaN.
    """
    if len(a.parts) != len(b.parts):
        raise ValueError(f"DeLong's test needs the same cases for both, found {len(a.parts)} and {len(b.parts)}")
    difference, se, name = a.value - b.value, float((((a.parts - b.parts) ** 2).sum()) ** 0.5), "DeLong"
    if not se > 1e-9:  # rounding of zero
        return Difference(difference, np.nan, np.nan, name, 1.0 if abs(difference) < 1e-12 else np.nan, "cases")
    half = t_quantile(np.inf) * se
    low, high = np.clip([difference - half, difference + half], -1, 1)
    p = float(2 * ndtr(-abs(difference) / se))
    return Difference(difference, float(low), float(high), name, p, "cases", se, df=np.inf)


def average_precision(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """sum over thresholds of (recall_k - recall_(k-1)) precision_k, cases of one score together; mean over labels, or
    over classes against the rest (two classes: of the second). NaN where no case is positive; 1 where all are.
    """
    return as_given(mean_of_defined(average_precisions(y, p, weights)), weights)


def average_precisions(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """What `average_precision` is the mean of: (draws, labels or classes); one draw where there are no weights."""
    check_scores(y, p)
    columns = [1] if y.ndim == 1 and p.shape[1] == 2 else range(p.shape[1])
    if y.ndim == 1:
        y = np.eye(p.shape[1])[y.astype(int)]
    w = case_counts(weights, len(p))
    return np.stack([_precision(y[:, k] == 1, p[:, k], w) for k in columns], 1)


def _precision(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One column's average precision in each draw: the weighted mean over positives of the precision at their score."""
    cases = by_score(positive, score, weights)
    gain = np.flatnonzero(np.diff(cases.hits)) + 1  # thresholds that more positives pass
    found = cases.positives[cases.hits[gain]]
    precision = ratio(found, found + cases.negatives[cases.false[gain]])
    gained = found - cases.positives[cases.hits[gain - 1]]
    return ratio((gained * np.nan_to_num(precision)).sum(0), cases.positives[-1])
