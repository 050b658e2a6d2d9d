"""Predictions of a study's runs, scored test set by test set: every metric, and how it varies with the cases.

By folds, each case was tested by the network of its own fold, and a method's predictions are joined to one set, in
which intervals and tests count each case once. Where one network calls everything more likely than another, the joined
AUC is lower than the mean over folds.
"""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from isnetlib import stats
from isnetlib.report import names, store
from isnetlib.report.store import Cases

Key = tuple[str, int]  # method and seed
INTERVALS = {"accuracy": "score", "macro_f1": "score, jackknife", "auc": "score, DeLong"}


class Scored:
    """What one network, or by folds one method's networks, said of a test set; metrics are made when first asked for.

    folds: those that were joined; trainings: how many networks; groups: how many cases (patients) are independent.
    """

    def __init__(self, experiment: str, cases: Cases, folds: tuple[int, ...] = ()):
        self.experiment, self.cases, self.folds = experiment, cases, " ".join(map(str, folds))
        self.trainings = len(folds) or 1
        self.groups = len(np.unique(cases.groups))
        self.clustered = self.groups < len(cases.ids)
        self.unit = "patients" if self.clustered else "cases"
        self.draws = functools.cache(self._draws)

    @functools.cached_property
    def estimates(self) -> dict[str, stats.Estimate]:
        """Accuracy, macro F1, AUC, and the mean of each further number of a case, where any is known (masks)."""
        y = self.cases.y
        found = {name: of(y, self._judged(name)) for name, of in stats.ESTIMATES.items()}
        for name, values in self.cases.values.items():
            alone = name == "logit_change" and len(np.unique(y)) == 1  # no other class: no background to swap
            if np.isfinite(values).any() and not alone:
                found[name] = stats.mean_estimate(values)
        return {name: found[name] for name in names.in_order(found, names.METRIC_NAMES)}

    def known(self, metric: str) -> int:
        """Over how many cases the metric is known (masks)."""
        return int(np.isfinite(self.cases.values.get(metric, np.zeros(len(self.cases.ids)))).sum())

    def alone(self, k: int) -> "Scored":
        """The k-th of several labels alone."""
        y, p, thresholds = (part[:, [k]] for part in (self.cases.y, self.cases.p, self.cases.thresholds))
        return Scored(self.experiment, self.cases._replace(y=y, p=p, thresholds=thresholds, values={}))

    def _judged(self, metric: str) -> np.ndarray:
        return self.cases.ranks if metric == "auc" else self.cases.answers

    def _draws(self, metric: str) -> np.ndarray:
        """A metric in each bootstrap draw (draws,)."""
        weights = _weights(self.experiment, tuple(self.cases.groups))
        if metric in self.cases.values:
            return stats.mean(self.cases.values[metric], weights)
        return getattr(stats, metric)(self.cases.y, self._judged(metric), weights)


@functools.lru_cache(maxsize=8)
def _weights(experiment: str, groups: tuple[str, ...]) -> np.ndarray:
    """The bootstrap's case weights, shared by test sets of the same cases: differences between them are paired too."""
    seed = hashlib.sha256("\0".join((experiment, *groups)).encode()).digest()[:8]
    return stats.case_weights(np.array(groups), np.random.default_rng(int.from_bytes(seed, "big")))


class TestSet:
    """One test set of an experiment, by which metric it is judged, and the networks tested on it.

    folded: each was tested on the cases of the fold that has its seed's number; else all on the same cases.
    """

    def __init__(self, experiment: str, name: str, cases: dict[Key, Cases], folded: bool, primary: str):
        self.experiment, self.name, self.folded, self.primary = experiment, name, folded, primary
        self.networks = {key: Scored(experiment, one) for key, one in cases.items()}
        self.methods = names.in_order((method for method, _ in cases), names.METHOD_NAMES)
        self._joined = functools.cache(self._join)

    def seeds(self, method: str) -> list[int]:
        return [seed for name, seed in self.networks if name == method]

    def of(self, method: str, seeds: list[int] | None = None) -> list[Scored]:
        """The method's networks of these seeds (all); by folds one, their cases joined; [] if there is no seed."""
        seeds = self.seeds(method) if seeds is None else seeds
        if self.folded and seeds:
            return [self._joined(method, tuple(seeds))]
        return [self.networks[method, seed] for seed in seeds]

    def pair(self, a: str, b: str, metric: str) -> tuple[list[Scored], list[Scored]]:
        """The networks of two methods that have the metric; by folds, on the cases that both were tested on."""
        folds = [fold for fold in self.seeds(a) if fold in self.seeds(b)] if self.folded else None
        return tuple([one for one in self.of(method, folds) if metric in one.estimates] for method in (a, b))

    def _join(self, method: str, folds: tuple[int, ...]) -> Scored:
        parts = [self.networks[method, fold].cases for fold in folds]
        ids, groups, y, p = (np.concatenate(part) for part in zip(*(one[:4] for one in parts), strict=True))
        known = [name for name in parts[0].values if all(name in one.values for one in parts)]
        values = {name: np.concatenate([one.values[name] for one in parts]) for name in known}
        thresholds = None if y.ndim == 1 else np.concatenate([one.thresholds for one in parts])
        return Scored(self.experiment, Cases(ids, groups, y, p, values, parts[0].classes, thresholds), folds)


