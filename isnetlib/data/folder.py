"""The dataset folder: index.csv and image files of your own. `verify` says what is wrong with it, `load` reads it.

index.csv has the columns image, mask (a cell may be empty: no mask known), label (or several 0/1 attribute columns),
source and patient, and may have boxes around findings: [["kind", left, top, right, bottom], ...] in pixels; every other
column is metadata. Paths are relative to the folder. Images are PNG, JPEG, TIFF or BMP of 8 or 16 bit; a mask has its
image's size and two values, 0 = background.
"""

import hashlib
import inspect
import io
import json
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from isnetlib.data import files
from isnetlib.data.files import Problem, Refused, of_index, read_boxes, read_file, read_index, refuse
from isnetlib.data.images import Experiment, Images, Stored
from isnetlib.training.files import write_atomically

PARTS = ("train", "validation", "internal")  # of a seeded split
FRACTIONS = (0.7, 0.15, 0.15)  # of the patients, for each
TEST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # it becomes a file name
MEMORY = 2e9  # bytes: more images than that are not held
DARK = 64  # of 255: 12-bit pixels stored in 16 bits reach 16


def verify(folder: str | Path, **options) -> pd.DataFrame:
    """Everything that is wrong with a dataset folder; options as of `load`, size=None: no image is kept in memory.

    Columns: level ("error": `load` refuses; "warning": it does not), file, row (as a spreadsheet counts, the header
    being 1; "" = the file as a whole), problem, remedy. ValueError: an option that cannot be.
    """
    return pd.DataFrame(_read(folder, **{"size": None} | options)[1], columns=Problem._fields)


def _read(
    folder, size=112, label="label", attributes=(), classes=None, patient="patient", equalise=False, cache=None, **how
) -> tuple[Experiment | None, list[Problem]]:
    """The experiment, None where something is wrong or `size` is None, and the problems. how: of `assign`."""
    table, problems = read_index(folder, label, attributes, classes, patient, how.get("split"))
    if not {"image", "mask", "patient"} <= set(table):
        return None, problems
    y = part = names = None
    if not problems:
        try:
            y, names = encode(table, label, attributes, classes)
            part = assign(table, y, **how)
            problems += check_parts(part, table["patient"], y, names)
        except Refused as error:
            problems.append(of_index(*error.args))
    cache = cache or cache_of(folder, size, len(table))
    images, hashes, found = read_images(Path(folder).resolve(), table, y, names, size, equalise, cache=cache)
    problems = problems + found
    if images is None or any(problem.level == "error" for problem in problems):
        return None, problems
    sets = {name: images.subset(np.flatnonzero(part == name)) for name in dict.fromkeys(part)}
    metric = "macro_f1" if y.ndim == 1 and len(names) > 2 else "auc"
    return Experiment(sets.pop("train"), sets.pop("validation"), sets, metric, hashes), problems


def load(folder: str | Path, **options) -> Experiment:
    """Read a dataset folder (as uint8), with all the checks of `verify`.

    size : side, or (height, width), to which images (bilinear, antialiased) and masks (nearest) are stretched
    label, attributes : column of class names, or, for a multi-label task, columns of 0/1
    classes : class names in order; None = those that occur, sorted
    patient : column that names the patient; None = identities are unknown, each image is its own patient
    split : column that holds train, validation or a test set's name; None = the column `split` if there is one, else a
        split by patient, stratified, drawn by `split_seed`: `fractions` are train, validation and the test `internal`
    external : sources kept out of training, each a test set of its name; only without a split column
    cache : a folder to keep decoded images in; None = in memory, above `MEMORY` in the folder's own folder .isnet

    The metric is auc for attributes and for two classes, otherwise macro_f1. `frame`: id (the image's path), patient,
    source, y (class number, or attributes as "0 1 0"), and the other columns as text.
    """
    experiment, problems = _read(folder, **options)
    refuse(folder, problems)
    return experiment


def encode(table, label, attributes, classes) -> tuple[torch.Tensor, list[str]]:
    """Labels y of the rows, (N,) int64 or (N, K) float32, and their names. Refused: one class."""
    if attributes:
        return torch.tensor((table[list(attributes)] == "1").to_numpy(np.float32)), list(attributes)
    names = list(classes or sorted(set(table[label])))
    if len(names) < 2:
        raise Refused(f"column {label!r} holds one class only ({names[0]!r})", "a classifier needs two")
    return torch.tensor([names.index(cell) for cell in table[label]]), names


def assign(table, y, split=None, external=(), fractions=FRACTIONS, split_seed=0) -> pd.Series:
    """The part of each row: the split column's, its external source, or a seeded split of the rest by patient."""
    column = split or ("split" if "split" in table else None)
    if column and external:
        raise ValueError(f"external does not go with the split column {column!r}: name the test sets there")
    if column:
        return table[column]
    if isinstance(external, str) or not set(external) <= set(table["source"]) - set(PARTS):
        raise ValueError(f"external is a list of sources in index.csv, not of parts {PARTS}; got {external!r}")
    stratum, inside = pd.Series(map(str, y.tolist()), index=table.index), ~table["source"].isin(list(external))
    part = split_by_patient(table["patient"][inside], stratum[inside], fractions, split_seed)
    return part.reindex(table.index).fillna(table["source"])


