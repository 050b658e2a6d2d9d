"""study.yaml, read and checked: what is unknown or of the wrong kind is named before anything is run."""

import functools
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml


class StudyError(ValueError):
    """A mistake in a study, its notebooks or a request, said in one line for the user."""

    def __init__(self, text: str):
        super().__init__(" ".join(text.split()))


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # in C, where PyYAML was built with it
    """A key is given once, 3e-3 is a number, and .nan is none."""

    def construct_mapping(self, node, deep=False):
        keys, line = [self.construct_object(key, deep=True) for key, _ in node.value], node.start_mark.line + 1
        for k, key in enumerate(keys):
            if key in keys[:k] or not isinstance(key, str):
                told = f"key '{key}' is given twice" if isinstance(key, str) else f"key {key!r} is no text"
                raise StudyError(f"study.yaml, line {line}: the {told}")
        return super().construct_mapping(node, deep)


FLOAT = "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != FLOAT]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(FLOAT, re.compile(r"[-+]?\d+(\.\d*([eE][-+]?\d+)?|[eE][-+]?\d+)$"), "+-0123456789")


def read_studies(notebooks: Path) -> dict:
    """The checked content of study.yaml. Raises StudyError naming what is unknown and what is allowed."""
    path = Path(notebooks) / "study.yaml"
    try:
        text, depth = path.read_text(encoding="utf-8"), 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 50:  # the loader in C calls itself, and takes us with it where the stack ends
                raise StudyError(f"{path}, line {event.start_mark.line + 1}: nested too deep")
        content = yaml.load(text, Loader=_Loader)
        json.dumps(
            content, allow_nan=False, ensure_ascii=False
        ).encode()  # refuses an alias that holds itself, and more
    except StudyError:
        raise
    except FileNotFoundError:
        message = f"{path} does not exist: call isnet inside a clone of the project, or give --notebooks"
        raise StudyError(message) from None
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise StudyError(f"{path} is not valid: {error}") from None
    for shape in (lambda content: PARTS, _names, _studies):  # each reads what the one before has checked
        if fault := misfit(content, shape(content)):
            raise StudyError(f"study.yaml: {fault}")
    for study in content["studies"].values():
        for part in ("data", "train", "methods", "search", "trial_epochs", "freeze"):
            study.setdefault(part, {})
        for grid in study["runs"].values():
            if isinstance(grid["seeds"], list):
                grid["seeds"] = dict.fromkeys(grid["methods"], grid["seeds"])
    return content


# --- the shape, as JSON schemas


def _mapping(names: Iterable | None = None, value: dict | None = None, needed: Iterable = (), **parts: dict) -> dict:
    """Values of one shape under `names` (None: any), and `parts`, each of its own shape."""
    known = {} if names is None else {"propertyNames": {"enum": [*names, *parts]}}
    return known | {"type": "object", "properties": parts, "additionalProperties": value or {}, "required": [*needed]}


def _some(items: dict, at_least: int = 1, at_most: int = 10**6) -> dict:
    return {"type": "array", "items": items, "minItems": at_least, "maxItems": at_most, "uniqueItems": True}


OBJECT = {"type": "object"}
COUNT = {"type": "integer", "minimum": 1}
NUMBER = {"type": "number", "minimum": -1e300, "maximum": 1e300}  # YAML has whole numbers that are no float
POSITIVE = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e300}
GIVEN = {"enum": "study experiment method base seed results data_options method_options".split()}
TRAIN = _mapping(epochs=COUNT, batch_size=COUNT, learning_rate=POSITIVE, clip=POSITIVE)
TRAIN["propertyNames"] = {"not": GIVEN}
OWN = OBJECT | {"propertyNames": {"not": {"enum": ["base", "backbone"]}}}  # an experiment's or study's, of a method
PART = _mapping(value=OBJECT) | {"propertyNames": {"type": "string", "pattern": r"^\w[\w.-]*\Z"}}  # names of folders
PARTS = _mapping((), None, ("experiments", "methods", "studies"), experiments=PART, methods=PART, studies=PART)


