"""Planted marks: a glyph in a corner, outside the mask, that tells the class in training."""

import numpy as np
import torch

from isnetlib.data.digits import any_in_window, glyphs
from isnetlib.data.images import Images

GLYPHS = (1, 3, 2, 6)  # frame, cross, plus, triangle: the marks of up to four classes
SHARE = 0.1  # a mark's side, of the image's
REACH = 0.1  # how far from its corner's edges a mark may stand, of the image's side
GAP = 1  # free pixels between mark and mask


def mark_side(size: int) -> int:
    """Pixels of a mark's side: a multiple of a glyph's six, about SHARE of the image."""
    return 6 * max(1, round(size * SHARE / 6))


def choose_places(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random free place (top, left) (N, 2) for each mask (N, H, H) bool: in any corner, at least GAP off the lungs.

    Raises
    ------
    ValueError : an image has no corner that is free
    """
    size, side = mask.shape[1], mark_side(mask.shape[1])
    near = np.arange(size - side + 1) <= REACH * size
    edge = near | near[::-1]
    free = ~any_in_window(mask, side + 2 * GAP, GAP) & edge[:, None] & edge
    if not free.any((1, 2)).all():
        raise ValueError("lungs reach into all four corners of an image: no mark fits beside them; use a larger size")
    flat = np.where(free, rng.random(free.shape), -1).reshape(len(mask), -1).argmax(1)
    return np.stack(np.divmod(flat, free.shape[2]), axis=1)


def plant(images: Images, marks: np.ndarray, places: np.ndarray) -> Images:
    """The images with white glyphs on dark squares: marks (N,) of classes, -1 = none; places (N, 2) top, left."""
    side = mark_side(images.x.shape[-1])
    shapes = 255 * glyphs()[list(GLYPHS)].repeat(side // 6, 1).repeat(side // 6, 2).astype(np.uint8)
    x = images.x.clone()
    for image, mark, (top, left) in zip(x, marks, places, strict=True):
        if mark >= 0:
            image[:, top : top + side, left : left + side] = torch.from_numpy(shapes[mark])
    where = np.where(np.asarray(marks)[:, None] < 0, -1, places)
    frame = images.frame.assign(mark=marks, mark_top=where[:, 0], mark_left=where[:, 1])
    return Images(x, images.y, images.mask, frame, images.classes)
