"""Packing: what a finished study leaves of its run folders, small enough to be committed: predictions, which are
checked here and nowhere else, what the runs recorded, their logs, the maps of the first seed. Weights and executed
notebooks stay in the folders. `isnetlib.report.store` says what the files hold, and reads them.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from isnetlib.report import store
from isnetlib.stats import check_scores
from isnetlib.study.runs import recorded
from isnetlib.training.files import write_atomically

ROW = """method seed relevance_version training_version method_version data_version epoch seconds peak_mib parameters
    thresholds foreground_range torch device threads cpus platform commit dirty time made_by""".split()
ROW += store.JSON


class Left(NamedTuple):
    """What a run left: `run` of its folder, its predictions by test set, its log and its maps."""

    run: store.Run
    frames: dict[str, pd.DataFrame]
    log: pd.DataFrame
    maps: dict[str, np.ndarray]


def pack(study: Path) -> list[str]:
    """Write the packed files of a study from the folders of finished runs, over what was packed before: of the same run
    the later counts. Returns, in one line each, what was not: a folder with a damaged file, which is named, or an
    experiment whose runs were tested on different cases.
    """
    runs, failures = _read(Path(study) / "runs", _left)
    for experiment in dict.fromkeys(left.run.experiment for left in runs):
        try:
            every = _packed(study, experiment) + [left for left in runs if left.run.experiment == experiment]
            latest = {left.run[:3]: left for left in sorted(every, key=lambda left: left.run.facts.get("time", ""))}
            ordered = store.in_order([left.run for left in latest.values()])
            _write(Path(study) / experiment, [latest[run[:3]] for run in ordered])
        except ValueError as error:
            failures.append(f"packing: {error}")
    return failures + pack_trials(study)


def pack_trials(study: Path) -> list[str]:
    """Write trials.csv alone; otherwise as `pack`."""
    trials, failures = _read(Path(study) / "search", _trial)
    if trials:
        rows = sorted([*store.trial_rows(study), *trials], key=lambda row: row.get("time", ""))
        latest = {store.trial_name(row): row for row in rows}.values()
        rows = sorted(latest, key=lambda row: [*(row[name] for name in store.TRIAL[:3]), store.place(row["value"])])
        write_atomically(Path(study) / "trials.csv", _csv(rows, list(dict.fromkeys(store.TRIAL + ROW[2:]))))
    return failures


def _read(place: Path, read: Callable) -> tuple[list, list[str]]:
    """What can be read of the finished folders at a place, and what is wrong with the others."""
    found, failures = [], []
    for folder in (path.parent for path in sorted(place.glob("*/*/*/metrics.json"))):
        try:
            found.append(read(folder))
        except Exception as error:  # whatever is wrong with one run, the others are packed
            told = f"{folder} is damaged ({type(error).__name__}: {error})"
            failures.append(f"packing: {' '.join((str(error) if str(folder) in str(error) else told).split())}")
    return found, failures


def _trial(folder: Path) -> dict:
    facts = recorded(folder)
    found = {name: facts["settings"][name] for name in store.TRIAL[:5]}
    value = found["value"]
    return found | facts | {"value": value if isinstance(value, int | float) else store.tried(value)}


def _left(folder: Path) -> Left:
    """Of a run's folder. Raises ValueError naming a file that is damaged, and what is wrong with it."""
    facts = recorded(folder)
    run = store.Run(*folder.parts[-3:-1], int(folder.name[4:]), folder, facts, facts.pop("settings", {}))
    for name, here in zip(("experiment", "method", "seed"), run, strict=False):
        if (there := run.parameters.get(name, here)) != here:
            raise ValueError(f"{folder} holds a run of {name} {there}: it was copied or renamed")
    frames = {path.stem: _checked(path) for path in sorted((folder / "predictions").glob("*.csv"))}
    log, maps = folder / "log.csv", folder / "heatmaps.npz"
    log = store.read_csv(log) if log.exists() else pd.DataFrame()
    return Left(run, frames, log, store.read_npz(maps) if maps.exists() else {})


def _packed(study: Path, experiment: str) -> list[Left]:
    """Of the runs of an experiment that were packed before."""
    found, logs, maps = [], store.logs(study), store.heatmaps(study, experiment)
    for run in (run for run in store.find_runs(study) if run.experiment == experiment):
        frames = {name: store.read_frame(run, name) for name in store.test_sets(run)}
        log = logs[(logs["experiment"] == experiment) & (logs["method"] == run.method) & (logs["seed"] == run.seed)]
        found.append(Left(run, frames, log.drop(columns="experiment"), maps.get(run.method, {})))
    return found


