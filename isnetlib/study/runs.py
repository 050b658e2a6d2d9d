"""Runs: study.yaml -> a grid of runs; what a run records of itself, and its state.

While it is made, a run is the folder results/<study>/runs/<experiment>/<method>/seed<k>, a trial of the search
results/<study>/search/<experiment>/<method>/<value>; packed, they are rows of runs.csv and trials.csv. A run is missing
(there is neither), unfinished (there is no metrics.json, which is written last: it goes on from its checkpoint), done
(never run again) or stale (recipe, parameters or data that made it are others today: it is made afresh).
"""

import contextlib
import datetime
import inspect
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from isnetlib.report import store
from isnetlib.study.config import RECIPE, StudyError, check, check_parameters, declared, method_parameters, read_studies
from isnetlib.training.files import write_atomically

PACKAGE = Path(__file__).parents[1]
STATES = ("done", "unfinished", "missing", "stale")
NOTEBOOKS = {"runs": ("10_train", "20_external_test"), "search": ("05_search",)}


@dataclass(frozen=True)
class Run:
    """One training of one method and its tests, or, of kind "search", one trial: one value of one option of it.
    parameters: everything that its notebooks are given; home: results/<study>. StudyError where they declare it not.
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

    def __post_init__(self):
        check_parameters(*self.declared()[0], self.parameters)

    def declared(self) -> list[tuple[Path, dict]]:
        """Its notebooks, and the parameters, with their defaults, that each declares: the first one declares all."""
        paths = [self.notebooks / f"{name}.ipynb" for name in NOTEBOOKS[self.kind]]
        return [(path, declared(path)) for path in paths]


def resolve(study: str, notebooks: Path, results: Path) -> list[Run]:
    """The runs of a study, seed by seed, with all that their notebooks are given. StudyError: no such study."""
    content, found = read_studies(notebooks), []
    if study not in content["studies"]:
        raise StudyError(f"there is no study '{study}'; study.yaml has: {', '.join(content['studies'])}")
    for experiment, grid in content["studies"][study]["runs"].items():
        here, chosen = content["experiments"][experiment], content["studies"][study]
        data, train = (here[part] | chosen[part].get(experiment, {}) for part in ("data", "train"))
        for seed in sorted(set().union(*grid["seeds"].values())):
            own = {"study": study, "experiment": experiment, "seed": seed}
            own["results"] = os.path.relpath(results, notebooks)
            own["data_options"] = data | ({"fold": seed, "folds": here["folds"]} if "folds" in here else {})
            for method in (method for method in grid["methods"] if seed in grid["seeds"][method]):
                given = train | own | method_parameters(method, content, study, experiment)
                found.append(Run(Path(results) / study, Path(notebooks), experiment, method, seed, given))
    return found


def versions(parameters: dict) -> dict[str, int]:
    """The four versions of a run, by column of runs.csv. StudyError for a method or an experiment without one."""
    try:
        method = RECIPE["methods"][parameters.get("base") or parameters["method"]]
        data = RECIPE["data"][parameters["experiment"]]
    except KeyError as error:
        raise StudyError(f"{error} has no version in isnetlib/study/recipe.yaml: give it one there") from None
    own = {"method_version": method, "data_version": data}
    return {"relevance_version": RECIPE["relevance"], "training_version": RECIPE["training"]} | own


def begin(folder: Path, parameters: dict, data_hashes: dict) -> None:
    """Write the manifest.json of a run that starts; of one that goes on, make sure that it is still the same run:
    ValueError if its recipe, parameters or data were others. parameters: all of the notebook; data_hashes: sha256.
    """
    path, now = Path(folder) / "manifest.json", record(parameters, data_hashes)
    if not path.exists():
        write_atomically(path, json.dumps(now, indent=1) + "\n")
    elif reason := difference(recorded(path.parent), now):
        raise ValueError(f"{folder} holds another run ({reason}): remove it to train afresh")


def record(parameters: dict, data_hashes: dict) -> dict:
    """What manifest.json holds: enough to repeat the run and to tell if it is stale, but no host and no path."""
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
        "versions": {name: metadata.version(name) for name in ("torchvision", "numpy")}
        | {"python": platform.python_version()},
    }
    # An installed copy may lie inside somebody else's clone: then the package is not among its files.
    if git(PACKAGE.parent, "ls-files", "--error-unmatch", f"{PACKAGE.name}/__init__.py") is not None:
        found["commit"] = git(PACKAGE.parent, "rev-parse", "HEAD")
        found["dirty"] = bool(git(PACKAGE.parent, "status", "--porcelain", PACKAGE.name, "notebooks"))
    return found


def portable(value):
    """Parameters as JSON has them, without where files lie: `results`, `study`, all but the end of absolute paths."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items() if key not in ("results", "study")}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    absolute = isinstance(value, str | Path) and (os.path.isabs(value) or str(value).startswith("~"))
    return Path(value).name if absolute else value


