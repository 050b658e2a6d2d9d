"""Experiments on photographs of faces: from fabricated folders, and, where ISNET_DATA has it, from the real one."""

import inspect
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from isnetlib import data, names
from isnetlib.baselines import METHODS
from isnetlib.data import faces_real, folder
from isnetlib.data.faces_real import INSIDE, OUTSIDE, cut
from isnetlib.study import data_hashes, resolve

ROOT = Path(__file__).parent.parent
REAL = Path(os.environ.get("ISNET_DATA") or "/nowhere")
SIDE, ROWS = 40, 60
SHARES = dict(zip(INSIDE + OUTSIDE, (0.25, 0.5, 0.6, 0.25, 0.4), strict=True))


def disc():
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.where(np.hypot(rows - 20, columns - 18) < 11, 255, 0).astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    """celebamask_hq of noise, its attributes drawn apart from each other; no column patient."""
    place = tmp_path / "celebamask_hq"
    (place / "images").mkdir(parents=True)
    Image.fromarray(disc()).save(place / "face.png")
    rng, table = np.random.default_rng(0), []
    for i in range(ROWS):
        Image.fromarray(rng.integers(0, 200, (SIDE, SIDE, 3), dtype=np.uint8)).save(place / f"images/{i}.png")
        drawn = {name: int(rng.random() < share) for name, share in SHARES.items()}
        table.append({"image": f"images/{i}.png", "mask": "face.png", "source": "celebamask_hq"} | drawn)
    pd.DataFrame(table).to_csv(place / "index.csv", index=False)
    return tmp_path


def load(name, root, **options):
    return data.load(name, folder=str(root), size=32, **options)


def all_sets(experiment):
    return {"train": experiment.train, "validation": experiment.validation} | experiment.tests


def edit(root, change):
    """index.csv as `change` returns its table."""
    path = root / "celebamask_hq/index.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


# --- folds --------------------------------------------------------------------------------------------------------


def test_every_face_is_tested_once_and_validates_once(root):
    parts = [load("faces", root, fold=fold) for fold in range(5)]
    tested = pd.concat([one.tests["internal"].frame.id for one in parts])
    assert sorted(tested) == sorted(f"images/{i}.png" for i in range(ROWS))
    for fold, one in enumerate(parts):
        ids = [set(images.frame.id) for images in (one.train, one.validation, one.tests["internal"])]
        assert [len(part) for part in ids] == [36, 12, 12] and len(set().union(*ids)) == ROWS
        assert ids[1] == set(parts[(fold + 1) % 5].tests["internal"].frame.id)
        assert one.hashes == parts[0].hashes


def test_all_experiments_share_their_folds(root):
    names = ("faces", "faces_outside", "faces_planted")
    ids = [next(iter(load(name, root, fold=2).tests.values())).frame.id for name in names]
    assert ids[0].equals(ids[1]) and ids[0].equals(ids[2])


def test_folds_are_alike_in_size_and_labels():
    labels = np.random.default_rng(0).random((500, 4)) < [0.04, 0.2, 0.5, 0.7]
    fold_of = cut(labels, np.arange(500), 5, 0)
    counts = np.array([labels[fold_of == k].sum(0) for k in range(5)])
    assert (np.bincount(fold_of) == 100).all() and np.ptp(counts, axis=0).max() <= 2
    shuffled = np.random.default_rng(1).integers(0, 5, 500)  # what chance alone would give
    assert np.ptp([labels[shuffled == k].sum(0) for k in range(5)], axis=0).max() > 10


def test_the_cut_depends_on_its_seed_alone():
    labels, people = np.random.default_rng(0).random((90, 3)) < 0.3, np.array([f"p{i:03d}" for i in range(90)])
    once, order = cut(labels, people, 5, 0), np.random.default_rng(1).permutation(90)
    assert np.array_equal(cut(labels[order], people[order], 5, 0), once[order])
    assert not np.array_equal(cut(labels, people, 5, 1), once)