def split_by_patient(patient: pd.Series, stratum: pd.Series, fractions, seed: int) -> pd.Series:
    """Split patients into PARTS, in `fractions` of each stratum: that of most of its rows; small ones are pooled."""
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions are three shares for {', '.join(PARTS)} that sum to 1, not {fractions}")
    strata = stratum.groupby([patient, stratum]).size().unstack(fill_value=0).idxmax(axis=1)
    small = strata.map(strata.value_counts()) * min(share for share in fractions if share > 0) < 1
    strata = strata.mask(small, "pooled").iloc[np.random.default_rng(seed).permutation(len(strata))]
    groups = strata.groupby(strata)
    position = (groups.cumcount() + 0.5) / groups.transform("size").astype(float)  # within its stratum, in (0, 1)
    part = np.array(PARTS, dtype=object)[np.searchsorted(np.cumsum(fractions)[:2], position)]
    if missing := [name for name, share in zip(PARTS, fractions, strict=True) if share and name not in part]:
        told = f"too few patients ({len(strata)}) for a part {' and '.join(missing)}"
        raise Refused(told, "add some, put fewer sources into external, or say in a column `split` who is where")
    return patient.map(dict(zip(strata.index, part, strict=True)))


# The options of `load` are those of `_read`, and what `assign` takes beside table and y.
OF_READ, OF_ASSIGN = ([*inspect.signature(one).parameters.values()] for one in (_read, assign))
load.__signature__ = inspect.Signature(OF_READ[:-1] + OF_ASSIGN[2:])


