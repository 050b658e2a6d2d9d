"""The feature maps inside any convolutional classifier, one a resolution, without a word in its code.

    maps, logits = stages(model, x)        # maps[-1] is the deepest; (B, C, H, W) each, with gradient

A stage is found by what modules put out, not by what they are called: of all maps of one resolution the last one that a
module nearest to the root of the network made. So inner steps of a block that goes on to the next resolution do not
count.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isnetlib.lrp import logits_of

SIDE = 224  # pixels of the blank image that finds the stages: every torchvision classifier takes this size
POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # what they give belongs to the head, not to the features


class Stage(NamedTuple):
    """Path of the module that puts out a stage's feature map, and the channels of that map."""

    name: str
    channels: int


def stages(model: nn.Module, x: Tensor, names: list[str] | None = None) -> tuple[list[Tensor], Tensor]:
    """(feature maps, logits) of one forward pass: the last map at each resolution, finest first, deepest last.

    names: paths of the modules to read, as `find_stages` gives them; None finds them first, by a pass of its own. The
    hooks that read them are gone afterwards.
    """
    names = [stage.name for stage in find_stages(model)[0]] if names is None else names
    seen = {}
    logits = _watched(model, x, {name: model.get_submodule(name) for name in names}, seen.__setitem__)
    return [seen[name] for name in names], logits


@torch.no_grad()
def find_stages(model: nn.Module) -> tuple[list[Stage], int]:
    """(stages, finest first; number of logits) of a network, read off one blank image of 224 pixels in eval mode; the
    network is left as it was. Raises ValueError where there are no stages.
    """
    last = {}  # side -> (depth in the tree of modules, Stage)

    def keep(name, output):
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
            side, depth = output.shape[3], name.count(".")
            if side not in last or depth <= last[side][0]:
                last[side] = depth, Stage(name, output.shape[1])

    parameter, modes = next(model.parameters()), {module: module.training for module in model.modules()}
    blank = torch.zeros(1, 3, SIDE, SIDE, device=parameter.device, dtype=parameter.dtype)
    inner = {name: module for name, module in model.named_modules() if name and not isinstance(module, POOLS)}
    try:
        classes = _watched(model.eval(), blank, inner, keep).shape[1]
    finally:
        for module, training in modes.items():
            module.training = training
    sides = []
    for side in sorted(last):  # deepest first; convolutions without padding make nearly equal sizes: one stage
        if not sides or side**2 >= 2 * sides[0] ** 2:
            sides.insert(0, side)
    if not sides:
        raise ValueError(f"{type(model).__name__} has no feature maps (batch, channels, height, width) inside")
    return [last[side][1] for side in sides], classes


def upsampled(y: Tensor, size: torch.Size) -> Tensor:
    """Bilinear interpolation of maps (B, C, h, w) to (B, C, *size)."""
    return F.interpolate(y, size=tuple(size), mode="bilinear", align_corners=False)


def _watched(model, x, modules: dict[str, nn.Module], see: Callable[[str, Tensor], None]) -> Tensor:
    """Logits of a forward pass during which see(name, output) is called after each of the modules."""
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: see(name, output))
        for name, module in modules.items()
    ]
    try:
        return logits_of(model(x))
    finally:
        for hook in hooks:
            hook.remove()
