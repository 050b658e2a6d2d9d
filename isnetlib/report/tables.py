"""The tables of a study, from the predictions of its finished runs: results/<study>/tables/*.csv.

results/README.md explains every column. Of the same predictions the tables are the same to the byte: random draws are
seeded by what they are for, rows have one order, numbers one format.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from isnetlib import stats
from isnetlib.report import names, scoring
from isnetlib.report.scoring import Scored, TestSet
from isnetlib.training.files import write_atomically

KEY = "study experiment test_set".split()
COLUMNS = {
    "metrics": [*KEY, *"method seed metric value low high n selection interval unit primary fold".split()],
    "seeds": [*KEY, *"method metric mean sd low high n selection interval unit primary".split()]
    + "cases_low cases_high cases cases_interval cases_unit both_low both_high both_interval folds".split(),
    "comparisons": [*KEY, *"metric a b difference low high test p p_holm family n unit primary".split()]
    + "seeds_a seeds_b se_cases se_seeds df margin p_equivalent detectable verdict folds".split(),
    "labels": [*KEY, *"method label metric value low high n positives seeds folds interval unit".split()],
    "tests": [*KEY, *"cases patients classes".split()],
}
COMPARED = ("accuracy", "macro_f1", "auc", "background_share")
ALPHA = 0.05
UNROUNDED = ("p", "p_holm", "p_equivalent")
COUNTS = ("patients", "fold")  # whole numbers that may be missing
TEXT = "method metric a b test family unit selection interval variant network label folds verdict".split()


def write(study: Path) -> dict[str, pd.DataFrame]:
    """Write the tables of `COLUMNS` to results/<study>/tables/*.csv and return `read`. FileNotFoundError: no run is
    finished; ValueError, naming the file: predictions are not as they must be.
    """
    for name, frame in build(study).items():
        text = pd.DataFrame({column: [_text(column, value) for value in frame[column]] for column in frame})
        write_atomically(Path(study) / "tables" / f"{name}.csv", text.to_csv(index=False, lineterminator="\n"))
    return read(study)


def read(study: Path) -> dict[str, pd.DataFrame]:
    """The tables in results/<study>/tables by file name, those of cost too; names are text. FileNotFoundError: none."""
    paths = sorted((Path(study) / "tables").glob("*.csv"))
    if not paths:
        raise FileNotFoundError(f"{study}: no tables; make them by: isnet report --study {Path(study).name}")
    text = dict.fromkeys([*KEY, *TEXT], str)
    return {path.stem: pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""]) for path in paths}


def build(study: Path) -> dict[str, pd.DataFrame]:
    """The tables, unrounded. The columns fold and folds are there only where an experiment has folds."""
    makers = dict(zip(COLUMNS, (metric_rows, seed_rows, comparison_rows, label_rows, tested_rows), strict=True))
    rows: dict[str, list[dict]] = {name: [] for name in COLUMNS}
    biased: dict[str, TestSet] = {}
    for test in scoring.tested(study):
        made = {name: list(make(test)) for name, make in makers.items()}
        if test.name == "biased":
            biased = {test.experiment: test}
        if test.name == "deceiving" and test.experiment in biased:
            made["seeds"] += gap_rows(biased[test.experiment], test)
        about = dict(zip(KEY, (Path(study).name, test.experiment, test.name), strict=True)) | {"selection": "swapped"}
        for name, own in made.items():
            rows[name] += [about | row | {"primary": row.get("metric") == test.primary} for row in own]
    if not rows["tests"]:
        raise FileNotFoundError(f"{study}: no finished run; start them by: isnet run --study {Path(study).name}")
    dropped = () if any(row["folds"] for row in rows["seeds"]) else ("fold", "folds")
    kept = {name: [c for c in own if name == "labels" or c not in dropped] for name, own in COLUMNS.items()}
    return {name: pd.DataFrame(rows[name], columns=kept[name]) for name in COLUMNS}


def _text(column: str, value: object) -> str:
    """One format a column: p unrounded, counts whole, other numbers with six decimals; missing is empty."""
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return ""
    if column in UNROUNDED:
        return repr(float(value))
    return f"{value:.0f}" if column in COUNTS else f"{round(value, 6) + 0.0:.6f}"  # + 0.0: no negative zero


def metric_rows(test: TestSet) -> Iterator[dict]:
    """One row a method, seed and metric, with the interval over the cases that this network was tested on."""
    for (method, seed), one in test.networks.items():
        for metric, estimate in one.estimates.items():
            row = {"method": method, "seed": seed, "metric": metric, "value": estimate.value, "unit": one.unit}
            row |= {"n": one.known(metric), "fold": seed if test.folded else np.nan}
            yield row | _ends(scoring.interval([one], metric))


def seed_rows(test: TestSet) -> Iterator[dict]:
    """One row a method and metric: the mean over seeds with intervals over seeds, over cases, and over both; of folds
    the value over all cases, with the interval over them.
    """
    for method in test.methods:
        for metric in test.of(method)[0].estimates:
            own, bounds = [one for one in test.of(method) if metric in one.estimates], names.bounds(metric)
            values = [one.estimates[metric].value for one in own]
            both = stats.over_seeds(values, bounds, scoring.case_variance(metric, own), own[0].groups)
            row = {"method": method, "metric": metric} | _means(own, metric, values, bounds) | _ends(both, "both_")
            yield row | _ends(scoring.interval(own, metric), "cases_")


def gap_rows(biased: TestSet, deceiving: TestSet) -> Iterator[dict]:
    """The primary metric on biased minus that on deceiving cases, seed by seed, as the test set "gap". Over cases by
    the bootstrap: the same cases with another mark share their draws, others are drawn apart.
    """
    metric = biased.primary
    for method in biased.methods:
        seeds = [seed for seed in biased.seeds(method) if seed in deceiving.seeds(method)]
        if pairs := list(zip(biased.of(method, seeds), deceiving.of(method, seeds), strict=True)):
            own, others = zip(*pairs, strict=True)
            values = [one.estimates[metric].value - other.estimates[metric].value for one, other in pairs]
            draws = scoring.mean_draws(own, metric) - scoring.mean_draws(others, metric)
            row = {"test_set": "gap", "method": method, "metric": metric} | _means(own, metric, values, (-1, 1))
            yield row | _ends(stats.bootstrap_interval(draws, f"bootstrap over {own[0].unit}"), "cases_")


def _means(networks: list[Scored], metric: str, values: list[float], bounds: tuple[float, float]) -> dict:
    one = networks[0]
    row = {"mean": np.mean(values), "sd": np.std(values, ddof=1) if len(values) > 1 else np.nan}
    row |= {"n": sum(one.trainings for one in networks), "unit": "folds" if one.folds else "seeds", "folds": one.folds}
    return row | {"cases": one.known(metric), "cases_unit": one.unit} | _ends(stats.over_seeds(values, bounds))


def _ends(interval: stats.Interval, prefix: str = "") -> dict:
    return dict(zip((f"{prefix}low", f"{prefix}high", f"{prefix}interval"), interval, strict=True))


def comparison_rows(test: TestSet) -> Iterator[dict]:
    """The primary method against every other one but upper bounds, on the cases that both were tested on; Holm within
    the rivals, one family a metric. Second looks have no verdict.
    """
    others = [b for b in test.methods if b not in (names.PRIMARY_METHOD, *names.UPPER_BOUNDS)]
    for metric in COMPARED:
        pairs = {b: test.pair(names.PRIMARY_METHOD, b, metric) for b in others}
        pairs = {b: pair for b, pair in pairs.items() if all(pair)}
        found = {b: scoring.compare(metric, *pair) for b, pair in pairs.items()}
        planned = [b for b in found if b in names.RIVALS]
        holm = dict(zip(planned, stats.holm([found[b].p for b in planned]), strict=True))
        for b, one in found.items():
            row = {"verdict": verdict(metric, one, holm.get(b, one.p))}
            if b in planned:
                row |= {"p_holm": holm[b], "family": "/".join((test.experiment, test.name, metric))}
            yield row | _comparison(test.experiment, metric, b, pairs[b], one)
        for b, pair in pairs.items():
            if look := scoring.second_look(metric, *pair):
                yield _comparison(test.experiment, metric, b, pair, look)


def verdict(metric: str, found: stats.Difference, p: float) -> str:
    """Whether method a is ahead of b, by the p that is adjusted within a family."""
    if not p < ALPHA or found.difference == 0:
        return "no difference shown"
    return "ahead" if (found.difference < 0) == (metric in names.LOWER_IS_BETTER) else "behind"


def _comparison(experiment: str, metric: str, b: str, pair: tuple, found: stats.Difference) -> dict:
    margin, one = names.margin(experiment, metric), pair[1][0]
    se = np.nansum([found.se_cases**2, found.se_seeds**2]) ** 0.5
    row = found._asdict() | {"unit": found.unit.replace("cases", one.unit), "n": one.known(metric), "folds": one.folds}
    row |= {f"seeds_{side}": sum(one.trainings for one in own) for side, own in zip("ab", pair, strict=True)}
    row |= {"metric": metric, "a": names.PRIMARY_METHOD, "b": b, "detectable": stats.detectable(se, found.df)}
    return row | {"margin": margin, "p_equivalent": stats.equivalence(found.difference, se, found.df, margin)}


def label_rows(test: TestSet) -> Iterator[dict]:
    """The AUC of each method and label, where images have several, mean over seeds, with the interval over cases."""
    for method in test.methods:
        networks = test.of(method)
        one = networks[0]
        for k, label in enumerate(one.cases.classes if one.cases.y.ndim == 2 else ()):
            alone = [network.alone(k) for network in networks]
            row = {"method": method, "label": label, "metric": "auc", "value": scoring.mean(alone, "auc").value}
            row |= {"n": len(one.cases.y), "positives": int(one.cases.y[:, k].sum()), "unit": one.unit}
            row |= {"seeds": sum(one.trainings for one in networks), "folds": one.folds}
            yield row | _ends(scoring.interval(alone, "auc"))


def tested_rows(test: TestSet) -> Iterator[dict]:
    """What a test set holds: cases, patients (where they repeat) and how many cases each class has."""
    whole = max((test.of(method)[0] for method in test.methods), key=lambda one: len(one.cases.ids))
    y, classes = whole.cases.y, whole.cases.classes
    counts = y.sum(0) if y.ndim == 2 else np.bincount(y, minlength=len(classes))
    held = json.dumps({name: int(k) for name, k in zip(classes, counts, strict=True)}, ensure_ascii=False)
    yield {"cases": len(y), "patients": float(whole.groups) if whole.clustered else np.nan, "classes": held}
