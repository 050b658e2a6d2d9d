"""Relevance against boxes that radiologists drew around findings: does the map point at the lesion?"""

import json
from collections.abc import Sequence

import torch
from torch import Tensor


def box_masks(cells: Sequence[str], height: int, width: int) -> Tensor:
    """(N, H, W) of 0/1: pixels inside any box of each image. cells: (N,) JSON lists of [kind, left, top, right, bottom]
    in pixels, "" or "[]" where there is none. A box covers at least the pixel it starts in.
    """
    masks = torch.zeros(len(cells), height, width)
    for mask, cell in zip(masks, cells, strict=True):
        for _, left, top, right, bottom in json.loads(cell or "[]"):
            x, y = min(int(left), width - 1), min(int(top), height - 1)
            mask[y : max(round(bottom), y + 1), x : max(round(right), x + 1)] = 1
    return masks


def scores(R: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    """box_hit (B,): 1 where the pixel with the most relevance (absolute, summed over channels) lies in a box, the
    pointing game of Zhang et al., arXiv 1608.00507; box_share: share of the relevance inside the boxes; box_chance: the
    boxes' share of the area, which a map without any sense reaches in both. NaN where an image has no box.

    R (B, 1, C, H, W), boxes (B, H, W) of 0/1.
    """
    A, inside = R.abs().sum((1, 2)).flatten(1), boxes.flatten(1).to(R.device)
    hit = inside.gather(1, A.argmax(1, keepdim=True))[:, 0]
    found = {"box_hit": hit, "box_share": (A * inside).sum(1) / A.sum(1), "box_chance": inside.mean(1)}
    return {name: torch.where(inside.any(1), value, torch.nan) for name, value in found.items()}
