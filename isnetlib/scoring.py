"""Predictions of a study's runs, scored: every metric of every run, and how it varies with the cases."""

import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from isnetlib import folds, names, runs, stats
from isnetlib.folds import Folds
from isnetlib.names import OWN_DATA, PRIMARY_METHOD, primary_metric

SCORE_INTERVALS = {"accuracy": "score", "macro_f1": "score, jackknife", "auc": "score, DeLong"}
BOOTSTRAPPED = ("average_precision",)  # no part a case is known


class Score(NamedTuple):
    """A metric of one run on one test set: its value with a part a case, its values in the bootstrap draws (where they
    are needed), the number of cases; of average precision the draws of each label, (draws, K), too.
    """

    estimate: stats.Estimate
    draws: np.ndarray | None
    n: int
    of_labels: np.ndarray | None = None

    @property
    def value(self) -> float:
        return self.estimate.value


class Tested(NamedTuple):
    """Cases that several methods were tested on, the same for all: cases and scores[metric] by (method, seed), and the
    bootstrap's case weights. primary: the metric that the experiment is judged by. folds: those that were joined; the
    seed is then None.
    """

    experiment: str
    name: str
    primary: str
    cases: dict[tuple[str, int | None], runs.Cases]
    scores: dict[tuple[str, int | None], dict[str, Score]]
    weights: np.ndarray | None
    folds: Folds = ()

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

    def ranks(self, method: str) -> list[np.ndarray]:
        """What AUC, average precision and ROC curves order cases by, (n, K) of each seed."""
        return [cases.ranks for (m, _), cases in self.cases.items() if m == method]

    def answers(self, method: str) -> list[np.ndarray]:
        """What accuracy and F1 judge, (n, K) of each seed."""
        return [cases.answers for (m, _), cases in self.cases.items() if m == method]

    def networks(self, method: str) -> int:
        """How many networks made the method's predictions."""
        return len(self.folds) or len(self.predictions(method))

    def methods(self) -> list[str]:
        return names.in_order((method for method, _ in self.cases), names.METHOD_NAMES)

    def metrics(self) -> list[str]:
        return names.in_order((m for scores in self.scores.values() for m in scores), names.METRIC_NAMES)


class TestedSet(NamedTuple):
    """One test set of one experiment: `parts`, the cases by the folds joined, with no folds under (); the folds of each
    method; and `networks`, each network on the cases that it was tested on itself.
    """

    experiment: str
    name: str
    parts: dict[Folds, Tested]
    folds: dict[str, Folds]
    networks: list[Tested]

    def methods(self) -> list[str]:
        return names.in_order(self.folds, names.METHOD_NAMES)

    @property
    def whole(self) -> Tested:
        """The part with the most cases."""
        return next(iter(self.parts.values()))

    def of(self, *methods: str) -> Tested:
        """The cases that all these methods were tested on. ValueError where they share no fold."""
        common = tuple(k for k in self.folds[methods[0]] if all(k in self.folds[other] for other in methods))
        if common not in self.parts:
            told = " and ".join(f"{method} in {', '.join(map(str, self.folds[method]))}" for method in methods)
            raise ValueError(
                f"{self.experiment}, test set {self.name}: {told} share no fold, so they cannot be compared; run a "
                f"fold of one that the other has"
            )
        return self.parts[common]


def score(cases: runs.Cases, weights: np.ndarray | None, metric: str = "") -> dict[str, Score]:
    """Every metric of the predictions: those of `stats.METRICS`, of several labels average precision, and the mean of
    each further number of a case. Values in the bootstrap draws, of which there are none without weights: of every
    metric where patients have several cases, else of `metric` and of `BOOTSTRAPPED` alone.
    """
    found = {}
    for name, estimate in stats.ESTIMATES.items():
        given = cases.ranks if name == "auc" else cases.answers
        drawn = weights is not None and (cases.clustered or name == metric)
        draws = stats.METRICS[name](cases.y, given, weights) if drawn else None
        found[name] = Score(estimate(cases.y, given), draws, len(cases.ids))
    if cases.y.ndim == 2:
        value = stats.average_precision(cases.y, cases.ranks)
        each = None if weights is None else stats.average_precisions(cases.y, cases.ranks, weights)
        draws = None if each is None else stats.mean_of_defined(each)
        estimate = stats.Estimate(value, np.full(len(cases.ids), np.nan))
        found["average_precision"] = Score(estimate, draws, len(cases.ids), each)
    for name, values in cases.values.items():
        if name == "logit_change" and cases.y.ndim == 1 and len(np.unique(cases.y)) == 1:
            continue  # no case of another class: no background could be swapped
        if n := int(np.isfinite(values).sum()):  # none: the masks of this test set are not known
            drawn = weights is not None and (cases.clustered or name == metric)
            draws = stats.mean(values, weights) if drawn else None
            found[name] = Score(stats.mean_estimate(values), draws, n)
    return found


def primary_of(run: runs.Run, cases: runs.Cases) -> str:
    """`names.primary_metric`; of anybody's own data what `data.folder` chooses epochs by: its option `metric`, else the
    AUC of two classes or several labels, and macro F1 of more classes.
    """
    if run.experiment != OWN_DATA:
        return primary_metric(run.experiment)
    usual = "auc" if cases.y.ndim == 2 or len(cases.classes) == 2 else "macro_f1"
    return run.parameters.get("data_options", {}).get("metric") or usual


