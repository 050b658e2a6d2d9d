"""Experiments on chest X-rays from several data sets: in training the class is confounded with the source.

`folder` holds one dataset folder a source, named after it (shenzhen/index.csv, ...), as `isnet prepare` writes them;
without it, the environment variable ISNET_DATA names it. Films become grey, are stretched to a square, their histograms
are equalised, and the grey is repeated in three channels. A byte copy of an earlier film is left out, whoever its
patient is: in the COVID-19 image data collection one film stands under two patients, which would be a leak.

`masks` may hold, for each source, <source>/index.csv with the columns image (as in the source's own index) and mask (a
file relative to <source>): predicted lungs. Then every film of training, validation and `internal` has its predicted
mask, never a human one, whose style would tell the source, and a film that is not listed there is left out. The other
test sets keep human masks, and get predicted ones where there are none.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from isnetlib.data import checks
from isnetlib.data.checks import without_copies
from isnetlib.data.folder import read_files, read_index, refuse, resize_mask, split_by_patient
from isnetlib.data.images import Experiment, Images
from isnetlib.data.marks import choose_places, plant

FRACTIONS = (0.7, 0.15, 0.15)
TUBERCULOSIS = ["normal", "tuberculosis"]
COVID = ["normal", "pneumonia", "covid"]


def tuberculosis(
    folder: str | None = None,
    size: int = 112,
    equalise: bool = True,
    fractions: tuple[float, float, float] = FRACTIONS,
    split_seed: int = 0,
    masks: str | None = None,
) -> Experiment:
    """Tuberculosis of TBX11K against healthy films of NIH ChestX-ray14: the source alone tells the class.

    Tests: `internal` (as training) and `shenzhen`, both classes from one hospital that training never saw. Metric auc.
    Where TBX11K has boxes of lesions, `frame.boxes` holds them in pixels of the loaded image.

    Parameters
    ----------
    folder, masks : see the module
    size : side of the square, pixels
    equalise : equalise the histogram, after resizing
    fractions : of the patients, for train, validation and internal
    split_seed : of that split; the training seed does not change it

    Raises
    ------
    ValueError : a source is missing or wrong (see `isnetlib.data.folder.verify`), no `folder` and no ISNET_DATA
    """
    read = _reader(folder, size, equalise, masks)
    parts = [
        read("tbx11k", {"tuberculosis": "tuberculosis"}, TUBERCULOSIS, inside=True),
        read("nih", {"no_finding": "normal"}, TUBERCULOSIS, inside=True),
    ]
    shenzhen = read("shenzhen", {name: name for name in TUBERCULOSIS}, TUBERCULOSIS)
    return _experiment(parts, {"shenzhen": [shenzhen]}, fractions, split_seed, "auc")


def covid(
    folder: str | None = None,
    size: int = 112,
    equalise: bool = True,
    fractions: tuple[float, float, float] = FRACTIONS,
    split_seed: int = 0,
    masks: str | None = None,
) -> Experiment:
    """COVID-19 of the COVID-19 image data collection against healthy and pneumonia films of NIH ChestX-ray14.

    Films that may show Hannover's patients (`hannover` = 1) are left out. Tests: `internal`; `external` pools hannover
    (covid), and the healthy of shenzhen and jsrt; `ieee8023_pneumonia` stands apart, since it shares the source of the
    covid class: who reads the background calls it covid. Metric macro_f1. Parameters as for `tuberculosis`.
    """
    read = _reader(folder, size, equalise, masks)
    parts = [
        read("ieee8023", {"covid": "covid"}, COVID, where={"hannover": "0"}, inside=True),
        read("nih", {"no_finding": "normal", "pneumonia": "pneumonia"}, COVID, inside=True),
    ]
    external = [
        read("hannover", {"covid": "covid"}, COVID),
        read("shenzhen", {"normal": "normal"}, COVID),
        read("jsrt", {"normal": "normal"}, COVID),
    ]
    apart = read("ieee8023", {"pneumonia": "pneumonia"}, COVID, where={"hannover": "0"})
    known = set(parts[0][0].frame.patient)
    apart = (apart[0].subset(np.flatnonzero(~apart[0].frame.patient.isin(known))), apart[1])
    return _experiment(parts, {"external": external, "ieee8023_pneumonia": [apart]}, fractions, split_seed, "macro_f1")


def tuberculosis_planted(
    folder: str | None = None,
    size: int = 112,
    equalise: bool = True,
    fractions: tuple[float, float, float] = FRACTIONS,
    split_seed: int = 0,
    data_seed: int = 0,
) -> Experiment:
    """Shenzhen alone, films with a lung mask: in training a mark outside the lungs tells the class.

    Tests share films and places: `biased` (marks as in training), `unbiased` (none), `deceiving` (the other class's).
    Metric auc. `frame` also has mark (the mark's class, -1 = none), mark_top, mark_left (pixels). `data_seed` draws the
    places. Other parameters as for `tuberculosis`.
    """
    images, hashes = _reader(folder, size, equalise, None)("shenzhen", {n: n for n in TUBERCULOSIS}, TUBERCULOSIS)
    masked = torch.nonzero(images.mask.flatten(1).any(1))[:, 0]
    if not len(masked):
        raise ValueError("no film of shenzhen has a lung mask: prepare it again with its masks")
    images = images.subset(masked)
    places = choose_places(images.mask[:, 0].numpy() > 0, np.random.default_rng(data_seed))
    y = images.y.numpy()
    marks = {"biased": y, "unbiased": np.full(len(y), -1), "deceiving": 1 - y}
    sets = {kind: plant(images, marks[kind], places) for kind in marks}
    part = split_by_patient(images.frame.patient, images.frame.label, fractions, split_seed)
    rows = {name: np.flatnonzero(part == name) for name in ("train", "validation", "internal")}
    return Experiment(
        train=sets["biased"].subset(rows["train"]),
        validation=sets["biased"].subset(rows["validation"]),
        tests={kind: sets[kind].subset(rows["internal"]) for kind in sets},
        metric="auc",
        hashes=hashes,
    )


# --- reading


def _reader(folder, size, equalise, masks):
    """read(source, labels, classes, where, inside) -> (Images, hashes), for the options that all sources share."""
    root = folder or os.environ.get("ISNET_DATA")
    if not root:
        raise ValueError("no data: give the option folder, or set ISNET_DATA to the folder that holds the sources")

    def read(source, labels, classes, where=None, inside=False):
        predicted = Path(masks) / source if masks else None
        return read_source(Path(root) / source, labels, classes, where or {}, size, equalise, predicted, inside)

    return read


def read_source(
    folder: Path,
    labels: Mapping[str, str],
    classes: list[str],
    where: Mapping[str, str],
    size: int,
    equalise: bool,
    predicted: Path | None = None,
    inside: bool = False,
) -> tuple[Images, dict[str, str]]:
    """The films of one dataset folder whose label is in `labels` (label -> class) and whose columns are as in `where`.

    predicted : folder of predicted masks; inside : whether every film takes its mask from there (see the module).
    `frame`: id, patient (both with the source before them), source, y, label (the class), mask_source (human, predicted
    or empty), and the source's metadata. The hashes are of the index, the files and the predicted masks.
    """
    table, problems = read_index(folder, "label", (), None, "patient", None, ())
    refuse(folder, problems)
    if missing := [column for column in where if column not in table]:
        raise ValueError(f"{folder / 'index.csv'} has no column {missing}; prepare the source again")
    wanted = table["label"].isin(list(labels))
    for column, value in where.items():
        wanted &= table[column] == value
    table = without_copies(folder, table[wanted])
    listed = read_listing(predicted) if predicted else {}
    if inside and predicted:
        table = table[table["image"].isin(list(listed))].assign(mask="")
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
    return Images(
        x, _classes(table, labels, classes), mask, _frame(folder, table, labels, classes, origin, size), classes
    ), hashes


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


def _classes(table, labels, classes):
    return torch.tensor([classes.index(labels[label]) for label in table["label"]])


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


# --- putting together


def _experiment(parts, tests, fractions, split_seed, metric):
    """Split the pooled `parts` by patient; pool each test set."""
    inside, hashes = pool(parts)
    part = split_by_patient(inside.frame.patient, inside.frame.label, fractions, split_seed)
    sets = {name: inside.subset(np.flatnonzero(part == name)) for name in ("train", "validation", "internal")}
    external = {}
    for name, sources in tests.items():
        external[name], of_test = pool(sources)
        hashes |= {f"{key} ({name})": digest for key, digest in of_test.items()}
    leaked = set(inside.frame.patient) & {name for images in external.values() for name in images.frame.patient}
    if leaked:
        raise ValueError(f"patients both in training and in a test set: {sorted(leaked)[:5]}")
    return Experiment(sets["train"], sets["validation"], {"internal": sets["internal"]} | external, metric, hashes)


def pool(parts: list[tuple[Images, dict[str, str]]]) -> tuple[Images, dict[str, str]]:
    """Several sources as one data set."""
    images = [one for one, _ in parts]
    x, y, mask = (torch.cat([getattr(one, name) for one in images]) for name in ("x", "y", "mask"))
    frame = pd.concat([one.frame for one in images], ignore_index=True).fillna("")
    return Images(x, y, mask, frame, images[0].classes), {k: v for _, hashes in parts for k, v in hashes.items()}
