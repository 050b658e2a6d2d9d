"""The heatmap loss of ISNet: little relevance in the background, a sane amount in the foreground.

R: relevance at the input (B, M, C, H, W), raw and signed. mask: (B, 1, H, W), or (B, M, H, W) for a mask a map; 1 =
region of interest (ROI), 0 = background. A = |R|. Maps whose mask holds no ROI or no background (empty, full, or
missing: all zeros or NaN) carry no instruction and are weighted out.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-10  # keeps 0 / 0 finite where a map has no relevance at all


class HeatmapLoss(NamedTuple):
    """Scalars: the background term, the foreground term, their weighted sum, and the net share (see `net_share`)."""

    background: Tensor
    foreground: Tensor
    total: Tensor
    net_share: Tensor


def prepare_mask(mask: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """Mask (B, M or 1, 1, H, W) of 0 and 1 at the size of maps R: a cell that holds some ROI is ROI. And which of them
    carry an instruction, (B, M or 1) of 0 and 1. ValueError: other values, shapes that do not fit.
    """
    size, fits = R.shape[-2:], R.ndim == 5 and mask.ndim == 4 and len(mask) == len(R)
    fits = fits and mask.shape[1] in (1, R.shape[1])
    if not fits or abs(mask.shape[2] * size[1] - mask.shape[3] * size[0]) > max(*mask.shape[2:], *size):  # rounded
        told = "mask must be (batch, 1, height, width), in proportion to R (batch, maps, channels, height, width)"
        raise ValueError(f"{told}; got {tuple(mask.shape)} and {tuple(R.shape)}")
    mask = torch.nan_to_num(mask.float())
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"a mask holds 0 (background) and 1 (ROI) only, got {mask.min():.3g} to {mask.max():.3g}")
    if mask.shape[-2:] != size:
        mask = (F.adaptive_avg_pool2d(mask, size) > 0).float()
    area = mask.flatten(2).mean(2)
    return mask[:, :, None], ((area > 0) & (area < 1)).float()


def normalise(A: Tensor, mask: Tensor) -> Tensor:
    """N = A / (mean of A over the ROI's channels and pixels), a map: the ratio of background to foreground counts."""
    roi = (A * mask).sum((2, 3, 4)) / (mask.sum((2, 3, 4)) * A.shape[2] + TINY)
    return A / (roi[..., None, None, None] + TINY)


def gwrp(v: Tensor, decay: float) -> Tensor:
    """Global weighted ranked pooling over the last dimension: G = sum_i d^(i-1) v_i / sum_i d^(i-1), v_1 >= v_2 >= ...

    d = 0: maximum, d = 1: mean. Only the top values are sorted out, with all but 1e-7 of the weight (d = 0.9: 153).
    """
    n = v.shape[-1]
    if decay == 1:
        return v.mean(-1)
    if decay == 0:
        return v.amax(-1)
    k = min(n, math.ceil(math.log(1e-7) / math.log(decay)))
    weights = decay ** torch.arange(k, dtype=v.dtype, device=v.device)
    return v.topk(k, sorted=True).values @ weights * ((1 - decay) / (1 - decay**n))


def background_term(A: Tensor, mask: Tensor, decay: float) -> Tensor:
    """-log(1 - G / (G + 1)) = log(1 + G), G: GWRP of the background's normalised relevance; channels' mean, (B, M)."""
    return torch.log1p(gwrp((normalise(A, mask) * (1 - mask)).flatten(3), decay)).mean(2)


def foreground_term(A: Tensor, mask: Tensor, low: float, high: float) -> Tensor:
    """0 while the ROI's total relevance F lies in [C1, C2]; (F / C1 - 1)^2 below; ((F - C2) / C1)^2 above, going on
    linearly from C1 + C2; (B, M).

    The floor C1 rules out the empty map, the ceiling C2 the way out of blowing up the foreground. The straight tail
    keeps an early F of a thousand times C1 from drowning the classification loss.
    """
    total = (A * mask).sum((2, 3, 4))
    below = (total / low).clamp(max=1) - 1
    above = ((total - high) / low).clamp(min=0)
    return below.square() + torch.where(above < 1, above.square(), 2 * above - 1)


def net_share(R: Tensor, mask: Tensor) -> Tensor:
    """|sum R| / sum |R| over the ROI, (B, M). Near 0 relevance cancels, and its sum says nothing of the class."""
    return (R * mask).sum((2, 3, 4)).abs() / ((R.abs() * mask).sum((2, 3, 4)) + TINY)


def heatmap_loss(
    R: Tensor, mask: Tensor, decay: float = 0.9, weights: tuple = (1.0, 3.0), range: tuple = (1.0, 25.0)
) -> HeatmapLoss:
    """L_LRP = w1 background + w2 foreground: means over the maps that carry an instruction (0 where none does).

    decay: d of GWRP in [0, 1]; lower = aims at the hottest pixels. weights: (w1, w2). range: (C1, C2), 0 < C1 < C2.
    Raises ValueError for other values, and for shapes that do not fit.
    """
    low, high = (float(c) for c in range)
    if not (0 <= decay <= 1 and 0 < low < high):
        raise ValueError(f"need 0 <= decay <= 1 and 0 < C1 < C2; got decay {decay}, range ({low}, {high})")
    with torch.autocast(R.device.type, enabled=False):  # in half precision the ratio overflows
        A = (R if R.dtype == torch.float64 else R.float()).abs()
        mask, valid = (part.to(A.dtype) for part in prepare_mask(mask, R))
        roi = torch.where(valid.bool()[:, :, None, None, None], mask, 1.0)  # a stand-in: the unused terms stay finite
        valid = valid.expand(A.shape[:2])
        share = valid / valid.sum().clamp(min=1)
        background = (background_term(A, roi, decay) * share).sum()
        foreground = (foreground_term(A, roi, low, high) * share).sum()
        net = (net_share(R.detach().to(A.dtype), roi) * share).sum()
    return HeatmapLoss(background, foreground, weights[0] * background + weights[1] * foreground, net)


def classification_loss(logits: Tensor, y: Tensor, multilabel: bool = False) -> Tensor:
    """Cross-entropy of logits (B, K) and classes (B,) or probabilities (B, K); binary for one logit or multilabel."""
    if logits.shape[1] == 1 or multilabel:
        if y.reshape(len(y), -1).shape != logits.shape or not ((y >= 0) & (y <= 1)).all():
            raise ValueError(f"labels must be from 0 to 1, one a logit; got {tuple(y.shape)}: {y[:3].tolist()}")
        return F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype).view_as(logits))
    return F.cross_entropy(logits, y.to(logits.dtype) if y.is_floating_point() else y)


def probabilities(logits: Tensor, multilabel: bool = False) -> Tensor:
    """(B, K): softmax; sigmoid where each label has its own; one logit gives the two columns 1 - p, p."""
    if multilabel:
        return logits.sigmoid()
    if logits.shape[1] == 1:
        logits = torch.cat([-logits, logits], 1) / 2
    return logits.softmax(1)
