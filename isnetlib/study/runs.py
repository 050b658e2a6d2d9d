"""Runs: study.yaml -> a grid of runs; what a run records of itself, and its state.

While it is made, a run is the folder results/<study>/runs/<experiment>/<method>/seed<k>; packed, it is a row of
results/<study>/<experiment>/runs.csv (`isnetlib.study.pack`). It is

- missing: there is neither;
- unfinished: there is no metrics.json, which is written last; running it again goes on from its checkpoint;
- done: it is never run again;
- stale: the recipe, the parameters or the data that made it are no longer those of today; it is made afresh.
"""

import contextlib
import datetime
import functools
import json
import os
import platform
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import ClassVar

from isnetlib.report import store
from isnetlib.study import recipe
from isnetlib.study.config import StudyError, method_parameters, read_studies
from isnetlib.study.notebooks import check_parameters, declared, relative
from isnetlib.training.files import write_atomically

try:
    import fcntl
except ImportError:  # Windows: there nothing is locked
    fcntl = None

PACKAGE = Path(__file__).parents[1]
STATES = ("done", "unfinished", "missing", "stale")


@dataclass(frozen=True)
class Run:
    """One training of one method and its tests. `parameters`: everything that the run's notebooks are given."""

    NOTEBOOKS: ClassVar = ("10_train", "20_external_test")  # the first declares every parameter of a run
    KIND: ClassVar = "runs"
    study: str
    experiment: str
    method: str
    seed: int
    parameters: dict

    @property
    def name(self) -> str:
        return f"{self.experiment}/{self.method}/seed{self.seed}"

    def folder(self, results: Path) -> Path:
        return Path(results) / self.study / self.KIND / self.name

    @staticmethod
    def packed(study: Path) -> dict[str, dict]:
        """What is recorded of the packed runs of results/<study>, by name."""
        known = [(run, run.facts | {"settings": run.parameters}) for run in store.find_runs(study)]
        return {f"{run.experiment}/{run.method}/seed{run.seed}": row for run, row in known}


# --- study.yaml -> runs


def resolve(study: str, notebooks: Path, results: Path) -> list[Run]:
    """The runs of a study, seed by seed, with all that their notebooks are given.

    Raises StudyError for an unknown study and for a parameter that the notebooks do not declare.
    """
    content = read_studies(notebooks)
    if study not in content["studies"]:
        raise StudyError(f"there is no study '{study}'; study.yaml has: {', '.join(content['studies'])}")
    chosen, runs = content["studies"][study], []
    for experiment, grid in chosen["runs"].items():
        here = content["experiments"][experiment]
        data, train = (here[part] | chosen[part].get(experiment, {}) for part in ("data", "train"))
        for seed in sorted({seed for of_method in grid["seeds"].values() for seed in of_method}):
            own = {"study": study, "experiment": experiment, "seed": seed, "results": relative(results, notebooks)}
            own["data_options"] = data | ({"fold": seed, "folds": here["folds"]} if "folds" in here else {})
            for method in (method for method in grid["methods"] if seed in grid["seeds"][method]):
                options = method_parameters(method, content, study, experiment)
                runs.append(Run(study, experiment, method, seed, train | own | options))
    return checked(runs, notebooks)


def checked(runs: list[Run], notebooks: Path) -> list[Run]:
    """The runs, all of a kind. StudyError where their notebook does not declare what they are given."""
    known = own_parameters(type(runs[0]), notebooks) if runs else {}
    for run in runs:
        try:
            check_parameters(f"{run.NOTEBOOKS[0]}.ipynb", known[run.NOTEBOOKS[0]], run.parameters)
        except ValueError as error:
            raise StudyError(str(error)) from None
    return runs


