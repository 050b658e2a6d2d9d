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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from isnetlib.notebooks import check_parameters, declared, relative
from isnetlib.provenance import PACKAGE, RUN_NOTEBOOKS, built, difference, made_by, portable

SEARCHED = ("option", "values", "serves")  # of a method that is searched
OF_STUDY = ("budget_minutes", "runs", "data", "train", "notebooks", "search", "freeze")
MOST_VALUES = 4  # a search is as small for every method
STATES = ("done", "unfinished", "missing", "stale")


class StudyError(ValueError):
    """A mistake in a study, its notebooks or a request, said in one line for the user."""


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


def read_studies(notebooks: Path) -> dict:
    """The checked content of study.yaml. Raises StudyError naming what is unknown and what is allowed."""
    path = Path(notebooks) / "study.yaml"
    if not path.exists():
        raise StudyError(f"{path} does not exist: call isnet inside a clone of the project, or give --notebooks")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise StudyError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    _check_keys(content, "study.yaml", ("experiments", "methods", "studies"), needed=True)
    for name, experiment in content["experiments"].items():
        _check_keys(experiment, f"experiments.{name}")
        content["experiments"][name] = {"folds": None, "methods": {}} | experiment
        _check_experiment(content["experiments"][name], f"experiments.{name}", content["methods"])
    for name, options in content["methods"].items():
        _check_keys(options, f"methods.{name}")
        _check_base(name, options, content["methods"])
    for name, study in content["studies"].items():
        _check_keys(study, f"studies.{name}")
        content["studies"][name] = {"data": {}, "train": {}, "notebooks": {}, "search": {}, "freeze": []} | study
        _check_study(content["studies"][name], f"studies.{name}", content["experiments"], content["methods"])
    _check_values(content, "study.yaml")
    return content


def _check_keys(value, where: str, allowed: Iterable[str] | None = None, needed: bool = False) -> None:
    """`value` is a mapping with no key that is not allowed (None: all are) and, if `needed`, all that are."""
    if not isinstance(value, dict):
        raise StudyError(f"{where}: a mapping is needed, not {value!r}")
    for key in value:
        if allowed is not None and key not in allowed:
            raise StudyError(f"{where}: unknown key '{key}'; allowed: {', '.join(allowed)}")
    if needed and set(allowed) - set(value):
        raise StudyError(f"{where}: missing: {', '.join(sorted(set(allowed) - set(value)))}")


def _check_experiment(experiment: dict, where: str, methods: dict) -> None:
    """`data`, `train`; where the seeds of its runs are folds, how many `folds`; `methods`: its own options of them."""
    _check_keys(experiment, where, ("data", "train", "folds", "methods"), needed=True)
    _check_keys(experiment["methods"], f"{where}.methods", methods)
    for name, options in experiment["methods"].items():
        _check_keys(options, f"{where}.methods.{name}")
        if brought := sorted({"base", "backbone"} & set(options)):
            raise StudyError(f"{where}.methods.{name}: {brought[0]} holds in every experiment: name it in methods")
    folds = experiment["folds"]
    if folds is not None and (type(folds) is not int or folds < 3):
        raise StudyError(f"{where}.folds: a whole number, 3 or more (to train, to validate, to test), not {folds!r}")


def _check_base(name: str, options: dict, methods: dict) -> None:
    """`base`, where it is given, is another method of `methods` that has none itself."""
    if "base" in options and options["base"] not in methods:
        raise StudyError(f"methods.{name}.base: there is no method {options['base']!r} in methods")
    if "base" in options and "base" in methods[options["base"]]:
        raise StudyError(f"methods.{name}.base: {options['base']} has a base itself; name {name}'s method there")


def method_parameters(name: str, methods: dict, here: dict | None = None) -> dict:
    """The parameters `method`, `method_options` and, where the entry of `methods` has them, `base` and `backbone` of a
    run: the options are those of the base, and over them the entry's own. here: an experiment's own options of methods,
    each over those of `methods`.
    """
    own, here = dict(methods[name]), here or {}
    brought = {key: own.pop(key) for key in ("base", "backbone") if key in own}
    base = brought.get("base")
    options = methods.get(base, {}) | here.get(base, {}) | own | here.get(name, {})
    return {"method": name, "method_options": options} | brought


def _check_study(study: dict, where: str, experiments: dict, methods: dict) -> None:
    _check_keys(study, where, OF_STUDY, needed=True)
    _check_keys(dict.fromkeys(_distinct(study["freeze"], str, f"{where}.freeze")), f"{where}.freeze", study["runs"])
    for part in ("runs", "data", "train", "search"):
        _check_keys(study[part], f"{where}.{part}", experiments)
    for part in ("data", "train", "notebooks"):
        _check_keys(study[part], f"{where}.{part}")
        for name, options in study[part].items():
            _check_keys(options, f"{where}.{part}.{name}")
    for experiment, grid in study["runs"].items():
        place = f"{where}.runs.{experiment}"
        _check_keys(grid, place, ("methods", "seeds"), needed=True)
        _check_keys(dict.fromkeys(_distinct(grid["methods"], str, f"{place}.methods")), f"{place}.methods", methods)
        if isinstance(grid["seeds"], dict):
            _check_keys(grid["seeds"], f"{place}.seeds", grid["methods"], needed=True)
        for seeds in grid["seeds"].values() if isinstance(grid["seeds"], dict) else [grid["seeds"]]:
            _distinct(seeds, int, f"{place}.seeds")
            folds = experiments[experiment]["folds"]
            if folds is not None and (none := [seed for seed in seeds if not 0 <= seed < folds]):
                raise StudyError(f"{place}.seeds: {none[0]} is no fold of {experiment}: they are 0 to {folds - 1}")
    for experiment, searched in study["search"].items():
        _check_search(searched, f"{where}.search.{experiment}", study["runs"], experiment, methods)
    if not isinstance(study["budget_minutes"], int | float):
        raise StudyError(f"{where}.budget_minutes: a number is needed, not {study['budget_minutes']!r}")


def _check_search(searched: dict, where: str, runs: dict, experiment: str, methods: dict) -> None:
    """Each method that is searched: its option, up to four values, and whom the chosen value serves beside it."""
    if experiment not in runs:
        raise StudyError(f"{where}: the study has no runs of {experiment}")
    _check_keys(searched, where, methods)
    for method, entry in searched.items():
        place = f"{where}.{method}"
        _check_keys({"serves": [], **entry} if isinstance(entry, dict) else entry, place, SEARCHED, needed=True)
        _check_keys(dict.fromkeys(_distinct(entry.get("serves", []), str, f"{place}.serves")), place, methods)
        if not 1 <= len(_distinct(entry["values"], float, f"{place}.values")) <= MOST_VALUES:
            raise StudyError(f"{place}.values: from 1 to {MOST_VALUES} values, the same for every method")


def _distinct(values, kind: type, where: str) -> list:
    if not isinstance(values, list) or len(set(values)) < len(values) or any(type(v) is not kind for v in values):
        raise StudyError(f"{where}: a list of distinct {kind.__name__} values is needed, not {values!r}")
    return values


def _check_values(value, where: str) -> None:
    """YAML reads 3e-3 as text; as a parameter it would fail late, or not at all."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_values(item, f"{where}: {key}" if where == "study.yaml" else f"{where}.{key}")
    elif isinstance(value, str) and _number(value) is not None:
        raise StudyError(f"{where}: '{value}' is text to YAML; write {_number(value)!r}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


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
                _check_keys(train, f"training parameters of {experiment}", [key for key in train if key not in own])
                own |= method_parameters(method, content["methods"], here["methods"])
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
