"""Experiments on real photographs of faces, CelebAMask-HQ: several attributes an image, the face as mask.

`folder` holds celebamask_hq/index.csv, as `isnet prepare` writes it; without it, the environment variable ISNET_DATA
names that folder. An image that is a byte copy of an earlier one is left out.

Rare attributes (one face in twenty wears glasses) leave a single test set too few cases, so the faces are cut into
`folds`: fold k is tested by the network that learnt from neither it nor the next one, which is its validation. A face
has the same fold in every experiment, and over all folds each is tested once. Where the index has no column `patient`,
nobody knows who is shown: each image counts as a person, one person may then be both in training and in a test, and
every method alike may score better than on strangers.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from isnetlib.data import augment as augmentation
from isnetlib.data import checks
from isnetlib.data.drawing import to_bytes
from isnetlib.data.faces import PATTERNS, paint_pattern
from isnetlib.data.faces_sim import swapped
from isnetlib.data.folder import encode, read_files, read_index, refuse
from isnetlib.data.images import Experiment, Images
from isnetlib.data.places import find_sources

SOURCE = "celebamask_hq"
INSIDE = ("Eyeglasses", "Mouth_Open", "Ears_Visible")
OUTSIDE = ("Wearing_Hat", "Wearing_Earrings")
CHUNK = 100  # images painted at once


def faces(
    folder: str | None = None,
    size: int = 64,
    fold: int = 0,
    folds: int = 5,
    fold_seed: int = 0,
    augment: bool = True,
) -> Experiment:
    """Attributes inside the face's mask: Eyeglasses, Mouth_Open, Ears_Visible; the photographs as they are.

    Tests: `internal`, and `swapped`, the same faces, each with all that is not face (hair, clothes, scene) from another
    face of the fold. Metric auc.

    Parameters
    ----------
    folder : see the module
    size : side to which the square images are resized, pixels
    fold : the one that is tested, 0 to folds - 1; validation is the next, after the last the first
    folds : how many parts, 3 or more, alike in size and in all five attributes of the module as well as may be
    fold_seed : of that cut; the training seed does not change it
    augment : move and shade training faces a little, each time they are seen (see `isnetlib.data.augment`)

    Returns
    -------
    Experiment, not publishable: x (N, 3, size, size) uint8, y (N, 3) float32. `frame` also has pattern ("none") and the
    columns of the index.

    Raises
    ------
    FileNotFoundError : no `folder` and no ISNET_DATA, or neither holds celebamask_hq
    ValueError : files are missing or wrong (see `isnetlib.data.folder.verify`), an option out of its range, a part in
        which all images agree on an attribute
    """
    images, fold_of, hashes = read_faces(folder, INSIDE, size, fold, folds, fold_seed)
    return _as_they_are(images, split(fold_of, fold, folds), hashes, augment)


def faces_outside(
    folder: str | None = None,
    size: int = 64,
    fold: int = 0,
    folds: int = 5,
    fold_seed: int = 0,
    augment: bool = True,
) -> Experiment:
    """Attributes outside the face's mask, Wearing_Hat and Wearing_Earrings: a limit. What is worn beside the face is
    background to a method that is told to look at the face alone, so it should do worse than one that is not.

    Tests, parameters and errors as for `faces`; y (N, 2). In `swapped` the label stays with the face, the hat does not.
    """
    images, fold_of, hashes = read_faces(folder, OUTSIDE, size, fold, folds, fold_seed)
    return _as_they_are(images, split(fold_of, fold, folds), hashes, augment)


def faces_planted(
    folder: str | None = None,
    size: int = 64,
    tied: str = "Mouth_Open",
    fold: int = 0,
    folds: int = 5,
    fold_seed: int = 0,
    data_seed: int = 0,
    augment: bool = True,
) -> Experiment:
    """As `faces`, but in training a pattern outside the mask tells one attribute: stripes, present; dots, absent.

    The test sets share faces and the patterns' places: `biased` (as in training), `unbiased` (no pattern), `deceiving`
    (stripes and dots exchanged), `swapped` (the biased faces, each on another one's background, pattern and all).

    tied : the attribute that the pattern tells; data_seed : draws colours, places and slants of the patterns. Other
    parameters and errors as for `faces`. `frame.pattern`: "stripes", "dots", "none" or "another's".
    """
    if tied not in INSIDE:
        raise ValueError(f"tied must be one of the attributes {', '.join(INSIDE)}, not {tied!r}")
    images, fold_of, hashes = read_faces(folder, INSIDE, size, fold, folds, fold_seed)
    value = images.y[:, INSIDE.index(tied)].numpy() > 0
    biased = paint(images, np.where(value, "stripes", "dots"), data_seed)
    deceiving = paint(images, np.where(value, "dots", "stripes"), data_seed)
    train, validation, test = split(fold_of, fold, folds)
    tests = {"biased": biased, "unbiased": images, "deceiving": deceiving}
    tests = {kind: one.subset(test) for kind, one in tests.items()}
    tests["swapped"] = swapped(tests["biased"], data_seed)
    train = _augmented(biased.subset(train), augment)
    return Experiment(train, biased.subset(validation), tests, "auc", hashes)


def _as_they_are(images, rows, hashes, augment):
    train, validation, test = (images.subset(part) for part in rows)
    tests = {"internal": test, "swapped": swapped(test, 0)}
    return Experiment(_augmented(train, augment), validation, tests, "auc", hashes)


def _augmented(train: Images, augment: bool) -> Images:
    train.augment = augmentation.augment if augment else None
    return train


# --- reading


def read_faces(folder, attributes, size, fold, folds, fold_seed) -> tuple[Images, np.ndarray, dict[str, str]]:
    """All faces with `attributes` as labels, the fold (N,) of each, and the hashes; raises as `faces`."""
    if folds < 3 or not 0 <= fold < folds:
        raise ValueError(f"folds must be 3 or more and fold one of 0 to folds - 1, not {folds} and {fold}")
    place = find_sources(folder, [SOURCE]) / SOURCE
    table = read_table(place)
    x, mask, digest, problems = read_files(place, table, size=size)
    refuse(place, problems)
    y, classes = encode(table, None, attributes, None)
    images = Images(x, y, mask, _frame(table, y), classes)
    fold_of = cut(table[[*INSIDE, *OUTSIDE]].to_numpy() == "1", table["patient"].to_numpy(), folds, fold_seed)
    _check_parts(images, fold_of, fold, folds)
    index = hashlib.sha256((place / "index.csv").read_bytes()).hexdigest()
    return images, fold_of, {f"{SOURCE}/index.csv": index, f"{SOURCE}/files": digest}


def read_table(place: Path) -> pd.DataFrame:
    """index.csv as text with every attribute of the module, without byte copies; patient = the image where the index
    has no such column. ValueError where something is wrong, or a face has no mask.
    """
    people = "patient" if "patient" in checks.read_table(place)[0] else None
    table, problems = read_index(place, None, (*INSIDE, *OUTSIDE), None, people, None, ())
    refuse(place, problems)
    table = checks.without_copies(place, table)
    if len(bare := table.loc[table["mask"] == "", "image"]):
        raise ValueError(f"{place / 'index.csv'}: {bare.iloc[0]} has no mask of its face; prepare the source again")
    return table


def _frame(table, y):
    shown = [" ".join(f"{value:.0f}" for value in row) for row in y.tolist()]
    frame = pd.DataFrame({"id": table["image"], "patient": table["patient"], "source": SOURCE, "y": shown})
    others = table.drop(columns=["image", "mask", "patient", "source"])
    return pd.concat([frame.assign(pattern="none"), others[[name for name in others if name not in frame]]], axis=1)


def _check_parts(images, fold_of, fold, folds):
    names = ("training", "validation", "test")
    for name, rows in zip(names, split(fold_of, fold, folds), strict=True):
        y = images.y[rows]
        for label, values in zip(images.classes, y.T, strict=True):
            if not 0 < values.sum() < len(values):
                raise ValueError(f"fold {fold}: all {len(y)} {name} faces agree on {label}; take fewer folds")


# --- folds


def split(fold_of: np.ndarray, fold: int, folds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of training, validation (the fold after `fold`) and test (`fold`)."""
    after = (fold + 1) % folds
    return tuple(np.flatnonzero(rows) for rows in (~np.isin(fold_of, (fold, after)), fold_of == after, fold_of == fold))


def cut(labels: np.ndarray, patient: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold (N,) of each row, alike in size and in every label: iterative stratification (Sechidis, Tsoumakas &
    Vlahavas, ECML PKDD 2011). labels (N, K) of 0/1; patient (N,): whose rows stay together.

    The label with the fewest patients left comes first; each of them goes to the fold that lacks that label most, of
    equals to the one that lacks most rows. The result depends neither on the order of the rows nor on anything else
    but `seed`.
    """
    people, person = np.unique(patient, return_inverse=True)
    counts = np.zeros((len(people), labels.shape[1] + 1))
    np.add.at(counts, person, np.column_stack([labels, np.ones(len(labels))]))  # the last column: rows
    left = np.random.default_rng(seed).permutation(len(people))
    wanted = np.repeat(counts.sum(0)[None] / folds, folds, 0)
    fold_of = np.zeros(len(people), dtype=int)
    while len(left):
        holders = (counts[left] > 0).sum(0)
        label = int(np.where(holders > 0, holders, len(people) + 1).argmin())
        has = counts[left, label] > 0
        for one in left[has]:
            fold = max(range(folds), key=lambda k: (wanted[k, label], wanted[k, -1], -k))
            fold_of[one] = fold
            wanted[fold] -= counts[one]
        left = left[~has]
    return fold_of[person]


# --- planted patterns


def paint(images: Images, patterns: np.ndarray, seed: int) -> Images:
    """The images with a pattern (N,), "stripes" or "dots", over all that is not face; the faces stay as they are, bit
    for bit. What is drawn of `seed` does not depend on the patterns.
    """
    rng, n = np.random.default_rng(seed), len(images)
    colours, u = 0.15 + 0.7 * rng.random((n, 3), dtype=np.float32), rng.random((n, 4), dtype=np.float32)
    number, x = np.array([PATTERNS.index(name) for name in patterns]), images.x.clone()
    for rows in np.array_split(np.arange(n), n // CHUNK + 1):
        canvas = images.x[rows].numpy().astype(np.float32) / 255
        painted = torch.from_numpy(to_bytes(paint_pattern(canvas, number[rows], colours[rows], u[rows])))
        x[rows] = torch.where(images.mask[rows] > 0, images.x[rows], painted)
    return Images(x, images.y, images.mask, images.frame.assign(pattern=patterns), images.classes)
