"""The images of an audit: those of a dataset folder that have a mask, with the boxes that its index has."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from isnetlib.data.folder import encode, read_files, read_index, refuse
from isnetlib.data.images import Images
from isnetlib.unet import known


def read_images(folder: str | Path, classes: list[str], size: int, equalise: bool, label: str = "label", patient=None):
    """The images of a dataset folder that have a mask, with boxes in pixels of the loaded image where there are any.
    ValueError: unreadable files, labels that are no class of the model, no masks.
    """
    table, problems = read_index(folder, label, (), None, patient, None, ())
    refuse(folder, problems)
    if foreign := sorted(set(table[label]) - set(classes)):
        raise ValueError(f"{folder}: the labels {foreign} are no classes of the model, which has {classes}")
    y, _ = encode(table, label, (), classes)
    x, mask, _, problems = read_files(folder, table, 32, size, equalise)
    refuse(folder, [problem for problem in problems if problem.level == "error"])
    frame = pd.DataFrame({"id": table["image"], "patient": table["patient"], "source": table["source"], "y": y.numpy()})
    if "boxes" in table:
        frame["boxes"] = [
            read_boxes(Path(folder), *pair, size) for pair in zip(table["image"], table["boxes"], strict=True)
        ]
    rows = torch.nonzero(known(mask.float()))[:, 0]
    if not len(rows):
        raise ValueError(f"{folder}: no image has a mask, and without masks nobody knows what the background is")
    return Images(x, y, mask, frame, classes).subset(rows)


def read_boxes(folder: Path, image: str, cell: str, size: int) -> list[list[float]]:
    """Boxes (left, top, right, bottom) of a cell, from pixels of the file to those of a square of `size`."""
    try:
        with Image.open(folder / image) as film:
            scale = [size / film.width, size / film.height] * 2
        return [np.multiply(box, scale).tolist() for _, *box in json.loads(cell or "[]")]
    except (ValueError, TypeError) as error:
        text = '[["kind", left, top, right, bottom], ...]'
        raise ValueError(f"{folder / image}: its boxes are not {text} ({error})") from None
