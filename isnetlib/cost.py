"""What training and using a method cost, against the plain classifier, side by side in one run: ratios, because seconds
belong to the machine.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pandas as pd
import torch
from torch import nn

from isnetlib.baselines import build
from isnetlib.evaluate import inputs
from isnetlib.memory import keep_freed_memory, peak_mib

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
    "rounds",
    "threads",
]


def training_step(variant: str, network: str, size: int, batch: int, classes: int, seed: int = 0) -> Callable:
    """A function that makes one training step of the method `variant` on random images (batch, 3, size, size); SGD with
    momentum, train mode.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(batch, 3, size, size, generator=generator), torch.randint(classes, (batch,), generator=generator)
    mask = torch.zeros(batch, 1, size, size)
    mask[..., size // 4 : -size // 4, size // 4 : -size // 4] = 1
    method = build(variant, network, classes, size).train()
    optimizer = torch.optim.SGD(method.parameters(), 1e-3, momentum=0.9)

    def step():
        optimizer.zero_grad()
        method.loss(x, y, mask)[0].backward()
        optimizer.step()

    return step


def inference(variant: str, network: str, size: int, batch: int, classes: int) -> Callable:
    """A function that predicts one batch with the method `variant`, in eval mode, after one training step of it."""
    method = build(variant, network, classes, size)
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


def measure(
    network: str, size: int, batch: int, classes: int, variants: list[str], rounds: int, memory: bool = True
) -> pd.DataFrame:
    """Rows of cost.csv for one network: medians over `rounds` of training steps and of predictions; the first variant
    is the plain one.
    """
    setting = {"network": network, "size": size, "batch": batch, "rounds": rounds, "threads": torch.get_num_threads()}
    rows = []
    for phase, make in (("training", training_step), ("inference", inference)):
        seconds = interleaved({v: make(v, network, size, batch, classes) for v in variants}, rounds)
        plain = statistics.median(seconds[variants[0]])
        for v in variants:
            median = statistics.median(seconds[v])
            method = build(v, network, classes, size)
            peak = peak_of_steps(v, network, size, batch, classes) if memory and phase == "training" else None
            ratio = {"training": "ratio_to_plain_step", "inference": "ratio_to_plain_inference"}[phase]
            rows.append(
                setting
                | {
                    "variant": v,
                    "phase": phase,
                    "maps": maps(v, classes),
                    ratio: median / plain,
                    "seconds": median,
                    "peak_mib": peak,
                    "parameters": parameters(method, phase),
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def parameters(method: nn.Module, phase: str) -> int:
    """Trained numbers of a method: in the phase "training" all of them, in "inference" those that `predict` uses, which
    are its classifier's and, where there is one before it, its segmenter's.
    """
    used = [method] if phase == "training" else [method.model, getattr(method, "segmenter", nn.Identity())]
    return sum(p.numel() for module in used for p in module.parameters())


def maps(variant: str, classes: int) -> int:
    """Relevance maps an image that a training step of the method makes."""
    return {"isnet_original": classes, "isnet_selective": 1, "isnet_stochastic": 1, "grad_input": 1}.get(variant, 0)
