"""Predictions of a study's runs, scored: every metric of every run, and how it varies with the cases."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from isnetlib import names, runs, stats
from isnetlib.names import primary_metric

SCORE_INTERVALS = {"accuracy": "score", "macro_f1": "score, jackknife", "auc": "score, DeLong"}


class Score(NamedTuple):
    """A metric of one run on one test set: its value with a part a case, its values in the bootstrap draws (where they
    are needed), the number of cases.
    """

    estimate: stats.Estimate
    draws: np.ndarray | None
    n: int

    @property
    def value(self) -> float:
        return self.estimate.value


class Tested(NamedTuple):
    """One test set of one experiment: cases and scores[metric] by (method, seed), and the bootstrap's case weights."""

    experiment: str
    name: str
    cases: dict[tuple[str, int], runs.Cases]
    scores: dict[tuple[str, int], dict[str, Score]]
    weights: np.ndarray

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

    @property
    def groups(self) -> int:
        """How many cases or patients are independent."""
        return len(np.unique(self.any.groups))

    def seeds(self, method: str, metric: str) -> list[Score]:
        return [scores[metric] for (m, _), scores in self.scores.items() if m == method and metric in scores]

    def predictions(self, method: str) -> list[np.ndarray]:
        """The scores (n, K) of each seed."""
        return [cases.p for (m, _), cases in self.cases.items() if m == method]

    def methods(self) -> list[str]:
        return names.in_order((method for method, _ in self.cases), names.METHOD_NAMES)

    def metrics(self) -> list[str]:
        return names.in_order((m for scores in self.scores.values() for m in scores), names.METRIC_NAMES)


def score(cases: runs.Cases, weights: np.ndarray, metric: str = "") -> dict[str, Score]:
    """Every metric of the predictions: those of `stats.METRICS`, and the mean of each further number of a case. Values
    in the bootstrap draws: of every metric where patients have several cases, else of `metric` alone.
    """
    found = {}
    for name, estimate in stats.ESTIMATES.items():
        drawn = cases.clustered or name == metric
        draws = stats.METRICS[name](cases.y, cases.p, weights) if drawn else None
        found[name] = Score(estimate(cases.y, cases.p), draws, len(cases.ids))
    for name, values in cases.values.items():
        if n := int(np.isfinite(values).sum()):  # none: the masks of this test set are not known
            draws = stats.mean(values, weights) if cases.clustered or name == metric else None
            found[name] = Score(stats.mean_estimate(values), draws, n)
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
        shared = None
        for name in names.in_order((n for e, n in paths if e == experiment), names.TEST_SET_NAMES):
            cases = {key: runs.read_cases(path) for key, path in paths[experiment, name].items()}
            cases = runs.aligned(cases, f"{experiment}, test set {name}")
            groups = next(iter(cases.values())).groups
            if shared is None or not np.array_equal(groups, shared[0]):
                shared = groups, stats.case_weights(groups, generator(experiment, *groups))
            weights, metric = shared[1], primary_metric(experiment) if selection == "swapped" else ""
            scores = {key: score(one, weights, metric) for key, one in cases.items()}
            yield Tested(experiment, name, cases, scores, weights)


def interval(test: Tested, metric: str, scores: list[Score]) -> stats.Interval:
    """Over cases, of the mean over seeds: Wilson for a plain accuracy, his way with the jackknife's or DeLong's
    variance for macro F1 and AUC, t for a mean; where some patients have several cases the bootstrap over patients.
    """
    estimate = stats.average([s.estimate for s in scores])
    if test.any.clustered:
        return stats.bootstrap_interval(np.mean([s.draws for s in scores], 0), "bootstrap over patients")
    if metric == "accuracy" and test.plain:
        return stats.wilson(estimate.value, scores[0].n)
    if metric in SCORE_INTERVALS:
        df = np.inf if metric == "macro_f1" else stats.degrees(estimate.parts)
        return stats.score_interval(estimate, SCORE_INTERVALS[metric], df)
    return stats.mean_interval(estimate, names.BOUNDS.get(metric, (-np.inf, np.inf)))


def case_variance(test: Tested, a: list[Score], b: list[Score] = ()) -> float:
    """Variance over cases (or patients) of the mean over seeds of a, or of its difference to that of b, paired."""
    if test.any.clustered:
        draws = np.mean([s.draws for s in a], 0) - (np.mean([s.draws for s in b], 0) if b else 0)
        return stats.variance_over_cases(draws, test.groups)
    parts = stats.average([s.estimate for s in a]).parts
    return float(((parts - (stats.average([s.estimate for s in b]).parts if b else 0)) ** 2).sum())


def compare(test: Tested, metric: str, a: str, b: str) -> stats.Difference:
    """Method a minus method b on one metric, over seeds and cases (`stats.two_level`)."""
    seeds = test.seeds(a, metric), test.seeds(b, metric)
    values = [[s.value for s in own] for own in seeds]
    variance, difference = case_variance(test, *seeds), float(np.mean(values[0]) - np.mean(values[1]))
    if metric == "accuracy":  # always right against never right: no spread in the sample, yet not none
        variance = stats.paired_share_variance(difference, variance, test.groups)
    return stats.two_level(*values, variance, test.groups, limit=1)


def further(test: Tested, metric: str, a: str, b: str) -> Iterator[stats.Difference]:
    """Second looks at the same pair: one vote a method (the mean score over its seeds) by McNemar's test or DeLong's,
    where cases are independent; and the seeds in pairs, on these cases.
    """
    votes = {method: np.mean(test.predictions(method), 0) for method in (a, b)}
    if metric == "accuracy" and test.plain:
        found = stats.mcnemar(*(stats.correct(test.any.y, vote) for vote in votes.values()))
        yield found._replace(test=f"{found.test}, on seed-averaged scores")
    if metric == "auc" and not test.any.clustered:
        found = stats.delong(*(stats.auc_estimate(test.any.y, vote) for vote in votes.values()))
        yield found._replace(test=f"{found.test}, on seed-averaged scores")
    both = [s for m, s in test.scores if m == a and metric in test.scores.get((b, s), {})]
    if len(both) > 1:
        yield stats.paired_over_seeds(*([test.scores[method, s][metric].value for s in both] for method in (a, b)))


def cochran(test: Tested, methods: list[str]) -> tuple[float, int, float]:
    """Cochran's Q, its degrees of freedom and p: one vote a method, are all equally often right?"""
    votes = [np.mean(test.predictions(method), 0) for method in methods]
    return stats.cochran(np.stack([stats.correct(test.any.y, vote) for vote in votes], 1))


def posteriors(test: Tested) -> dict[str, dict[str, np.ndarray]]:
    """Draws of macro F1 and of each class's measures, mean over seeds, by method, all with the same case weights."""
    weights = stats.bayesian_weights(test.any.groups, generator("posterior", test.experiment, *test.any.groups))
    drawn: dict[str, list] = {method: [] for method in test.methods()}
    for (method, seed), cases in test.cases.items():
        rng = generator("prior", test.experiment, test.name, method, str(seed))
        drawn[method].append(stats.posterior(cases.y, cases.p, weights, rng))
    return {method: {name: np.mean([d[name] for d in own], 0) for name in own[0]} for method, own in drawn.items()}
