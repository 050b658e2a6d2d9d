"""The tables of a study, from the predictions of its finished runs: results/<study>/tables/*.csv.

results/README.md explains every column. Of the same predictions the tables are the same to the byte: random draws are
seeded by what they are for, rows have one order, numbers one format.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from isnetlib import stats
from isnetlib.report import names, scoring
from isnetlib.report.scoring import Network, TestSet
from isnetlib.training.files import write_atomically

KEY = "study experiment test_set".split()
COLUMNS = {
    "metrics": [*KEY, *"method seed metric value primary".split()],
    "seeds": [*KEY, *"method metric mean n primary cases_low cases_high cases both_low both_high".split()],
    "comparisons": [*KEY, *"metric a b difference low high p p_holm family unit primary".split()]
    + "margin p_equivalent detectable verdict".split(),
    "labels": [*KEY, *"method label metric value".split()],
}
ALPHA = 0.05
UNROUNDED = ("p", "p_holm", "p_equivalent")
TEXT = "method metric a b family unit variant network label verdict".split()


def write(study: Path) -> dict[str, pd.DataFrame]:
    """Write the tables of `COLUMNS` to results/<study>/tables/*.csv and return `read`. FileNotFoundError: no run is
    finished; ValueError, naming the file: predictions are not as they must be.
    """
    for name, frame in build(study).items():
        exact = {p: [repr(value) if value == value else "" for value in frame[p]] for p in UNROUNDED if p in frame}
        text = frame.assign(**exact).to_csv(index=False, lineterminator="\n", float_format="%.6f")
        write_atomically(Path(study) / "tables" / f"{name}.csv", text.replace("-0.000000", "0.000000"))
    return read(study)


def read(study: Path) -> dict[str, pd.DataFrame]:
    """The tables in results/<study>/tables by file name, those of cost too; names are text. FileNotFoundError: none."""
    paths = sorted((Path(study) / "tables").glob("*.csv"))
    if not paths:
        raise FileNotFoundError(f"{study}: no tables; make them by: isnet report --study {Path(study).name}")
    text = dict.fromkeys([*KEY, *TEXT], str)
    return {path.stem: pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""]) for path in paths}


def build(study: Path) -> dict[str, pd.DataFrame]:
    """The tables, unrounded."""
    makers = dict(zip(COLUMNS, (metric_rows, seed_rows, comparison_rows, label_rows), strict=True))
    rows = {name: [] for name in COLUMNS}
    for test in scoring.tested(study):
        about = dict(zip(KEY, (Path(study).name, test.experiment, test.name), strict=True))
        for name, make in makers.items():
            rows[name] += [about | row | {"primary": row["metric"] == test.primary} for row in make(test)]
    if not rows["metrics"]:
        raise FileNotFoundError(f"{study}: no finished run; start them by: isnet run --study {Path(study).name}")
    frames = {name: pd.DataFrame(rows[name], columns=columns) for name, columns in COLUMNS.items()}
    return frames | {"seeds": pd.concat([frames["seeds"], gaps(frames["seeds"])], ignore_index=True)}


def metric_rows(test: TestSet) -> Iterator[dict]:
    """A row a method, seed and metric, on the cases that this network was tested on."""
    for (method, seed), one in test.networks.items():
        for metric, (value, _) in one.values.items():
            yield {"method": method, "seed": seed, "metric": metric, "value": value}


def seed_rows(test: TestSet) -> Iterator[dict]:
    """A row a method and metric: the mean over seeds with intervals over cases, and over cases and seeds; of folds the
    value over all cases, with the interval over them.
    """
    for method in test.methods:
        (networks,) = test.of(method)
        trainings = sum(one.trainings for one in networks)
        for metric, (_, cases) in networks[0].values.items():
            values = [one.values[metric][0] for one in networks if metric in one.values]
            row = {"method": method, "metric": metric, "mean": np.mean(values), "n": trainings, "cases": cases}
            yield row | (intervals(networks, metric, values) if metric in stats.ESTIMATES else {})


def intervals(networks: list[Network], metric: str, values: list[float]) -> dict[str, float]:
    """Over cases Wilson's (macro F1 and AUC: with the jackknife's or DeLong's variance), or the bootstrap's where
    patients have several cases; over cases and seeds Student's.
    """
    one, mean = networks[0], stats.average([one.estimates[metric] for one in networks])
    if mean.patients:
        cases = stats.bootstrap_interval(mean.parts)
    elif metric == "accuracy" and one.y.ndim == 1:
        cases = stats.wilson(mean.value, len(mean.parts))
    else:
        cases = stats.score_interval(mean, np.inf if metric == "macro_f1" else stats.degrees(mean.parts))
    found = dict(zip(("cases_low", "cases_high"), cases, strict=True))
    if len(values) > 1:
        both = stats.two_level(mean.variance, one.independent, values, bounds=(0, 1))
        found |= {"both_low": both.low, "both_high": both.high}
    return found


def gaps(seeds: pd.DataFrame) -> pd.DataFrame:
    """The primary metric on biased minus that on deceiving cases, as the test set "gap"."""
    biased, deceiving = (seeds[seeds["primary"] & (seeds["test_set"] == name)] for name in ("biased", "deceiving"))
    both = biased.merge(deceiving, on=["experiment", "method"], suffixes=("", "_deceiving"))
    gap = both.assign(test_set="gap", mean=both["mean"] - both["mean_deceiving"])
    return gap[[*KEY, "method", "metric", "mean", "n", "primary", "cases"]]


def comparison_rows(test: TestSet) -> Iterator[dict]:
    """The primary method against every other one but upper bounds, on the cases that both were tested on; Holm within
    the rivals, one family a metric.
    """
    others = [b for b in test.methods if b not in (names.PRIMARY_METHOD, *names.UPPER_BOUNDS)]
    pairs = {b: test.of(names.PRIMARY_METHOD, b) for b in others}
    for metric in stats.ESTIMATES:
        margin = names.MARGINS.get((test.experiment, metric), names.MARGIN)
        rows = [{"b": b} | compare(metric, *pair, margin) for b, pair in pairs.items() if all(pair)]
        planned = [row for row in rows if row["b"] in test.rivals]
        for row, p in zip(planned, stats.holm([row["p"] for row in planned]), strict=True):
            row |= {"p_holm": p, "family": "/".join((test.experiment, test.name, metric))}
        for row in rows:
            told = verdict(row["difference"], row.get("p_holm", row["p"]))
            yield row | {"metric": metric, "a": names.PRIMARY_METHOD, "verdict": told}


def compare(metric: str, a: list[Network], b: list[Network], margin: float) -> dict:
    """The networks of one method minus those of another, over seeds and cases (`stats.two_level`)."""
    each, one = [[one.estimates[metric] for one in networks] for networks in (a, b)], a[0]
    paired = stats.average(each[0]) - stats.average(each[1])
    variance = paired.variance
    if metric == "accuracy":  # always right against never right: no spread in the sample, yet not none
        variance = stats.paired_share_variance(paired.value, variance, one.independent)
    found = stats.two_level(variance, one.independent, *([own.value for own in estimates] for estimates in each))
    row = {"difference": found.value, "low": found.low, "high": found.high, "p": found.p, "margin": margin}
    row |= {"p_equivalent": stats.equivalence(found, margin), "detectable": stats.detectable(found)}
    return row | {"unit": f"{one.unit} x seeds" if min(len(a), len(b)) > 1 else one.unit}


def verdict(difference: float, p: float) -> str:
    """Whether method a is ahead of b, by the p that is adjusted within a family."""
    if not p < ALPHA or difference == 0:
        return "no difference shown"
    return "ahead" if difference > 0 else "behind"


def label_rows(test: TestSet) -> Iterator[dict]:
    """The AUC of each method and label, where images have several: the mean over seeds."""
    for method in test.methods:
        (networks,) = test.of(method)
        for k, label in enumerate(networks[0].classes if networks[0].y.ndim == 2 else ()):
            value = np.mean([stats.auc(one.y[:, [k]], one.p[:, [k]]) for one in networks])
            yield {"method": method, "label": label, "metric": "auc", "value": value}
