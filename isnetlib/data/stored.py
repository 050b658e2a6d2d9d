"""Images that are too many for memory: decoded once into a file, of which rows are read as they are asked for.

A file KEY.u8 holds uint8 (N, 4, H, W): red, green, blue, mask; KEY.json, written after it, what was found in reading.
KEY changes with index.csv, the size, and the date or size of any image. Old ones stay; the folder may be deleted while
nothing reads it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Stored:
    """Rows and planes of such a file; as a tensor (N, C, H, W) is, but for what must be read: `one[rows]`."""

    dtype, ndim = torch.uint8, 4

    def __init__(self, path: Path, size: tuple[int, int], planes: slice, rows: np.ndarray | None = None):
        self.path, self.size, self.planes = path, size, planes
        self.rows = np.arange(path.stat().st_size // (4 * np.prod(size))) if rows is None else rows
        self.shape = torch.Size((len(self.rows), len(range(4)[planes]), *size))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows) -> Tensor:
        # Mapped anew: pages once read would count as the process's memory for as long as a mapping lasts.
        whole = np.memmap(self.path, np.uint8, "r").reshape(-1, 4, *self.size)
        return torch.from_numpy(np.array(whole[self.rows[np.asarray(rows)], self.planes]))

    def subset(self, rows) -> "Stored":
        return Stored(self.path, self.size, self.planes, self.rows[np.asarray(rows)])


def place(cache: Path, folder: Path, names, size: int | tuple[int, int], equalise: bool) -> Path:
    """Where in `cache` the images of these files of a data set folder are, or will be, stored."""
    about = [hashlib.sha256((folder / "index.csv").read_bytes()).hexdigest(), size, equalise]
    found = [path.stat() for path in (folder / name for name in names) if path.is_file()]
    about += [(one.st_size, one.st_mtime_ns) for one in found]
    return Path(cache) / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}.u8"


@contextmanager
def writing(path: Path, need: int) -> Iterator:
    """A file to write `need` bytes to, which is at `path` once all went well. OSError: the disk is too small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if need > (free := shutil.disk_usage(path.parent).free):
        raise OSError(f"{path.parent}: {need / 1e9:.1f} GB of images do not fit, {free / 1e9:.1f} GB are free")
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        if part.stat().st_size == need:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
