"""Experiments on photographs of faces: from fabricated folders, and, where ISNET_DATA has it, from the real one."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from stub_films import all_sets

from isnetlib import data
from isnetlib.data.real import FACES, INSIDE, OUTSIDE, cut

REAL = Path(os.environ.get("ISNET_DATA") or "/nowhere")
SIDE, ROWS = 40, 60
SHARES = dict(zip(INSIDE + OUTSIDE, (0.25, 0.5, 0.6, 0.25, 0.4), strict=True))


@pytest.fixture
def root(tmp_path):
    """celebamask_hq of noise, its attributes drawn apart from each other; no column patient."""
    place = tmp_path / "celebamask_hq"
    (place / "images").mkdir(parents=True)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    Image.fromarray(np.hypot(rows - 20, columns - 18) < 11).save(place / "face.png")
    rng, table = np.random.default_rng(0), []
    for i in range(ROWS):
        Image.fromarray(rng.integers(0, 200, (SIDE, SIDE, 3), dtype=np.uint8)).save(place / f"images/{i}.png")
        drawn = {name: int(rng.random() < share) for name, share in SHARES.items()}
        table.append({"image": f"images/{i}.png", "mask": "face.png", "source": "celebamask_hq"} | drawn)
    pd.DataFrame(table).to_csv(place / "index.csv", index=False)
    return tmp_path


def load(name, root, **options):
    return data.load(name, folder=str(root), size=32, **options)


def edit(root, **columns):
    path = root / "celebamask_hq/index.csv"
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)


def test_every_face_is_tested_once_and_validates_once_and_a_person_stays_in_one_fold(root):
    parts = [load("faces", root, fold=fold) for fold in range(5)]
    tested = pd.concat([one.tests["internal"].frame.id for one in parts])
    assert sorted(tested) == sorted(f"images/{i}.png" for i in range(ROWS))
    for fold, one in enumerate(parts):
        ids = [set(images.frame.id) for images in (one.train, one.validation, one.tests["internal"])]
        assert [len(part) for part in ids] == [36, 12, 12] and len(set().union(*ids)) == ROWS
        assert ids[1] == set(parts[(fold + 1) % 5].tests["internal"].frame.id)
        assert one.hashes == parts[0].hashes
    edit(root, patient=[f"p{i // 3}" for i in range(ROWS)])
    one = load("faces", root, fold=1)
    groups = [set(images.frame.patient) for images in (one.train, one.validation, one.tests["internal"])]
    assert sum(map(len, groups)) == 20 and len(set().union(*groups)) == 20


def test_all_experiments_share_their_folds_and_a_face_its_pattern(root):
    names = ("faces", "faces_outside", "faces_planted")
    ids = [next(iter(load(name, root, fold=2).tests.values())).frame.id for name in names]
    assert ids[0].equals(ids[1]) and ids[0].equals(ids[2])
    first, second = load("faces_planted", root, fold=0), load("faces_planted", root, fold=4)
    assert torch.equal(first.tests["biased"].x, second.validation.x)


def test_folds_are_alike_in_size_and_labels():
    labels = np.random.default_rng(0).random((500, 4)) < [0.04, 0.2, 0.5, 0.7]
    fold_of = cut(labels, np.arange(500), 5, 0)
    counts = np.array([labels[fold_of == k].sum(0) for k in range(5)])
    assert (np.bincount(fold_of) == 100).all() and np.ptp(counts, axis=0).max() <= 2
    shuffled = np.random.default_rng(1).integers(0, 5, 500)  # what chance alone would give
    assert np.ptp([labels[shuffled == k].sum(0) for k in range(5)], axis=0).max() > 10
    people, order = np.array([f"p{i:03d}" for i in range(500)]), np.random.default_rng(1).permutation(500)
    once = cut(labels, people, 5, 0)
    assert np.array_equal(cut(labels[order], people[order], 5, 0), once[order])
    assert not np.array_equal(cut(labels, people, 5, 1), once)


@pytest.mark.parametrize(("name", "labels"), [("faces", INSIDE), ("faces_outside", OUTSIDE)])
def test_photographs_as_they_are(root, name, labels):
    experiment = load(name, root)
    assert not experiment.publishable
    for images in all_sets(experiment).values():
        assert (images.frame[list(labels)].to_numpy(float) == images.y.numpy()).all()
    internal, other = experiment.tests.values()
    face = (internal.mask > 0).expand_as(internal.x)
    assert torch.equal(other.x[face], internal.x[face]) and torch.equal(other.y, internal.y)
    assert (other.x[~face] != internal.x[~face]).float().mean() > 0.9 and set(other.frame.pattern) == {"another's"}


def test_a_planted_pattern_tells_one_attribute_outside_the_mask(root):
    experiment, plain = load("faces_planted", root), load("faces", root)
    sets = all_sets(experiment)
    assert [key for key, images in sets.items() if images.augment] == ["train"]
    assert load("faces_planted", root, augment=False).train.augment is None
    told = {name: images.frame.pattern.map({"stripes": 1, "dots": 0}) for name, images in sets.items()}
    for name in ("train", "validation", "biased"):
        assert (told[name] == sets[name].y[:, 1].numpy()).all() and told[name].nunique() == 2
    assert (told["deceiving"] == 1 - sets["deceiving"].y[:, 1].numpy()).all()
    assert torch.equal(sets["unbiased"].x, plain.tests["internal"].x)
    face = (sets["unbiased"].mask > 0).expand_as(sets["unbiased"].x)
    for name in ("biased", "deceiving", "swapped"):
        assert torch.equal(sets[name].x[face], sets["unbiased"].x[face])
        assert (sets[name].x[~face] != sets["unbiased"].x[~face]).float().mean() > 0.2
    assert not torch.equal(sets["biased"].x, sets["deceiving"].x)


def test_a_byte_copy_is_left_out_and_hashes_follow_the_files(root):
    before = load("faces", root)
    images = root / "celebamask_hq/images"
    (images / "7.png").write_bytes((images / "5.png").read_bytes())
    after = load("faces", root)
    ids = pd.concat([sets.frame.id for sets in (after.train, after.validation, after.tests["internal"])])
    assert "images/5.png" in set(ids) and "images/7.png" not in set(ids) and len(ids) == ROWS - 1
    assert {name for name in before.hashes if before.hashes[name] != after.hashes[name]} == {"celebamask_hq/files"}


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        ({"Wearing_Hat": 2}, {}, "Wearing_Hat is '2'"),
        ({"mask": [""] + ["face.png"] * (ROWS - 1)}, {}, "images/0.png has no mask of its face"),
        ({"Eyeglasses": [1] + [0] * (ROWS - 1)}, {}, "fold 0: all .* faces of a part agree on Eyeglasses"),
        ({}, {"fold": 5}, "fold must be from 0 to 4, not 5"),
        ({}, {"folds": 2}, "folds must be at least 3"),
        ({}, {"tied": "Wearing_Hat"}, "one of the attributes Eyeglasses, Mouth_Open, Ears_Visible, or None"),
    ],
)
def test_indexes_and_options_that_will_not_do(root, change, options, told):
    edit(root, **change)
    with pytest.raises(ValueError, match=told):
        load("faces", root, **options)


@pytest.mark.data
@pytest.mark.skipif(not (REAL / FACES).is_dir(), reason=f"ISNET_DATA has no {FACES}")
def test_real_faces_in_folds_with_their_share_of_the_rare_attributes():
    experiment = data.load("faces", folder=str(REAL), size=32, fold=0)
    sets = (experiment.train, experiment.validation, experiment.tests["internal"])
    frame = pd.concat([images.frame for images in sets])[[*INSIDE, *OUTSIDE]].astype(int)
    assert frame.sum().tolist() == [58, 528, 686, 53, 234] and [len(images) for images in sets] == [600, 200, 200]
    assert np.ptp(frame.to_numpy()[600:].reshape(2, 200, 5).sum(1), axis=0).max() <= 1
