"""Runs: study.yaml -> a grid of runs; what a run records of itself, and its state.

While it is made, a run is the folder results/<study>/runs/<experiment>/<method>/seed<k>, a trial of the search
results/<study>/search/<experiment>/<method>/<value>; packed, they are rows of results/<study>/<experiment>/runs.csv and
results/<study>/trials.csv (`isnetlib.study.pack`). A run is

- missing: there is neither;
- unfinished: there is no metrics.json, which is written last; running it again goes on from its checkpoint;
- done: it is never run again;
- stale: the recipe, the parameters or the data that made it are no longer those of today; it is made afresh.
"""

import contextlib
import datetime
import hashlib
import json
import os
import platform
import subprocess
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from isnetlib.report import store
from isnetlib.study import recipe
from isnetlib.study.config import OBJECT, StudyError, method_parameters, misfit, read_studies
from isnetlib.study.notebooks import check_parameters, declared, relative
from isnetlib.training.files import write_atomically

PACKAGE = Path(__file__).parents[1]
STATES = ("done", "unfinished", "missing", "stale")
NOTEBOOKS = {"runs": ("10_train", "20_external_test"), "search": ("05_search",)}  # the first declares every parameter
SUMS = "SHA256SUMS"  # of the files of a run that are packed
TEXT, NUMBER = {"type": "string"}, {"type": "number"}
FOLD = OBJECT | {"properties": {"fold": {"type": "integer"}}}
SETTINGS = {"data_options": FOLD, "experiment": TEXT, "method": TEXT, "option": TEXT, "value": {}, "epochs": NUMBER}
RECORD = dict.fromkeys(store.JSON, OBJECT) | {name: {"type": "array", "items": NUMBER} for name in store.LISTS}
RECORD |= {"time": TEXT, "epoch": NUMBER, "seconds": NUMBER, "settings": OBJECT | {"properties": SETTINGS}}


@dataclass(frozen=True)
class Run:
    """One training of one method and its tests, or, of kind "search", one trial: one value of one option of it.
    parameters: everything that its notebooks are given; home: results/<study>.
    """

    home: Path
    notebooks: Path
    experiment: str
    method: str
    seed: int
    parameters: dict
    kind: str = "runs"

    @property
    def name(self) -> str:
        last = f"seed{self.seed}" if self.kind == "runs" else store.tried(self.parameters["value"])
        return f"{self.experiment}/{self.method}/{last}"

    @property
    def folder(self) -> Path:
        return self.home / self.kind / self.name


# --- study.yaml -> runs


def resolve(study: str, notebooks: Path, results: Path) -> list[Run]:
    """The runs of a study, seed by seed, with all that their notebooks are given.

    Raises StudyError for an unknown study and for a parameter that the notebooks do not declare.
    """
    content = read_studies(notebooks)
    if study not in content["studies"]:
        raise StudyError(f"there is no study '{study}'; study.yaml has: {', '.join(content['studies'])}")
    chosen, runs, place = content["studies"][study], [], (Path(results) / study, Path(notebooks))
    for experiment, grid in chosen["runs"].items():
        here = content["experiments"][experiment]
        data, train = (here[part] | chosen[part].get(experiment, {}) for part in ("data", "train"))
        for seed in sorted({seed for of_method in grid["seeds"].values() for seed in of_method}):
            own = {"study": study, "experiment": experiment, "seed": seed, "results": relative(results, notebooks)}
            own["data_options"] = data | ({"fold": seed, "folds": here["folds"]} if "folds" in here else {})
            for method in (method for method in grid["methods"] if seed in grid["seeds"][method]):
                options = method_parameters(method, content, study, experiment)
                runs.append(Run(*place, experiment, method, seed, train | own | options))
    return checked(runs)


def checked(runs: list[Run]) -> list[Run]:
    """The runs, all of a kind. StudyError where their first notebook does not declare what they are given."""
    for name, known in list(own_parameters(runs[0]).items())[:1] if runs else ():
        for run in runs:
            check_parameters(f"{name}.ipynb", known, run.parameters)
    if twice := [name for name, number in Counter(run.name for run in runs).items() if number > 1]:
        raise StudyError(f"study.yaml: more than one run would be called {twice[0]}")
    return runs