def check_parts(part: pd.Series, patient: pd.Series, y: torch.Tensor, names: list[str]):
    """What is wrong with a split. part: train, validation or a test set's name, for each row."""
    for name in sorted(set(part)):
        if not TEST_NAME.fullmatch(name):
            yield of_index(f"{name!r} cannot name a test set", "use letters, digits, '_', '.' and '-' only")
    missing = [name for name in ("train", "validation") if not (part == name).any()]
    for name in missing + ["a test set"] * (set(part) <= {"train", "validation"}):
        yield of_index(f"no row is in {name}", "the parts are train, validation, and a name for each test set")
    remedy = "move the patient's rows to one part; if they are two people, make the names unique across sources"
    for name, parts in part.groupby(patient):
        if parts.nunique() > 1:
            told = " and ".join(sorted(set(parts)))
            yield of_index(f"patient {name!r} is in {told}: leakage", remedy, parts.index[-1])
    if len(y := y[np.flatnonzero(part == "train")]):
        seen = torch.bincount(y, minlength=len(names)) > 0 if y.ndim == 1 else y.amin(0) < y.amax(0)
        if missing := [name for name, is_seen in zip(names, seen.tolist(), strict=True) if not is_seen]:
            yield of_index(f"training holds no images (of an attribute: one value) of {missing}", "change the split")
        few = min(2, len(y) // 20)
        if y.ndim == 1 and (rare := [name for k, name in enumerate(names) if 0 < (y == k).sum() <= few]):
            told = f"training holds no more than two images of {rare}"
            yield Problem("warning", "index.csv", "", told, "correct a misspelt label, or add images")


def cache_of(folder, size, images: int) -> Path | None:
    """Where so many images of `size` are kept: in memory (None), or, above `MEMORY`, in a folder that may be made."""
    if not size or 4 * np.prod(np.broadcast_to(size, 2)) * images <= MEMORY:
        return None
    return Path(folder) / ".isnet" if os.access(folder, os.W_OK) else Path(tempfile.gettempdir()) / "isnet"


def read_images(folder: Path, table, y, classes, size, equalise=False, prefix="", cache=None, **own):
    """`Images` of the rows of `table` (or None, as of `read_files`), sha256 by name, problems; own: further columns."""
    x, mask, digest, problems = read_files(folder, table, size, equalise, cache)
    if x is None or y is None:
        return None, {}, problems
    shown = y.numpy() if y.ndim == 1 else [" ".join(f"{value:.0f}" for value in row) for row in y.tolist()]
    frame = pd.DataFrame({"id": prefix + table["image"], "patient": prefix + table["patient"]})
    frame = frame.assign(source=table["source"], y=shown, **own)
    others = table.drop(columns=["image", "mask", *(name for name in table if name in frame)])
    if "boxes" in others:
        others["boxes"] = [_scaled(folder, *row, x.shape[2:]) for row in table[["image", "boxes"]].to_numpy()]
    return Images(x, y, mask, pd.concat([frame, others], axis=1), classes), hashes_of(folder, digest), problems


def _scaled(folder, name, cell, size):
    with Image.open(io.BytesIO(read_file(folder, name))) as image:
        scale = np.array([size[1] / image.width, size[0] / image.height] * 2)
    return json.dumps([[kind, *np.round(edges * scale, 2).tolist()] for kind, edges in read_boxes(cell)])


def hashes_of(folder: Path, digest: str) -> dict[str, str]:
    """sha256 of index.csv, and the digest that `read_files` gave, by the folder's name."""
    index = hashlib.sha256((folder / "index.csv").read_bytes()).hexdigest()
    return {f"{folder.name}/index.csv": index, f"{folder.name}/files": digest}


def read_files(folder, table, size=None, equalise=False, cache=None):
    """Check images and masks: x, mask (N, C, H, W) uint8 (None without `size` or one of them), sha256, problems."""
    if not (cache and size and len(table)):
        pairs = []
        about = _read_each(folder, table, size, equalise, pairs.append)
        arrays = map(torch.stack, zip(*pairs, strict=True)) if len(pairs) == len(table) > 0 else (None, None)
        return *arrays, *about
    sides, path = tuple(np.broadcast_to(size, 2).tolist()), files.stored_at(cache, Path(folder), table, size, equalise)
    kept = path.with_suffix(".json")
    if not (kept.exists() and path.exists()):
        with files.writing(path, 4 * len(table) * np.prod(sides)) as file:
            about = _read_each(folder, table, size, equalise, lambda pair: file.write(torch.cat(pair).numpy()))
        if not path.exists():
            return None, None, *about
        write_atomically(kept, json.dumps(about))
    digest, problems = json.loads(kept.read_text(encoding="utf-8"))
    x, mask = (Stored(path, sides, planes) for planes in (slice(0, 3), slice(3, 4)))
    return x, mask, digest, [Problem(*problem) for problem in problems]


def _read_each(folder, table, size, equalise, keep):
    """Give each usable pair of image and mask to `keep`, if there is a `size`; sha256 of all files, problems."""
    problems, digests = [], {}
    for row in table[["image", "mask"]].itertuples():
        if pair := _read_pair(Path(folder), row, size, equalise, digests, problems):
            keep(pair)
    of_images = table["image"].map(digests).dropna()
    for _, rows in of_images.groupby(of_images):
        (row, first), *copies = table.loc[rows.index].drop_duplicates("image").iterrows()  # twice listed: told as that
        for own, copy in copies:
            text, same = f"is a copy of {first['image']} (row {row})", copy["patient"] == first["patient"]
            level, end = ("warning", "") if same else ("error", " under another patient: leakage")
            problems.append(Problem(level, copy["image"], own, text + end, "delete a row, or give both one patient"))
    lines = "".join(f"{digest} {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest(), problems


def _read_pair(folder, row, size, equalise, digests, problems):
    """A row's image and mask (or None), resized; files' sha256 are added to `digests`, what is wrong to `problems`."""

    def tell(level, file, problem, remedy):
        problems.append(Problem(level, file, row.Index, problem, remedy))

    arrays, before = {}, len(problems)
    for name, convert in ((row.image, files.to_pixels), (row.mask, files.to_mask)):
        try:
            if name:
                data = read_file(folder, name)
                digests[name] = hashlib.sha256(data).hexdigest()
                arrays[convert] = convert(files.decode(data))
        except Refused as error:
            tell("error", name, *error.args)
    pixels, region = arrays.get(files.to_pixels), arrays.get(files.to_mask)
    if pixels is not None and pixels.max() < DARK:
        remedy = "spread the pixels over the full range (12 bit stored as 16: multiply by 16)"
        tell("warning", row.image, f"is almost black: its brightest pixel is {pixels.max():.0f} of 255", remedy)
    if len(arrays) == 2 and pixels.shape[:2] != region.shape:
        sizes = "mask is {1} x {0} pixels, its image {3} x {2} pixels".format(*region.shape, *pixels.shape)
        tell("error", row.mask, sizes, "make the mask on the image's own pixels")
    if region is not None and region.all() == region.any():
        tell("warning", row.mask, f"mask is {'full' if region.all() else 'empty'}", "correct it, or clear the cell")
    if not size or pixels is None or any(problem.level == "error" for problem in problems[before:]):
        return None
    region = np.zeros(pixels.shape[:2], bool) if region is None else region
    x, mask = files.resize(pixels, size, equalise), files.resize_mask(region, size)
    if region.any() and not mask.any():
        tell("warning", row.mask, f"mask vanishes when resized to {size}", "load it larger")
    return x, mask


def without_copies(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Without the rows whose image has the bytes of an earlier row's; what cannot be read stays, to be reported."""
    digests = {}
    for name in table["image"]:
        with suppress(Refused):
            digests[name] = hashlib.sha256(read_file(folder, name)).digest()
    found = table["image"].map(digests)
    return table[~found.duplicated() | found.isna()]
