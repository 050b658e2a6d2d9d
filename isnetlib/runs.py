"""What finished run folders hold, read back: results/<study>/runs/<experiment>/<method>/seed<k>/ with predictions,
log and heatmaps.

A run without metrics.json is unfinished and is passed over. Only that file's facts (epochs, seconds, memory,
parameters, thresholds) are read from it: every metric is computed anew from the predictions.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from isnetlib import names, stats

PREDICTIONS = {"swapped": "predictions", "internal": "predictions_internal_selection"}  # selection rule -> folder
TEXT = {"id": str, "patient": str}
SMALLEST = 1e-300  # stands for a probability of 0 under a logarithm


class Run(NamedTuple):
    """A finished run: where it lies, what metrics.json says of it, and its parameters by its manifest."""

    experiment: str
    method: str
    seed: int
    folder: Path
    facts: dict
    parameters: dict = {}

    @property
    def fold(self) -> int | None:
        """The part of the data that it was tested on; None where the data have no folds."""
        return self.parameters.get("data_options", {}).get("fold")


class Cases(NamedTuple):
    """The predictions of one run on one test set. `groups` names what is independent: the patient, or the case where
    none is given.

    y (n,) int 0..K-1, or (n, K) of 0/1; p (n, K); values: further numbers of a case, by name (background_share,
    chance_share, ...); thresholds (n, K): of several labels, the score from which on each is called present.
    """

    ids: np.ndarray
    groups: np.ndarray
    y: np.ndarray
    p: np.ndarray
    values: dict[str, np.ndarray]
    classes: list[str]
    thresholds: np.ndarray | None = None

    @property
    def answers(self) -> np.ndarray:
        """(n, K): what accuracy and F1 judge. Several labels: 1.0 where it is called present, else 0.0; one: p."""
        return self.p if self.thresholds is None else (self.p >= self.thresholds).astype(float)

    @property
    def ranks(self) -> np.ndarray:
        """(n, K): what AUC, average precision and ROC curves order cases by. One label: the log-odds of each class,
        log p_k - log of the sum of the others, which still differ where p_k is written as 1; several: p.
        """
        if self.y.ndim == 2:
            return self.p
        others = [np.delete(self.p, k, 1).sum(1) for k in range(self.p.shape[1])]
        return np.log(self.p.clip(SMALLEST, None)) - np.log(np.stack(others, 1).clip(SMALLEST, None))

    @property
    def clustered(self) -> bool:
        """Whether some patient has several cases."""
        return len(set(self.groups.tolist())) < len(self.groups)  # asked often, and faster than np.unique


def find_runs(study: Path) -> list[Run]:
    """The finished runs of results/<study>, in the order of experiments, methods and seeds. None yet: an empty list."""
    found = []
    for marker in Path(study).glob("runs/*/*/seed*/metrics.json"):
        folder = marker.parent
        if not re.fullmatch(r"seed\d+", folder.name):
            raise ValueError(f"{folder}: a run folder is called seed<number>; rename or remove it")
        key = folder.parts[-3], folder.parts[-2], int(folder.name[4:])
        found.append(Run(*key, folder, _json(marker), _parameters(folder / "manifest.json")))
    order = {method: k for k, method in enumerate(names.in_order((run.method for run in found), names.METHOD_NAMES))}
    return sorted(found, key=lambda run: (run.experiment, order[run.method], run.seed))


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): remove the run's folder and run it again") from None


def _parameters(manifest: Path) -> dict:
    return _json(manifest).get("parameters", {}) if manifest.exists() else {}


def experiments(study: Path) -> list[str]:
    """The experiments that have a finished run. FileNotFoundError where there is none."""
    found = sorted({run.experiment for run in find_runs(study)})
    if not found:
        study = Path(study)
        raise FileNotFoundError(f"{study / 'runs'}: no finished run; start them by: isnet run --study {study.name}")
    return found


def class_names(study: Path, experiment: str) -> list[str]:
    """The classes of an experiment by number, as its predictions name them."""
    own = [run for run in find_runs(study) if run.experiment == experiment]
    return read_cases(next(path for run in own for _, path in test_files(run, "swapped"))).classes


def predicted(run: Run, selection: str, path: Path) -> Cases:
    """`read_cases` of a file of a run, with the thresholds that the run chose on validation under the same rule."""
    return read_cases(path, run.facts.get("thresholds", {}).get(selection, ()))


def read_cases(path: Path, thresholds: Sequence[float] = ()) -> Cases:
    """One predictions file: id, patient, y (a class number from 0) or y_<label> columns, p_<class> columns, further
    numbers. thresholds: one for each of several labels; none: 0.5. ValueError names the file.
    """
    frame = pd.read_csv(path, dtype=TEXT, keep_default_na=False, na_values=["", "nan", "NaN"])
    scores, labels = ([c for c in frame if c.startswith(start)] for start in ("p_", "y_"))
    if "id" not in frame or not scores or ("y" in frame) == bool(labels):
        raise ValueError(
            f"{path}: needs the columns id, y (or one y_<label> a label) and one p_<class> a class, found {list(frame)}"
        )
    if frame["id"].isna().any() or frame["id"].duplicated().any():
        bad = frame["id"][frame["id"].duplicated() | frame["id"].isna()].iloc[0]
        raise ValueError(f"{path}: every case needs an id of its own, {bad!r} is missing or not the first")
    y, p = frame["y"].to_numpy() if "y" in frame else frame[labels].to_numpy(), frame[scores].to_numpy(float)
    classes = [c[2:] for c in scores]
    if p.shape[1] == 1 and y.ndim == 1:  # one output for two classes
        p, classes = np.hstack([1 - p, p]), [f"not {classes[0]}", classes[0]]
    try:
        stats.check_scores(y, p)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if len(thresholds) and (y.ndim == 1 or len(thresholds) != len(classes)):
        told = f"{len(thresholds)} thresholds for {len(classes) if y.ndim == 2 else 'no'} labels"
        raise ValueError(f"{path}: the run's metrics.json holds {told}; test the run again (notebook 20_external_test)")
    patient = frame["patient"] if "patient" in frame else pd.Series(np.nan, frame.index)
    groups = ("patient " + patient).where(patient.notna(), "case " + frame["id"])
    further = [
        c
        for c in frame
        if c not in {"id", "patient", "y", *scores, *labels} and pd.api.types.is_numeric_dtype(frame[c])
    ]
    return Cases(
        frame["id"].to_numpy(str),
        groups.to_numpy(str),
        y.astype(int),
        p,
        {c: frame[c].to_numpy(float) for c in further},
        classes,
        np.tile(thresholds or [0.5] * len(classes), (len(p), 1)) if y.ndim == 2 else None,
    )


def test_files(run: Run, selection: str) -> Iterator[tuple[str, Path]]:
    """(test set, predictions file) of a run under a selection rule; the rule's folder may be absent."""
    for path in sorted((run.folder / PREDICTIONS[selection]).glob("*.csv")):
        yield path.stem, path


