"""Experiments on chest X-rays from several data sets: in training the class is confounded with the source.

Films are stretched to squares; byte copies, whoever their patient is, are left out. A film of training, validation and
`internal` has a predicted mask or is left out, since the style of a human one would tell the source. Other tests have
human masks, and predicted ones where there are none.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from isnetlib.data import backgrounds
from isnetlib.data.files import Refused, decode, find_sources, read_file, resize_mask, to_mask
from isnetlib.data.folder import FRACTIONS, read_images, split_by_patient, without_copies
from isnetlib.data.images import Experiment, Images, check_range, divide
from isnetlib.data.index import read_index, read_table, refuse

MIXTURES = yaml.safe_load(Path(__file__).with_name("mixtures.yaml").read_text(encoding="utf-8"))


def load(name, folder=None, size=112, equalise=True, split_seed=0, masks=None, augment=True, most=None) -> Experiment:
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
    masked = torch.nonzero(images.area())[:, 0]
    if not len(masked):
        raise ValueError("no film of shenzhen has a lung mask: prepare it again with its masks")
    images = images.subset(masked)
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
    """Put the predicted masks into the images (N,) of these names; sha256 of their files."""
    digest = hashlib.sha256()
    for i in np.flatnonzero(images.frame["mask_source"] == "predicted"):
        mask = listed[names[i]]
        try:
            data = read_file(predicted, mask)
            images.mask[i] = resize_mask(to_mask(decode(data)), tuple(images.mask.shape[2:]))
        except Refused as error:
            raise ValueError(f"{predicted / mask}: {error.args[0]}; predict the masks again") from error
        digest.update(f"{hashlib.sha256(data).hexdigest()} {names[i]}\n".encode())
    return digest.hexdigest()
