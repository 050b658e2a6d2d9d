"""The feature maps inside any convolutional classifier, one a resolution, without a word in its code.

    found, classes = find_stages(model)
    maps, logits = stages(model, x, list(found))       # (B, C, H, W) each, with gradient

Of all maps of one resolution a stage is the last one that a module nearest to the root of the network made: inner steps
of a block that goes on to the next resolution do not count.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isnetlib.method.lrp import logits_of

SIDE = 224  # pixels of the blank image that finds the stages: every torchvision classifier takes this size
POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # what they give belongs to the head, not to the features


def stages(model: nn.Module, x: Tensor, names: list[str]) -> tuple[list[Tensor], Tensor]:
    """(what the modules of these names put out, logits) of one forward pass; the hooks that read them are gone
    afterwards.
    """
    seen = {}
    hooks = [_watch(model.get_submodule(name), name, seen.__setitem__) for name in names]
    try:
        logits = logits_of(model(x))
    finally:
        for hook in hooks:
            hook.remove()
    return [seen[name] for name in names], logits


@torch.no_grad()
def find_stages(model: nn.Module) -> tuple[dict[str, int], int]:
    """Path of the module that puts out each stage -> channels of that map, finest first; and the number of logits. Read
    off one blank image of 224 pixels by a copy in eval mode. ValueError where there are no stages.
    """
    last = {}  # side -> (depth in the tree of modules, path, channels)

    def keep(name, output):
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
            side, depth = output.shape[3], name.count(".")
            if side not in last or depth <= last[side][0]:
                last[side] = depth, name, output.shape[1]

    model, parameter = copy.deepcopy(model).eval(), next(model.parameters())
    for name, module in model.named_modules():
        if name and not isinstance(module, POOLS):
            _watch(module, name, keep)
    try:
        classes = logits_of(model(parameter.new_zeros(1, 3, SIDE, SIDE))).shape[1]
    except (AssertionError, RuntimeError) as error:  # a transformer for images of one size
        raise ValueError(f"{type(model).__name__} takes no images of {SIDE} pixels: {error}") from None
    sides = []
    for side in sorted(last):  # deepest first; convolutions without padding make nearly equal sizes: one stage
        if not sides or side**2 >= 2 * sides[0] ** 2:
            sides.insert(0, side)
    if not sides:
        raise ValueError(f"{type(model).__name__} has no feature maps (batch, channels, height, width) inside")
    return {name: channels for _, name, channels in (last[side] for side in sides)}, classes


def upsampled(y: Tensor, size: torch.Size) -> Tensor:
    """Bilinear interpolation of maps (B, C, h, w) to (B, C, *size)."""
    return F.interpolate(y, size=tuple(size), mode="bilinear", align_corners=False)


def _watch(module, name, see):
    """Let see(name, output) be called after each forward pass of the module; the hook."""
    return module.register_forward_hook(lambda module, inputs, output: see(name, output))