def test_a_person_stays_in_one_fold(root):
    people = np.array([f"p{i // 3}" for i in range(ROWS)])
    edit(root, lambda table: table.assign(patient=people))
    one = load("faces", root, fold=1)
    groups = [set(images.frame.patient) for images in (one.train, one.validation, one.tests["internal"])]
    assert sum(map(len, groups)) == 20 and len(set().union(*groups)) == 20


def test_without_identities_each_image_is_a_person(root):
    frame = load("faces", root).train.frame
    assert frame.patient.equals(frame.id)


# --- what the experiments hold ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "labels"), [("faces", INSIDE), ("faces_outside", OUTSIDE)])
def test_photographs_as_they_are(root, name, labels):
    experiment = load(name, root)
    assert (experiment.metric, experiment.publishable) == ("auc", False)
    assert list(experiment.tests) == ["internal", "swapped"]
    for images in all_sets(experiment).values():
        assert images.classes == list(labels) and images.multilabel and images.x.shape[1:] == (3, 32, 32)
        assert (images.frame[list(labels)].to_numpy(float) == images.y.numpy()).all()
    internal, other = experiment.tests.values()
    face = (internal.mask > 0).expand_as(internal.x)
    assert torch.equal(other.x[face], internal.x[face]) and torch.equal(other.y, internal.y)
    assert (other.x[~face] != internal.x[~face]).float().mean() > 0.9 and set(other.frame.pattern) == {"another's"}


def test_a_planted_pattern_tells_one_attribute_outside_the_mask(root):
    experiment, plain = load("faces_planted", root), load("faces", root)
    sets = all_sets(experiment)
    assert list(experiment.tests) == ["biased", "unbiased", "deceiving", "swapped"]
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


def test_patterns_depend_on_their_seed_and_not_on_the_fold(root):
    one, same, other = (load("faces_planted", root, data_seed=seed).tests["biased"].x for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    first, second = load("faces_planted", root, fold=0), load("faces_planted", root, fold=4)
    assert torch.equal(first.tests["biased"].x, second.validation.x)


@pytest.mark.parametrize("name", ["faces", "faces_planted", "faces_outside"])
def test_training_faces_alone_are_augmented(root, name):
    plain, moved = load(name, root, augment=False), load(name, root)
    for key, images in all_sets(moved).items():
        before, after = all_sets(plain)[key][[0, 1]][0], images[[0, 1]][0]
        assert torch.equal(before, after) == (key != "train")


def test_another_attribute_can_be_tied(root):
    frame = load("faces_planted", root, tied="Ears_Visible").train.frame
    assert ((frame.pattern == "stripes") == (frame.Ears_Visible == "1")).all()


# --- mistakes -----------------------------------------------------------------------------------------------------


def test_a_byte_copy_is_left_out_and_hashes_follow_the_files(root):
    before = load("faces", root)
    images = root / "celebamask_hq/images"
    (images / "7.png").write_bytes((images / "5.png").read_bytes())
    assert (
        "another patient: leakage" in folder.verify(root / "celebamask_hq", None, list(INSIDE), patient=None).problem[0]
    )
    after = load("faces", root)
    ids = pd.concat([sets.frame.id for sets in (after.train, after.validation, after.tests["internal"])])
    assert "images/5.png" in set(ids) and "images/7.png" not in set(ids) and len(ids) == ROWS - 1
    assert {name for name in before.hashes if before.hashes[name] != after.hashes[name]} == {"celebamask_hq/files"}


def test_where_the_data_are(root, monkeypatch):
    monkeypatch.delenv("ISNET_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="set ISNET_DATA to the folder that holds celebamask_hq"):
        data.load("faces")
    with pytest.raises(FileNotFoundError, match="has no folder celebamask_hq"):
        data.load("faces_outside", folder=str(root / "celebamask_hq"))
    assert data_hashes("faces_planted", {}) == {}  # absent, and no error
    monkeypatch.setenv("ISNET_DATA", str(root))
    assert len(data.load("faces", size=32).tests["internal"]) == 12
    (root / "celebamask_hq/index.csv").unlink()
    with pytest.raises(ValueError, match="celebamask_hq: 1 problem.*\n.*index.csv, row 0: is missing"):
        data.load("faces")


def alike(table):
    return table.assign(Eyeglasses=(table.index == 3).astype(int))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.drop(columns="Wearing_Hat"), "column 'Wearing_Hat' is missing"),
        (lambda table: table.assign(Eyeglasses=2), "Eyeglasses is '2'"),
        (
            lambda table: table.assign(mask=table["mask"].where(table.index != 4)),
            "images/4.png has no mask of its face",
        ),
        (alike, "fold 0: all 36 training faces agree on Eyeglasses|fold 0: all 12 .* faces agree on Eyeglasses"),
    ],
)
def test_indexes_that_will_not_do(root, change, told):
    edit(root, change)
    with pytest.raises(ValueError, match=told):
        load("faces", root)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("faces", {"fold": 5}, "fold one of 0 to folds - 1, not 5 and 5"),
        ("faces", {"fold": -1}, "not 5 and -1"),
        ("faces_outside", {"folds": 2}, "folds must be 3 or more"),
        ("faces_planted", {"tied": "Wearing_Hat"}, "tied must be one of the attributes Eyeglasses, Mouth_Open"),
    ],
)
def test_options_out_of_range(root, name, options, told):
    with pytest.raises(ValueError, match=told):
        load(name, root, **options)