def generator(*key: str) -> np.random.Generator:
    """A generator seeded by what it is for."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256("\0".join(key).encode()).digest()[:8], "big"))


def tested(found: list[runs.Run], selection: str) -> Iterator[TestedSet]:
    """Predictions and scores under a selection rule, one test set after the other; those of folds are joined.

    Test sets that hold the same cases (the same digit with and without its mark) share their bootstrap draws, so that
    differences between them are paired too; under in-distribution selection, which is shown beside the other, nothing
    is drawn. ValueError where runs were tested on different cases.
    """
    for experiment in sorted({run.experiment for run in found}):
        own, weights = [run for run in found if run.experiment == experiment], _weights(experiment)
        files = {(run.method, run.seed): dict(runs.test_files(run, selection)) for run in own}
        for name in names.in_order((name for of_run in files.values() for name in of_run), names.TEST_SET_NAMES):
            cases = {
                (run.method, run.seed): runs.predicted(run, selection, path)
                for run in own
                if (path := files[run.method, run.seed].get(name))
            }
            where, primary = (experiment, name), primary_of(own[0], next(iter(cases.values())))
            drawn = primary if selection == "swapped" else ""
            yield _test_set(where, cases, own, functools.partial(_tested, where, primary, drawn, weights))


def _test_set(where: tuple[str, str], cases: dict, own: list[runs.Run], scored: Callable) -> TestedSet:
    place = f"{where[0]}, test set {where[1]}"
    if not folds.are_seeds(own):
        part = scored(runs.aligned(cases, place))
        return TestedSet(*where, {(): part}, {method: () for method, _ in cases}, [part])
    folds.check_complete(own, cases, place)
    joined, of = folds.join(cases, PRIMARY_METHOD, place)
    by_fold = [{key: one for key, one in cases.items() if key[1] == k} for k in sorted({k for _, k in cases})]
    networks = [scored(runs.aligned(one, place)) for one in by_fold]
    return TestedSet(*where, {part: scored(one, part) for part, one in joined.items()}, of, networks)


def _tested(
    where: tuple[str, str], primary: str, metric: str, weights: Callable, cases: dict, joined: Folds = ()
) -> Tested:
    drawn = weights(tuple(next(iter(cases.values())).groups)) if metric else None
    scores = {key: score(one, drawn, metric) for key, one in cases.items()}
    return Tested(*where, primary, cases, scores, drawn, joined)


def _weights(experiment: str) -> Callable[[tuple[str, ...]], np.ndarray]:
    """The bootstrap's case weights by the groups of the cases; the same groups have the same weights."""
    return functools.cache(lambda groups: stats.case_weights(np.array(groups), generator(experiment, *groups)))


def interval(test: Tested, metric: str, scores: list[Score]) -> stats.Interval:
    """Over cases, of the mean over seeds: Wilson for a plain accuracy, his way with the jackknife's or DeLong's
    variance for macro F1 and AUC, t for a mean; the bootstrap, where there are weights for it, for average precision
    and where some patients have several cases.
    """
    if test.any.clustered or metric in BOOTSTRAPPED:
        if test.weights is None:
            return stats.NO_INTERVAL
        return stats.bootstrap_interval(np.mean([s.draws for s in scores], 0), f"bootstrap over {test.unit}")
    estimate = stats.average([s.estimate for s in scores])
    if metric == "accuracy" and test.plain:
        return stats.wilson(estimate.value, scores[0].n)
    if metric in SCORE_INTERVALS:
        df = np.inf if metric == "macro_f1" else stats.degrees(estimate.parts)
        return stats.score_interval(estimate, SCORE_INTERVALS[metric], df)
    return stats.mean_interval(estimate, names.BOUNDS.get(metric, (-np.inf, np.inf)))


def case_variance(test: Tested, metric: str, a: list[Score], b: list[Score] = ()) -> float:
    """Variance over cases (or patients) of the mean over seeds of a, or of its difference to that of b, paired."""
    if test.any.clustered or metric in BOOTSTRAPPED:
        draws = np.mean([s.draws for s in a], 0) - (np.mean([s.draws for s in b], 0) if b else 0)
        return stats.variance_over_cases(draws, test.groups)
    parts = stats.average([s.estimate for s in a]).parts
    return float(((parts - (stats.average([s.estimate for s in b]).parts if b else 0)) ** 2).sum())


def compare(test: Tested, metric: str, a: str, b: str) -> stats.Difference:
    """Method a minus method b on one metric, over seeds and cases (`stats.two_level`)."""
    seeds = test.seeds(a, metric), test.seeds(b, metric)
    values = [[s.value for s in own] for own in seeds]
    variance, difference = case_variance(test, metric, *seeds), float(np.mean(values[0]) - np.mean(values[1]))
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
        drawn[method].append(stats.posterior(cases.y, cases.answers, weights, rng))
    return {method: {name: np.mean([d[name] for d in own], 0) for name in own[0]} for method, own in drawn.items()}
