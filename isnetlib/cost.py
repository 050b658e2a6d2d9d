"""What training and using a method cost, against the plain classifier, side by side in one run: ratios, because seconds
belong to the machine.
"""

import multiprocessing
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import pandas as pd
import torch
from torch import nn

from isnetlib.baselines import build
from isnetlib.evaluate import inputs
from isnetlib.lrp import explain
from isnetlib.memory import keep_freed_memory, peak_mib
from isnetlib.models import build_model

DEPARTURES = ("compile", "bf16")  # options of ISNet that a variant's name appends: isnet_selective+bf16
COMPILERS = ("c++", "g++", "clang++")
COLUMNS = [
    "network",
    "size",
    "batch",
    "variant",
    "phase",
    "maps",
    "ratio_to_plain_step",
    "ratio_to_plain_inference",
    "seconds",
    "peak_mib",
    "parameters",
    "cosine_to_fp32",
    "rounds",
    "threads",
]
CLASSES_COLUMNS = [
    "network",
    "size",
    "batch",
    "variant",
    "class_count",  # not "classes": tables.read takes that, a list of names elsewhere, as text
    "maps",
    "ratio_to_plain_step",
    "ratio_to_fewest_classes",
    "seconds",
    "rounds",
    "threads",
]


# --- variants by name
def options_of(variant: str) -> tuple[str, dict[str, bool]]:
    """("isnet_selective", {"bf16": True}) of "isnet_selective+bf16": the method and the options appended to its name.

    Raises ValueError for an option that is not one of `DEPARTURES`.
    """
    method, *departures = variant.split("+")
    for name in departures:
        if name not in DEPARTURES:
            raise ValueError(f"variant {variant!r}: unknown option {name!r} after +; known: {', '.join(DEPARTURES)}")
    return method, dict.fromkeys(departures, True)


def runnable(variants: Sequence[str]) -> list[str]:
    """The variants that this machine can run: without a C++ compiler those with "+compile" are left out, and said."""
    out = [v for v in variants if "compile" in options_of(v)[1]]
    if not out or any(shutil.which(name) for name in COMPILERS):
        return list(variants)
    needed = f"torch.compile needs a C++ compiler, and none of {', '.join(COMPILERS)} is here"
    print(f"not measured: {', '.join(out)}; {needed}")
    return [v for v in variants if v not in out]


def build_variant(variant: str, network: str, classes: int, size: int) -> nn.Module:
    """The method that a variant's name tells, with its options, around a new network."""
    method, options = options_of(variant)
    return build(method, network, classes, size, **options)


def maps(variant: str, classes: int) -> int:
    """Relevance maps an image that a training step of the method makes."""
    known = {"isnet_original": classes, "isnet_selective": 1, "isnet_stochastic": 1, "grad_input": 1}
    return known.get(options_of(variant)[0], 0)


# --- what is timed


