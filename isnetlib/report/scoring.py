"""Predictions of a study's runs, scored test set by test set, and how scores vary with the cases.

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

SHARES = ("background_share", "chance_share")  # of the relevance and of the area, known where a mask is
SMALLEST = 1e-300  # stands for a probability of 0 under a logarithm
CANCELS, ALIKE = 0.03, 0.65  # of `faults`, chosen on committed maps: both hold for most ISNets on films, for few others


class Network:
    """What one network, or by folds one method's networks, said of a test set.

    frame: of `store.read_frame`, of several labels with a column cut_<label>, the score from which on each is called
    present; trainings: how many networks. y (n,) int 0..K-1, or (n, K) of 0/1; p (n, K); groups (n,): the patient, or
    the case where none is given; independent: how many of these; unit: what they are.
    """

    def __init__(self, frame: pd.DataFrame, experiment: str, trainings: int = 1):
        labels, scores, cuts = ([name for name in frame if name.startswith(part)] for part in ("y_", "p_", "cut_"))
        self.frame, self.experiment, self.trainings = frame, experiment, trainings
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
        shares = {name: self.frame[name].dropna() for name in SHARES if name in self.frame}
        found = {metric: (own.value, len(self.frame)) for metric, own in self.estimates.items()}
        exact = {name: (share * 2**30).round().mean() / 2**30 for name, share in shares.items()}  # in any order
        return found | {name: (exact[name], len(share)) for name, share in shares.items() if len(share)}


def log_odds(p: np.ndarray) -> np.ndarray:
    """log p_k - log of the sum of the others, (n, K): orders cases as p does, even where p_k is written as 1."""
    others = np.stack([np.delete(p, k, 1).sum(1) for k in range(p.shape[1])], 1)
    return np.log(p.clip(SMALLEST, None)) - np.log(others.clip(SMALLEST, None))


@functools.lru_cache(maxsize=8)
def _weights(experiment: str, groups: tuple[str, ...]) -> np.ndarray:
    """The bootstrap's case weights, shared by all that is tested on the same cases: differences are paired."""
    seed = hashlib.sha256("\0".join((experiment, *groups)).encode()).digest()[:8]
    return stats.case_weights(np.array(groups), np.random.default_rng(int.from_bytes(seed, "big")))


class TestSet(NamedTuple):
    """One test set of an experiment, by which metric it is judged, and the networks tested on it.

    folded: each was tested on the cases of the fold that has its seed's number; else all on the same cases. rivals: the
    planned ones.
    """

    experiment: str
    name: str
    primary: str
    folded: bool
    networks: dict[tuple[str, int], Network]
    rivals: tuple[str, ...] = names.RIVALS

    @property
    def methods(self) -> list[str]:
        return names.in_order((method for method, _ in self.networks), names.METHOD_NAMES)

    def of(self, *methods: str) -> list[list[Network]]:
        """Of each method its networks; by folds one, their cases joined, of the folds that all of these methods have.
        None in common: no networks.
        """
        seeds = [[seed for name, seed in self.networks if name == method] for method in methods]
        if not self.folded:
            return [[self.networks[method, seed] for seed in own] for method, own in zip(methods, seeds, strict=True)]
        common = [seed for seed in seeds[0] if all(seed in own for own in seeds)]
        return [[_joined(*(self.networks[method, fold] for fold in common))] if common else [] for method in methods]


@functools.lru_cache(maxsize=64)  # more than a test set asks for
def _joined(*networks: Network) -> Network:
    frame = pd.concat([one.frame for one in networks], join="inner", ignore_index=True)
    if (twice := frame["id"].duplicated()).any():
        told = f"the case '{frame['id'][twice].iloc[0]}' is in two folds; run them again on data cut in one way"
        raise ValueError(f"{networks[0].experiment}: {told}")
    return Network(frame, networks[0].experiment, len(networks))


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
            yield TestSet(experiment, name, primary, folded, networks, names.rivals(Path(study).name))


def _network(run: store.Run, test_set: str) -> Network:
    frame = store.read_frame(run, test_set)
    labels = [name[2:] for name in frame if name.startswith("y_")]
    cuts = run.facts.get("thresholds") or [0.5] * len(labels)
    frame = frame.assign(**{f"cut_{name}": cut for name, cut in zip(labels, cuts, strict=False)})
    return Network(frame, run.experiment)


def _primary(run: store.Run, one: Network) -> str:
    """`names.primary_metric`; of anybody's own data what `data.folder` chooses epochs by."""
    if run.experiment != names.OWN_DATA:
        return names.primary_metric(run.experiment)
    usual = "auc" if one.y.ndim == 2 or one.p.shape[1] == 2 else "macro_f1"
    return run.parameters.get("data_options", {}).get("metric") or usual


# --- maps
def faults(R: np.ndarray, mask: np.ndarray) -> str:
    """What makes maps R (n, H, W) of different images, n > 1, say little of the class, whatever lies outside the masks
    (n, H, W): "cancels": inside, red and blue add up to nothing (median of |sum R| / sum |R|); "alike": they point the
    same way in every image (mean |cosine| of two maps). Both joined by a comma; "": neither.
    """
    R = np.asarray(R, float)
    inside = R * (mask > 0)
    whole = np.abs(inside).sum((1, 2))
    net = np.where(whole > 0, np.abs(inside.sum((1, 2))) / np.maximum(whole, SMALLEST), 1.0)
    flat = R.reshape(len(R), -1)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), SMALLEST)
    cosines = np.abs(flat @ flat.T)[np.triu_indices(len(R), 1)]
    found = {"cancels": np.median(net) < CANCELS, "alike": len(cosines) > 0 and cosines.mean() > ALIKE}
    return ", ".join(word for word, there in found.items() if there)


def faults_of(maps: dict[str, dict]) -> dict[str, str]:
    """`faults` by method, on the first test set that `store.heatmaps` has, in the order of `names`."""
    found = {}
    for method, own in maps.items():
        first = names.in_order((key[10:] for key in own if key.startswith("relevance_")), names.TEST_SET_NAMES)[0]
        R = own[f"relevance_{first}"]
        found[method] = faults(R, own[f"mask_{first}"].reshape(R.shape))
    return found
