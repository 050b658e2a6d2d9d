"""Rows of labels.csv: where an image has several labels, each label by itself."""

from collections.abc import Callable, Iterator

import numpy as np

from isnetlib import stats
from isnetlib.scoring import Tested, TestedSet
from isnetlib.tables.scores import folds_of, key


def label_rows(study: str, test: TestedSet) -> Iterator[dict]:
    """One row a method, label and metric (auc, average_precision, f1), mean over seeds, with the 95 % interval over
    cases. F1 is that of the thresholds that each network chose on validation.
    """
    for method in test.methods():
        part = test.of(method)
        for k, label in enumerate(part.any.classes if part.any.y.ndim == 2 else ()):
            row = {"method": method, "label": label, "n": len(part.any.ids), "positives": int(part.any.y[:, k].sum())}
            row |= {"seeds": part.networks(method), "unit": part.unit} | folds_of(part)
            for metric, (value, (low, high, name)) in _measures(part, method, k).items():
                found = {"metric": metric, "value": value, "low": low, "high": high, "interval": name}
                yield key(study, part, metric) | row | found


def _measures(test: Tested, method: str, k: int) -> dict[str, tuple[float, stats.Interval]]:
    """Value and interval of each metric of label k: DeLong's variance for the AUC (where patients have several cases,
    the bootstrap), the bootstrap for the others.
    """
    y = test.any.y[:, [k]]
    scores, answers = ([given[:, [k]] for given in of(method)] for of in (test.predictions, test.answers))
    known = [score.of_labels[:, k] for score in test.seeds(method, "average_precision")]
    found = {"auc": _bootstrapped(test, stats.auc, y, scores) if test.any.clustered else _delong(y, scores)}
    found["average_precision"] = _bootstrapped(test, stats.average_precision, y, scores, known)
    return found | {"f1": _bootstrapped(test, stats.macro_f1, y, answers)}


def _delong(y: np.ndarray, scores: list[np.ndarray]) -> tuple[float, stats.Interval]:
    estimate = stats.average([stats.auc_estimate(y, p) for p in scores])
    return estimate.value, stats.score_interval(estimate, "score, DeLong", stats.degrees(estimate.parts))


def _bootstrapped(test: Tested, measure: Callable, y, given: list, known=()) -> tuple[float, stats.Interval]:
    """known: the draws of each network, where they were made before."""
    draws = np.mean(known or [measure(y, one, test.weights) for one in given], 0)
    interval = stats.bootstrap_interval(draws, f"bootstrap over {test.unit}")
    return float(np.mean([measure(y, one) for one in given])), interval
