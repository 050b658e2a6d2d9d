"""Augmentation of training films: each image and its mask are moved together, then the image's contrast is changed.

No flips: the heart lies on one side, and where it lies decides what a lung mask holds. Nothing here looks at a class, a
source or a mask, so it cannot tell them.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Reach(NamedTuple):
    """The largest change of each kind; every image draws its own, evenly between -1 and 1 times it.

    turn: radians; scale: relative; shift: of half the side; contrast: relative, about mid-grey; brightness: of the
    range from black to white.
    """

    turn: float
    scale: float
    shift: float
    contrast: float
    brightness: float


STANDING = Reach(0.15, 0.10, 0.06, 0.25, 0.10)  # as askew as patients stand: for a segmenter
GENTLE = Reach(0.10, 0.06, 0.04, 0.25, 0.10)  # of a mark of 12 pixels in the corner of 96, some is always seen


def augment(
    x: Tensor, mask: Tensor, generator: torch.Generator | None = None, reach: Reach = GENTLE
) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) in [0, 1] and their masks (B, 1, H, W), turned, scaled and shifted together (images bilinear,
    masks nearest; what comes in from outside is black, and background), then images in another contrast and brightness.

    generator: None is torch's global one, whose state a checkpoint keeps.
    """

    def draw(most):
        return (2 * torch.rand(len(x), generator=generator) - 1) * most

    turn, scale = draw(reach.turn), 1 + draw(reach.scale)
    cos, sin = turn.cos() * scale, turn.sin() * scale
    theta = torch.stack([cos, -sin, draw(reach.shift), sin, cos, draw(reach.shift)], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta.to(x), [len(x), 1, *x.shape[2:]], align_corners=False)
    moved = F.grid_sample(x, grid, mode="bilinear", align_corners=False)
    mask = F.grid_sample(mask, grid, mode="nearest", align_corners=False)
    contrast, brightness = (
        part.to(x)[:, None, None, None] for part in (1 + draw(reach.contrast), draw(reach.brightness))
    )
    return (0.5 + contrast * (moved - 0.5) + brightness).clamp(0, 1), mask