def _checked(path: Path) -> pd.DataFrame:
    """A prediction file: id, patient, y or y_<label>, p_<class>, further numbers; text that is not known is ""."""
    text = {"id": str, "patient": str}
    frame = store.read_csv(path, dtype=text, keep_default_na=False, na_values=["", "nan", "NaN"])
    frame = frame.fillna({name: "" for name in text if name in frame})
    scores, labels = ([c for c in frame if c.startswith(start)] for start in ("p_", "y_"))
    try:
        if "id" not in frame or ("y" in frame) == bool(labels) or len(scores) < (1 if labels else 2):
            told = f"found {list(frame)}"
            raise ValueError(f"needs the columns id, y (or one y_<label> a label), one p_<class> a class; {told}")
        for bad in frame["id"][(frame["id"] == "") | frame["id"].duplicated()]:
            raise ValueError(f"every case needs an id of its own, {bad!r} is missing or not the first")
        p = frame[scores].to_numpy(float)
        check_scores(frame[labels or "y"].to_numpy(), p)
        if p.min() < 0 or p.max() > 1:
            raise ValueError(f"probabilities must be from 0 to 1, found {p.min():g} to {p.max():g}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return frame.astype(dict.fromkeys(labels or ["y"], int))


def _write(home: Path, own: list[Left]) -> None:
    """The packed files of one experiment, whose runs are in order."""
    predictions, maps = _predictions(own), {}
    for left in (left for left in own if left.maps):  # the first seed that has some
        maps.setdefault(left.run.method, {f"{left.run.method}/{key}": array for key, array in left.maps.items()})
    logs = [one.log.assign(method=one.run.method, seed=one.run.seed) for one in own if len(one.log)]
    log = pd.concat(logs).dropna(axis=1, how="all") if logs else pd.DataFrame(columns=["method", "seed"])
    log = log[["method", "seed", *log.columns.drop(["method", "seed"])]]
    rows = [{"method": run.method, "seed": run.seed, **run.facts, "settings": run.parameters} for run, *_ in own]
    write_atomically(home / "heatmaps.npz", _npz({key: a for arrays in maps.values() for key, a in arrays.items()}))
    write_atomically(home / "logs.csv", log.to_csv(index=False, lineterminator="\n"))
    write_atomically(home / "runs.csv", _csv(rows, ROW))
    write_atomically(home / store.PACKED, _npz(predictions))  # the last: what it stands beside is complete


def _predictions(own: list[Left]) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz. ValueError where two runs were tested on different cases."""
    arrays, cases = {}, {}
    for run, frames, *_ in own:
        for test_set, frame in frames.items():
            labels = [name for name in frame if name in ("id", "patient", "y") or name.startswith("y_")]
            parts = cases.setdefault(test_set, {})
            first = parts.setdefault(run.fold, frame[labels])
            if not first.equals(frame[labels]) or (None in parts and len(parts) > 1):  # by folds, or not
                two = f"{run.method}/seed{run.seed}", f"{own[0].run.method}/seed{own[0].run.seed}"
                raise ValueError(f"{run.experiment}: {test_set} of {two[0]} holds other cases than that of {two[1]}")
            scores = frame.drop(columns=labels).to_records(index=False, column_dtypes=np.float32)
            arrays[f"{test_set}/{run.method}/seed{run.seed}"] = scores
    for test_set, parts in cases.items():
        of_folds = pd.concat(part if fold is None else part.assign(fold=fold) for fold, part in parts.items())
        text = {name: f"<U{of_folds[name].str.len().max() or 1}" for name in ("id", "patient") if name in of_folds}
        kinds = dict.fromkeys(of_folds, np.int16) | text
        arrays[f"{test_set}/cases"] = of_folds.to_records(index=False, column_dtypes=kinds)
    return {key: np.asarray(array) for key, array in sorted(arrays.items())}


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _csv(rows: list[dict], columns: list[str]) -> str:
    """Rows as CSV: lists of numbers with spaces between them, mappings as JSON, floats with all their digits."""

    def cell(value):
        if isinstance(value, list):
            return " ".join(map(repr, value))
        return json.dumps(value) if isinstance(value, dict) else value

    table = pd.DataFrame(rows, dtype=object).map(cell)
    return table.reindex(columns=[c for c in columns if c in table]).to_csv(index=False, lineterminator="\n")
