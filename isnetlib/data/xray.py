"""Experiments on chest X-rays from several data sets: in training the class is confounded with the source.

`folder` holds one dataset folder a source (shenzhen/index.csv, ...), as `isnet prepare` writes them; without it, the
environment variable ISNET_DATA names it. Films become grey, are stretched to a square, their histograms are equalised,
and the grey is repeated in three channels. A byte copy of an earlier film is left out, whoever its patient is.

`masks`, or without it the environment variable ISNET_MASKS, holds <source>/index.csv with the columns image and mask:
predicted lungs, as notebook 08_segment writes them. Every film of training, validation and `internal` has its predicted
mask, never a human one, whose style would tell the source, and a film that is not listed there is left out. The other
test sets keep human masks, and get predicted ones where there are none. With masks="" each film has the mask of its own
source, or none.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from isnetlib.data.backgrounds import augment as move
from isnetlib.data.backgrounds import choose_places, plant
from isnetlib.data.files import Refused, decode, read_file, resize_mask, to_mask
from isnetlib.data.folder import PARTS, frame_of, hashes_of, read_files, split_by_patient, without_copies
from isnetlib.data.images import Experiment, Images
from isnetlib.data.index import missing_columns, read_index, read_table, refuse
from isnetlib.data.places import find_masks, find_sources

FRACTIONS = (0.7, 0.15, 0.15)  # of the patients, for train, validation and internal
TUBERCULOSIS = ["normal", "tuberculosis"]
OWN, HEALTHY = {name: name for name in TUBERCULOSIS}, {"normal": "normal"}
NOT_HANNOVER = {"hannover": "0"}  # leaves out films that may show patients of the source hannover


class Part(NamedTuple):
    """Films of a source: label -> class, and what further columns must be."""

    source: str
    labels: dict[str, str]
    where: dict[str, str] = {}


COVID, PNEUMONIA = {"covid": "covid"}, {"pneumonia": "pneumonia"}
HEALTHY_NIH = {"no_finding": "normal"}
MIXTURES = {  # classes; parts of training, validation and `internal`; other tests
    "tuberculosis": (
        TUBERCULOSIS,
        [Part("tbx11k", {"tuberculosis": "tuberculosis"}), Part("nih", HEALTHY_NIH)],
        {"shenzhen": [Part("shenzhen", OWN)]},
    ),
    "covid": (
        ["normal", "pneumonia", "covid"],
        [Part("ieee8023", COVID, NOT_HANNOVER), Part("nih", HEALTHY_NIH | PNEUMONIA)],
        {
            "external": [Part("hannover", COVID), Part("shenzhen", HEALTHY), Part("jsrt", HEALTHY)],
            "ieee8023_pneumonia": [Part("ieee8023", PNEUMONIA, NOT_HANNOVER)],
        },
    ),
}


def load(
    name: str,
    folder: str | None = None,
    size: int = 112,
    equalise: bool = True,
    split_seed: int = 0,
    masks: str | None = None,
    augment: bool = True,
    most: int | None = None,
) -> Experiment:
    """A mixture of sources, in which the source tells the class.

    name : "tuberculosis": TBX11K's tuberculosis against healthy films of NIH ChestX-ray14. Tests: `internal` (as
        training) and `shenzhen`, both classes from one hospital that training never saw. Metric auc. Where TBX11K has
        boxes of lesions, `frame.boxes` holds them in pixels of the loaded image.
        "covid": COVID-19 of the COVID-19 image data collection against healthy and pneumonia films of NIH. Tests:
        `internal`; `external` pools hannover (covid), and the healthy of shenzhen and jsrt; `ieee8023_pneumonia` stands
        apart, since it shares the source of the covid class: who reads the background calls it covid. Metric macro_f1.
    folder, masks : see the module
    size : side of the square, pixels
    equalise : equalise the histogram, after resizing
    split_seed : of the split by patient; the training seed does not change it
    augment : move and shade training films a little, each time they are seen (see `isnetlib.data.backgrounds.augment`)
    most : films of a class that a source of training gives at most, drawn evenly by split_seed; None = all

    FileNotFoundError: a source is not there, or no place is named. ValueError: a source is wrong (`folder.verify`).
    """
    classes, inside, others = MIXTURES[name]
    sources = list(dict.fromkeys(part.source for part in [*inside, *sum(others.values(), [])]))
    root, masks = find_sources(folder, sources), find_masks(masks, sources)

    def read(parts, few):
        return _pool([_read(root, masks, part, classes, size, equalise, few) for part in parts])

    within, hashes = read(inside, (most, split_seed))
    train, validation, internal = (within.subset(rows) for rows in _split(within, split_seed))
    tests = {"internal": internal}
    for test, parts in others.items():
        images, of_test = read(parts, None)
        tests[test] = images.subset(np.flatnonzero(~images.frame.patient.isin(within.frame.patient)))
        hashes |= {f"{key} ({test})": digest for key, digest in of_test.items()}
    train.augment = move if augment else None
    return Experiment(train, validation, tests, "auc" if len(classes) == 2 else "macro_f1", hashes)


def planted(
    folder: str | None = None, size: int = 112, equalise: bool = True, split_seed: int = 0, augment: bool = True
) -> Experiment:
    """Shenzhen alone, films with a human lung mask: in training a mark outside the lungs tells the class.

    Tests share films and places: `biased` (marks as in training), `unbiased` (none), `deceiving` (the other class's).
    Metric auc. `frame` also has mark (the mark's class, -1 = none), mark_top, mark_left (pixels). Training films are
    augmented with their marks. Parameters as for `load`.
    """
    root = find_sources(folder, ["shenzhen"])
    images, hashes = _read(root, None, Part("shenzhen", OWN), TUBERCULOSIS, size, equalise)
    masked = torch.nonzero(images.mask.flatten(1).any(1))[:, 0]
    if not len(masked):
        raise ValueError("no film of shenzhen has a lung mask: prepare it again with its masks")
    images = images.subset(masked)
    places = choose_places(images.mask[:, 0].numpy() > 0, np.random.default_rng(0))
    y = images.y.numpy()
    marks = {"biased": y, "unbiased": np.full(len(y), -1), "deceiving": 1 - y}
    sets = {kind: plant(images, marks[kind], places) for kind in marks}
    train, validation, test = _split(images, split_seed)
    tests = {kind: one.subset(test) for kind, one in sets.items()}
    train, validation = sets["biased"].subset(train), sets["biased"].subset(validation)
    train.augment = move if augment else None
    return Experiment(train, validation, tests, "auc", hashes)


def _split(images, seed):
    part = split_by_patient(images.frame.patient, images.frame.label, FRACTIONS, seed)
    return (np.flatnonzero(part == name) for name in PARTS)


def _pool(parts):
    images = [one for one, _ in parts]
    x, y, mask = (torch.cat([getattr(one, name) for one in images]) for name in ("x", "y", "mask"))
    frame = pd.concat([one.frame for one in images], ignore_index=True).fillna("")
    return Images(x, y, mask, frame, images[0].classes), {k: v for _, hashes in parts for k, v in hashes.items()}


def _read(root, masks, part, classes, size, equalise, few=None):
    """Images and hashes of a Part. few: None, or, for training, how many films of a label at most, and the seed that
    draws them; then every film takes its mask from `masks`, or is left out.
    """
    place, predicted = root / part.source, masks / part.source if masks else None
    listed = read_listing(predicted) if predicted else {}
    table = _choose(place, part)
    if few and predicted:
        table = table[table["image"].isin(list(listed))].assign(mask="")
    table = without_copies(place, _at_most(table, *few) if few else table)
    if table.empty:
        of = f" with a mask in {predicted}" if predicted else ""
        raise ValueError(f"{place} holds no film of {list(part.labels)}{of}")
    x, mask, digest, problems = read_files(place, table, 32, size, equalise)
    refuse(place, problems)
    hashes = hashes_of(place, digest)
    origin = np.where(table["image"].isin(list(listed)), "predicted", "")
    origin = np.where(table["mask"] != "", "human", origin)
    if predicted:
        rows = np.flatnonzero(origin == "predicted")
        hashes[f"{part.source}/predicted masks"] = _fill(mask, rows, table["image"], predicted, listed, size)
    label = table["label"].map(part.labels)
    y = torch.tensor(label.map(classes.index).to_numpy())
    table = table.assign(source=part.source)
    frame = frame_of(place, table, y, size, f"{part.source}/", label=label, mask_source=origin)
    return Images(x, y, mask, frame, classes), hashes


def read_listing(predicted: Path) -> dict[str, str]:
    """Image -> mask file of a folder of predicted masks."""
    table, problems = read_table(predicted)
    refuse(predicted, problems or missing_columns(table, ["image", "mask"]))
    return table[table["mask"] != ""].set_index("image")["mask"].to_dict()


def _choose(place, part):
    table, problems = read_index(place)
    refuse(place, problems or missing_columns(table, part.where))
    wanted = table["label"].isin(list(part.labels))
    return table[wanted & (table[list(part.where)] == pd.Series(part.where, dtype=object)).all(axis=1)]


def _at_most(table, most, seed):
    """The table with `most` rows of each label or fewer, in their order; None: all of them."""
    if most is None:
        return table
    if most < 1:
        raise ValueError(f"most is a number of films, 1 or more, or None for all; got {most}")
    shuffled = table.iloc[np.random.default_rng(seed).permutation(len(table))]
    return table.loc[shuffled.groupby("label").head(most).index.sort_values()]


def _fill(mask, rows, images, predicted, listed, size):
    """Put the predicted masks in their `rows` of `mask` (N, 1, H, W); sha256 of their files."""
    digest = hashlib.sha256()
    for i in rows:
        name = listed[image := images.iloc[i]]
        try:
            data = read_file(predicted, name)
            mask[i] = resize_mask(to_mask(decode(data)), size)
        except Refused as error:
            raise ValueError(f"{predicted / name}: {error.args[0]}; predict the masks again") from error
        digest.update(f"{hashlib.sha256(data).hexdigest()} {image}\n".encode())
    return digest.hexdigest()
