"""The tables of a study, from the predictions of its finished runs: results/<study>/tables/*.csv.

results/README.md explains every column. Of the same predictions the tables are the same to the byte: random draws are
seeded by what they are for, rows have one order, numbers one format.

By folds, each case was tested by the network of its own fold, and a method's predictions are joined to one set, in
which intervals and tests count each case once. Where one network calls everything more likely than another, the joined
AUC is lower than the mean over folds.
"""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from isnetlib import stats
from isnetlib.report import names, store
from isnetlib.training.files import write_atomically

KEY = "study experiment test_set".split()
COLUMNS = {
    "metrics": [*KEY, *"method seed metric value primary".split()],
    "seeds": [*KEY, *"method metric mean n primary cases_low cases_high cases both_low both_high".split()],
    "comparisons": [*KEY, *"metric a b difference low high p p_holm family unit primary".split()]
    + "margin p_equivalent detectable verdict".split(),
    "labels": [*KEY, *"method label metric value".split()],
}
UNROUNDED = ("p", "p_holm", "p_equivalent")
TEXT = "method metric a b family unit variant network label verdict".split()
SHARES = ("background_share", "chance_share")  # of the relevance and of the area, known where a mask is


def write(study: Path) -> dict[str, pd.DataFrame]:
    """Write results/<study>/tables/*.csv; gives `read`. FileNotFoundError: no run; ValueError: a case in two folds."""
    for name, frame in build(study).items():
        exact = frame.filter(items=UNROUNDED).map(repr, na_action="ignore")
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
    for test in tested(study):
        about = dict(zip(KEY, test[:3], strict=True))
        for name, make in makers.items():
            rows[name] += [about | row | {"primary": row["metric"] == test.primary} for row in make(test)]
    if not rows["metrics"]:
        raise FileNotFoundError(f"{study}: no finished run; start them by: isnet run --study {Path(study).name}")
    frames = {name: pd.DataFrame(rows[name], columns=columns) for name, columns in COLUMNS.items()}
    return frames | {"seeds": pd.concat([frames["seeds"], gaps(frames["seeds"])], ignore_index=True)}


# --- what is scored
class Network:
    """What one network, or by folds one method's networks, said of a test set. frame: of `store.read_frame`, of several
    labels with the threshold of each, cut_<label>. y (n,) int 0..K-1, or (n, K) of 0/1; p (n, K); groups (n,): the
    patient, or the case without one; independent: how many; unit: what they are.
    """

    def __init__(self, frame: pd.DataFrame, experiment: str):
        labels, scores, cuts = ([name for name in frame if name.startswith(part)] for part in ("y_", "p_", "cut_"))
        self.frame, self.experiment = frame, experiment
        self.y, self.p = frame[labels or "y"].to_numpy(int), frame[scores].to_numpy(float)
        self.classes = [name[2:] for name in scores]
        answers = (self.p >= frame[cuts].to_numpy()).astype(float) if labels else self.p
        self.judged = {"accuracy": answers, "macro_f1": answers, "auc": self.p if labels else log_odds(self.p)}
        patient = frame.get("patient", pd.Series("", frame.index))
        self.groups = ("patient " + patient).where(patient != "", "case " + frame["id"]).to_numpy(str)
        self.independent = len(set(self.groups))
        self.unit = "patients" if self.independent < len(frame) else "cases"

    @functools.cached_property
    def estimates(self) -> dict[str, stats.Estimate]:
        """Accuracy, macro F1 and AUC; where patients have several cases, in bootstrap draws of patients."""
        found = {metric: of(self.y, self.judged[metric]) for metric, of in stats.ESTIMATES.items()}
        if self.unit == "cases":
            return found
        weights = _weights(self.experiment, tuple(self.groups))
        draws = {metric: getattr(stats, metric)(self.y, self.judged[metric], weights) for metric in found}
        return {metric: stats.Estimate(own.value, draws[metric], self.independent) for metric, own in found.items()}

    @functools.cached_property
    def values(self) -> dict[str, tuple[float, int]]:
        """By metric its value and over how many cases: the estimates, and the means of `SHARES`."""
        found = {metric: (own.value, len(self.frame)) for metric, own in self.estimates.items()}
        for share in self.frame.filter(items=SHARES):
            if len(known := self.frame[share].dropna()):
                found[share] = (known * 2**30).round().mean() / 2**30, len(known)  # exact in any order
        return found

    def on(self, cases: set[str]) -> "Network":
        known = self.frame["id"].isin(cases)
        return self if known.all() else Network(self.frame[known], self.experiment)


