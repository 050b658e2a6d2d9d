"""Experiments on real photographs of faces, CelebAMask-HQ: several attributes an image, the face as mask.

Rare attributes leave a single test set too few cases, so the faces are cut into `folds`: fold k is tested by the
network that learnt from neither it nor the next one, its validation. A face has the same fold in every experiment.
Where the index has no column `patient`, each image counts as a person, who may then be both in training and in a test:
every method alike may score better than on strangers.
"""

import numpy as np
import torch

from isnetlib.data.backgrounds import augment as move
from isnetlib.data.files import find_sources
from isnetlib.data.folder import encode, read_images, without_copies
from isnetlib.data.images import Experiment, Images, check_range, divide
from isnetlib.data.index import read_index, read_table, refuse
from isnetlib.data.simulated.drawing import to_bytes
from isnetlib.data.simulated.faces import PATTERNS, TESTS, paint_pattern, swapped

SOURCE = "celebamask_hq"
INSIDE = ("Eyeglasses", "Mouth_Open", "Ears_Visible")
OUTSIDE = ("Wearing_Hat", "Wearing_Earrings")
CHUNK = 100  # images painted at once


def load(attributes, folder=None, size=64, tied=None, fold=0, folds=5, augment=True) -> Experiment:
    """Faces with some attributes as labels, as they are or with a pattern outside the mask. Metric auc.

    As they are, the tests are `internal`, and `swapped`, the same faces, each with all that is not face (hair, clothes,
    scene) from another face of the fold. With a pattern, they share faces and the patterns' places: `biased` (as in
    training), `unbiased` (no pattern), `deceiving` (stripes and dots exchanged), `swapped` (the biased faces, each on
    another one's background, pattern and all). `frame` also has pattern.

    attributes : INSIDE of the face, or OUTSIDE: a limit, since what is worn beside the face is background to a method
        that is told to look at the face alone; in `swapped` the label stays with the face, the hat does not
    tied : None, or the attribute that a pattern outside the mask tells in training: stripes, present; dots, absent
    fold : the one that is tested, 0 to folds - 1; validation is the next, after the last the first
    folds : how many parts, 3 or more, alike in size and in all five attributes as well as may be
    """
    if tied not in (None, *attributes):
        raise ValueError(f"tied must be one of the attributes {', '.join(attributes)}, or None, not {tied!r}")
    check_range(3, folds=folds)
    check_range(0, folds - 1, fold=fold)
    place = find_sources(folder, [SOURCE]) / SOURCE
    people = "patient" if "patient" in read_table(place)[0] else None
    table, problems = read_index(place, attributes=(*INSIDE, *OUTSIDE), patient=people)
    refuse(place, problems)
    table = without_copies(place, table).assign(source=SOURCE)
    if len(bare := table.loc[table["mask"] == "", "image"]):
        raise ValueError(f"{place / 'index.csv'}: {bare.iloc[0]} has no mask of its face; prepare the source again")
    y, classes = encode(table, None, attributes, None)
    images, hashes, problems = read_images(place, table, y, classes, size, pattern="none")
    refuse(place, problems)
    fold_of = cut(table[[*INSIDE, *OUTSIDE]].to_numpy() == "1", table["patient"].to_numpy(), folds)
    part = np.select([fold_of == fold, fold_of == (fold + 1) % folds], ["test", "validation"], "train")
    for name in ("train", "validation", "test"):
        for label, values in zip(attributes, y[part == name].T, strict=True):
            if values.min() == values.max():
                raise ValueError(f"fold {fold}: all {len(values)} faces of a part agree on {label}; take fewer folds")
    sets = {"internal": images}
    if tied:
        present = y[:, attributes.index(tied)].numpy() > 0
        sets = {kind: paint(images, np.where(present, *patterns)) for kind, patterns in TESTS.items()}
    experiment = divide(sets, part, "auc", hashes, move if augment else None)
    experiment.tests["swapped"] = swapped(next(iter(experiment.tests.values())), 0)
    return experiment


def cut(labels: np.ndarray, patient: np.ndarray, folds: int, seed: int = 0) -> np.ndarray:
    """The fold (N,) of each row, alike in size and in every label (N, K) of 0/1, a patient's rows together: iterative
    stratification (Sechidis, Tsoumakas & Vlahavas, ECML PKDD 2011). The label with the fewest patients left comes
    first; each of them goes to the fold that lacks that label most, of equals to the one that lacks most rows.
    """
    _, person = np.unique(patient, return_inverse=True)
    counts = np.stack([np.bincount(person, has) for has in (*labels.T, np.ones(len(labels)))], axis=1)  # last: rows
    left = np.random.default_rng(seed).permutation(len(counts))
    wanted, fold_of = np.tile(counts.sum(0) / folds, (folds, 1)), np.zeros(len(counts), dtype=int)
    while len(left):
        holders = (counts[left] > 0).sum(0)
        label = int(np.where(holders > 0, holders, len(counts) + 1).argmin())
        has = counts[left, label] > 0
        for one in left[has]:
            fold_of[one] = max(range(folds), key=lambda k: (wanted[k, label], wanted[k, -1], -k))
            wanted[fold_of[one]] -= counts[one]
        left = left[~has]
    return fold_of[person]


def paint(images: Images, patterns: np.ndarray, seed: int = 0) -> Images:
    """The images with a pattern (N,), "stripes" or "dots", over all that is not face, bit for bit."""
    rng, n = np.random.default_rng(seed), len(images)
    colours, u = 0.15 + 0.7 * rng.random((n, 3), dtype=np.float32), rng.random((n, 4), dtype=np.float32)
    number, x = np.array([PATTERNS.index(name) for name in patterns]), images.x.clone()
    for rows in np.array_split(np.arange(n), n // CHUNK + 1):
        canvas = images.x[rows].numpy().astype(np.float32) / 255
        painted = torch.from_numpy(to_bytes(paint_pattern(canvas, number[rows], colours[rows], u[rows])))
        x[rows] = torch.where(images.mask[rows] > 0, images.x[rows], painted)
    return Images(x, images.y, images.mask, images.frame.assign(pattern=patterns), images.classes)
