"""Experiments on chest X-rays from several data sets: in training the class is confounded with the source.

`folder` holds one dataset folder a source, named after it (shenzhen/index.csv, ...), as `isnet prepare` writes them;
without it, the environment variable ISNET_DATA names it. Films become grey, are stretched to a square, their histograms
are equalised, and the grey is repeated in three channels. A byte copy of an earlier film is left out, whoever its
patient is: in the COVID-19 image data collection one film stands under two patients, which would be a leak.

`masks`, or without it the environment variable ISNET_MASKS, holds for each source <source>/index.csv with the columns
image (as in the source's own index) and mask (a file relative to <source>): predicted lungs, as notebook 08_segment
writes them. Every film of training, validation and `internal` has its predicted mask, never a human one, whose style
would tell the source, and a film that is not listed there is left out. The other test sets keep human masks, and get
predicted ones where there are none. With masks="" each film has the mask of its own source, or none.
"""

import numpy as np
import torch

from isnetlib.data import augment as augmentation
from isnetlib.data.folder import split_by_patient
from isnetlib.data.images import Experiment, Images
from isnetlib.data.marks import choose_places, plant
from isnetlib.data.places import find_masks, find_sources
from isnetlib.data.reading import pool, read_source

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
    augment: bool = True,
    most: int | None = None,
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
    augment : move and shade training films a little, each time they are seen (see `isnetlib.data.augment`)
    most : films of a class that a source of training gives at most, drawn evenly by split_seed; None = all. A source
        may have a hundred times as many as another

    Raises
    ------
    FileNotFoundError : no `folder` and no ISNET_DATA, no `masks` and no ISNET_MASKS, or a source is not in them
    ValueError : a source is wrong (see `isnetlib.data.folder.verify`)
    """
    read = _reader(("tbx11k", "nih", "shenzhen"), folder, size, equalise, masks, (most, split_seed))
    parts = [
        read("tbx11k", {"tuberculosis": "tuberculosis"}, TUBERCULOSIS, inside=True),
        read("nih", {"no_finding": "normal"}, TUBERCULOSIS, inside=True),
    ]
    shenzhen = read("shenzhen", {name: name for name in TUBERCULOSIS}, TUBERCULOSIS)
    return _experiment(parts, {"shenzhen": [shenzhen]}, fractions, split_seed, "auc", augment)


def covid(
    folder: str | None = None,
    size: int = 112,
    equalise: bool = True,
    fractions: tuple[float, float, float] = FRACTIONS,
    split_seed: int = 0,
    masks: str | None = None,
    augment: bool = True,
    most: int | None = None,
) -> Experiment:
    """COVID-19 of the COVID-19 image data collection against healthy and pneumonia films of NIH ChestX-ray14.

    Films that may show Hannover's patients (`hannover` = 1) are left out. Tests: `internal`; `external` pools hannover
    (covid), and the healthy of shenzhen and jsrt; `ieee8023_pneumonia` stands apart, since it shares the source of the
    covid class: who reads the background calls it covid. Metric macro_f1. Parameters as for `tuberculosis`.
    """
    read = _reader(
        ("ieee8023", "nih", "hannover", "shenzhen", "jsrt"), folder, size, equalise, masks, (most, split_seed)
    )
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
    tests = {"external": external, "ieee8023_pneumonia": [apart]}
    return _experiment(parts, tests, fractions, split_seed, "macro_f1", augment)


def tuberculosis_planted(
    folder: str | None = None,
    size: int = 112,
    equalise: bool = True,
    fractions: tuple[float, float, float] = FRACTIONS,
    split_seed: int = 0,
    data_seed: int = 0,
    augment: bool = True,
) -> Experiment:
    """Shenzhen alone, films with a human lung mask: in training a mark outside the lungs tells the class.

    Tests share films and places: `biased` (marks as in training), `unbiased` (none), `deceiving` (the other class's).
    Metric auc. `frame` also has mark (the mark's class, -1 = none), mark_top, mark_left (pixels). `data_seed` draws the
    places. Training films are augmented with their marks. Other parameters as for `tuberculosis`.
    """
    read = _reader(("shenzhen",), folder, size, equalise, masks="")
    images, hashes = read("shenzhen", {name: name for name in TUBERCULOSIS}, TUBERCULOSIS)
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
        train=_augmented(sets["biased"].subset(rows["train"]), augment),
        validation=sets["biased"].subset(rows["validation"]),
        tests={kind: sets[kind].subset(rows["internal"]) for kind in sets},
        metric="auc",
        hashes=hashes,
    )


# --- reading


def _reader(sources, folder, size, equalise, masks, most=(None, 0)):
    """read(source, labels, classes, where, inside) -> (Images, hashes), for the options that all sources share."""
    root, masks = find_sources(folder, sources), find_masks(masks, sources)

    def read(source, labels, classes, where=None, inside=False):
        predicted = masks / source if masks else None
        few = most if inside else (None, 0)
        return read_source(root / source, labels, classes, where or {}, size, equalise, predicted, inside, few)

    return read


# --- putting together


def _experiment(parts, tests, fractions, split_seed, metric, augment):
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
    train = _augmented(sets["train"], augment)
    return Experiment(train, sets["validation"], {"internal": sets["internal"]} | external, metric, hashes)


def _augmented(train: Images, augment: bool) -> Images:
    """The training films, and theirs alone, change a little each time they are seen."""
    train.augment = augmentation.augment if augment else None
    return train
