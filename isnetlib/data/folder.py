"""The dataset folder: index.csv and image files of your own. `verify` says what is wrong with it, `load` reads it.

index.csv has the columns image, mask (a cell may be empty: no mask known), label (or several 0/1 attribute columns),
source and patient; every other column is metadata. Paths are relative to the folder. Images are PNG, JPEG, TIFF or BMP
of 8 or 16 bit; a mask has its image's size and two values, 0 = background.
"""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.functional import equalize

from isnetlib.data import checks
from isnetlib.data.checks import Problem
from isnetlib.data.images import Experiment, Images

METRICS = ("auc", "macro_f1", "accuracy")
PARTS = ("train", "validation", "internal")  # of a seeded split
PATIENT_REMEDY = "add it, name another with `patient`, or pass patient=None if identities are unknown"


def verify(
    folder: str | Path,
    label: str = "label",
    attributes: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    patient: str | None = "patient",
    split: str | None = None,
    exclude: Sequence[str] = (),
    minimum: int = 32,
) -> pd.DataFrame:
    """List everything that is wrong with a dataset folder. The options are those of `load`.

    Returns
    -------
    DataFrame with columns level ("error": `load` refuses; "warning": it does not), file, row (of index.csv as a
    spreadsheet counts, the header being 1; 0 = the file as a whole), problem, remedy. No rows: the folder is fine.
    """
    table, problems = read_index(folder, label, attributes, classes, patient, split, exclude)
    if {"image", "mask", "patient"} <= set(table):
        problems = problems + read_files(folder, table, minimum)[3]
    return pd.DataFrame(problems, columns=Problem._fields)


def load(
    folder: str | Path,
    size: int | tuple[int, int] = 112,
    label: str = "label",
    attributes: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    patient: str | None = "patient",
    split: str | None = None,
    external: Sequence[str] = (),
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    split_seed: int = 0,
    exclude: Sequence[str] = (),
    minimum: int = 32,
    equalise: bool = False,
    metric: str | None = None,
) -> Experiment:
    """Read a dataset folder into memory (as uint8), with all the checks of `verify`.

    Parameters
    ----------
    folder : holds index.csv
    size : side, or (height, width), to which images (bilinear, antialiased) and masks (nearest) are resized; an image
        of another shape is stretched
    label : column of class names
    attributes : columns of 0/1 in place of `label`, for a multi-label task
    classes : class names in order; None = those that occur, sorted
    patient : column that names the patient; None = identities are unknown, each image is its own patient
    split : column that holds train, validation or a test set's name for each row; None = the column `split` if there is
        one, otherwise a split by patient from `fractions` and `split_seed`, stratified by class
    external : sources kept out of training, each a test set of its name; only without a split column
    fractions : of the patients, for train, validation and the test set `internal`
    split_seed : of that split; the training seed does not change it
    exclude : images to leave out, named as in the column image
    minimum : smallest side in pixels an image file may have
    equalise : equalise each channel's histogram, after resizing
    metric : "auc", "macro_f1" or "accuracy"; None = auc for attributes and for two classes, otherwise macro_f1

    Returns
    -------
    Experiment, not publishable. `frame`: id (the image's path), patient, source, y (class number, or attributes as
    "0 1 0"), and the other columns as text.

    Raises
    ------
    ValueError : an error of `verify`, a patient both in training and in an external source, a class missing in training
    """
    if metric not in (None, *METRICS):
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric!r}")
    table, problems = read_index(folder, label, attributes, classes, patient, split, exclude)
    refuse(folder, problems)
    y, names = encode(table, label, attributes, classes)
    part = assign(table, _split_column(table, split), external, y, fractions, split_seed)
    refuse(folder, list(checks.check_parts(part, table["patient"])))
    x, mask, digest, problems = read_files(folder, table, minimum, size, equalise)
    refuse(folder, problems)
    images = Images(x, y, mask, _frame(table, y), names)
    sets = {name: images.subset(np.flatnonzero(part == name)) for name in dict.fromkeys(part)}
    train, validation = sets.pop("train"), sets.pop("validation")
    _check_training(train)
    path = Path(folder).resolve()
    index = hashlib.sha256((path / "index.csv").read_bytes()).hexdigest()
    hashes = {f"{path.name}/index.csv": index, f"{path.name}/files": digest}
    usual = "macro_f1" if y.ndim == 1 and len(names) > 2 else "auc"
    return Experiment(train, validation, sets, metric or usual, hashes, publishable=False)


