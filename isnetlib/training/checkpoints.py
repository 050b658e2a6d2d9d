"""Files of weights, and what a training is, told in text, so that another one is not taken for it."""

import contextlib
import io
import zipfile
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
    names = [name for name in begun | asked if begun.get(name) != asked.get(name)]
    return ", ".join(f"{name} was {begun.get(name)}, is {asked.get(name)}" for name in names)


def write_tensors(path: Path, state: dict) -> None:
    """torch.save, in one step."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


@contextlib.contextmanager
def checkpoint(path: Path):
    """What a checkpoint of `fit` holds, to be used inside. FileNotFoundError where it is missing; whatever else goes
    wrong, damage or another network, is a ValueError of one line that names the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes a checksum of each tensor, and does not read it
            if damaged := archive.testzip():
                raise ValueError(f"wrong checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if wrong := [name for name, value in state["method"].items() if not value.isfinite().all()]:
            raise ValueError(f"{wrong[0]} holds values that are no numbers")
        yield state
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: train the run first (notebook 10_train)") from None
    except Exception as error:  # foreign bytes raise almost anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        told = f"{path} is no checkpoint of this run ({reason}): remove the run's folder and train it again"
        raise ValueError(told) from error


def read_tensors(path: Path) -> dict:
    """What torch.save wrote of tensors, numbers and names. ValueError for anything else, programs too."""
    try:
        with torch.serialization.safe_globals([Namespace]):  # of the command line, as torchvision's own loop saves it
            return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise
    except Exception:  # the reader raises almost anything on foreign bytes
        way = "torch.save(model.state_dict(), path) makes one, of what torch.jit.load or torch.export.load reads, too"
        raise ValueError(f"{path} is no file of tensors and numbers: {way}") from None


def network_weights(path: Path, state: dict) -> dict:
    """The network's own entries of what was read of a file, without what a training loop puts around them. ValueError:
    a U-Net comes before the network.
    """
    if any(str(name).startswith("segmenter.") for name in state):
        told = "a U-Net cuts the background away before this network: only its run folder, with run.json, tells how"
        raise ValueError(f"{path}: {told}")
    for name in ("method", "model", "model_state_dict", "state_dict"):  # of `fit`, and of other loops
        if isinstance(state.get(name), dict):
            return network_weights(path, state[name])
    for start in ("module.", "_orig_mod.", "model."):  # several devices, torch.compile, a method or Lightning's module
        if inner := {name.removeprefix(start): value for name, value in state.items() if str(name).startswith(start)}:
            return network_weights(path, inner)
    return state