def _names(content: dict) -> dict:
    """The shape of all but studies, and which runs a study has."""
    experiments, methods = content["experiments"], content["methods"]
    base = {"enum": [name for name, options in methods.items() if "base" not in options]}
    folds = COUNT | {"minimum": 3}  # to train, to validate, to test
    experiment = {"data": OBJECT, "train": TRAIN, "folds": folds, "methods": _mapping(methods, OWN)}
    grid = _mapping((), None, ("methods", "seeds"), methods=_some({"enum": list(methods)}), seeds={})
    runs = _mapping(experiments, grid) | {"minProperties": 1}
    return _mapping(
        experiments=_mapping(value=_mapping((), None, ("data", "train"), **experiment)),
        methods=_mapping(value=_mapping(base=base, backbone={"type": "string"})),
        studies=_mapping(value=_mapping(needed=["runs"], runs=runs)),
    )


def _studies(content: dict) -> dict:
    known = content["experiments"], content["methods"]
    shapes = {name: _study(own["runs"], *known) for name, own in content["studies"].items()}
    return _mapping(studies=OBJECT | {"properties": shapes})


def _study(runs: dict, experiments: dict, methods: dict) -> dict:
    """The shape of a study that has `runs`, of which only seeds may still be wrong."""
    grids, searched = {}, {}
    falling = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
    tried = {"anyOf": [NUMBER, falling, {"enum": ["auto"]}]}
    values = _some(tried, at_most=5)  # a search is as small for every method
    option = {"option": {"type": "string"}, "values": values, "serves": _some({"enum": list(methods)}, at_least=0)}
    for experiment, grid in runs.items():
        own, folds = grid["methods"], experiments[experiment].get("folds")
        seeds = _some({"type": "integer", "minimum": 0, "exclusiveMaximum": folds or 2**63})  # of folds a seed is one
        by_method = {"if": OBJECT, "then": _mapping(own, seeds, own), "else": seeds}
        grids[experiment] = _mapping(seeds=by_method)
        searched[experiment] = _mapping(own, _mapping((), None, ("option", "values"), **option))
    parts = {"budget_minutes": POSITIVE, "runs": OBJECT | {"properties": grids}}
    parts |= {"data": _mapping(experiments, OBJECT), "train": _mapping(experiments, TRAIN)}
    parts |= {"methods": _mapping(experiments, _mapping(methods, OWN))}
    parts |= {"search": _mapping(runs) | {"properties": searched}, "trial_epochs": _mapping(runs, COUNT)}
    return _mapping((), None, ("budget_minutes", "runs"), **parts, freeze=_some({"enum": list(runs)}, at_least=0))


@functools.cache
def _validator():
    sys.modules.setdefault("rfc3987_syntax", None)  # builds a grammar of addresses for two seconds, and is not needed
    from jsonschema import Draft4Validator, Draft202012Validator
    from jsonschema.validators import extend

    return extend(Draft202012Validator, type_checker=Draft4Validator.TYPE_CHECKER)  # 1.0 is no whole number


def misfit(content, schema: dict) -> str:
    """The first thing that does not fit the JSON schema: where, which value, what is allowed; "" if all does."""
    errors = _validator()(schema).iter_errors(content)
    for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path))):
        return f"{'.'.join(map(str, error.absolute_path))}: {error.message}".removeprefix(": ")
    return ""


# --- options of methods


def method_parameters(name: str, content: dict, study: str, experiment: str) -> dict:
    """The parameters `method`, `method_options` and, where the entry of `methods` has them, `base` and `backbone` of a
    run. The options, each over those before: of the base; the experiment's and the study's own of the base; of the
    entry; the experiment's and the study's own of the entry.
    """
    own = content["experiments"][experiment].get("methods", {}), content["studies"][study]["methods"]
    entry, options = content["methods"][name], {}
    for part in filter(None, (entry.get("base"), name)):
        for place in (content["methods"], own[0], own[1].get(experiment, {})):
            options |= place.get(part, {})
    brought = {key: entry[key] for key in ("base", "backbone") if key in entry}
    return {"method": name, "method_options": {k: v for k, v in options.items() if k not in brought}} | brought
