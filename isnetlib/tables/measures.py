"""Rows of intervals.csv, calibration.csv, roc.csv and labels.csv: further measures of each method, mean over seeds."""

from collections.abc import Iterator

import numpy as np

from isnetlib import stats
from isnetlib.scoring import Tested, TestedSet
from isnetlib.stats.roc import roc_curve
from isnetlib.tables.scores import key

ROC_DRAWS = 500  # a band needs fewer than an interval that is printed


def interval_rows(study: str, test: TestedSet, drawn: dict) -> Iterator[dict]:
    """95 % intervals over cases: posteriors of macro F1 and of every class's F1, precision, recall and specificity;
    what `stats` has for clinical tasks, by the bootstrap. drawn: `scoring.posteriors` of each part.
    """
    for method in test.methods():
        part = test.of(method)
        about = _about(study, part, method) | {"n": len(part.any.ids)}
        for row in (*_posterior_rows(part, method, drawn[part.folds][method]), *_clinical_rows(part, method)):
            yield about | row


def _about(study: str, test: Tested, method: str) -> dict:
    return key(study, test, "") | {"method": method, "seeds": test.networks(method), "unit": test.unit}


def _posterior_rows(test: Tested, method: str, drawn: dict) -> Iterator[dict]:
    y, classes = test.any.y, test.any.classes
    posterior = "Bayesian bootstrap over patients, shortest" if test.any.clustered else "posterior, shortest"
    value = float(np.mean([s.value for s in test.seeds(method, "macro_f1")]))
    yield _measure("macro_f1", "", value, stats.shortest(drawn["macro_f1"], posterior))
    values = [stats.class_measures(y, answers) for answers in test.answers(method)]
    for name in values[0]:
        for k in np.flatnonzero((y if y.ndim == 2 else y[:, None] == np.arange(len(classes))).any(0)):
            found = stats.shortest(drawn[name][:, k], posterior)
            yield _measure(name, classes[k], float(np.mean([v[name][k] for v in values])), found)


def _clinical_rows(test: Tested, method: str) -> Iterator[dict]:
    y = test.any.y
    for name, measure in _clinical(test).items():
        scores = test.predictions(method) if name == "calibration_error" else test.ranks(method)
        known = [score.draws for score in test.seeds(method, name)]  # average precision of several labels
        draws = np.mean(known or [measure(y, p, test.weights) for p in scores], 0)
        found = stats.bootstrap_interval(draws, f"bootstrap over {test.unit}")
        yield _measure(name, "", float(np.mean([measure(y, p) for p in scores])), found)


def _measure(name: str, label: str, value: float, interval: stats.Interval) -> dict:
    low, high, kind = interval
    return {"measure": name, "class": label, "value": value, "low": low, "high": high, "interval": kind}


def _clinical(test: Tested) -> dict:
    """Measures by name: of calibration where scores are probabilities, of a positive class where there is one."""
    found = {}
    if _probabilities(test):
        found["calibration_error"] = stats.expected_calibration_error
    if test.any.y.ndim == 2 or len(test.any.classes) == 2:
        found["average_precision"] = stats.average_precision
        found["sensitivity_at_95_specificity"] = stats.sensitivity_at_specificity
    return found


def _probabilities(test: Tested) -> bool:
    return all(cases.p.min() >= 0 and cases.p.max() <= 1 + 1e-6 for cases in test.cases.values())


def calibration_rows(study: str, test: TestedSet) -> Iterator[dict]:
    """The reliability curve of each method, all seeds together, a row a bin."""
    for method in test.methods():
        part = test.of(method)
        if _probabilities(part):
            for row in stats.reliability(part.any.y, part.predictions(method), part.weights).to_dict("records"):
                yield _about(study, part, method) | row


def roc_rows(study: str, test: TestedSet) -> Iterator[dict]:
    """The ROC curve of each method, mean over seeds, where there are two classes or several labels."""
    for method in test.methods():
        part = test.of(method)
        if part.any.y.ndim == 2 or len(part.any.classes) == 2:
            curve = roc_curve(part.any.y, part.ranks(method), part.weights[:ROC_DRAWS])
            for row in curve.to_dict("records"):
                yield _about(study, part, method) | row
