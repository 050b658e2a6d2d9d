"""The data contract: what a data set and an experiment are."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

CHUNK = 1024  # images at a time where all are looked at


class Stored:
    """Rows (None: all) and planes of a file of uint8 (N, 4, H, W); as a tensor, but for what must be read: [rows]."""

    dtype, ndim = torch.uint8, 4

    def __init__(self, path: Path, size: tuple[int, int], planes: slice, rows: np.ndarray | None = None):
        self.path, self.size, self.planes = path, size, planes
        self.rows = np.arange(path.stat().st_size // (4 * np.prod(size))) if rows is None else rows
        self.shape = torch.Size((len(self.rows), len(range(4)[planes]), *size))

    def subset(self, rows) -> "Stored":
        return Stored(self.path, self.size, self.planes, self.rows[rows])

    def __getitem__(self, rows) -> torch.Tensor:
        # Mapped anew: pages once read would count as the process's memory for as long as a mapping lasts.
        whole = np.memmap(self.path, np.uint8, "r").reshape(-1, 4, *self.size)
        return torch.from_numpy(np.array(whole[self.rows[np.asarray(rows)], self.planes]))


class Images(Dataset):
    """Images, labels and masks; an item is `(x, y, mask, i)`, float32 and i = row of `frame`; `images[[3, 5]]` is the
    same for a batch. ValueError: lengths, shapes, types or columns that do not fit together.

    x : (N, C, H, W), uint8 (divided by 255 on access) or float in [0, 1]; x and mask may be `Stored`
    y : (N,) int64, or (N, K) float32 of 0/1 for attributes
    mask : (N, 1, H, W) of 0/1, any type: 1 = look here, all zeros = no mask known
    frame : DataFrame of N rows with the columns id, patient, source, y; the others are metadata
    augment : None, or `augment(x, mask) -> (x, mask)` on a float batch (B, C, H, W), (B, 1, H, W)
    """

    def __init__(self, x, y, mask, frame, classes, augment=None):
        self.x, self.y, self.mask, self.augment = x, y, mask, augment
        self.frame, self.classes = frame.reset_index(drop=True), list(classes)
        n, k, floats, single = x.shape[0], len(self.classes), x.dtype.is_floating_point, y.ndim == 1
        if x.ndim != 4 or not (x.dtype == torch.uint8 or floats):
            raise ValueError(f"x must be (N, C, H, W) uint8 or float, not {tuple(x.shape)} {x.dtype}")
        if floats and n and not 0 <= float(x.min()) <= float(x.max()) <= 1:
            raise ValueError(f"x must lie in [0, 1], not in [{float(x.min()):.3g}, {float(x.max()):.3g}]")
        if len(frame) != n or not {"id", "patient", "source", "y"} <= set(frame):
            raise ValueError(f"frame must have {n} rows and the columns id, patient, source, y")
        shape, kind = ((n,), torch.int64) if single else ((n, k), torch.float32)
        if y.shape != shape or y.dtype != kind or not (single or ((y == 0) | (y == 1)).all()):
            raise ValueError(f"y must be ({n},) int64, or ({n}, {k}) float32 of 0 or 1, not {tuple(y.shape)} {y.dtype}")
        if single and n and not 0 <= y.min() <= y.max() < k:
            raise ValueError(f"labels run from {int(y.min())} to {int(y.max())}, but there are {k} classes")
        shape, known = (n, 1, *x.shape[2:]), isinstance(mask, Stored)  # to be 0 and 1: it was written so
        if mask.shape != shape or not (known or ((mask == 0) | (mask == 1)).all()):
            raise ValueError(f"mask must be {shape} of only 0 and 1, not {tuple(mask.shape)}")

    @property
    def multilabel(self) -> bool:
        return self.y.ndim == 2

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        if np.ndim(i) == 1:
            return self._batch(torch.as_tensor(i, dtype=torch.int64))
        i = range(len(self))[int(i)]  # IndexError past the end, which also ends a plain `for`
        x, y, mask, _ = self._batch(torch.tensor([i]))
        return x[0], y[0], mask[0], i

    def _batch(self, rows):
        x, mask = self.x[rows], self.mask[rows].float()
        x = x.float().div_(255) if x.dtype == torch.uint8 else x.float()
        if self.augment is not None:
            x, mask = self.augment(x, mask)
        return x, self.y[rows], mask, rows

    def subset(self, rows):
        """The data set of `rows` (sequence of int), in that order; its frame is numbered anew from 0."""
        rows = torch.as_tensor(rows, dtype=torch.int64)
        x, mask = (one.subset(rows) if isinstance(one, Stored) else one[rows] for one in (self.x, self.mask))
        return Images(x, self.y[rows], mask, self.frame.iloc[rows.numpy()], self.classes, self.augment)

    def area(self) -> torch.Tensor:
        """(N,) share of each image that its mask covers; 0 where no mask is known."""
        return torch.cat([self.mask[rows].float().flatten(1).mean(1) for rows in torch.arange(len(self)).split(CHUNK)])


class Experiment(NamedTuple):
    """Data to train, to select and to test on; publishable: whether images may be shown in figures and run folders."""

    train: Images
    validation: Images
    tests: dict[str, Images]
    metric: str  # "accuracy" | "auc" | "macro_f1"
    hashes: dict[str, str]  # sha256 by what was hashed
    publishable: bool = False


def check_range(low: float, high: float = np.inf, **options: float) -> None:
    """ValueError that names an option which is out of its range."""
    for name, value in options.items():
        if not low <= value <= high:
            span = f"at least {low}" if high == np.inf else f"from {low} to {high}"
            raise ValueError(f"{name} must be {span}, not {value}")


def with_masks(images: Images, name) -> Images:
    """Those whose mask is known; ValueError where there are none."""
    rows = torch.nonzero(images.area())[:, 0]
    if not len(rows):
        raise ValueError(f"{name}: no image has a mask, and without masks nobody knows what the background is")
    return images.subset(rows)


def named_rows(kind: str, rows) -> pd.DataFrame:
    """Columns id and patient of images that are told by their number, each its own patient."""
    return pd.DataFrame({column: [f"{kind}-{row:05d}" for row in rows] for column in ("id", "patient")})


def grey_images(x: np.ndarray, y: np.ndarray, mask: np.ndarray, frame, classes) -> Images:
    """Images of grey pixels x (N, H, W) uint8, repeated in three channels, and masks (N, H, W) bool."""
    x = torch.from_numpy(x)[:, None].expand(-1, 3, -1, -1)  # a view: three channels at the price of one
    return Images(x, torch.from_numpy(y), torch.from_numpy(mask.astype(np.uint8))[:, None], frame, classes)


def divide(sets: dict[str, Images], part, metric: str, hashes: dict, augment=None) -> Experiment:
    """An experiment whose tests are versions (name -> all images) of one set, as trained on first; part (N,): names."""
    first, of_tests = next(iter(sets.values())), np.flatnonzero(~np.isin(part, ("train", "validation")))
    train, validation = (first.subset(np.flatnonzero(part == name)) for name in ("train", "validation"))
    train.augment = augment
    return Experiment(train, validation, {name: one.subset(of_tests) for name, one in sets.items()}, metric, hashes)
