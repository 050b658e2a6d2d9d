"""The tables of a study, from the predictions of its finished runs: results/<study>/tables/*.csv.

results/README.md explains every column. Rebuilt from the same predictions the tables are the same to the byte: random
draws are seeded by what they are for, rows have one order, numbers one format.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from isnetlib import names, runs, stats
from isnetlib.files import write_atomically
from isnetlib.scoring import (
    Tested,
    case_variance,
    cochran,
    compare,
    further,
    generator,
    interval,
    posteriors,
    tested,
)
from isnetlib.stats.roc import roc_curve

KEY = "study experiment test_set".split()
COLUMNS = {
    "metrics": [*KEY, *"method seed metric value low high n selection interval unit primary".split()],
    "seeds": [*KEY, *"method metric mean sd low high n selection interval unit primary".split()]
    + "cases_low cases_high cases cases_interval cases_unit both_low both_high both_interval".split()
    + "se_cases se_seeds se_both".split(),
    "comparisons": [*KEY, *"metric a b difference low high test p p_holm family n unit primary".split()]
    + "seeds_a seeds_b se_cases se_seeds df margin p_equivalent detectable probability".split(),
    "intervals": [*KEY, *"method measure class value low high n seeds interval unit".split()],
    "omnibus": [*KEY, *"metric test statistic df p n methods".split()],
    "calibration": [*KEY, *"method bin confidence accuracy low high n seeds unit".split()],
    "roc": [*KEY, *"method false_positive_rate sensitivity low high seeds unit".split()],
    "tests": [*KEY, *"cases patients classes".split()],
    "runs": "study experiment method seed folder epoch_swapped epoch_internal seconds peak_mib parameters".split(),
}
COLUMNS["selection"] = COLUMNS["metrics"]
COMPARED = [*stats.METRICS, "background_share"]
ROC_DRAWS = 500  # a band needs fewer than an interval that is printed
UNROUNDED = {"p", "p_holm", "p_equivalent"}
COUNTS = {"patients", "epoch_swapped", "epoch_internal", "parameters"}  # whole numbers that may be missing
TEXT = "option method metric a b test family unit selection interval folder classes variant network reason".split()
TEXT += "methods measure class".split()


def metric_rows(study: str, test: Tested, selection: str) -> Iterator[dict]:
    """One row a method, seed and metric, with the interval over cases."""
    for (method, seed), scores in test.scores.items():
        for metric in names.in_order(scores, names.METRIC_NAMES):
            low, high, name = interval(test, metric, [scores[metric]])
            row = {"method": method, "seed": seed, "value": scores[metric].value, "low": low, "high": high}
            row |= {"n": scores[metric].n, "selection": selection, "interval": name, "unit": test.unit}
            yield _key(study, test, metric) | row


def seed_rows(study: str, test: Tested) -> Iterator[dict]:
    """One row a method and metric: the mean over seeds with intervals over seeds, over cases, and over both."""
    for method in test.methods():
        for metric in test.metrics():
            if seeds := test.seeds(method, metric):
                values, over_cases = [s.value for s in seeds], interval(test, metric, seeds)
                bounds = names.BOUNDS.get(metric, (-np.inf, np.inf))
                row = _seeds(test, method, values, bounds, over_cases, seeds[0].n)
                row |= _both(values, case_variance(test, seeds), test.groups, bounds)
                if seeds[0].draws is not None:
                    rng, draws = generator(test.experiment, test.name, method, metric), [s.draws for s in seeds]
                    errors = stats.two_level_bootstrap(values, draws, test.groups, rng)
                    row |= dict(zip(("se_cases", "se_seeds", "se_both"), errors, strict=True))
                yield _key(study, test, metric) | row


def _both(values: list[float], variance: float, groups: int, bounds: tuple) -> dict:
    low, high, name = stats.over_seeds(values, variance, groups, bounds)
    return {"both_low": low, "both_high": high, "both_interval": name}


def gap_rows(study: str, biased: Tested, deceiving: Tested) -> Iterator[dict]:
    """The primary metric on biased minus that on deceiving cases, seed by seed, as the test set "gap"."""
    metric = names.primary_metric(biased.experiment)
    for method in biased.methods():
        keys = [key for key in biased.scores if key[0] == method and key in deceiving.scores]
        if keys:
            pairs = [(biased.scores[key][metric], deceiving.scores[key][metric]) for key in keys]
            values, over_cases = [b.value - d.value for b, d in pairs], _gap_interval(biased, deceiving, pairs)
            row = _seeds(biased, method, values, (-1, 1), over_cases, pairs[0][0].n)
            yield _key(study, biased, metric) | {"test_set": "gap"} | row


def _gap_interval(biased: Tested, deceiving: Tested, pairs: list) -> stats.Interval:
    """Over cases, by the bootstrap: the same cases with another mark share their draws, others are drawn apart."""
    draws = np.mean([b.draws - d.draws for b, d in pairs], 0)
    return stats.bootstrap_interval(draws, f"bootstrap over {biased.unit}")


def _key(study: str, test: Tested, metric: str) -> dict:
    primary = metric == names.primary_metric(test.experiment)
    return {"study": study, "experiment": test.experiment, "test_set": test.name, "metric": metric, "primary": primary}


def _seeds(test: Tested, method: str, values: list, bounds: tuple, over_cases: stats.Interval, cases: int) -> dict:
    mean, sd, over_seeds = stats.seed_interval(values, bounds)
    row = {"method": method, "mean": mean, "sd": sd, "low": over_seeds.low, "high": over_seeds.high, "n": len(values)}
    row |= {"selection": "swapped", "interval": over_seeds.name, "unit": "seeds", "cases": cases}
    row |= {"cases_low": over_cases.low, "cases_high": over_cases.high, "cases_interval": over_cases.name}
    return row | {"cases_unit": test.unit}


def comparison_rows(study: str, test: Tested, drawn: dict) -> Iterator[dict]:
    """The primary method against every other one but upper bounds, on the same cases; Holm within the rivals, one
    family a metric.
    """
    a = names.PRIMARY_METHOD
    for metric in COMPARED:
        others = [b for b in test.methods() if b not in (a, *names.UPPER_BOUNDS)]
        others = [b for b in others if test.seeds(a, metric) and test.seeds(b, metric)]
        found = {b: compare(test, metric, a, b) for b in others}
        family = [b for b in others if b in names.RIVALS]
        holm = dict(zip(family, stats.holm([found[b].p for b in family]), strict=True))
        for b in others:
            label = "/".join((test.experiment, test.name, metric)) if b in family else ""
            row = _comparison(study, test, metric, b, found[b]) | {"p_holm": holm.get(b, np.nan), "family": label}
            if metric == "macro_f1":
                row["probability"] = stats.probability_better(*(drawn[method][metric] for method in (a, b)))
            yield row
        for b in others:
            for look in further(test, metric, a, b):
                yield _comparison(study, test, metric, b, look) | {"p_holm": np.nan, "family": ""}


def _comparison(study: str, test: Tested, metric: str, b: str, found: stats.Difference) -> dict:
    a, unit = names.PRIMARY_METHOD, found.unit.replace("cases", test.unit)
    row = {"a": a, "b": b, "n": test.seeds(b, metric)[0].n} | found._asdict() | {"unit": unit}
    row |= {"seeds_a": len(test.seeds(a, metric)), "seeds_b": len(test.seeds(b, metric))}
    se, margin = np.nansum([found.se_cases**2, found.se_seeds**2]) ** 0.5, names.EQUIVALENCE_MARGIN
    row |= {"margin": margin, "p_equivalent": stats.equivalence(found.difference, se, found.df, margin)}
    return _key(study, test, metric) | row | {"detectable": stats.detectable(se, found.df)}


def interval_rows(study: str, test: Tested, drawn: dict) -> Iterator[dict]:
    """Further measures of each method, mean over seeds, with 95 % intervals over cases: posteriors of macro F1 and of
    every class's F1, precision, recall and specificity; what `stats` has for clinical tasks, by the bootstrap.
    """
    y, classes = test.any.y, test.any.classes
    posterior = "Bayesian bootstrap over patients, shortest" if test.any.clustered else "posterior, shortest"
    for method in test.methods():
        scores = test.predictions(method)
        key = _key(study, test, "") | {"method": method, "n": len(y), "seeds": len(scores), "unit": test.unit}
        value = float(np.mean([s.value for s in test.seeds(method, "macro_f1")]))
        yield key | _measure("macro_f1", "", value, stats.shortest(drawn[method]["macro_f1"], posterior))
        values = [stats.class_measures(y, p) for p in scores]
        for name in values[0]:
            for k in np.flatnonzero((y if y.ndim == 2 else y[:, None] == np.arange(len(classes))).any(0)):
                found = stats.shortest(drawn[method][name][:, k], posterior)
                yield key | _measure(name, classes[k], float(np.mean([v[name][k] for v in values])), found)
        for name, measure in _clinical(test).items():
            draws = np.mean([measure(y, p, test.weights) for p in scores], 0)
            found = stats.bootstrap_interval(draws, f"bootstrap over {test.unit}")
            yield key | _measure(name, "", float(np.mean([measure(y, p) for p in scores])), found)


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


def omnibus_rows(study: str, test: Tested) -> Iterator[dict]:
    """Cochran's Q of all methods together, where cases are independent and have one label."""
    methods = [m for m in test.methods() if m not in names.UPPER_BOUNDS]
    if test.plain and len(methods) > 1:
        statistic, df, p = cochran(test, methods)
        row = {"test": "Cochran's Q, on seed-averaged scores", "statistic": statistic, "df": df, "p": p}
        yield _key(study, test, "accuracy") | row | {"n": len(test.any.ids), "methods": " ".join(methods)}