def log_odds(p: np.ndarray) -> np.ndarray:
    """log p_k - log of the sum of the others, (n, K): orders cases as p does, even where p_k is written as 1."""
    others = np.stack([np.delete(p, k, 1).sum(1) for k in range(p.shape[1])], 1)
    return np.log(p.clip(1e-300)) - np.log(others.clip(1e-300))


@functools.lru_cache(maxsize=8)
def _weights(experiment: str, groups: tuple[str, ...]) -> np.ndarray:
    """The bootstrap's case weights, shared by all that is tested on the same cases: differences are paired."""
    seed = hashlib.sha256("\0".join((experiment, *groups)).encode()).digest()[:8]
    return stats.case_weights(np.array(groups), np.random.default_rng(int.from_bytes(seed, "big")))


class TestSet(NamedTuple):
    """One test set, the metric by which it is judged, the networks tested on it, by method and seed, and, in order, the
    methods with their networks: of folds one, their cases joined.
    """

    study: str
    experiment: str
    name: str
    primary: str
    networks: dict[tuple[str, int], Network]
    methods: dict[str, list[Network]]


def tested(study: Path) -> Iterator[TestSet]:
    """The test sets of results/<study>, one after the other. ValueError: a case is in two folds."""
    found = store.find_runs(study)
    for experiment in sorted({run.experiment for run in found}):
        own = [run for run in found if run.experiment == experiment]
        folded = all(run.fold == run.seed for run in own)
        own.sort(key=lambda run: run.fold if folded else 0)  # fold after fold
        for name in names.in_order((name for run in own for name in store.test_sets(run)), names.TEST_SET_NAMES):
            networks = {(run.method, run.seed): _network(run, name) for run in own if name in store.test_sets(run)}
            primary = _primary(own[0], next(iter(networks.values())))
            methods = dict.fromkeys(names.in_order((method for method, _ in networks), names.METHOD_NAMES))
            for method in methods:
                each = [one for (of, _), one in networks.items() if of == method]
                methods[method] = [_joined(each)] if folded else each
            yield TestSet(Path(study).name, experiment, name, primary, networks, methods)


def _joined(networks: list[Network]) -> Network:
    frame = pd.concat([one.frame for one in networks], join="inner", ignore_index=True)
    if (twice := frame["id"].duplicated()).any():
        told = f"the case '{frame['id'][twice].iloc[0]}' is in two folds; run them again on data cut in one way"
        raise ValueError(f"{networks[0].experiment}: {told}")
    return Network(frame, networks[0].experiment)


def _network(run: store.Run, test_set: str) -> Network:
    frame = store.read_frame(run, test_set)
    labels = [name[2:] for name in frame if name.startswith("y_")]
    cuts = run.facts.get("thresholds") or [0.5] * len(labels)
    frame = frame.assign(**{f"cut_{name}": cut for name, cut in zip(labels, cuts, strict=False)})
    return Network(frame, run.experiment)


def _primary(run: store.Run, one: Network) -> str:
    """`names.primary_metric`; of anybody's own data what chose the epochs."""
    if run.experiment != names.OWN_DATA:
        return names.primary_metric(run.experiment)
    return "auc" if one.y.ndim == 2 or one.p.shape[1] == 2 else "macro_f1"


# --- rows
def metric_rows(test: TestSet) -> Iterator[dict]:
    """A row a method, seed and metric, on the cases that this network was tested on."""
    for (method, seed), one in test.networks.items():
        for metric, (value, _) in one.values.items():
            yield {"method": method, "seed": seed, "metric": metric, "value": value}


