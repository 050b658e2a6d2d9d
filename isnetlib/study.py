"""Studies: notebooks/study.yaml -> a grid of runs; a run is a folder, made by two notebooks, and tells its own state.

A run's folder is results/<study>/runs/<experiment>/<method>/seed<k>. It is

- missing: there is no folder;
- unfinished: there is no metrics.json, which is written last; running it again goes on from its checkpoint;
- done: it is never run again;
- stale: the code, the parameters or the data that made it are no longer those of today; running it starts it afresh.
"""

import contextlib
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from isnetlib.notebooks import check_parameters, declared, relative
from isnetlib.provenance import PACKAGE, RUN_NOTEBOOKS, built, difference, made_by, portable
from isnetlib.study_file import StudyError, check_keys, method_parameters, methods_here, read_studies

STATES = ("done", "unfinished", "missing", "stale")


class Run(NamedTuple):
    """One training of one method and its tests. `parameters`: everything that the run's notebooks are given."""

    study: str
    experiment: str
    method: str
    seed: int
    parameters: dict

    @property
    def name(self) -> str:
        return f"{self.experiment}/{self.method}/seed{self.seed}"

    def folder(self, results: Path) -> Path:
        return Path(results) / self.study / "runs" / self.name


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
        seeds = grid["seeds"] if isinstance(grid["seeds"], dict) else dict.fromkeys(grid["methods"], grid["seeds"])
        for seed in sorted({seed for of_method in seeds.values() for seed in of_method}):
            for method in (method for method in grid["methods"] if seed in seeds[method]):
                options = _with_fold(data, seed, here["folds"], experiment)
                own = {"study": study, "experiment": experiment, "seed": seed, "data_options": options}
                own["results"] = relative(results, notebooks)
                check_keys(train, f"training parameters of {experiment}", [key for key in train if key not in own])
                own |= method_parameters(method, content["methods"], methods_here(content, study, experiment))
                runs.append(Run(study, experiment, method, seed, train | own))
    _check_parameters(runs, chosen["notebooks"], notebooks)
    return runs


def _with_fold(data: dict, seed: int, folds: int | None, experiment: str) -> dict:
    """The options of the loader; where an experiment has folds, seed k tests on fold k."""
    if folds is None:
        return data
    if {"fold", "folds"} & set(data):
        raise StudyError(f"data of {experiment}: leave out fold and folds, which its folds give: seed k is fold k")
    return data | {"fold": seed, "folds": folds}


def _check_parameters(runs: list[Run], study_notebooks: dict, notebooks: Path) -> None:
    """Refuse what a notebook does not declare, before anything is run.

    10_train declares every parameter of a run; 20_external_test is given those of them that it declares.
    """
    train, test = (notebooks / f"{name}.ipynb" for name in RUN_NOTEBOOKS)
    try:
        for run in runs:
            check_parameters(train, run.parameters)
            check_parameters(test, own_parameters(test, run.parameters))
        for name, parameters in study_notebooks.items():
            check_parameters(notebooks / f"{name}.ipynb", {"study": "", "results": "", **parameters})
    except FileNotFoundError as error:
        raise StudyError(f"{error.filename} does not exist") from None
    except ValueError as error:
        raise StudyError(str(error)) from None


def own_parameters(notebook: Path, parameters: dict) -> dict:
    """Those of the parameters that the notebook declares."""
    known = declared(notebook)
    return {name: value for name, value in parameters.items() if name in known}


# --- states


def data_hashes(experiment: str, options: dict) -> dict[str, str]:
    """Hashes of the experiment's data as they are here and now; empty where its folder is absent."""
    if "folder" in options and not Path(options["folder"]).exists():
        return {}
    from isnetlib.data import load  # imports torch, which a look at states seldom needs

    try:
        return load(experiment, **options).hashes
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StudyError(f"the data of experiment {experiment}: {error}") from None


def status(study: str, notebooks: Path, results: Path, package: Path = PACKAGE, hashes=data_hashes) -> pd.DataFrame:
    """State of every run of a study: columns study, experiment, method, seed, state, reason (of being stale)."""
    states = run_states(resolve(study, notebooks, results), notebooks, results, package, hashes)
    rows = [(*run[:4], *state) for run, state in states]
    return pd.DataFrame(rows, columns=["study", "experiment", "method", "seed", "state", "reason"])


def run_states(
    runs: list[Run], notebooks: Path, results: Path, package: Path = PACKAGE, hashes: Callable = data_hashes
) -> list[tuple[Run, tuple[str, str]]]:
    """Each run with (state, reason). Sources and data are read once for all the runs that share them."""
    made_by_now = functools.cache(lambda experiment, method: made_by(experiment, method, notebooks, package))

    @functools.cache
    def hashes_now(experiment: str, options: str) -> dict:
        with contextlib.chdir(notebooks):  # paths in options are the notebooks' own
            return hashes(experiment, json.loads(options))

    return [(run, _state(run, run.folder(results), notebooks, made_by_now, hashes_now)) for run in runs]


def _state(run: Run, folder: Path, notebooks: Path, made_by_now: Callable, hashes_now: Callable) -> tuple[str, str]:
    if not folder.exists():
        return "missing", ""
    finished = (folder / "metrics.json").exists()
    if not (folder / "manifest.json").exists():  # written first: without it there is nothing to go on from
        return ("stale", "manifest.json is missing") if finished else ("unfinished", "")
    then = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    resolved = declared(notebooks / f"{RUN_NOTEBOOKS[0]}.ipynb") | run.parameters
    now = {
        "parameters": json.loads(json.dumps(portable(resolved))),
        "made_by": made_by_now(run.experiment, built(run.parameters)),
    }
    reason = difference(then, now)
    if not reason and then["data"]:
        reason = difference(then, {"data": hashes_now(run.experiment, json.dumps(_any_fold(run.parameters)))})
    return ("stale", reason) if reason else ("done" if finished else "unfinished", "")


def _any_fold(parameters: dict) -> dict:
    """The options of the run's data, but of fold 0: all folds are cut from the same files, which so are read once."""
    options = parameters["data_options"]
    return options | {"fold": 0} if "fold" in options else options