# --- the study ----------------------------------------------------------------------------------------------------


def test_the_study_runs_five_folds_of_the_planned_comparisons_and_one_of_the_rest():
    own = [run for run in resolve("real", ROOT / "notebooks", ROOT / "results") if run.experiment.startswith("faces")]
    planned = {names.PRIMARY_METHOD, *names.RIVALS}
    for experiment in ("faces", "faces_planted"):
        folds = {method: [] for method in METHODS}
        for run in own:
            if run.experiment == experiment:
                folds[run.method].append(run.seed)
        assert folds == {method: [0, 1, 2, 3, 4] if method in planned else [0] for method in METHODS}
    outside = [run for run in own if run.experiment == "faces_outside"]
    assert {run.method for run in outside} == {"standard", "isnet_selective"} and len(outside) == 10
    for run in own:
        assert run.parameters["data_options"]["fold"] == run.seed
        known = inspect.signature(data.EXPERIMENTS[run.experiment]).parameters
        assert set(run.parameters["data_options"]) <= set(known)


# --- the real folder ----------------------------------------------------------------------------------------------

needs_data = [
    pytest.mark.data,
    pytest.mark.skipif(not (REAL / faces_real.SOURCE).is_dir(), reason=f"ISNET_DATA has no {faces_real.SOURCE}"),
]


@pytest.mark.parametrize("size", [pytest.param(32, marks=needs_data)])
def test_real_faces_load(size):
    """A thousand faces in five folds of 200, each with its share of the rare attributes; a background reader is told
    the tied attribute by the pattern, rightly and then wrongly.
    """
    table = faces_real.read_table(REAL / faces_real.SOURCE)
    labels = table[[*INSIDE, *OUTSIDE]].to_numpy() == "1"
    fold_of = cut(labels, table["patient"].to_numpy(), 5, 0)
    counts = np.array([labels[fold_of == k].sum(0) for k in range(5)])
    assert (np.bincount(fold_of) == 200).all() and np.ptp(counts, axis=0).max() <= 1
    assert counts.sum(0).tolist() == [58, 528, 686, 53, 234]
    experiment = data.load("faces_planted", folder=str(REAL), size=size)
    assert [len(images) for images in all_sets(experiment).values()] == [600, 200, 200, 200, 200, 200]
    biased, plain = experiment.tests["biased"], experiment.tests["unbiased"]
    face = (plain.mask > 0).expand_as(plain.x)
    assert torch.equal(biased.x[face], plain.x[face]) and 0.2 < plain.mask.float().mean() < 0.4
    assert (biased.x[~face].float() - plain.x[~face].float()).abs().mean() > 10  # of 255