def read_index(folder, label, attributes, classes, patient, split, exclude) -> tuple[pd.DataFrame, list[Problem]]:
    """index.csv as text, its index being spreadsheet rows, and its problems; without `exclude`, column patient set."""
    if isinstance(attributes, str) or isinstance(classes, str) or isinstance(exclude, str):
        raise ValueError("attributes, classes and exclude are lists of names, not one str")
    if attributes and classes:
        raise ValueError("give either attributes or classes: attributes are named by their columns")
    table, problems = checks.read_table(Path(folder))
    remedies = {"image": "name each image file in it", "mask": "add it; leave its cells empty where no mask is known"}
    remedies |= {"source": "add it: the hospital, camera or data set each image is from"}
    remedies |= {patient: PATIENT_REMEDY} if patient else {}
    remedies |= dict.fromkeys(attributes, "add it, or correct `attributes`")
    remedies |= {} if attributes else {label: "add it, or name another with `label`, or 0/1 columns with `attributes`"}
    remedies |= {split: "add it, or correct `split`"} if split else {}
    problems = problems or list(checks.check_columns(table, remedies))
    if problems:
        return table, problems
    if unlisted := sorted(set(exclude) - set(table["image"])):
        raise ValueError(f"exclude names images that index.csv does not list: {unlisted[:5]}")
    table = table[~table["image"].isin(list(exclude))]
    table = table.assign(patient=table[patient] if patient else table["image"])
    column = _split_column(table, split)
    filled = [name for name in ("image", "source", "patient", column, None if attributes else label) if name]
    problems += checks.check_cells(table, filled)
    problems += checks.check_attributes(table, attributes) if attributes else checks.check_labels(table[label], classes)
    problems += checks.check_parts(table[column], table["patient"]) if column else []
    return table, problems


def read_files(folder, table, minimum=32, size=None, equalise=False):
    """Read and check every image and mask, once: x (N, 3, H, W) uint8, mask (N, 1, H, W) uint8, sha256, problems.

    x and mask are None without `size` (then only checks are made) and where a file was refused.
    """
    x, masks, problems, digests, refused = [], [], [], {}, False
    for row, image, mask in zip(table.index, table["image"], table["mask"], strict=True):
        pixels, region, found = _read_pair(Path(folder), row, image, mask, minimum, digests)
        problems += found
        refused = refused or any(problem.level == "error" for problem in found)
        if size is not None and not refused:
            x.append(resize(pixels, size, equalise))
            masks.append(resize_mask(region, size))
            if region is not None and region.any() and not masks[-1].any():
                text = f"mask vanishes when resized to {size}: it gives no instruction"
                problems.append(Problem("warning", mask, row, text, "load it larger"))
    of_images = table["image"].map(digests).dropna()
    problems += checks.check_copies(table, of_images)
    lines = "".join(f"{digest} {name}\n" for name, digest in sorted(digests.items()))
    complete = len(x) == len(table) > 0
    arrays = (torch.stack(x), torch.stack(masks)) if complete else (None, None)
    return *arrays, hashlib.sha256(lines.encode()).hexdigest(), problems


def _read_pair(folder, row, image, mask, minimum, digests):
    """Pixels (H, W, 3) or None, mask (H, W) or None, problems; adds the files' sha256 to `digests`."""
    names, arrays, problems = {"image": image, "mask": mask}, {}, []
    for kind, convert in (("image", checks.to_pixels), ("mask", checks.to_mask)):
        if names[kind] == "":
            continue
        try:
            data = checks.read_file(folder, names[kind])
            digests[names[kind]] = hashlib.sha256(data).hexdigest()
            arrays[kind] = convert(checks.decode(data))
        except checks.Refused as error:
            problems.append(Problem("error", names[kind], row, *error.args))
    for level, kind, text, remedy in checks.check_pair(arrays.get("image"), arrays.get("mask"), minimum):
        problems.append(Problem(level, names[kind], row, text, remedy))
    return arrays.get("image"), arrays.get("mask"), problems


