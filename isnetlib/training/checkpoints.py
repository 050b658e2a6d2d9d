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
    """What decides the numbers of a training of `method` on the data set `train`, by name: the recipe (but for the
    device and the generator), the images, the network's size, the method and its options.
    """
    found = {name: recipe[name] for name in recipe if name not in ("device", "order")}
    found |= {"images": len(train), "shape": tuple(train.x.shape[1:]), "classes": train.classes}
    found |= {"method": type(method).__name__, "parameters": sum(p.numel() for p in method.parameters())}
    for path, module in method.named_modules():
        if module is method or isinstance(module, Weight):
            plain = {name: value for name, value in vars(module).items() if isinstance(value, PLAIN)}
            plain = {name: value for name, value in plain.items() if name[0] != "_" and name not in PASSING}
            found |= {f"{path}.{name}".strip("."): getattr(value, "args", value) for name, value in plain.items()}
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
    """What a checkpoint holds, to be used inside; its checksums and weights are looked at, and no code of it is run.
    FileNotFoundError where it is missing; whatever else goes wrong is a ValueError of one line that names the file.
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


# --- weights that any training loop saved
HELD_AS = ("method", "model", "model_state_dict", "state_dict")  # of `fit`, and of other loops
WRAPPERS = ("module.", "_orig_mod.", "model.")  # several devices, torch.compile, a method or Lightning's module
PROGRAMS = {  # by a file inside: what it is, and its weights
    "constants.pkl": ("TorchScript", "torch.jit.load({!r}).state_dict()"),
    "archive_format": ("torch.export", "torch.export.load({!r}).state_dict"),
}


def read_tensors(path: Path) -> dict:
    """What torch.save wrote of tensors, numbers and names. ValueError, with the way out, for anything else."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            held = {name.partition("/")[2] for name in archive.namelist()}
        for kind, weights in (PROGRAMS[name] for name in PROGRAMS if name in held):
            way = f"torch.save({weights.format(str(path))}, 'weights.pt')"
            raise ValueError(f"{path} is a program of {kind}, not weights: in Python, {way}, and take weights.pt")
    try:
        with torch.serialization.safe_globals([Namespace]):  # of the command line, as torchvision's own loop saves it
            return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise
    except Exception:  # the reader raises almost anything on foreign bytes
        told = "is no file of tensors and numbers: torch.save(model.state_dict(), path) makes one"
        raise ValueError(f"{path} {told}") from None


def network_weights(path: Path, state: dict) -> dict:
    """The network's own entries of what was read of a file: taken out of a dictionary (`HELD_AS`), and of names that a
    wrapper begins (`WRAPPERS`; what it adds beside them is left out). ValueError: a U-Net comes before the network.
    """
    if any(str(name).startswith("segmenter.") for name in state):
        told = "a U-Net cuts the background away before this network: only its run folder, with run.json, tells how"
        raise ValueError(f"{path}: {told}")
    for name in HELD_AS:
        if isinstance(state.get(name), dict):
            return network_weights(path, state[name])
    for start in WRAPPERS:
        if inner := {name.removeprefix(start): value for name, value in state.items() if str(name).startswith(start)}:
            return network_weights(path, inner)
    return state