def own_parameters(kind: type[Run], notebooks: Path) -> dict[str, dict]:
    """The parameters, with their defaults, that each notebook of a kind of run declares."""
    try:
        return {name: declared(Path(notebooks) / f"{name}.ipynb") for name in kind.NOTEBOOKS}
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
    try:
        found = recipe.versions(parameters["experiment"], parameters.get("base") or parameters["method"])
    except ValueError as error:
        raise StudyError(str(error)) from None
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
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@contextlib.contextmanager
def alone(run: Run, results: Path, stop: threading.Event) -> Iterator[int]:
    """Nobody else makes the run inside: wait for another process that does; InterruptedError if `stop` is set before.
    Gives the number of the open file that holds the lock, which whoever works on must keep open.
    """
    folder = run.folder(results)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "a+", encoding="utf-8") as file:
        told = False
        while fcntl:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                if not told:
                    print(f"{run.name}  waits: process {file.read()} is making it", flush=True)
                told = True
                if stop.wait(1):
                    raise InterruptedError("interrupted") from None
        file.truncate(0)
        print(os.getpid(), end="", file=file, flush=True)
        yield file.fileno()


# --- states


def finished(place: Path) -> list[Path]:
    """The folders of finished runs or trials in results/<study>/<kind>: metrics.json is written last."""
    return [marker.parent for marker in sorted(Path(place).glob("*/*/*/metrics.json"))]


def read_json(path: Path) -> dict:
    """A file of a run or trial. Raises Damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(part, dict) for part in (found, *(found.get(name, {}) for name in store.JSON))):
            return found
        raise TypeError("not what a run records")
    except (ValueError, TypeError, AttributeError) as error:
        raise store.Damaged(f"{path} is damaged ({error}): remove it, and make the run or trial again") from None


def states(
    runs: Sequence[Run], notebooks: Path, results: Path, hashes: Callable | None = None
) -> list[tuple[Run, str, str]]:
    """Each run, its state, and the reason of being stale; they are of one study and kind. hashes: as `data_hashes`."""

    @functools.cache  # data are read once for all the runs that share them
    def hashes_now(experiment: str, options: str) -> dict:
        with contextlib.chdir(notebooks):  # paths in options are the notebooks' own
            return (hashes or data_hashes)(experiment, json.loads(options))

    found, packed = [], runs[0].packed(Path(results) / runs[0].study) if runs else {}
    usual = own_parameters(type(runs[0]), notebooks)[runs[0].NOTEBOOKS[0]] if runs else {}
    for run in runs:
        state, then = _recorded(run, packed.get(run.name, {}), results)
        now = {"settings": json.loads(json.dumps(portable(usual | run.parameters)))} | versions(run.parameters)
        reason = (then.get("damaged") or difference(then, now)) if then else ""
        if not reason and then.get("data"):
            options = run.parameters["data_options"]
            options = options | {"fold": 0} if "fold" in options else options  # all folds are cut from the same files
            reason = difference(then, {"data": hashes_now(run.experiment, json.dumps(options))})
        found.append((run, "stale" if reason else state, reason))
    return found


def _recorded(run: Run, packed: dict, results: Path) -> tuple[str, dict]:
    """The state of a run, and what is recorded of it (nothing: {}); of its folder and its packed row the later."""
    folder, own = run.folder(results), {}
    finished = (folder / "metrics.json").exists()
    try:
        if (folder / "manifest.json").exists():  # written first: without it there is nothing to go on from
            own = read_json(folder / "manifest.json")
        if finished:
            own = (own or {"damaged": "manifest.json is missing"}) | read_json(folder / "metrics.json")
    except store.Damaged as error:
        own = {"damaged": str(error)}
    if packed and "damaged" not in own and own.get("time", "") < packed.get("time", ""):
        return "done", packed
    return "done" if finished else "unfinished" if folder.exists() else "missing", own


def data_hashes(experiment: str, options: dict, needed: bool = False) -> dict[str, str]:
    """Hashes of the experiment's data as they are here and now. Where they are absent: empty, or, if they are `needed`,
    StudyError, as for data that are wrong.
    """
    from isnetlib.data import load  # imports torch, which a look at states seldom needs

    try:
        return load(experiment, **options).hashes
    except (FileNotFoundError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and not needed:
            return {}
        raise StudyError(f"data of {experiment}: {' '.join(str(error).split())}") from None
