"""Predictions of a study's runs, scored: every metric of every run, with its values over shared bootstrap draws."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from isnetlib import names, runs, stats


class Score(NamedTuple):
    """A metric of one run on one test set: its value, its values in the bootstrap draws, the number of cases."""

    value: float
    draws: np.ndarray
    n: int


class Tested(NamedTuple):
    """One test set of one experiment: cases and scores[metric] by (method, seed)."""

    experiment: str
    name: str
    cases: dict[tuple[str, int], runs.Cases]
    scores: dict[tuple[str, int], dict[str, Score]]

    @property
    def any(self) -> runs.Cases:
        """The cases of some run: ids, groups and labels are the same for all."""
        return next(iter(self.cases.values()))

    @property
    def unit(self) -> str:
        return "patients" if self.any.clustered else "cases"

    @property
    def plain(self) -> bool:
        """Whether cases are independent and have one label each, so that counts of right answers are binomial."""
        return not self.any.clustered and self.any.y.ndim == 1

    def seeds(self, method: str, metric: str) -> list[Score]:
        return [scores[metric] for (m, _), scores in self.scores.items() if m == method and metric in scores]

    def methods(self) -> list[str]:
        return names.in_order((method for method, _ in self.cases), names.METHOD_NAMES)

    def metrics(self) -> list[str]:
        return names.in_order((m for scores in self.scores.values() for m in scores), names.METRIC_NAMES)


def score(cases: runs.Cases, weights: np.ndarray) -> dict[str, Score]:
    """Every metric of the predictions: those of `stats.METRICS`, and the mean of each further number of a case."""
    found = {
        name: Score(metric(cases.y, cases.p), metric(cases.y, cases.p, weights), len(cases.ids))
        for name, metric in stats.METRICS.items()
    }
    for name, values in cases.values.items():
        if n := int(np.isfinite(values).sum()):  # none: the masks of this test set are not known
            found[name] = Score(stats.mean(values), stats.mean(values, weights), n)
    return found


def generator(*key: str) -> np.random.Generator:
    """A generator seeded by what it is for."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256("\0".join(key).encode()).digest()[:8], "big"))


def tested(found: list[runs.Run], selection: str) -> Iterator[Tested]:
    """Predictions and scores under a selection rule, one test set after the other.

    Test sets that hold the same cases (the same digit with and without its mark) share their bootstrap draws, so that
    differences between them are paired too. ValueError where runs were tested on different cases.
    """
    paths: dict[tuple[str, str], dict] = {}
    for run in found:
        for name, path in runs.test_files(run, selection):
            paths.setdefault((run.experiment, name), {})[run.method, run.seed] = path
    for experiment in sorted({experiment for experiment, _ in paths}):
        for name in names.in_order((n for e, n in paths if e == experiment), names.TEST_SET_NAMES):
            cases = {key: runs.read_cases(path) for key, path in paths[experiment, name].items()}
            cases = runs.aligned(cases, f"{experiment}, test set {name}")
            groups = next(iter(cases.values())).groups
            weights = stats.case_weights(groups, generator(experiment, *groups))
            yield Tested(experiment, name, cases, {key: score(one, weights) for key, one in cases.items()})


def interval(test: Tested, metric: str, value: float, draws: np.ndarray, n: int) -> stats.Interval:
    """Over cases: Wilson for a plain accuracy, else the bootstrap, over patients where some have several cases."""
    if metric == "accuracy" and test.plain:
        return stats.wilson(value, n)
    return stats.bootstrap_interval(draws, f"bootstrap over {test.unit}")


def compare(test: Tested, metric: str, a: str, b: str) -> stats.Difference:
    """Method a minus method b on one metric, over seeds and cases (`stats.two_level`)."""
    seeds = test.seeds(a, metric), test.seeds(b, metric)
    values = [[s.value for s in own] for own in seeds]
    draws = np.mean([s.draws for s in seeds[0]], 0) - np.mean([s.draws for s in seeds[1]], 0)
    groups = len(np.unique(test.any.groups))
    variance, difference = stats.variance_over_cases(draws, groups), float(np.mean(values[0]) - np.mean(values[1]))
    if metric == "accuracy":  # always right against never right: no spread in the sample, yet not none
        variance = stats.paired_share_variance(difference, variance, groups)
    return stats.two_level(*values, variance, groups, limit=1)


def mcnemar(test: Tested, a: str, b: str) -> stats.Difference:
    """One vote a method: the class with the highest mean score over its seeds."""
    votes = [np.mean([c.p for (m, _), c in test.cases.items() if m == method], 0) for method in (a, b)]
    return stats.mcnemar(*(stats.correct(test.any.y, vote) == 1 for vote in votes))