def own_parameters(run: Run) -> dict[str, dict]:
    """The parameters, with their defaults, that each notebook of a run declares."""
    try:
        return {name: declared(run.notebooks / f"{name}.ipynb") for name in NOTEBOOKS[run.kind]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StudyError(f"a notebook is absent or damaged: {error}") from None


# --- what a run records


def begin(folder: Path, parameters: dict, data_hashes: dict) -> None:
    """Write the manifest.json of a run that starts; of one that goes on, make sure that it is still the same run.

    `parameters`: all of the notebook, resolved; "experiment" and "method" are needed. `data_hashes`: what data ->
    sha256. Raises ValueError if the folder holds a run of another recipe or of other parameters, or on other data.
    """
    path, now = Path(folder) / "manifest.json", record(parameters, data_hashes)
    if not path.exists():
        write_atomically(path, json.dumps(now, indent=1) + "\n")
    elif reason := difference(read_json(path), now):
        raise ValueError(f"{folder} holds another run ({reason}): remove it to train afresh")


def record(parameters: dict, data_hashes: dict) -> dict:
    """What a run's manifest.json holds: enough to repeat the run and to tell whether it is stale. It names no host and
    no path of this machine.
    """
    import torch  # only here: who reads manifests needs no torch for that

    device = parameters.get("device", "cpu")
    found = versions(parameters) | {
        "torch": torch.__version__.partition("+")[0],
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": portable(parameters),
        "data": dict(data_hashes),
        "versions": {name: metadata.version(name) for name in ("torchvision", "numpy")},
    }
    found["versions"]["python"] = platform.python_version()
    # An installed copy may lie inside somebody else's clone: then the package is not among its files.
    if git(PACKAGE.parent, "ls-files", "--error-unmatch", f"{PACKAGE.name}/__init__.py") is not None:
        found["commit"] = git(PACKAGE.parent, "rev-parse", "HEAD")
        found["dirty"] = bool(git(PACKAGE.parent, "status", "--porcelain", PACKAGE.name, "notebooks"))
    return found


def versions(parameters: dict) -> dict[str, int]:
    """The recipe's versions that concern a run, by column of runs.csv."""
    found = recipe.versions(parameters["experiment"], parameters.get("base") or parameters["method"])
    return {f"{part}_version": number for part, number in found.items()}


def portable(value, outer: bool = True):
    """Parameters as JSON keeps them, without `results` and `study`, and of an absolute path only the last part: where
    files lie is no part of a run; what is in them is told by the data hashes.
    """
    if isinstance(value, dict):
        return {k: portable(item, False) for k, item in value.items() if not outer or k not in ("results", "study")}
    if isinstance(value, list | tuple):
        return [portable(item, False) for item in value]
    absolute = isinstance(value, str | Path) and (os.path.isabs(value) or str(value).startswith("~"))
    return Path(value).name if absolute else value


def difference(then: dict, now: dict) -> str:
    """Why the run that recorded `then` is not that of `now`, in words; "" if it is. What `now` does not have passes."""
    for part, label in (("settings", "parameter"), ("data", "data")):
        old, new = then.get(part, {}), now.get(part, then.get(part, {}))
        for name in sorted(old.keys() | new.keys()):
            absent = part == "data" and name not in new  # data that are not here cannot have changed
            if not absent and (name not in old or name not in new or old[name] != new[name]):
                return f"{label} {name} was {old.get(name, 'absent')!r}, is {new.get(name, 'absent')!r}"
    for name in (name for name in now if name.endswith("_version") and then.get(name) != now[name]):
        return f"the recipe's {name.replace('_', ' ')} was {then.get(name, 'absent')}, is {now[name]}"
    return ""


def git(folder: Path, *arguments: str) -> str | None:
    """What git says inside `folder`; None where it fails or is not installed."""
    with contextlib.suppress(FileNotFoundError):
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None


def sums(folder: Path) -> str:
    """SHA256SUMS of a finished run, as `sha256sum -c` reads them: of all that is packed of its folder."""
    names = ("manifest.json", "metrics.json", "log.csv", "heatmaps.npz", "predictions/*.csv")
    files = [path.relative_to(folder) for name in names for path in sorted(folder.glob(name))]
    return "".join(f"{hashlib.sha256((folder / f).read_bytes()).hexdigest()}  {f.as_posix()}\n" for f in files)


def check_sums(folder: Path) -> None:
    """ValueError naming a file that is no longer as the run left it. Runs of old, and by hand, left no sums."""
    if (path := folder / SUMS).exists():
        then = path.read_text(encoding="utf-8", errors="replace")
        if changed := set(then.splitlines()) ^ set(sums(folder).splitlines()):
            name = min(line[66:] for line in changed)
            raise ValueError(f"{folder / name} is not as the run left it, says {SUMS}: make the run again")


# --- states


def finished(place: Path) -> list[Path]:
    """The folders of finished runs or trials in results/<study>/<kind>: metrics.json is written last."""
    return [marker.parent for marker in sorted(Path(place).glob("*/*/*/metrics.json"))]


def read_json(path: Path) -> dict:
    """A file of a run or trial. Raises Damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if fault := misfit(found, {"properties": RECORD, **OBJECT}):
            raise ValueError(fault)
    except (ValueError, OSError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise store.Damaged(f"{path} is damaged ({told}): remove it, and make the run or trial again") from None
    return found


def recorded(folder: Path) -> dict:
    """What a finished run or trial recorded of itself. Raises Damaged."""
    if not (folder / "manifest.json").exists():
        raise store.Damaged(f"{folder / 'manifest.json'} is missing: remove {folder}, and make the run or trial again")
    return read_json(folder / "manifest.json") | read_json(folder / "metrics.json")


def packed(home: Path, kind: str) -> dict[str, dict]:
    """What is recorded of the packed runs or trials of results/<study>, by name."""
    if kind == "search":
        return {store.trial_name(row): row for row in store.trial_rows(home)}
    known = [(run, run.facts | {"settings": run.parameters}) for run in store.find_runs(home)]
    return {f"{run.experiment}/{run.method}/seed{run.seed}": row for run, row in known}


def states(runs: list[Run]) -> list[tuple[Run, str, str]]:
    """Each run, its state, and the reason of being stale; they are of one study and kind."""
    if not runs:
        return []
    rows, usual = packed(runs[0].home, runs[0].kind), own_parameters(runs[0])[NOTEBOOKS[runs[0].kind][0]]
    found, hashes = [], {}  # data are read once for all runs of an experiment
    for run in runs:
        state, then = _state(run.folder, rows.get(run.name, {}))
        now = {"settings": json.loads(json.dumps(portable(usual | run.parameters)))} | versions(run.parameters)
        reason = (then.get("damaged") or difference(then, now)) if then else ""
        if not reason and then.get("data"):
            if run.experiment not in hashes:
                hashes[run.experiment] = data_hashes(run)
            reason = difference(then, {"data": hashes[run.experiment]})
        found.append((run, "stale" if reason else state, reason))
    return found


def _state(folder: Path, row: dict) -> tuple[str, dict]:
    """The state of a run, and what is recorded of it (nothing: {}); of its folder and its packed row the later."""
    own, done = {}, (folder / "metrics.json").exists()
    try:
        if done:
            own = recorded(folder)
        elif (folder / "manifest.json").exists():  # written first: without it there is nothing to go on from
            own = read_json(folder / "manifest.json")
    except store.Damaged as error:
        return "stale", {"damaged": str(error)}
    if row and own.get("time", "") < row.get("time", ""):
        return "done", row
    return "done" if done else "unfinished" if folder.exists() else "missing", own


def data_hashes(run: Run, needed: bool = False) -> dict[str, str]:
    """Hashes of the data of a run's experiment as they are here and now. Where they are absent: empty, or, if they are
    `needed`, StudyError, as for data that are wrong.
    """
    from isnetlib.data import load  # imports torch, which a look at states seldom needs

    try:
        with contextlib.chdir(run.notebooks):  # paths in options are the notebooks' own
            return load(run.experiment, **run.parameters["data_options"]).hashes
    except (FileNotFoundError, ValueError, TypeError) as error:
        if isinstance(error, FileNotFoundError) and not needed:
            return {}
        raise StudyError(f"data of {run.experiment}: {error}") from None
