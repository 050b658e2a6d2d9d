"""Reading the films of one source: a dataset folder, and beside it, where there is one, a folder of predicted masks."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from isnetlib.data import checks
from isnetlib.data.checks import without_copies
from isnetlib.data.folder import read_files, read_index, refuse, resize_mask
from isnetlib.data.images import Images


def read_source(
    folder: Path,
    labels: Mapping[str, str],
    classes: list[str],
    where: Mapping[str, str],
    size: int,
    equalise: bool,
    predicted: Path | None = None,
    inside: bool = False,
    most: tuple[int | None, int] = (None, 0),
) -> tuple[Images, dict[str, str]]:
    """The films of one dataset folder whose label is in `labels` (label -> class) and whose columns are as in `where`.

    predicted : folder of predicted masks; inside : whether every film takes its mask from there, and films without one
    are left out; most : films of a label at most (None: all), and the seed that draws them. The images' `frame`: id,
    patient (both with the source before them), source, y, label (the class), mask_source (human, predicted or empty),
    and the source's metadata. The hashes are of the index, the files and the predicted masks.

    ValueError, naming the file, where something is missing or wrong.
    """
    listed = read_listing(predicted) if predicted else {}
    table = choose(folder, labels, where)
    if inside and predicted:
        table = table[table["image"].isin(list(listed))].assign(mask="")
    table = without_copies(folder, at_most(table, *most))
    if table.empty:
        raise ValueError(
            f"{folder} holds no film of {list(labels)}{f' with a mask in {predicted}' if predicted else ''}"
        )
    x, mask, digest, problems = read_files(folder, table, 32, size, equalise)
    refuse(folder, problems)
    origin = np.where(table["mask"] != "", "human", np.where(table["image"].isin(list(listed)), "predicted", ""))
    index = hashlib.sha256((folder / "index.csv").read_bytes()).hexdigest()
    hashes = {f"{folder.name}/index.csv": index, f"{folder.name}/files": digest}
    if predicted:
        hashes[f"{folder.name}/predicted masks"] = _fill(mask, table["image"], origin, predicted, listed, size)
    y = torch.tensor([classes.index(labels[label]) for label in table["label"]])
    return Images(x, y, mask, _frame(folder, table, labels, classes, origin, size), classes), hashes


def choose(folder: Path, labels: Iterable[str], where: Mapping[str, str]) -> pd.DataFrame:
    """The rows of index.csv whose label is among `labels` and whose columns are as in `where` (column -> value)."""
    table, problems = read_index(folder, "label", (), None, "patient", None, ())
    refuse(folder, problems)
    if missing := [column for column in where if column not in table]:
        raise ValueError(f"{folder / 'index.csv'} has no column {missing}; prepare the source again")
    wanted = table["label"].isin(list(labels))
    for column, value in where.items():
        wanted &= table[column] == value
    return table[wanted]


def at_most(table: pd.DataFrame, most: int | None, seed: int) -> pd.DataFrame:
    """The table with `most` rows of each label or fewer, in their order; None: all of them."""
    if most is None:
        return table
    if most < 1:
        raise ValueError(f"most is a number of films, 1 or more, or None for all; got {most}")
    shuffled = table.iloc[np.random.default_rng(seed).permutation(len(table))]
    return table.loc[shuffled.groupby("label").head(most).index.sort_values()]


def read_listing(predicted: Path) -> dict[str, str]:
    """Image -> mask file of a folder of predicted masks."""
    table, problems = checks.read_table(predicted)
    problems = problems or list(checks.check_columns(table, dict.fromkeys(("image", "mask"), "add it")))
    refuse(predicted, problems)
    return {image: mask for image, mask in zip(table["image"], table["mask"], strict=True) if mask}


def _fill(mask, images, origin, predicted, listed, size):
    """Put the predicted masks in their places of `mask` (N, 1, H, W); sha256 of their files."""
    digest = hashlib.sha256()
    for i, (image, kind) in enumerate(zip(images, origin, strict=True)):
        if kind != "predicted":
            continue
        try:
            data = checks.read_file(predicted, listed[image])
            mask[i] = resize_mask(checks.to_mask(checks.decode(data)), size)
        except checks.Refused as error:
            raise ValueError(f"{predicted / listed[image]}: {error.args[0]}; predict the masks again") from error
        digest.update(f"{hashlib.sha256(data).hexdigest()} {image}\n".encode())
    return digest.hexdigest()


def _frame(folder, table, labels, classes, origin, size):
    source = folder.name
    label = table["label"].map(dict(labels))
    frame = pd.DataFrame({"id": source + "/" + table["image"], "patient": source + "/" + table["patient"]})
    frame = frame.assign(source=source, y=label.map(classes.index), label=label, mask_source=origin)
    others = table.drop(columns=["image", "mask", "patient", "source", "label"])
    if "boxes" in others:
        others = others.assign(boxes=_scaled_boxes(folder, table, size))
    return pd.concat([frame, others.drop(columns=[name for name in others if name in frame])], axis=1)


def _scaled_boxes(folder, table, size):
    """Boxes (kind, left, top, right, bottom) as JSON, from pixels of the file to pixels of the loaded square."""
    result = []
    for name, cell in zip(table["image"], table["boxes"], strict=True):
        with Image.open(folder / name) as image:
            scale = [size / image.width, size / image.height] * 2
        boxes = json.loads(cell or "[]")
        result.append(json.dumps([[kind, *np.round(np.multiply(box, scale), 2).tolist()] for kind, *box in boxes]))
    return result


def pool(parts: list[tuple[Images, dict[str, str]]]) -> tuple[Images, dict[str, str]]:
    """Several sources as one data set."""
    images = [one for one, _ in parts]
    x, y, mask = (torch.cat([getattr(one, name) for one in images]) for name in ("x", "y", "mask"))
    frame = pd.concat([one.frame for one in images], ignore_index=True).fillna("")
    return Images(x, y, mask, frame, images[0].classes), {k: v for _, hashes in parts for k, v in hashes.items()}