def difference(then: dict, now: dict) -> str:
    """Why the run that recorded `then` is not that of `now`, in words; "" if it is. Data that are not here pass."""
    for part, label in (("settings", "parameter"), ("data", "data")):
        old, new = then.get(part, {}), now[part]
        for name in sorted(new if part == "data" else old.keys() | new.keys()):
            if name not in old or name not in new or old[name] != new[name]:
                return f"{label} {name} was {old.get(name, 'absent')!r}, is {new.get(name, 'absent')!r}"
    for name in (name for name in now if name.endswith("_version") and then.get(name) != now[name]):
        return f"the recipe's {name.replace('_', ' ')} was {then.get(name, 'absent')}, is {now[name]}"
    return ""


def git(folder: Path, *arguments: str) -> str | None:
    """What git says inside `folder`; None where it fails or is not installed."""
    with contextlib.suppress(FileNotFoundError):
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None


def recorded(folder: Path) -> dict:
    """What a run or trial recorded of itself when it began and, if it is finished, ended. Raises Damaged."""
    found, ended = {}, folder / "metrics.json"
    for path in (folder / "manifest.json", *([ended] if ended.exists() else [])):
        try:
            check(content := json.loads(path.read_text(encoding="utf-8")), "record")
        except (ValueError, OSError, RecursionError) as error:
            told = " ".join(f"{path} is damaged ({error}): remove {folder}, and make the run again".split())
            raise store.Damaged(told) from None
        found |= content
    return found


def packed(home: Path, kind: str) -> dict[str, dict]:
    """What is recorded of the packed runs or trials of results/<study>, by name."""
    if kind == "search":
        return {store.trial_name(row): row for row in store.trial_rows(home)}
    known = store.find_runs(home)
    return {f"{run.experiment}/{run.method}/seed{run.seed}": run.facts | {"settings": run.parameters} for run in known}


def states(runs: list[Run]) -> list[tuple[Run, str, str]]:
    """Each run, its state, and the reason of being stale; they are of one study and kind."""
    rows, hashes = packed(runs[0].home, runs[0].kind) if runs else {}, {}
    return [(run, *_state(run, rows.get(run.name, {}), hashes)) for run in runs]


def _state(run: Run, row: dict, hashes: dict[str, dict]) -> tuple[str, str]:
    """row: of the run, if it is packed. hashes: of the data of experiments, which are read once for all runs."""
    done = (run.folder / "metrics.json").exists()
    try:  # the manifest is written first: without it there is nothing to go on from
        then = recorded(run.folder) if done or (run.folder / "manifest.json").exists() else {}
    except store.Damaged as error:
        return "stale", str(error)
    state = "done" if done else "unfinished" if run.folder.exists() else "missing"
    if row and then.get("time", "") < row.get("time", ""):  # of folder and packed row the later counts
        state, then = "done", row
    if then.get("data") and run.experiment not in hashes:
        hashes[run.experiment] = data_hashes(run)
    now = versions(run.parameters) | {"settings": portable(run.declared()[0][1] | run.parameters)}
    now["data"] = hashes[run.experiment] if then.get("data") else {}
    reason = difference(then, now) if then else ""
    return ("stale" if reason else state), reason


def data_hashes(run: Run, needed: bool = False) -> dict[str, str]:
    """Hashes of a run's data; absent: {}. needed: of data in folders alone. StudyError: wrong, or needed and absent."""
    from isnetlib.data import EXPERIMENTS, load  # imports torch, which a look at states seldom needs

    if needed and "folder" not in inspect.signature(EXPERIMENTS[run.experiment]).parameters:
        return {}
    try:
        with contextlib.chdir(run.notebooks):  # paths in options are the notebooks' own
            return load(run.experiment, **run.parameters["data_options"]).hashes
    except (FileNotFoundError, ValueError, TypeError) as error:
        if isinstance(error, FileNotFoundError) and not needed:
            return {}
        raise StudyError(f"data of {run.experiment}: {error}") from None
