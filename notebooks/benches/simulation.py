"""How often intervals cover and tests err, by simulation: generator in, frame out.

A simulated classifier gives every class a normal score, that of the true class `shift` higher. So accuracy, macro F1
and AUC are known exactly, and the library's own functions are judged against them.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from isnetlib import stats

COVERS = (0.93, 0.97)
COLUMNS = "what measure name n classes accuracy seeds studies share low high holds".split()
WITHIN = 0.5  # part of a score's variance that networks share, case by case


@cache
def shift(accuracy: float, classes: int) -> float:
    """How much higher the true class must score to be right with probability `accuracy`."""

    def right(d: float) -> float:
        return quad(lambda x: norm.pdf(x - d) * norm.cdf(x) ** (classes - 1), -8, 14)[0]

    return brentq(lambda d: right(d) - accuracy, 0, 10)


def true_values(accuracy: float, classes: int) -> dict[str, float]:
    """Macro F1 and AUC of the simulated classifier where all classes are equally frequent."""
    return {"macro_f1": accuracy, "auc": float(norm.cdf(shift(accuracy, classes) / 2**0.5))}


def networks(n: int, classes: int, accuracy: float, count: int, rng: np.random.Generator, jitter: float = 0.0):
    """Labels (n,) and scores (count, n, classes) of networks that are equally good and find the same cases hard.

    jitter: standard deviation of a network's own `shift`, as between seeds.
    """
    y = rng.integers(classes, size=n)
    case, own = rng.standard_normal((1, n, classes)), rng.standard_normal((count, n, classes))
    z = WITHIN**0.5 * case + (1 - WITHIN) ** 0.5 * own
    z[:, np.arange(n), y] += shift(accuracy, classes) + jitter * rng.standard_normal((count, 1))
    return y, z


# ---- intervals


def over_cases(estimate: stats.Estimate) -> tuple[float, float]:
    """Student's interval over cases."""
    return stats.t_interval(estimate.value, [(estimate.variance, len(estimate.parts) - 1)])[1:3]


def f1_intervals(y: np.ndarray, z: np.ndarray, weights: np.ndarray) -> dict[str, tuple[float, float]]:
    """The intervals of macro F1 that are judged, by name; weights: of the bootstrap."""
    estimate = stats.f1_estimate(y, z)
    return {
        "score, jackknife": stats.score_interval(estimate),
        "bootstrap over cases": stats.bootstrap_interval(stats.macro_f1(y, z, weights)),
        "t over cases": over_cases(estimate),
    }


def auc_intervals(y: np.ndarray, z: np.ndarray, weights: np.ndarray) -> dict[str, tuple[float, float]]:
    """The intervals of AUC that are judged, by name. The bootstrap takes long and is left to small samples."""
    estimate = stats.auc_estimate(y, z)
    found = {
        "score, DeLong": stats.score_interval(estimate, stats.degrees(estimate.parts)),
        "DeLong": over_cases(estimate),
    }
    if len(y) <= 200:
        found["bootstrap over cases"] = stats.bootstrap_interval(stats.auc(y, z, weights))
    return found


INTERVALS = {"macro_f1": f1_intervals, "auc": auc_intervals}


