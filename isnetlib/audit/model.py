"""The classifier that is audited, from a checkpoint of a run or a plain state_dict."""

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import nn

from isnetlib.baselines import build
from isnetlib.baselines.standard import Standard
from isnetlib.models import build_model

EQUALISED = ("tuberculosis", "tuberculosis_planted", "covid")  # experiments whose loader does so by default


class Classifier(NamedTuple):
    """A method with `predict`, its classes, and how its images are made."""

    method: nn.Module
    classes: list[str]
    size: int
    equalise: bool


def load_classifier(checkpoint: str | Path, backbone=None, classes=None, size=None, equalise=None) -> Classifier:
    """A classifier from a checkpoint of a run, whose manifest.json names backbone and method, or from a state_dict of
    the network `backbone` with `classes`. Tensors only are read: a file cannot run code.

    ValueError: not a checkpoint, backbone or classes unknown, weights of another network.
    """
    path = Path(checkpoint)
    state, run = read_weights(path), path.parent.parent
    if "method" in state and (run / "manifest.json").is_file():
        found, state = _of_run(run, path, backbone, classes, size, equalise), state["method"]
    else:
        _need(backbone, path, "backbone")
        _need(classes, path, "classes")
        size, state = size or 224, _prefixed(state.get("state_dict", state.get("method", state)))
        method = Standard(build_model(backbone, len(classes), size=size))
        found = Classifier(method, list(classes), size, bool(equalise))
    try:
        found.method.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        first, count = " ".join(str(error).split())[:300], len(found.classes)
        raise ValueError(f"{path} holds other weights than this network with {count} classes: {first}") from None
    return found._replace(method=found.method.eval())


def _of_run(run: Path, path: Path, backbone, classes, size, equalise) -> Classifier:
    """The method of a run's manifest, without its weights; what is not None is not taken from there."""
    p = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["parameters"]
    classes, options = classes or classes_of_run(run), p.get("data_options", {})
    size = size or options.get("size") or options.get("canvas") or 112
    equalise = options.get("equalise", p["experiment"] in EQUALISED) if equalise is None else equalise
    name = p.get("base") or p["method"]
    _need(classes, path, "classes")
    method = build(name, backbone or p["backbone"], len(classes), size=size, **p.get("method_options", {}))
    if getattr(method, "needs_mask", False):
        raise ValueError(f"{path}: the method {name} is given the true mask and cannot be audited")
    return Classifier(method, list(classes), size, bool(equalise))


def _prefixed(state):
    """The entries of a bare network's state_dict, also from several devices, as those of a method that holds it."""
    if any(str(key).startswith("model.") for key in state):
        return state
    return {f"model.{str(key).removeprefix('module.')}": value for key, value in state.items()}


def read_weights(path: Path) -> dict:
    """The dict of a checkpoint file. ValueError where it is missing or holds anything but tensors and numbers."""
    if not path.is_file():
        raise ValueError(f"{path} is not a file: name a checkpoint, such as checkpoints/swapped.pt of a run")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises almost anything on foreign bytes
        message = "is not a checkpoint of tensors and numbers alone"
        raise ValueError(
            f"{path} {message} ({type(error).__name__}): save model.state_dict() with torch.save"
        ) from None
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a state_dict: save model.state_dict()")
    return state


def classes_of_run(run: Path) -> list[str]:
    """The classes that a run's predictions name; none where there are no predictions."""
    for path in sorted(run.glob("predictions/*.csv")):
        return [c[2:] for c in pd.read_csv(path, nrows=0) if c.startswith("p_")]
    return []


def _need(value, path, name):
    if not value:
        raise ValueError(f"{path}: nothing beside it tells its {name}; give --{name}")
