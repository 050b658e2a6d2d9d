"""Rows of metrics.csv, selection.csv and seeds.csv: every metric of every network, and of every method."""

from collections.abc import Iterator

import numpy as np

from isnetlib import names, stats
from isnetlib.scoring import Score, Tested, TestedSet, case_variance, generator, interval


def key(study: str, test: Tested | TestedSet, metric: str) -> dict:
    """What every row is about."""
    primary = metric == (test.whole if isinstance(test, TestedSet) else test).primary
    return {"study": study, "experiment": test.experiment, "test_set": test.name, "metric": metric, "primary": primary}


def folds_of(test: Tested) -> dict:
    """The column that says which folds were joined."""
    return {"folds": " ".join(map(str, test.folds))}


def metric_rows(study: str, test: TestedSet, selection: str) -> Iterator[dict]:
    """One row a method, seed and metric, with the interval over the cases that this network was tested on."""
    for part in test.networks:
        for (method, seed), scores in part.scores.items():
            for metric in names.in_order(scores, names.METRIC_NAMES):
                low, high, name = interval(part, metric, [scores[metric]])
                row = {"method": method, "seed": seed, "value": scores[metric].value, "low": low, "high": high}
                row |= {"n": scores[metric].n, "selection": selection, "interval": name, "unit": part.unit}
                yield key(study, test, metric) | row | {"fold": seed if test.folds[method] else np.nan}


def seed_rows(study: str, test: TestedSet) -> Iterator[dict]:
    """One row a method and metric: the mean over seeds with intervals over seeds, over cases, and over both; of folds
    the value over all cases, with the interval over them.
    """
    for method in test.methods():
        part = test.of(method)
        for metric in part.metrics():
            if seeds := part.seeds(method, metric):
                yield key(study, test, metric) | _seed_row(part, method, metric, seeds)


def _seed_row(test: Tested, method: str, metric: str, seeds: list[Score]) -> dict:
    values, over_cases = [s.value for s in seeds], interval(test, metric, seeds)
    bounds = names.BOUNDS.get(metric, (-np.inf, np.inf))
    row = _means(test, method, values, bounds, over_cases, seeds[0].n)
    both = stats.over_seeds(values, case_variance(test, metric, seeds), test.groups, bounds)
    row |= dict(zip(("both_low", "both_high", "both_interval"), both, strict=True))
    if seeds[0].draws is not None:
        rng, draws = generator(test.experiment, test.name, method, metric), [s.draws for s in seeds]
        errors = stats.two_level_bootstrap(values, draws, test.groups, rng)
        row |= dict(zip(("se_cases", "se_seeds", "se_both"), errors, strict=True))
    return row


def gap_rows(study: str, biased: TestedSet, deceiving: TestedSet) -> Iterator[dict]:
    """The primary metric on biased minus that on deceiving cases, seed by seed, as the test set "gap"."""
    metric = biased.whole.primary
    for method in (method for method in biased.methods() if method in deceiving.folds):
        one, other = biased.of(method), deceiving.of(method)
        keys = [name for name in one.scores if name[0] == method and name in other.scores]
        if keys:
            pairs = [(one.scores[name][metric], other.scores[name][metric]) for name in keys]
            values, over_cases = [b.value - d.value for b, d in pairs], _gap_interval(one, pairs)
            row = _means(one, method, values, (-1, 1), over_cases, pairs[0][0].n)
            yield key(study, biased, metric) | {"test_set": "gap"} | row


def _gap_interval(biased: Tested, pairs: list) -> stats.Interval:
    """Over cases, by the bootstrap: the same cases with another mark share their draws, others are drawn apart."""
    draws = np.mean([b.draws - d.draws for b, d in pairs], 0)
    return stats.bootstrap_interval(draws, f"bootstrap over {biased.unit}")


def _means(test: Tested, method: str, values: list, bounds: tuple, over_cases: stats.Interval, cases: int) -> dict:
    mean, sd, over_seeds = stats.seed_interval(values, bounds)
    row = {"method": method, "mean": mean, "sd": sd, "low": over_seeds.low, "high": over_seeds.high}
    row |= {"n": test.networks(method), "unit": "folds" if test.folds else "seeds"}
    row |= {"selection": "swapped", "interval": over_seeds.name, "cases": cases, "cases_unit": test.unit}
    row |= {"cases_low": over_cases.low, "cases_high": over_cases.high, "cases_interval": over_cases.name}
    return row | folds_of(test)
