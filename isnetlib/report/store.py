"""What the runs of a study left, read back from the packed files of results/<study>. Every experiment has a folder with

- predictions.npz: `<test set>/cases`, a record a case (id, patient, y or one y_<label> a label, and `fold` where seeds
  are folds), and `<test set>/<method>/seed<k>`, float32 records of its scores p_<class> and further numbers;
- runs.csv: a row a run; logs.csv: a row an epoch; heatmaps.npz: `<method>/<name>`, small maps of the first seed,

and beside the experiments lie trials.csv (of the search) and frozen.csv. `isnetlib.study.pack` makes them of the
folders of runs and trials, and checks what it packs. Numbers have six digits, which float32 holds.
"""

import functools
import json
import zlib
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from isnetlib.report import names

PACKED = "predictions.npz"
TEXT = dict.fromkeys("experiment method option metric note torch device platform commit time made_by".split(), str)
JSON = ("settings", "data", "versions")
LISTS = ("thresholds", "foreground_range")  # numbers with a space between them
TRIAL = "experiment method option value epochs metric swapped internal epoch swapped_loss chosen note".split()
FROZEN = ["experiment", "commit", "date", "sha256", "reason"]


class Damaged(ValueError):
    """A file of the results that cannot be read, said in one line for the user."""


class Run(NamedTuple):
    """A finished run: the packed folder of its experiment, its row of runs.csv, and the parameters of its notebooks."""

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


def experiments(study: Path) -> list[Path]:
    """The packed folders of results/<study>."""
    return sorted(path.parent for path in Path(study).glob(f"*/{PACKED}"))


def find_runs(study: Path) -> list[Run]:
    """The packed runs of results/<study> `in_order`. None yet: an empty list."""
    runs = []
    for home in experiments(study):
        for row in read_rows(home / "runs.csv"):
            named, parameters = (row.pop("method"), row.pop("seed")), row.pop("settings", {})
            runs.append(Run(home.name, *named, home, row, parameters))
    return in_order(runs)


def in_order(runs: list[Run]) -> list[Run]:
    """By experiment, method and seed."""
    order = names.in_order((run.method for run in runs), names.METHOD_NAMES)
    return sorted(runs, key=lambda run: (run.experiment, order.index(run.method), run.seed))


def read_rows(path: Path) -> list[dict]:
    """runs.csv or trials.csv. What is empty is left out of a row, but for `LISTS`."""
    frame, rows = read_csv(path, dtype=TEXT), []
    for row in frame.to_dict("records"):
        row = {key: value for key, value in row.items() if value == value}
        row |= {key: json.loads(row[key]) for key in JSON if key in row}
        rows.append(row | {key: [*map(float, str(row.get(key, "")).split())] for key in LISTS if key in frame})
    return rows


def test_sets(run: Run) -> list[str]:
    """The test sets that a run was tested on, by alphabet."""
    end = f"/{run.method}/seed{run.seed}"
    return sorted(key.removesuffix(end) for key in _arrays(run.folder / PACKED) if key.endswith(end))


def class_names(study: Path, experiment: str) -> list[str]:
    """The classes of an experiment by number."""
    arrays = _arrays(Path(study) / experiment / PACKED)
    columns = next(array.dtype.names for key, array in arrays.items() if not key.endswith("/cases"))
    return [name[2:] for name in columns if name.startswith("p_")]


def read_frame(run: Run, test_set: str) -> pd.DataFrame:
    """A case a row: id, patient, y or y_<label>, p_<class>, further numbers; text that is not known is ""."""
    arrays = _arrays(run.folder / PACKED)
    cases, scores = (pd.DataFrame(arrays[f"{test_set}/{of}"]) for of in ("cases", f"{run.method}/seed{run.seed}"))
    cases = cases.astype({name: int for name in cases if name.startswith("y")})
    if "fold" in cases:
        cases = cases[cases.pop("fold") == run.fold].reset_index(drop=True)
    return cases.join(scores.apply(decimals))


def decimals(numbers: np.ndarray | pd.Series) -> np.ndarray:
    """The decimal numbers of six digits that float32 numbers were made from. (n,) -> (n,) float64"""
    return np.array([float(f"{number:.6g}") for number in numbers.tolist()])


def logs(study: Path) -> pd.DataFrame:
    """An epoch a row: experiment, method, seed, and what the run's log.csv said."""
    frames = [read_csv(home / "logs.csv").assign(experiment=home.name) for home in experiments(study)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def heatmaps(study: Path, experiment: str) -> dict[str, dict[str, np.ndarray]]:
    """By method, of the first cases of every test set, relevance_<test set>, x_, mask_, y_, p_ and scale_."""
    path, found = Path(study) / experiment / "heatmaps.npz", {}
    for key, array in (_arrays(path) if path.exists() else {}).items():
        method, name = key.split("/")
        found.setdefault(method, {})[name] = array
    return found


# --- the search
def trials(study: Path, known: Container[str] | None = None) -> pd.DataFrame:
    """The finished trials of a search, a row each, the best value of each method `chosen`: the highest of `score`, the
    lower of `swapped` and `internal`; of equals the lowest swapped_loss, then the lower value. A trial whose loss
    exploded has no scores and a note. known: None (all), or the names of those that are searched.
    """
    rows = [row for row in trial_rows(study) if known is None or trial_name(row) in known]
    frame = pd.DataFrame(rows).reindex(columns=TRIAL).sort_values(TRIAL[:3], ignore_index=True)
    frame["chosen"], frame["score"] = False, frame[["swapped", "internal"]].min(axis=1)
    ranked = frame.dropna(subset="swapped").sort_values(["score", "swapped_loss"], ascending=[False, True])
    frame.loc[ranked.groupby(["experiment", "method"]).head(1).index, "chosen"] = True
    return frame


def trial_name(row: dict) -> str:
    """experiment/method/value"""
    return f"{row['experiment']}/{row['method']}/{tried(row['value'])}"


def tried(value: float | list | str) -> str:
    """The name of a value of a search: 0.5, 0.85-0.5 (falling) or auto (steered)."""
    if isinstance(value, list):
        return "-".join(f"{end:g}" for end in value)
    return value if isinstance(value, str) else f"{value:g}"


def place(value: float | str) -> float:
    """Where it stands among the values of a search: what falls or is steered comes last."""
    try:
        return float(value)
    except ValueError:
        return float("inf")


def trial_rows(study: Path) -> list[dict]:
    """The packed trials of results/<study>, by experiment, method, option and value: rows of trials.csv."""
    path = Path(study) / "trials.csv"
    rows = read_rows(path) if path.exists() else []
    for row in rows:  # numbers are text where a value beside them is
        if place(row["value"]) < np.inf:
            row["value"] = place(row["value"])
    return rows


def frozen(study: Path) -> pd.DataFrame:
    """frozen.csv: experiment; commit and its date, empty outside a clone; sha256 of old configurations; reason."""
    path = Path(study) / "frozen.csv"
    return read_csv(path, dtype=str, keep_default_na=False) if path.exists() else pd.DataFrame(columns=FROZEN)


# --- files
def read_csv(path: Path, **how) -> pd.DataFrame:
    """Raises Damaged."""
    try:
        return pd.read_csv(path, **how)
    except ValueError as error:
        raise Damaged(f"{path} is damaged ({' '.join(str(error).split())})") from None


@functools.lru_cache(maxsize=8)  # asked for test set by test set
def read_npz(path: Path, _written: int = 0) -> dict[str, np.ndarray]:
    """Raises Damaged."""
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise Damaged(f"{path} is damaged ({error})") from None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    return read_npz(path, path.stat().st_mtime_ns)
