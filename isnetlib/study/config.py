"""study.yaml and the parameters of notebooks, checked: what is unknown or of the wrong kind is named before any run."""

import ast
import json
import re
import sys
from pathlib import Path

import yaml


class StudyError(ValueError):
    """A mistake in a study, its notebooks or a request, said in one line for the user."""

    def __init__(self, text: str):
        super().__init__(" ".join(text.split()))


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # in C, where PyYAML was built with it
    """A key is given once, and 3e-3 is a number."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: the key {twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), None)


def read_yaml(path: Path):
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)


SHAPES = read_yaml(Path(__file__).with_name("shapes.yaml"))
RECIPE = read_yaml(Path(__file__).with_name("recipe.yaml"))  # its declared versions


def read_studies(notebooks: Path) -> dict:
    """The checked content of study.yaml. Raises StudyError naming what is unknown and what is allowed."""
    path = Path(notebooks) / "study.yaml"
    try:
        # As JSON, which has texts as keys, and no .nan, no dates and no alias inside itself.
        content = json.loads(json.dumps(read_yaml(path), allow_nan=False, ensure_ascii=False).encode())
        check(content, "parts")
        methods = content["methods"]
        bases = [name for name, options in methods.items() if "base" not in options]
        check(content, "content", experiment=list(content["experiments"]), method=list(methods), base=bases)
        for name, study in content["studies"].items():
            for part in ("data", "train", "methods", "search", "trial_epochs", "freeze"):
                study.setdefault(part, {})
            for grid in study["runs"].values():
                if isinstance(grid["seeds"], list):
                    grid["seeds"] = dict.fromkeys(grid["methods"], grid["seeds"])
            _check_names(f"studies.{name}", study, content["experiments"])
    except (OSError, yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise StudyError(f"{path} is not valid: {error}") from None
    return content


def _check_names(place: str, study: dict, experiments: dict) -> None:
    """ValueError where one part of a study names what another part of it does not have."""
    asked = [(part, study[part], study["runs"]) for part in ("search", "trial_epochs", "freeze")]
    for experiment, grid in study["runs"].items():
        own = f"runs.{experiment}.seeds"
        asked += [(own, grid["seeds"], grid["methods"]), (f"{own}, a method without", grid["methods"], grid["seeds"])]
        if "folds" in experiments[experiment]:  # of which a seed is one
            folds = range(experiments[experiment]["folds"])
            asked += [(f"{own}.{method}", seeds, folds) for method, seeds in grid["seeds"].items()]
        asked.append((f"search.{experiment}", study["search"].get(experiment, ()), grid["methods"]))
    for part, names, known in asked:
        for name in names:
            if name not in known:
                raise ValueError(f"{place}.{part}: {name!r} is not one of {list(known)}")


def check(content, shape: str, **known: list[str]) -> None:
    """ValueError: the first thing that does not fit a shape. known: experiments, methods, bases that may be named."""
    sys.modules.setdefault("rfc3987_syntax", None)  # builds a grammar of addresses for two seconds, and is not needed
    from jsonschema import Draft202012Validator

    defined = SHAPES[shape].get("$defs", {}) | {f"{kind} name": {"enum": names} for kind, names in known.items()}
    errors = Draft202012Validator(SHAPES[shape] | {"$defs": defined}).iter_errors(content)
    for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path))):
        raise ValueError(f"{'.'.join(map(str, error.absolute_path))}: {error.message}".removeprefix(": "))


def method_parameters(name: str, content: dict, study: str, experiment: str) -> dict:
    """The parameters `method`, `method_options` and, where the entry of `methods` has them, `base` and `backbone` of a
    run. Options, each over those before: of the base, by the experiment, by the study; of the entry, by both likewise.
    """
    places = [content["methods"], content["experiments"][experiment].get("methods", {})]
    places.append(content["studies"][study]["methods"].get(experiment, {}))
    entry, options = content["methods"][name], {}
    for part in (entry.get("base"), name):
        for place in places:
            options |= place.get(part, {})
    brought = {key: entry[key] for key in ("base", "backbone") if key in entry}
    return {"method": name, "method_options": {k: v for k, v in options.items() if k not in brought}} | brought


def declared(notebook: Path) -> dict:
    """Names and default values of a notebook's parameters, held by the cell tagged "parameters". Raises StudyError."""
    try:
        cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(sources[0]).body}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, SyntaxError) as error:
        told = "absent or damaged, or has no cell tagged 'parameters' that holds lines `name = literal` alone"
        raise StudyError(f"the notebook {notebook} is {told}: {error}") from None


def check_parameters(notebook: Path, known: dict, given: dict) -> None:
    """StudyError if `given` has a parameter that `known` lacks, which papermill ignores, or one of another type."""
    for key, value in given.items():
        if key not in known:
            raise StudyError(f"{notebook.name} has no parameter '{key}'; it declares: {', '.join(sorted(known))}")
        kinds = type(value), type(known[key])
        if type(None) not in kinds and kinds[0] is not kinds[1] and kinds != (int, float):
            told = f"parameter '{key}' is {value!r}, of another type than its default {known[key]!r}"
            raise StudyError(f"{notebook.name}: {told}")