def training_step(variant: str, network: str, size: int, batch: int, classes: int, seed: int = 0) -> Callable:
    """A function that makes one training step of the method `variant` on random images (batch, 3, size, size); SGD with
    momentum, train mode.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(batch, 3, size, size, generator=generator), torch.randint(classes, (batch,), generator=generator)
    mask = torch.zeros(batch, 1, size, size)
    mask[..., size // 4 : -size // 4, size // 4 : -size // 4] = 1
    method = build_variant(variant, network, classes, size).train()
    optimizer = torch.optim.SGD(method.parameters(), 1e-3, momentum=0.9)

    def step():
        optimizer.zero_grad()
        method.loss(x, y, mask)[0].backward()
        optimizer.step()

    return step


def inference(variant: str, network: str, size: int, batch: int, classes: int) -> Callable:
    """A function that predicts one batch with the method `variant`, in eval mode, after one training step of it."""
    method = build_variant(variant, network, classes, size)
    x = torch.rand(batch, 3, size, size)
    mask = (x[:, :1] > 0.5).float()
    method.loss(x, torch.zeros(batch, dtype=torch.long), mask)[0].backward()
    method.eval()
    return torch.no_grad()(lambda: method.predict(*inputs(method, x, mask)))


def interleaved(functions: dict[str, Callable], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each function in each round; A B C A B C, so that a drift of the machine's speed hits all."""
    seconds = {name: [] for name in functions}
    for k in range(warm_up + rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if k >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_of_steps(variant: str, network: str, size: int, batch: int, classes: int, steps: int = 2) -> float:
    """Peak memory in MiB of a fresh process that makes training steps (library and network included)."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, variant, network, size, batch, classes, steps).result()


def _peak(variant, network, size, batch, classes, steps):
    keep_freed_memory()
    step = training_step(variant, network, size, batch, classes)
    for _ in range(steps):
        step()
    return peak_mib()


def cosine_to_fp32(network: str, size: int, batch: int, classes: int, seed: int = 0) -> float:
    """Smallest cosine over a batch between heatmaps with bf16 derivatives and in fp32: one new network, train mode, the
    first class.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model, x = build_model(network, classes, size=size).train(), torch.rand(batch, 3, size, size)
        fp32, bf16 = (explain(model, x, 0, dtype=dtype).flatten(1) for dtype in (None, torch.bfloat16))
    return nn.functional.cosine_similarity(fp32, bf16).min().item()


# --- tables
def medians(functions: dict, rounds: int) -> dict:
    """Median seconds of each function, in rounds that take turns."""
    return {name: statistics.median(seconds) for name, seconds in interleaved(functions, rounds).items()}


def measure(
    network: str,
    size: int,
    batch: int,
    classes: int,
    variants: Sequence[str],
    rounds: int,
    memory: bool = True,
    predicting: Sequence[str] = (),
) -> pd.DataFrame:
    """Rows of cost.csv for one network: medians over `rounds` of training steps and of predictions; the first variant
    is the plain one.

    predicting: methods of which predictions alone are measured. Variants with options (+) predict as the method
    without them, so only their training is measured.
    """
    variants = runnable(variants)
    setting = {"network": network, "size": size, "batch": batch, "rounds": rounds, "threads": torch.get_num_threads()}
    bare = [v for v in (*variants, *predicting) if not options_of(v)[1]]
    rows = []
    for phase, make, names, ratio in (
        ("training", training_step, variants, "ratio_to_plain_step"),
        ("inference", inference, bare, "ratio_to_plain_inference"),
    ):
        seconds = medians({v: make(v, network, size, batch, classes) for v in names}, rounds)
        for v in names:
            row = setting | {"variant": v, "phase": phase, "maps": maps(v, classes), "seconds": seconds[v]}
            row |= {ratio: seconds[v] / seconds[names[0]]}
            row |= {"parameters": parameters(build_variant(v, network, classes, size), phase)}
            if memory and phase == "training":
                row |= {"peak_mib": peak_of_steps(v, network, size, batch, classes)}
            if "bf16" in options_of(v)[1]:
                row |= {"cosine_to_fp32": cosine_to_fp32(network, size, batch, classes)}
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def parameters(method: nn.Module, phase: str) -> int:
    """Trained numbers of a method: in the phase "training" all of them, in "inference" those that `predict` uses, which
    are its classifier's and, where there is one before it, its segmenter's.
    """
    used = [method] if phase == "training" else [method.model, getattr(method, "segmenter", nn.Identity())]
    return sum(p.numel() for module in used for p in module.parameters())


def against_classes(
    network: str, size: int, batch: int, counts: dict[str, Sequence[int]], rounds: int, plain: str = "standard"
) -> pd.DataFrame:
    """Rows of classes.csv: a training step of each variant at its numbers of classes, {variant: numbers}, all side by
    side; in plain steps at the same number of classes, and in steps of the same variant at its fewest classes.
    """
    every = sorted({k for numbers in counts.values() for k in numbers})
    pairs = [(plain, k) for k in every] + [(v, k) for v, numbers in counts.items() if v != plain for k in numbers]
    seconds = medians({(v, k): training_step(v, network, size, batch, k) for v, k in pairs}, rounds)
    setting = {"network": network, "size": size, "batch": batch, "rounds": rounds, "threads": torch.get_num_threads()}
    rows = []
    for v, k in pairs:
        fewest = min(other for name, other in pairs if name == v)
        ratios = {"ratio_to_plain_step": seconds[plain, k], "ratio_to_fewest_classes": seconds[v, fewest]}
        row = setting | {"variant": v, "class_count": k, "maps": maps(v, k), "seconds": seconds[v, k]}
        rows.append(row | {name: seconds[v, k] / other for name, other in ratios.items()})
    return pd.DataFrame(rows, columns=CLASSES_COLUMNS)