def coverage(measure, n, classes, accuracy, studies, draws, rng: np.random.Generator) -> pd.DataFrame:
    """Share of simulated studies whose 95 % intervals of macro_f1 or auc hold the true value, a row an interval.

    No interval at all counts as missing the truth. All studies share the case weights, which are independent of them.
    """
    truth, held = true_values(accuracy, classes)[measure], {}
    weights = stats.case_weights(np.arange(n), rng, draws)
    for _ in range(studies):
        y, z = networks(n, classes, accuracy, 1, rng)
        for name, (low, high) in INTERVALS[measure](y, z[0], weights).items():
            held[name] = held.get(name, 0) + bool(low <= truth <= high)
    rows = [_row("coverage", measure, name, n, classes, accuracy, 1, studies, k) for name, k in held.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


# ---- tests


def p_of(a: Sequence[stats.Estimate], b: Sequence[stats.Estimate], share: bool = False) -> float:
    """p of the difference between the networks of two methods, as the tables have it; share: of accuracy."""
    paired = stats.average(a) - stats.average(b)
    variance, n = paired.variance, len(paired.parts)
    if share:
        variance = stats.paired_share_variance(paired.value, variance, n)
    return stats.two_level(variance, n, *([one.value for one in own] for own in (a, b))).p


def tests(y: np.ndarray, z: np.ndarray) -> Iterator[tuple[str, str, float]]:
    """(measure, test, p): z (2 S, n, K), the first half networks of one method and the rest of the other."""
    name = "two-level t" if len(z) > 2 else "paired t over cases"
    for measure, estimate in stats.ESTIMATES.items():
        found = [estimate(y, one) for one in z]
        yield measure, name, p_of(found[: len(z) // 2], found[len(z) // 2 :], measure == "accuracy")


def false_positives(n, classes, accuracy, seeds, studies, rng: np.random.Generator) -> pd.DataFrame:
    """Share of simulated studies without a difference in which p is below 0.05, a row a test.

    seeds 1: tests over cases of networks that are equally good; more: tests over seeds of methods whose networks vary
    (standard deviation of `shift` 0.1) about the same mean.
    """
    below = {}
    for _ in range(studies):
        for measure, test, p in tests(*networks(n, classes, accuracy, 2 * seeds, rng, 0.0 if seeds == 1 else 0.1)):
            below[measure, test] = below.get((measure, test), 0) + bool(p < 0.05)
    rows = [_row("false positives", *key, n, classes, accuracy, seeds, studies, k) for key, k in below.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def clustered_false_positives(patients: int, each: int, studies: int, draws: int, rng: np.random.Generator):
    """As `false_positives` for the accuracy of two networks, one seed each, on `each` images of every patient, whose
    difficulty is the patient's: the bootstrap over patients.
    """
    groups, below = np.repeat(np.arange(patients), each), 0
    weights = stats.case_weights(groups, rng, draws)
    for _ in range(studies):
        hard = rng.normal(-0.8, 0.7, (1, patients)) + rng.normal(0, 0.7, (2, patients))
        right = np.repeat(hard, each, 1) < 0.7 * rng.standard_normal((2, patients * each))
        difference = right[0] - right[1].astype(float)
        drawn = stats.Estimate(difference.mean(), weights @ difference / weights.sum(1), patients)
        below += stats.two_level(drawn.variance, patients, *right.mean(1, keepdims=True)).p < 0.05
    row = _row("false positives", "accuracy", "bootstrap over patients, t", patients, 2, np.nan, 1, studies, below)
    return pd.DataFrame([row], columns=COLUMNS)


def table(sizes, classes, accuracies, studies, null_studies, draws, rng: np.random.Generator) -> pd.DataFrame:
    """All simulations, one below the other. AUC is judged with two classes too; tests at the two smallest sizes, where
    they are worst, with the first number of classes and one and three seeds.
    """
    cells = list(product(classes, accuracies, sizes))
    frames = [coverage("macro_f1", n, k, accuracy, studies, draws, rng) for k, accuracy, n in cells]
    cells = product(sorted({2, *classes}), accuracies, sizes)
    frames += [coverage("auc", n, k, accuracy, studies, draws, rng) for k, accuracy, n in cells]
    null = product(classes[:1], accuracies, sorted(sizes)[:2], (1, 3))
    frames += [false_positives(n, k, accuracy, seeds, null_studies, rng) for k, accuracy, n, seeds in null]
    return pd.concat([*frames, clustered_false_positives(50, 4, null_studies, draws, rng)], ignore_index=True)


def _row(what, measure, name, n, classes, accuracy, seeds, studies, hits):
    """One row; low and high are the simulation's own error. It holds where the share is 0.93 to 0.97 or, of a test,
    where that error allows for 0.05 or less.
    """
    low, high = stats.wilson(hits / studies, studies)
    holds = COVERS[0] <= hits / studies <= COVERS[1] if what == "coverage" else low <= 0.05
    values = (what, measure, name, n, classes, accuracy, seeds, studies, hits / studies, low, high, holds)
    return dict(zip(COLUMNS, values, strict=True))