def calibration_rows(study: str, test: Tested) -> Iterator[dict]:
    """The reliability curve of each method, all seeds together, a row a bin."""
    for method in test.methods() if _probabilities(test) else []:
        scores = test.predictions(method)
        for row in stats.reliability(test.any.y, scores, test.weights).to_dict("records"):
            yield _key(study, test, "") | {"method": method, "seeds": len(scores), "unit": test.unit} | row


def roc_rows(study: str, test: Tested) -> Iterator[dict]:
    """The ROC curve of each method, mean over seeds, where there are two classes or several labels."""
    if test.any.y.ndim == 2 or len(test.any.classes) == 2:
        for method in test.methods():
            scores = test.predictions(method)
            for row in roc_curve(test.any.y, scores, test.weights[:ROC_DRAWS]).to_dict("records"):
                yield _key(study, test, "") | {"method": method, "seeds": len(scores), "unit": test.unit} | row


def tested_row(study: str, test: Tested) -> dict:
    """What a test set holds: cases, patients (where they repeat) and how many cases each class has."""
    y, classes = test.any.y, test.any.classes
    count = np.bincount(y, minlength=len(classes)) if y.ndim == 1 else y.sum(0)
    counts = json.dumps({name: int(k) for name, k in zip(classes, count, strict=True)}, ensure_ascii=False)
    patients = float(len(np.unique(test.any.groups))) if test.any.clustered else np.nan
    return _key(study, test, "") | {"cases": len(test.any.ids), "patients": patients, "classes": counts}


