"""notebooks/study.yaml, read and checked: what is unknown or of the wrong kind is named before anything is run."""

import json
import re
import sys
from pathlib import Path

import yaml


class StudyError(ValueError):
    """A mistake in a study, its notebooks or a request, said in one line for the user."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # in C, where PyYAML was built with it
    """A key is given once, 3e-3 is a number, and .nan is none."""

    FLOAT = "tag:yaml.org,2002:float"
    yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:float"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for k, key in enumerate(keys) if key in keys[:k]]:
            raise StudyError(f"study.yaml, line {node.start_mark.line + 1}: the key '{twice[0]}' is given twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    _Loader.FLOAT, re.compile(r"[-+]?\d+(\.\d*([eE][-+]?\d+)?|[eE][-+]?\d+)$"), "+-0123456789"
)


def read_studies(notebooks: Path) -> dict:
    """The checked content of study.yaml. Raises StudyError naming what is unknown and what is allowed."""
    path = Path(notebooks) / "study.yaml"
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        json.dumps(content)  # refuses an alias that holds itself
    except FileNotFoundError:
        message = f"{path} does not exist: call isnet inside a clone of the project, or give --notebooks"
        raise StudyError(message) from None
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError) as error:
        told = str(error) if isinstance(error, StudyError) else f"{path} is not valid: {error}"
        raise StudyError(" ".join(told.split())) from None
    parts = ("experiments", "methods", "studies")
    _check(content, _record(parts, **{part: {"propertyNames": NAMED, **OBJECT} for part in parts}))
    experiments, methods = content["experiments"], content["methods"]
    base = [name for name, options in methods.items() if "base" not in (options or {})]
    method = {"properties": {"base": {"enum": base}, "backbone": {"type": "string"}}, **OBJECT}
    folds = COUNT | {"minimum": 3}  # to train, to validate, to test
    experiment = _record(("data", "train"), data=OBJECT, train=TRAIN, folds=folds, methods=_own(methods))
    _check(content, {"properties": {"experiments": {"additionalProperties": experiment}}})
    _check(content, {"properties": {"methods": {"additionalProperties": method}}})
    grid = _record(("methods", "seeds"), methods=_some({"enum": list(methods)}), seeds={})
    outline = {"properties": {"runs": _each(experiments, grid, minProperties=1)}, "required": ["runs"], **OBJECT}
    _check(content, {"properties": {"studies": {"additionalProperties": outline}}})
    for name, study in content["studies"].items():
        shape = _study(study["runs"], experiments, methods)
        _check(content, {"properties": {"studies": {"properties": {name: shape}}}})
        empty = {part: {} for part in ("data", "train", "methods", "search", "trial_epochs")} | {"freeze": []}
        content["studies"][name] = empty | study
        for grid in study["runs"].values():
            if isinstance(grid["seeds"], list):
                grid["seeds"] = dict.fromkeys(grid["methods"], grid["seeds"])
    return content


# --- the shape, as JSON schemas

OBJECT = {"type": "object"}
COUNT = {"type": "integer", "minimum": 1}
POSITIVE = {"type": "number", "exclusiveMinimum": 0}
NAMED = {"type": "string", "pattern": r"^\w[\w.-]*\Z"}  # it becomes the name of a folder
TRAIN = {
    "properties": {"epochs": COUNT, "batch_size": COUNT, "learning_rate": POSITIVE, "clip": POSITIVE},
    "propertyNames": {"not": {"enum": "study experiment method base seed results data_options method_options".split()}},
    **OBJECT,
}


def _record(needed: tuple, **parts: dict) -> dict:
    return {"propertyNames": {"enum": list(parts)}, "properties": parts, "required": list(needed), **OBJECT}


def _each(names, value: dict, **more) -> dict:
    """A mapping from some of the names to values of one shape."""
    return {"propertyNames": {"enum": list(names)}, "additionalProperties": value, **OBJECT, **more}


def _some(items: dict, at_least: int = 1, at_most: int = 10**6) -> dict:
    return {"type": "array", "items": items, "minItems": at_least, "maxItems": at_most, "uniqueItems": True}


def _own(methods: dict) -> dict:
    """Options of methods that an experiment or a study has of its own."""
    return _each(methods, {"propertyNames": {"not": {"enum": ["base", "backbone"]}}, **OBJECT})


def _study(runs: dict, experiments: dict, methods: dict) -> dict:
    """The shape of a study that has `runs`, of which only seeds may still be wrong."""
    grids, searched = {}, {}
    for experiment, grid in runs.items():
        own, folds = grid["methods"], experiments[experiment].get("folds")
        seeds = _some({"type": "integer", "minimum": 0, "exclusiveMaximum": folds or 2**63})  # of folds a seed is one
        by_method = _each(own, seeds, required=own)
        seeds = {"if": OBJECT, "then": by_method, "else": seeds}
        grids[experiment] = {"properties": {"seeds": seeds}}
        values = _some({"type": "number"}, at_most=4)  # a search is as small for every method
        serves = _some({"enum": list(methods)}, at_least=0)
        option = _record(("option", "values"), option={"type": "string"}, values=values, serves=serves)
        searched[experiment] = _each(own, option)
    return _record(
        ("budget_minutes", "runs"),
        budget_minutes=POSITIVE,
        runs={"properties": grids},
        data=_each(experiments, OBJECT),
        train=_each(experiments, TRAIN),
        methods=_each(experiments, _own(methods)),
        search=_each(runs, OBJECT, properties=searched),
        trial_epochs=_each(runs, COUNT),
        freeze=_some({"enum": list(runs)}, at_least=0),
    )


def _check(content, schema: dict) -> None:
    """StudyError of the first thing that does not fit the schema: where, which value, and what is allowed."""
    sys.modules.setdefault("rfc3987_syntax", None)  # builds a grammar of addresses for two seconds, and is not needed
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(schema).iter_errors(content)
    for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path))):
        where = ".".join(map(str, error.absolute_path))
        raise StudyError(f"study.yaml: {where}{': ' if where else ''}{error.message}")


# --- options of methods


def method_parameters(name: str, content: dict, study: str, experiment: str) -> dict:
    """The parameters `method`, `method_options` and, where the entry of `methods` has them, `base` and `backbone` of a
    run. The options, each over those before: of the base; the experiment's and the study's own of the base; of the
    entry; the experiment's and the study's own of the entry.
    """
    general, own = content["experiments"][experiment], content["studies"][study]
    here = general.get("methods", {}), own["methods"].get(experiment, {})
    entry, options = content["methods"][name], {}
    for part in filter(None, (entry.get("base"), name)):
        for place in (content["methods"], *here):
            options |= place.get(part, {})
    brought = {key: entry[key] for key in ("base", "backbone") if key in entry}
    return {"method": name, "method_options": {k: v for k, v in options.items() if k not in brought}} | brought