def seed_rows(test: TestSet) -> Iterator[dict]:
    """A row a method and metric: the mean over seeds, of folds the value over all cases, with its intervals."""
    for method, networks in test.methods.items():
        trainings = sum(of == method for of, _ in test.networks)
        for metric, (_, cases) in networks[0].values.items():
            values = [one.values[metric][0] for one in networks if metric in one.values]
            row = {"method": method, "metric": metric, "mean": np.mean(values), "n": trainings, "cases": cases}
            yield row | (intervals(networks, metric, values) if metric in stats.ESTIMATES else {})


def intervals(networks: list[Network], metric: str, values: list[float]) -> dict[str, float]:
    """Over cases Wilson's or, where patients have several cases, the bootstrap's; over cases and seeds Student's."""
    one, mean = networks[0], stats.average([one.estimates[metric] for one in networks])
    if mean.patients:
        low, high = stats.bootstrap_interval(mean.parts)
    elif metric == "accuracy" and one.y.ndim == 1:
        low, high = stats.wilson(mean.value, len(mean.parts))
    else:
        low, high = stats.score_interval(mean, np.inf if metric == "macro_f1" else stats.degrees(mean.parts))
    found = {"cases_low": low, "cases_high": high}
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
    """The primary method against others, on the cases that both were tested on; Holm within the rivals, by metric."""
    a, pairs = names.PRIMARY_METHOD, {}
    for b in test.methods if a in test.methods else ():
        cases = set.intersection(*(set(test.methods[method][0].frame["id"]) for method in (a, b)))
        if cases and b not in (a, *names.UPPER_BOUNDS):
            pairs[b] = [[one.on(cases) for one in test.methods[method]] for method in (a, b)]
    for metric in stats.ESTIMATES:
        margin = names.MARGINS.get((test.experiment, metric), names.MARGIN)
        rows = [compare(metric, *pair, margin) | {"b": b} for b, pair in pairs.items()]
        planned = [row for row in rows if row["b"] in names.rivals(test.study, test.experiment)]
        for row, p in zip(planned, stats.holm([row["p"] for row in planned]), strict=True):
            row |= {"p_holm": p, "family": "/".join((test.experiment, test.name, metric))}
        for row in rows:
            yield row | {"a": a, "verdict": verdict(row["difference"], row.get("p_holm", row["p"]))}


def compare(metric: str, a: list[Network], b: list[Network], margin: float) -> dict:
    """The networks of one method minus those of another, over seeds and cases (`stats.two_level`)."""
    each, one = [[one.estimates[metric] for one in networks] for networks in (a, b)], a[0]
    paired = stats.average(each[0]) - stats.average(each[1])
    variance = paired.variance
    if metric == "accuracy":  # always right against never right: no spread in the sample, yet not none
        variance = stats.paired_share_variance(paired.value, variance, one.independent)
    found = stats.two_level(variance, one.independent, *([own.value for own in estimates] for estimates in each))
    row = {"metric": metric, "difference": found.value, "low": found.low, "high": found.high, "p": found.p}
    row |= {"p_equivalent": stats.equivalence(found, margin), "detectable": stats.detectable(found), "margin": margin}
    return row | {"unit": f"{one.unit} x seeds" if min(len(a), len(b)) > 1 else one.unit}


def verdict(difference: float, p: float) -> str:
    """Whether method a is ahead of b, by the p that is adjusted within a family."""
    if not p < 0.05 or difference == 0:
        return "no difference shown"
    return "ahead" if difference > 0 else "behind"


def label_rows(test: TestSet) -> Iterator[dict]:
    """A row a method and label, where images have several: the mean AUC over seeds."""
    for method, networks in test.methods.items():
        for k, label in enumerate(networks[0].classes if networks[0].y.ndim == 2 else ()):
            value = np.mean([stats.auc(one.y[:, [k]], one.p[:, [k]]) for one in networks])
            yield {"method": method, "label": label, "metric": "auc", "value": value}
