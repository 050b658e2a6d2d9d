"""study.yaml, read and checked: what is unknown or of the wrong kind is named before anything is run."""

import functools
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
    """A key is a text that is given once, and 3e-3 is a number."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, str) or keys.count(key) > 1:
                fault = "is given twice" if isinstance(key, str) else "is no text"
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: the key {key!r} {fault}")
        return super().construct_mapping(node, deep)


EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, [*"+-0123456789"])


def read_yaml(path: Path):
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)


SHAPES = read_yaml(Path(__file__).with_name("shapes.yaml"))


def read_studies(notebooks: Path) -> dict:
    """The checked content of study.yaml. Raises StudyError naming what is unknown and what is allowed."""
    path = Path(notebooks) / "study.yaml"
    try:
        content = read_yaml(path)
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()  # refuses .nan, dates, an alias inside itself
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
    except FileNotFoundError:
        message = f"{path} does not exist: call isnet inside a clone of the project, or give --notebooks"
        raise StudyError(message) from None
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
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
    """ValueError telling the first thing that does not fit a shape of shapes.yaml: where, which value, what is allowed.
    known: the names of experiments, methods and bases that may be used.
    """
    defined = SHAPES[shape].get("$defs", {}) | {f"{kind} name": {"enum": names} for kind, names in known.items()}
    errors = _validator()(SHAPES[shape] | {"$defs": defined}).iter_errors(content)
    for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path))):
        raise ValueError(f"{'.'.join(map(str, error.absolute_path))}: {error.message}".removeprefix(": "))


@functools.cache
def _validator() -> type:
    sys.modules.setdefault("rfc3987_syntax", None)  # builds a grammar of addresses for two seconds, and is not needed
    from jsonschema import Draft4Validator, Draft202012Validator
    from jsonschema.validators import extend

    return extend(Draft202012Validator, type_checker=Draft4Validator.TYPE_CHECKER)  # 1.0 is no whole number


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