def tested(study: Path) -> Iterator[TestSet]:
    """The test sets of results/<study>, one after the other. ValueError: a case is in two folds."""
    found = store.find_runs(study)
    for experiment in sorted({run.experiment for run in found}):
        own = [run for run in found if run.experiment == experiment]
        folded = all(run.fold == run.seed for run in own)
        held = {run[:3]: store.test_sets(run) for run in own}
        for name in names.in_order((name for of_run in held.values() for name in of_run), names.TEST_SET_NAMES):
            cases = {(run.method, run.seed): store.predicted(run, name) for run in own if name in held[run[:3]]}
            cases = _ordered(cases, folded, f"{experiment}, test set {name}")
            yield TestSet(experiment, name, cases, folded, _primary(own[0], next(iter(cases.values()))))


def _ordered(cases: dict[Key, Cases], folded: bool, where: str) -> dict[Key, Cases]:
    """Fold after fold; what is packed has the same cases in the same order in all runs of a fold."""
    found, homes = {}, {}
    for fold in sorted({seed for _, seed in cases}) if folded else [None]:
        own = {key: one for key, one in cases.items() if fold in (None, key[1])}
        for name in next(iter(own.values())).ids:
            if homes.setdefault(name, fold) != fold:
                told = f"the case '{name}' is in the folds {homes[name]} and {fold}"
                raise ValueError(f"{where}: {told}; run them again on data cut in one way")
        found |= own
    return found


def _primary(run: store.Run, cases: Cases) -> str:
    """`names.primary_metric`; of anybody's own data what `data.folder` chooses epochs by."""
    if run.experiment != names.OWN_DATA:
        return names.primary_metric(run.experiment)
    usual = "auc" if cases.y.ndim == 2 or len(cases.classes) == 2 else "macro_f1"
    return run.parameters.get("data_options", {}).get("metric") or usual


def mean(networks: list[Scored], metric: str) -> stats.Estimate:
    return stats.average([one.estimates[metric] for one in networks])


def mean_draws(networks: list[Scored], metric: str) -> np.ndarray:
    return np.mean([one.draws(metric) for one in networks], 0)


def interval(networks: list[Scored], metric: str) -> stats.Interval:
    """Over cases, of the mean over networks: Wilson's (macro F1 and AUC: with the jackknife's or DeLong's variance), t
    for a mean, the bootstrap where some patients have several cases.
    """
    one = networks[0]
    if one.clustered:
        return stats.bootstrap_interval(mean_draws(networks, metric), f"bootstrap over {one.unit}")
    estimate = mean(networks, metric)
    if metric == "accuracy" and one.cases.y.ndim == 1:
        return stats.wilson(estimate.value, len(estimate.parts))
    if metric in INTERVALS:
        df = np.inf if metric == "macro_f1" else stats.degrees(estimate.parts)
        return stats.score_interval(estimate, INTERVALS[metric], df)
    return stats.mean_interval(estimate, names.bounds(metric))


def case_variance(metric: str, a: list[Scored], b: list[Scored] = ()) -> float:
    """Variance over cases (or patients) of the mean over networks of a, or of its difference to that of b, paired."""
    if a[0].clustered:
        draws = mean_draws(a, metric) - (mean_draws(b, metric) if b else 0)
        return stats.variance_over_cases(draws, a[0].groups)
    return float(((mean(a, metric).parts - (mean(b, metric).parts if b else 0)) ** 2).sum())


def compare(metric: str, a: list[Scored], b: list[Scored]) -> stats.Difference:
    """The networks of one method minus those of another on one metric, over seeds and cases (`stats.two_level`)."""
    values = [[one.estimates[metric].value for one in networks] for networks in (a, b)]
    variance, groups = case_variance(metric, a, b), a[0].groups
    if metric == "accuracy":  # always right against never right: no spread in the sample, yet not none
        variance = stats.paired_share_variance(np.mean(values[0]) - np.mean(values[1]), variance, groups)
    return stats.two_level(*values, variance, groups, limit=1)


def second_look(metric: str, a: list[Scored], b: list[Scored]) -> stats.Difference | None:
    """The same pair by one vote a method, its mean score: McNemar's test of right answers (one label) or DeLong's of
    AUCs, where cases are independent.
    """
    y, votes = a[0].cases.y, [np.mean([one.cases.p for one in networks], 0) for networks in (a, b)]
    if metric == "accuracy" and y.ndim == 1 and not a[0].clustered:
        found = stats.mcnemar(*(stats.correct(y, vote) for vote in votes))
    elif metric == "auc" and not a[0].clustered:
        found = stats.delong(*(stats.auc_estimate(y, vote) for vote in votes))
    else:
        return None
    return found._replace(test=f"{found.test}, on seed-averaged scores")
