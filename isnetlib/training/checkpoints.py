"""Files of weights, and what a training is, told in text, so that another one is not taken for it."""

import io
import re
from argparse import Namespace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from isnetlib.method.course import Weight
from isnetlib.training.files import write_atomically

PLAIN = (bool, int, float, str, tuple, partial, type(None))
PASSING = ("training", "watch", "looked")  # attributes that training changes


def configuration(method: nn.Module, train, **recipe) -> dict[str, str]:
    """What decides the numbers of a training, by name: recipe, images, size of the network, method and its options."""
    found = recipe | {"images": len(train), "shape": tuple(train.x.shape[1:]), "classes": train.classes}
    found |= {"method": type(method).__name__, "parameters": sum(p.numel() for p in method.parameters())}
    for path, module in method.named_modules():
        if module is method or isinstance(module, Weight):
            for name, value in vars(module).items():
                if isinstance(value, PLAIN) and name[0] != "_" and name not in PASSING:
                    found[f"{path}.{name}".strip(".")] = getattr(value, "args", value)
    return {name: str(value) for name, value in found.items()}


def differences(begun: dict, asked: dict) -> str:
    """What differs between two configurations, "" where nothing does."""
    then, now = ({k: re.sub(r"(?<=\d)\.0\b", "", str(one.get(k))) for k in begun | asked} for one in (begun, asked))
    names = [name for name in now if then[name] != now[name]]  # 1.0 is 1
    return ", ".join(f"{name} was {begun.get(name)}, is {asked.get(name)}" for name in names)


def write_tensors(path: Path, state: dict) -> None:
    """torch.save, in one step."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def read_tensors(path: Path, remedy: str = "remove the run's folder and train it again") -> dict:
    """What torch.save wrote of tensors, numbers and names. FileNotFoundError; ValueError: anything else."""
    try:
        with torch.serialization.safe_globals([Namespace]):  # of the command line, as torchvision's own loop saves it
            return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise
    except Exception:  # the reader raises almost anything on foreign bytes
        raise ValueError(f"{path} is no file of tensors and numbers: {remedy}") from None


def network_weights(path: Path, state: dict | None = None) -> dict:
    """A network's own entries of a file, or of `state` in it. ValueError: no weights, or a U-Net before the network."""
    way = "torch.save(model.state_dict(), path) makes one, of what torch.jit.load or torch.export.load reads, too"
    state = read_tensors(path, way) if state is None else state
    if any(str(name).startswith("segmenter.") for name in state):
        raise ValueError(f"{path}: a U-Net cuts the background away before this network: give the folder of its run")
    for name in ("method", "model", "model_state_dict", "state_dict"):  # of `fit`, and of other loops
        if isinstance(state.get(name), dict):
            return network_weights(path, state[name])
    for start in ("module.", "_orig_mod.", "model."):  # several devices, torch.compile, a method or Lightning's module
        if inner := {name.removeprefix(start): value for name, value in state.items() if str(name).startswith(start)}:
            return network_weights(path, inner)
    return state
