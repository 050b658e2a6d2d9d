"""notebooks/study.yaml, read and checked: what is unknown or of the wrong kind is named before anything is run."""

from collections.abc import Iterable
from pathlib import Path

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML was built with it: ten times as fast
SEARCHED = ("option", "values", "serves")  # of a method that is searched
OVERRIDES = ("data", "train", "methods")  # of an experiment's own, by a study
OF_STUDY = ("budget_minutes", "runs", *OVERRIDES, "notebooks", "search", "trial_epochs", "freeze")
MOST_VALUES = 4  # a search is as small for every method


class StudyError(ValueError):
    """A mistake in a study, its notebooks or a request, said in one line for the user."""


def read_studies(notebooks: Path) -> dict:
    """The checked content of study.yaml. Raises StudyError naming what is unknown and what is allowed."""
    path = Path(notebooks) / "study.yaml"
    if not path.exists():
        raise StudyError(f"{path} does not exist: call isnet inside a clone of the project, or give --notebooks")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except yaml.YAMLError as error:
        raise StudyError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    check_keys(content, "study.yaml", ("experiments", "methods", "studies"), needed=True)
    for name, experiment in content["experiments"].items():
        check_keys(experiment, f"experiments.{name}")
        content["experiments"][name] = {"folds": None, "methods": {}} | experiment
        _check_experiment(content["experiments"][name], f"experiments.{name}", content["methods"])
    for name, options in content["methods"].items():
        check_keys(options, f"methods.{name}")
        _check_base(name, options, content["methods"])
    for name, study in content["studies"].items():
        check_keys(study, f"studies.{name}")
        absent = {part: {} for part in (*OVERRIDES, "notebooks", "search", "trial_epochs")} | {"freeze": []}
        content["studies"][name] = absent | study
        _check_study(content["studies"][name], f"studies.{name}", content["experiments"], content["methods"])
    _check_values(content, "study.yaml")
    return content


def check_keys(value, where: str, allowed: Iterable[str] | None = None, needed: bool = False) -> None:
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
    check_keys(experiment, where, ("data", "train", "folds", "methods"), needed=True)
    _check_methods(experiment["methods"], f"{where}.methods", methods)
    folds = experiment["folds"]
    if folds is not None and (type(folds) is not int or folds < 3):
        raise StudyError(f"{where}.folds: a whole number, 3 or more (to train, to validate, to test), not {folds!r}")


def _check_methods(own: dict, where: str, methods: dict) -> None:
    """An experiment's own options of methods."""
    check_keys(own, where, methods)
    for name, options in own.items():
        check_keys(options, f"{where}.{name}")
        if brought := sorted({"base", "backbone"} & set(options)):
            raise StudyError(f"{where}.{name}: {brought[0]} holds in every experiment: name it in methods")


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


def methods_here(content: dict, study: str, experiment: str) -> dict[str, dict]:
    """The experiment's own options of methods, and over them those that the study has for it."""
    own, over = content["experiments"][experiment]["methods"], content["studies"][study]["methods"].get(experiment, {})
    return {name: own.get(name, {}) | over.get(name, {}) for name in own | over}


def _check_study(study: dict, where: str, experiments: dict, methods: dict) -> None:
    check_keys(study, where, OF_STUDY, needed=True)
    check_keys(dict.fromkeys(_distinct(study["freeze"], str, f"{where}.freeze")), f"{where}.freeze", study["runs"])
    for part in ("runs", *OVERRIDES, "search"):
        check_keys(study[part], f"{where}.{part}", experiments)
    for experiment, own in study["methods"].items():
        _check_methods(own, f"{where}.methods.{experiment}", methods)
    for part in ("data", "train", "notebooks"):
        check_keys(study[part], f"{where}.{part}")
        for name, options in study[part].items():
            check_keys(options, f"{where}.{part}.{name}")
    for experiment, grid in study["runs"].items():
        place = f"{where}.runs.{experiment}"
        check_keys(grid, place, ("methods", "seeds"), needed=True)
        check_keys(dict.fromkeys(_distinct(grid["methods"], str, f"{place}.methods")), f"{place}.methods", methods)
        if isinstance(grid["seeds"], dict):
            check_keys(grid["seeds"], f"{place}.seeds", grid["methods"], needed=True)
        for seeds in grid["seeds"].values() if isinstance(grid["seeds"], dict) else [grid["seeds"]]:
            _distinct(seeds, int, f"{place}.seeds")
            folds = experiments[experiment]["folds"]
            if folds is not None and (none := [seed for seed in seeds if not 0 <= seed < folds]):
                raise StudyError(f"{place}.seeds: {none[0]} is no fold of {experiment}: they are 0 to {folds - 1}")
    for experiment, searched in study["search"].items():
        _check_search(searched, f"{where}.search.{experiment}", study["runs"], experiment, methods)
    check_keys(study["trial_epochs"], f"{where}.trial_epochs", study["search"])
    for experiment, epochs in study["trial_epochs"].items():
        if type(epochs) is not int or epochs < 1:
            raise StudyError(f"{where}.trial_epochs.{experiment}: a whole number of epochs is needed, not {epochs!r}")
    if not isinstance(study["budget_minutes"], int | float):
        raise StudyError(f"{where}.budget_minutes: a number is needed, not {study['budget_minutes']!r}")


def _check_search(searched: dict, where: str, runs: dict, experiment: str, methods: dict) -> None:
    """Each method that is searched: its option, up to four values, and whom the chosen value serves beside it."""
    if experiment not in runs:
        raise StudyError(f"{where}: the study has no runs of {experiment}")
    check_keys(searched, where, methods)
    for method, entry in searched.items():
        place = f"{where}.{method}"
        check_keys({"serves": [], **entry} if isinstance(entry, dict) else entry, place, SEARCHED, needed=True)
        check_keys(dict.fromkeys(_distinct(entry.get("serves", []), str, f"{place}.serves")), place, methods)
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