def resize(pixels: np.ndarray, size: int | tuple[int, int], equalise: bool = False) -> torch.Tensor:
    """uint8 (3, *size) of float pixels (H, W, 3) in [0, 255]."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    x = interpolate(x, _pair(size), mode="bilinear", antialias=True)[0].round().clamp(0, 255).to(torch.uint8)
    return equalize(x) if equalise else x


def resize_mask(mask: np.ndarray | None, size: int | tuple[int, int]) -> torch.Tensor:
    """uint8 (1, *size) of a bool mask (H, W); zeros for None."""
    if mask is None:
        return torch.zeros(1, *_pair(size), dtype=torch.uint8)
    return interpolate(torch.from_numpy(mask)[None, None].float(), _pair(size), mode="nearest-exact")[0].to(torch.uint8)


def encode(table, label, attributes, classes) -> tuple[torch.Tensor, list[str]]:
    """Labels (N,) int64, or attributes (N, K) float32, and their names."""
    if attributes:
        return torch.tensor((table[list(attributes)] == "1").to_numpy(np.float32)), list(attributes)
    names = list(classes or sorted(set(table[label])))
    if len(names) < 2:
        raise ValueError(f"column {label!r} holds one class only ({names[0]!r}); a classifier needs two")
    return torch.tensor([names.index(cell) for cell in table[label]]), names


def assign(table, column, external, y, fractions, seed) -> pd.Series:
    """The part of each row: the split column's, its external source, or a seeded split of the rest by patient."""
    if isinstance(external, str):
        raise ValueError("external is a list of sources, not one str")
    if column and external:
        raise ValueError(f"external does not go with the split column {column!r}: name the test sets there")
    if column:
        return table[column]
    if unknown := sorted(set(external) - set(table["source"])):
        raise ValueError(f"external names sources that index.csv does not list: {unknown}")
    if taken := sorted(set(external) & set(PARTS)):
        raise ValueError(f"the names {taken} are taken; rename these sources in index.csv")
    inside = ~table["source"].isin(list(external))
    stratum = pd.Series([str(row) for row in y.tolist()], index=table.index)
    part = split_by_patient(table["patient"][inside], stratum[inside], fractions, seed)
    return part.reindex(table.index).fillna(table["source"])


def split_by_patient(patient: pd.Series, stratum: pd.Series, fractions, seed: int) -> pd.Series:
    """Split rows by patient into train, validation and internal, in these `fractions` within each stratum.

    patient, stratum : one value a row; a patient belongs to the stratum most of its rows have, and strata too small to
    be cut are pooled. Written out because scikit-learn splits by group either stratified or by fraction.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions are three shares for {', '.join(PARTS)} that sum to 1, not {fractions}")
    strata = stratum.groupby(patient).agg(lambda values: values.mode().iloc[0])
    small = strata.map(strata.value_counts()) * min(share for share in fractions if share > 0) < 1
    strata = strata.mask(small, "pooled").iloc[np.random.default_rng(seed).permutation(len(strata))]
    groups = strata.groupby(strata)
    position = (groups.cumcount() + 0.5) / groups.transform("size").astype(float)  # within its stratum, in (0, 1)
    part = np.array(PARTS, dtype=object)[np.searchsorted(np.cumsum(fractions)[:2], position)]
    if missing := [name for name, share in zip(PARTS, fractions, strict=True) if share and name not in part]:
        raise ValueError(f"{len(strata)} patients are too few for a part {' and '.join(missing)}; change fractions")
    return patient.map(dict(zip(strata.index, part, strict=True)))


def _frame(table, y):
    shown = y.numpy() if y.ndim == 1 else [" ".join(f"{value:.0f}" for value in row) for row in y.tolist()]
    first = pd.DataFrame({"id": table["image"], "patient": table["patient"], "source": table["source"], "y": shown})
    others = table.drop(columns=["image", "mask", "patient", "source"])
    return pd.concat([first, others.rename(columns={"id": "meta_id", "y": "meta_y"})], axis=1)


def _split_column(table, split):
    return split or ("split" if "split" in table else None)


def _pair(size):
    return (size, size) if isinstance(size, int) else tuple(size)


def _check_training(train):
    if train.y.ndim == 1:
        seen = torch.bincount(train.y, minlength=len(train.classes)) > 0
    else:
        seen = train.y.amin(0) < train.y.amax(0)
    if missing := [name for name, is_seen in zip(train.classes, seen.tolist(), strict=True) if not is_seen]:
        raise ValueError(f"training holds no images (or, of an attribute, one value) of {missing}; change the split")


def refuse(folder, problems):
    """ValueError if any is an error; one warning that counts the others."""
    errors = [problem for problem in problems if problem.level == "error"]
    lines = [f"{p.file}, row {p.row}: {p.problem}. Remedy: {p.remedy}." for p in (errors or problems)[:10]]
    text = "\n".join(
        [f"{folder}: {len(errors or problems)} problem(s); `isnet verify-data` lists all. The first:", *lines]
    )
    if errors:
        raise ValueError(text)
    if problems:
        warnings.warn(text, stacklevel=3)