def aligned(cases: dict[tuple[str, int], Cases], where: str) -> dict[tuple[str, int], Cases]:
    """The same cases in the same order for every (method, seed), to pair them. ValueError where a run holds others."""
    first = next(iter(cases.values()))
    result = {}
    for key, one in cases.items():
        order = np.argsort(one.ids)[np.argsort(np.argsort(first.ids))] if len(one.ids) == len(first.ids) else []
        if not len(order) or not np.array_equal(one.ids[order], first.ids) or not np.array_equal(one.y[order], first.y):
            two = [f"{method}, seed {seed}," for method, seed in (key, next(iter(cases)))]
            raise ValueError(f"{where}: {two[0]} holds other cases or labels than {two[1]} run one of them again")
        result[key] = taken(one, order)
    return result


def taken(cases: Cases, rows: np.ndarray) -> Cases:
    """The cases of `rows`, in that order."""
    thresholds = None if cases.thresholds is None else cases.thresholds[rows]
    values = {name: column[rows] for name, column in cases.values.items()}
    parts = (part[rows] for part in (cases.ids, cases.groups, cases.y, cases.p))
    return Cases(*parts, values, cases.classes, thresholds)


def read_logs(study: Path) -> pd.DataFrame:
    """log.csv of every finished run, one below the other, with experiment, method, seed and the epoch that each rule
    chose.
    """
    frames = []
    for run in find_runs(study):
        if (run.folder / "log.csv").exists():
            log = pd.read_csv(run.folder / "log.csv")
            chosen = {f"chosen_{rule}": run.facts.get("epoch", {}).get(rule, np.nan) for rule in PREDICTIONS}
            frames.append(log.assign(experiment=run.experiment, method=run.method, seed=run.seed, **chosen))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def read_heatmaps(study: Path, experiment: str, seed: int | None = None) -> dict[str, dict[str, np.ndarray]]:
    """heatmaps.npz by method, of one seed (None: the lowest that every method with heatmaps has, else each method's
    lowest).
    """
    paths = {(r.method, r.seed): r.folder / "heatmaps.npz" for r in find_runs(study) if r.experiment == experiment}
    paths = {key: path for key, path in paths.items() if path.exists()}
    seeds = {method: {s for m, s in paths if m == method} for method, _ in paths}
    common = set.intersection(*seeds.values()) if seeds else set()
    maps = {}
    for method, own in seeds.items():
        wanted = seed if seed is not None else min(common or own)
        if wanted in own:
            with np.load(paths[method, wanted]) as arrays:
                maps[method] = dict(arrays)
    return maps
