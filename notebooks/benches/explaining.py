"""What explaining one image costs, by this library and others, in forward passes of the same network: explain.csv."""

from collections.abc import Callable
from copy import deepcopy

import pandas as pd
import torch
from cost import medians
from torch import Tensor, nn
from torchvision.models import ResNet

from isnetlib import explain
from isnetlib.networks import build_model

COLUMNS = ["network", "size", "tool", "ratio_to_forward", "seconds", "rounds", "threads", "note"]


def by_zennit(model: nn.Module, x: Tensor, merge: bool = True) -> Callable:
    """Zennit's Epsilon with ZBox at the first layer; rules are attached beforehand, which is not timed.

    merge: BatchNorm is merged into the convolution before it, as LRP by zennit asks; else it is passed by its gradient.
    """
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import NameLayerMapComposite
    from zennit.rules import Epsilon, Norm, Pass, ZBox
    from zennit.torchvision import ResNetCanonizer
    from zennit.types import Activation, AvgPool, Linear

    model = without_in_place(model)
    first = next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear))
    kinds = [(Activation, Pass()), (AvgPool, Norm()), (Linear, Epsilon(1e-2))]
    merging = ResNetCanonizer() if isinstance(model, ResNet) else SequentialMergeBatchNorm()
    names = [([first], ZBox(0.0, 1.0, stabilizer=1e-2))]
    NameLayerMapComposite(names, kinds, [merging] if merge else []).register(model)
    return lambda: Gradient(model)(x, lambda logits: winner(logits) * logits)


def by_captum(model: nn.Module, x: Tensor) -> Callable:
    """Captum's LRP with its default rule, Epsilon at every layer."""
    from captum.attr import LRP

    method, target = LRP(without_in_place(model)), model(x).argmax(1)
    return lambda: method.attribute(x, target=target)


TOOLS = {  # the first is the unit
    "forward": lambda model, x: torch.no_grad()(lambda: model(x)),
    "isnetlib": lambda model, x: lambda: explain(model, x),
    "zennit": by_zennit,
    "zennit, BatchNorm not merged": lambda model, x: by_zennit(model, x, merge=False),
    "captum": by_captum,
}


def winner(logits: Tensor) -> Tensor:
    return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)


def without_in_place(model: nn.Module) -> nn.Module:
    """A copy whose activations do not write over their input, which tools that work by hooks need."""
    model = deepcopy(model)
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    return model


def rows(network: str, size: int, rounds: int, classes: int = 3, tools: dict = TOOLS, seed: int = 0) -> pd.DataFrame:
    """Rows of explain.csv for one network: one image (1, 3, size, size), eval mode, medians of rounds that take turns.

    A tool that is not installed, or fails, has a row whose `note` says so and no numbers.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model, x = build_model(network, classes, size=size).eval(), torch.rand(1, 3, size, size)
        functions, notes = {}, {}
        for name, make in tools.items():
            try:
                function = make(model, x)
                function()
                functions[name] = function
            except Exception as error:  # whatever another library raises is a finding, not a stop
                notes[name] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        seconds = medians(functions, rounds)
    found = pd.DataFrame({"tool": list(tools)}).assign(network=network, size=size, rounds=rounds)
    found["seconds"], found["note"] = found["tool"].map(seconds), found["tool"].map(notes).fillna("")
    found["ratio_to_forward"] = found["seconds"] / seconds[next(iter(tools))]
    return found.assign(threads=torch.get_num_threads())[COLUMNS]
