"""Where the relevance lies among boxes that experts drew around what they see: pointing game, share inside."""

import numpy as np
import pandas as pd
from torch import Tensor


def pointing_game(A: np.ndarray, inside: np.ndarray) -> bool:
    """Whether the maximum of |R|, A (H, W), lies inside a box, bool (H, W).

    Zhang et al., arXiv 1608.00507, without their margin of pixels.
    """
    return bool(inside.flat[int(np.argmax(A))])


def box_share(A: np.ndarray, inside: np.ndarray, mask: np.ndarray) -> float:
    """Share of the foreground's |R| (H, W) that lies inside boxes; NaN without foreground relevance."""
    total = A[mask].sum()
    return float(A[mask & inside].sum() / total) if total > 0 else np.nan


def box_area(boxes: list[list[float]], size: int) -> np.ndarray:
    """bool (size, size): pixels whose centre lies in one of the boxes (left, top, right, bottom)."""
    at = np.arange(size) + 0.5
    inside = np.zeros((size, size), bool)
    for left, top, right, bottom in boxes:
        inside |= ((at >= top) & (at < bottom))[:, None] & ((at >= left) & (at < right))[None]
    return inside


def score_boxes(R: Tensor, mask: Tensor, boxes: list) -> pd.DataFrame:
    """Pointing game and box_share with chance levels, one row an image with boxes; R (N, 1, C, H, W).

    A maximum anywhere in the image has the boxes' share of it as its chance; relevance spread over the foreground has
    the boxes' share of the foreground.
    """
    rows = []
    for A, region, own in zip(R.abs().sum((1, 2)).numpy(), mask[:, 0].numpy() > 0.5, boxes, strict=True):
        if own:
            inside = box_area(own, A.shape[-1])
            found = {"pointing_game": pointing_game(A, inside), "pointing_chance": inside.mean()}
            rows.append(found | {"box_share": box_share(A, inside, region), "box_chance": inside[region].mean()})
    return pd.DataFrame(rows, columns=["pointing_game", "pointing_chance", "box_share", "box_chance"])
