"""The U-Net of the segment-then-classify pipeline: which pixels belong to the object (Ronneberger, Fischer & Brox,
arXiv 1505.04597).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UNet(nn.Module):
    """Images (B, C, H, W) to logits (B, 1, H, W) of each pixel's belonging to the object; any height and width.

    depth: resolutions, each half the one before. width: channels at the finest; they double at each step down. The
    paper's pipeline has depth 5 and width 64 (31.0 million weights) for images of 224 pixels; the default, 0.12
    million, is for small ones. One logit says what the paper's two channels and their softmax say.
    """

    def __init__(self, channels: int = 3, depth: int = 4, width: int = 8):
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth counts the resolutions of the U-Net, 1 or more; got {depth}")
        widths = [width * 2**k for k in range(depth)]
        fine_and_coarse = list(zip(widths, widths[1:], strict=False))
        self.down = nn.ModuleList(level(a, b) for a, b in zip([channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in fine_and_coarse)
        self.join = nn.ModuleList(level(2 * fine, fine) for fine, _ in fine_and_coarse)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        step = 2 ** len(self.up)
        x = F.pad(x, (0, -width % step, 0, -height % step))  # black right and below, so that every halving is exact
        skips = []
        for down in self.down:
            x = down(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for up, join, skip in reversed(list(zip(self.up, self.join, skips, strict=False))):
            x = join(torch.cat([skip, up(x)], 1))
        return self.out(x)[..., :height, :width]

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Pixel cross-entropy against mask (B, 1, H, W); the labels y are not read."""
        loss = pixel_loss(self(x), mask)
        return loss, {"segmentation": loss.item()}


def level(channels: int, width: int) -> nn.Sequential:
    """Twice: 3 x 3 convolution, ReLU, BatchNorm, in the order of the paper's pipeline."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width),
    )  # fmt: skip


def known(mask: Tensor) -> Tensor:
    """(B,) bool: whose mask is known, that is, not all zeros (or NaN)."""
    return torch.nan_to_num(mask).flatten(1).amax(1) > 0


def pixel_loss(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Mean binary cross-entropy of the pixels, logits and mask (B, 1, H, W); samples without a mask do not count, and
    it is 0 where none has one.
    """
    if mask is None or not known(mask).any():
        return 0.0 * logits.sum()
    rows = known(mask)
    return F.binary_cross_entropy_with_logits(logits[rows], mask[rows].to(logits.dtype))


def dice(a: Tensor, b: Tensor) -> Tensor:
    """2 |a and b| / (|a| + |b|) of masks of 0 and 1, (B, 1, H, W) each; (B,) in [0, 1], 1 where both are empty."""
    return 2 * iou(a, b) / (1 + iou(a, b))


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union |a and b| / |a or b| of masks of 0 and 1, (B, 1, H, W) each; (B,), 1 where both are
    empty.
    """
    both, either = (torch.flatten(part, 1).sum(1) for part in (a * b, torch.maximum(a, b)))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)
