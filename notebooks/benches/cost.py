"""What training and using a method cost, against the plain classifier, side by side in one run: ratios, because seconds
belong to the machine.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import pandas as pd
import torch
from torch import nn

from isnetlib import explain
from isnetlib.baselines import build
from isnetlib.networks import build_model
from isnetlib.training.evaluate import inputs
from isnetlib.training.fit import keep_freed_memory, peak_mib

COLUMNS = (
    "network size batch variant phase maps ratio_to_plain_step ratio_to_plain_inference seconds peak_mib parameters "
    "cosine_to_fp32 rounds threads"
).split()
CLASSES_COLUMNS = (
    "network size batch variant class_count maps ratio_to_plain_step ratio_to_fewest_classes seconds rounds threads"
).split()


def build_variant(variant: str, network: str, classes: int, size: int) -> nn.Module:
    """The method that a variant's name tells around a new network; "isnet_selective+bf16" appends an option."""
    method, *options = variant.split("+")
    return build(method, network, classes, size, **dict.fromkeys(options, True))


def maps(variant: str, classes: int) -> int:
    """Relevance maps an image that a training step of the method makes."""
    known = {"isnet_original": classes, "isnet_selective": 1, "isnet_stochastic": 1, "grad_input": 1}
    return known.get(variant.split("+")[0], 0)


# --- what is timed


def training_step(
    variant: str, network: str, size: int, batch: int, classes: int, device: str = "cpu", seed: int = 0
) -> Callable:
    """A function that makes one training step of the method `variant` on random images (batch, 3, size, size); SGD with
    momentum, train mode.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(batch, 3, size, size, generator=generator), torch.randint(classes, (batch,), generator=generator)
    mask = torch.zeros(batch, 1, size, size)
    mask[..., size // 4 : -size // 4, size // 4 : -size // 4] = 1
    x, y, mask = (part.to(device) for part in (x, y, mask))
    method = build_variant(variant, network, classes, size).train().to(device)
    optimizer = torch.optim.SGD(method.parameters(), 1e-3, momentum=0.9)

    def step():
        optimizer.zero_grad()
        method.loss(x, y, mask)[0].backward()
        optimizer.step()

    return step


def inference(variant: str, network: str, size: int, batch: int, classes: int, device: str = "cpu") -> Callable:
    """A function that predicts one batch with the method `variant`, in eval mode, after one training step of it."""
    method = build_variant(variant, network, classes, size).to(device)
    x, y = torch.rand(batch, 3, size, size, device=device), torch.zeros(batch, dtype=torch.long, device=device)
    mask = (x[:, :1] > 0.5).float()
    method.loss(x, y, mask)[0].backward()
    method.eval()
    return torch.no_grad()(lambda: method.predict(*inputs(method, x, mask, device)))


def medians(functions: dict, rounds: int, warm_up: int = 1) -> dict:
    """Median seconds of each function over rounds of A B C A B C, so that a drift of the machine's speed hits all."""
    seconds = {name: [] for name in functions}
    for k in range(warm_up + rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # or only the asking would be timed
            if k >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(own) for name, own in seconds.items()}


def peak_of_steps(*setting) -> float:
    """Peak memory in MiB of a fresh process that makes two training steps: library and network included, or, of a
    CUDA device, what is allocated there.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, *setting).result()


def _peak(*setting):
    keep_freed_memory()
    step = training_step(*setting)
    step()
    step()
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else peak_mib()


def cosine_to_fp32(network: str, size: int, batch: int, classes: int, seed: int = 0) -> float:
    """Smallest cosine over a batch between heatmaps with bf16 derivatives and in fp32: one new network, train mode, the
    first class.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model, x = build_model(network, classes, size=size).train(), torch.rand(batch, 3, size, size)
        fp32, bf16 = (explain(model, x, 0, bf16=coarse).flatten(1) for coarse in (False, True))
    return nn.functional.cosine_similarity(fp32, bf16).min().item()


# --- tables


def measure(
    network: str, size: int, batch: int, classes: int, variants: Sequence[str], rounds: int, memory: bool = True,
    predicting: Sequence[str] = (), device: str = "cpu",
) -> pd.DataFrame:  # fmt: skip
    """Rows of cost.csv for one network: training steps of the variants, and predictions of those without options and
    of the methods `predicting`; the first variant is the plain one.
    """
    setting = {"network": network, "size": size, "batch": batch, "rounds": rounds, "threads": torch.get_num_threads()}
    bare = [v for v in (*variants, *predicting) if "+" not in v]  # options do not change a prediction
    rows = []
    for phase, make, names, ratio in (
        ("training", training_step, variants, "ratio_to_plain_step"),
        ("inference", inference, bare, "ratio_to_plain_inference"),
    ):
        seconds = medians({v: make(v, network, size, batch, classes, device) for v in names}, rounds)
        for v in names:
            row = setting | {"variant": v, "phase": phase, "maps": maps(v, classes), "seconds": seconds[v]}
            row |= {ratio: seconds[v] / seconds[names[0]]}
            row |= {"parameters": parameters(build_variant(v, network, classes, size), phase)}
            if memory and phase == "training":
                row |= {"peak_mib": peak_of_steps(v, network, size, batch, classes, device)}
            if v.endswith("+bf16"):
                row |= {"cosine_to_fp32": cosine_to_fp32(network, size, batch, classes)}
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def parameters(method: nn.Module, phase: str) -> int:
    """Trained numbers of a method: in training all of them; in "inference" those that `predict` uses, which are its
    classifier's and, where there is one before it, its segmenter's.
    """
    used = [method] if phase == "training" else [method.model, getattr(method, "segmenter", nn.Identity())]
    return sum(p.numel() for module in used for p in module.parameters())


def against_classes(network: str, size: int, batch: int, rounds: int, counts: dict[str, Sequence[int]]) -> pd.DataFrame:
    """Rows of classes.csv: a training step of each variant at its numbers of classes, {variant: numbers}, all side by
    side; in plain steps at the same number of classes, and in steps of the same variant at its fewest classes.
    """
    every = sorted({k for numbers in counts.values() for k in numbers})
    pairs = [("standard", k) for k in every] + [(v, k) for v, numbers in counts.items() for k in numbers]
    seconds = medians({(v, k): training_step(v, network, size, batch, k) for v, k in pairs}, rounds)
    setting = {"network": network, "size": size, "batch": batch, "rounds": rounds, "threads": torch.get_num_threads()}
    rows = []
    for v, k in pairs:
        fewest = min(other for name, other in pairs if name == v)
        row = setting | {"variant": v, "class_count": k, "maps": maps(v, k), "seconds": seconds[v, k]}
        row |= {"ratio_to_plain_step": seconds[v, k] / seconds["standard", k]}
        rows.append(row | {"ratio_to_fewest_classes": seconds[v, k] / seconds[v, fewest]})
    return pd.DataFrame(rows, columns=CLASSES_COLUMNS)