def run_row(study: Path, run: runs.Run) -> dict:
    """Where a run lies, which epochs were chosen and what it cost."""
    row = {"study": study.name, "experiment": run.experiment, "method": run.method, "seed": run.seed}
    row |= {"folder": run.folder.relative_to(study).as_posix()}
    row |= {f"epoch_{rule}": run.facts.get("epoch", {}).get(rule, np.nan) for rule in runs.PREDICTIONS}
    return row | {fact: run.facts.get(fact, np.nan) for fact in ("seconds", "peak_mib", "parameters")}


def build(study: Path) -> dict[str, pd.DataFrame]:
    """All tables of results/<study> by name: those of `COLUMNS`.

    FileNotFoundError where no run is finished; ValueError, naming the file, where predictions are not as they must be.
    """
    study, _ = Path(study), runs.experiments(study)
    found = runs.find_runs(study)
    rows: dict[str, list[dict]] = {name: [] for name in COLUMNS}
    rows["runs"] = [run_row(study, run) for run in found]
    biased: dict[str, Tested] = {}
    for test in tested(found, "swapped"):
        rows["metrics"] += metric_rows(study.name, test, "swapped")
        rows["seeds"] += seed_rows(study.name, test)
        drawn = posteriors(test)
        rows["comparisons"] += comparison_rows(study.name, test, drawn)
        rows["intervals"] += interval_rows(study.name, test, drawn)
        rows["omnibus"] += omnibus_rows(study.name, test)
        rows["calibration"] += calibration_rows(study.name, test)
        rows["roc"] += roc_rows(study.name, test)
        rows["tests"].append(tested_row(study.name, test))
        if test.name == "biased":
            biased[test.experiment] = test
        if test.name == "deceiving" and test.experiment in biased:
            rows["seeds"] += gap_rows(study.name, biased[test.experiment], test)
    for test in tested(found, "internal"):
        rows["selection"] += metric_rows(study.name, test, "internal")
    return {name: pd.DataFrame(rows[name], columns=COLUMNS[name]) for name in COLUMNS}


def write(study: Path) -> dict[str, pd.DataFrame]:
    """Write `build` to results/<study>/tables/*.csv and return the tables as `read` gives them."""
    for name, frame in build(study).items():
        text = pd.DataFrame({column: [_text(column, value) for value in frame[column]] for column in frame})
        write_atomically(Path(study) / "tables" / f"{name}.csv", text.to_csv(index=False, lineterminator="\n"))
    return read(study)


def _text(column: str, value) -> str:
    """One format a column: p unrounded, counts whole, other numbers with six decimals; missing is empty."""
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return ""
    if column in UNROUNDED:
        return repr(float(value))
    return f"{value:.0f}" if column in COUNTS else f"{round(value, 6) + 0.0:.6f}"  # + 0.0: no negative zero


def read(study: Path) -> dict[str, pd.DataFrame]:
    """The tables in results/<study>/tables by file name, those of cost too; names are text. FileNotFoundError: none."""
    folder, frames = Path(study) / "tables", {}
    for path in sorted(folder.glob("*.csv")):
        frames[path.stem] = pd.read_csv(
            path, dtype=dict.fromkeys([*KEY, *TEXT], str), keep_default_na=False, na_values=[""]
        )
    if not frames:
        raise FileNotFoundError(f"{folder}: no tables; make them by: isnet report --study {Path(study).name}")
    return frames
