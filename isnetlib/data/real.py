"""Experiments on real images: chest X-rays from several data sets, and faces of CelebAMask-HQ.

Byte copies, whoever their patient is, are left out. Films are stretched to squares; in training the class is confounded
with the source. A film of training, validation and `internal` has a predicted mask or is left out, since the style of a
human one would tell the source; other tests have human masks, and predicted ones where there are none. Faces are cut
into `folds`, since rare attributes leave a single test set too few cases; a face has the same fold in every experiment.
Without a column `patient` each image counts as a person, who may be in training and in a test: scores may be too good.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from isnetlib.data import backgrounds, files
from isnetlib.data.files import Refused, find_sources, read_file, read_index, read_table, refuse
from isnetlib.data.folder import FRACTIONS, encode, read_images, split_by_patient, without_copies
from isnetlib.data.images import Experiment, Images, check_range, divide, with_masks
from isnetlib.data.simulated.drawing import to_bytes
from isnetlib.data.simulated.faces import PATTERNS, TESTS, paint_pattern, swapped

MIXTURES = yaml.safe_load(Path(__file__).with_name("mixtures.yaml").read_text(encoding="utf-8"))
FACES = "celebamask_hq"
INSIDE = ("Eyeglasses", "Mouth_Open", "Ears_Visible")
OUTSIDE = ("Wearing_Hat", "Wearing_Earrings")
CHUNK = 100  # faces painted at once


def films(name, folder=None, size=112, equalise=True, split_seed=0, masks=None, augment=True, most=None) -> Experiment:
    """A mixture of sources, in which the source tells the class; tests are `internal` (as training), and others.

    name : in mixtures.yaml, which tells sources, tests and metric; `frame.boxes` are in pixels of the loaded image
    masks : holds <source>/index.csv with the columns image and mask, as notebook 08_segment writes them; "": each film
        has the mask of its own source, or none
    most : films of a class that a source of training gives at most, drawn evenly by split_seed; None = all
    """
    check_range(1, most=1 if most is None else most)
    mixture = MIXTURES[name]
    needed = {test: parts for test, parts in mixture["tests"].items() if test not in mixture.get("optional", ())}
    sources = list(dict.fromkeys(part["source"] for part in sum(needed.values(), mixture["inside"])))
    root = find_sources(folder, sources)
    masks = None if masks == "" else find_sources(masks, sources, "ISNET_MASKS", "notebook 08_segment")

    def read(parts, few):
        found = [_read(root, masks, part, mixture["classes"], size, equalise, few) for part in parts]
        x, y, mask = (torch.cat([getattr(one, field) for one, _ in found]) for field in ("x", "y", "mask"))
        frame = pd.concat([one.frame for one, _ in found], ignore_index=True).fillna("")
        return Images(x, y, mask, frame, mixture["classes"]), {key: own[key] for _, own in found for key in own}

    within, hashes = read(mixture["inside"], (most, split_seed))
    part = split_by_patient(within.frame.patient, within.frame.label, FRACTIONS, split_seed)
    experiment = divide({"internal": within}, part, mixture["metric"], hashes, backgrounds.augment if augment else None)
    for test, parts in mixture["tests"].items():
        if test in needed or (root / test).is_dir():
            images, of_test = read(parts, None)
            strangers = ~images.frame.patient.isin(within.frame.patient)
            experiment.tests[test] = images.subset(np.flatnonzero(strangers))
        if test in needed:  # one that is added later makes no run stale
            experiment.hashes.update({f"{key} ({test})": digest for key, digest in of_test.items()})
    return experiment


def planted(folder=None, size=112, equalise=True, split_seed=0, augment=True) -> Experiment:
    """Shenzhen's films with a human lung mask: in training a mark outside the lungs tells the class. Metric auc. Tests
    share films and places: `biased` (marks as in training), `unbiased` (none), `deceiving` (the other class's). `frame`
    also has mark (the mark's class, -1 = none), mark_top, mark_left (pixels).
    """
    mixture, root = MIXTURES["tuberculosis_planted"], find_sources(folder, ["shenzhen"])
    images, hashes = _read(root, None, mixture["inside"][0], mixture["classes"], size, equalise)
    images = with_masks(images, f"{root / 'shenzhen'}, to be prepared again with its lung masks")
    places, y = backgrounds.choose_places(images.mask[:, 0].numpy() > 0, np.random.default_rng(0)), images.y.numpy()
    marks = {"biased": y, "unbiased": np.full(len(y), -1), "deceiving": 1 - y}
    sets = {kind: backgrounds.plant(images, own, places) for kind, own in marks.items()}
    part = split_by_patient(images.frame.patient, images.frame.label, FRACTIONS, split_seed)
    return divide(sets, part, mixture["metric"], hashes, backgrounds.augment if augment else None)


def _read(root, masks, part, classes, size, equalise, few=None):
    """Images and hashes of a part. few: of training, with predicted masks alone: most films a label, or None; seed."""
    source, labels, where = part["source"], part["labels"], part.get("where", {})
    place, predicted, listed = root / source, masks and masks / source, {}
    table, problems = read_index(place, others=where)
    refuse(place, problems)
    table = table[table["label"].isin(list(labels)) & (table[list(where)] == list(where.values())).all(axis=1)]
    if predicted and predicted.is_dir():  # an optional source may have none
        listing, problems = read_table(predicted, ["image", "mask"])
        refuse(predicted, problems)
        listed = dict(listing.loc[listing["mask"] != "", ["image", "mask"]].to_numpy())
    if few:
        table = table[table["image"].isin(list(listed))].assign(mask="") if predicted else table
        shuffled = table.iloc[np.random.default_rng(few[1]).permutation(len(table))]
        table = table.loc[shuffled.groupby("label").head(few[0] or len(table)).index.sort_values()]
    table = without_copies(place, table).assign(source=source)
    if table.empty:
        raise ValueError(f"{place} holds no film of {list(labels)}{' with a predicted mask' if predicted else ''}")
    label = table["label"].map(labels)
    y = torch.tensor(label.map(classes.index).to_numpy())
    origin = np.select([table["mask"] != "", table["image"].isin(list(listed))], ["human", "predicted"], "")
    own = {"label": label, "mask_source": origin}
    images, hashes, problems = read_images(place, table, y, classes, size, equalise, f"{source}/", **own)
    refuse(place, problems)
    if listed:
        hashes[f"{source}/predicted masks"] = _fill(images, table["image"].to_numpy(), predicted, listed)
    return images, hashes


def _fill(images, names, predicted, listed):
    """Put predicted masks into the images of these names; sha256 of their files."""
    digest = hashlib.sha256()
    for i in np.flatnonzero(images.frame["mask_source"] == "predicted"):
        mask = listed[names[i]]
        try:
            data = read_file(predicted, mask)
            images.mask[i] = files.resize_mask(files.to_mask(files.decode(data)), tuple(images.mask.shape[2:]))
        except Refused as error:
            raise ValueError(f"{predicted / mask}: {error.args[0]}; predict the masks again") from error
        digest.update(f"{hashlib.sha256(data).hexdigest()} {names[i]}\n".encode())
    return digest.hexdigest()


def faces(attributes, folder=None, size=64, tied=None, fold=0, folds=5, augment=True) -> Experiment:
    """Faces with some attributes as labels, as they are or with a pattern outside the mask. Metric auc.

    As they are, the tests are `internal`, and `swapped`, the same faces, each with all that is not face (hair, clothes,
    scene) from another face of the fold. With a pattern, they share faces and the patterns' places: `biased` (as in
    training), `unbiased` (no pattern), `deceiving` (stripes and dots exchanged), `swapped` (the biased faces, each on
    another one's background, pattern and all). `frame` also has pattern.

    attributes : INSIDE of the face, or OUTSIDE: a limit, since what is worn beside the face is background to a method
        that is told to look at the face alone; in `swapped` the label stays with the face, the hat does not
    tied : None, or the attribute that a pattern outside the mask tells in training: stripes, present; dots, absent
    fold : the one that is tested, of `folds` (3 or more), alike in size and attributes; validation is the next, or 0
    """
    if tied not in (None, *attributes):
        raise ValueError(f"tied must be one of the attributes {', '.join(attributes)}, or None, not {tied!r}")
    check_range(3, folds=folds)
    check_range(0, folds - 1, fold=fold)
    place = find_sources(folder, [FACES]) / FACES
    people = "patient" if "patient" in read_table(place)[0] else None
    table, problems = read_index(place, attributes=(*INSIDE, *OUTSIDE), patient=people)
    refuse(place, problems)
    table = without_copies(place, table).assign(source=FACES)
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
    experiment = divide(sets, part, "auc", hashes, backgrounds.augment if augment else None)
    experiment.tests["swapped"] = swapped(next(iter(experiment.tests.values())), 0)
    return experiment


def cut(labels: np.ndarray, patient: np.ndarray, folds: int, seed: int = 0) -> np.ndarray:
    """The fold (N,) of each row, alike in size and in every label (N, K) of 0/1, a patient's rows together: iterative
    stratification (Sechidis, Tsoumakas & Vlahavas, ECML PKDD 2011), rare labels first.
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
