"""Experiments on chest X-rays: from fabricated folders, and, where ISNET_DATA has them, from the real ones."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from stub_films import SIDE, all_sets, write_predicted, write_source, write_sources

from isnetlib import data
from isnetlib.data import backgrounds

REAL = os.environ.get("ISNET_DATA", "")


@pytest.fixture
def root(tmp_path):
    return write_sources(tmp_path)


def test_tuberculosis_is_confounded_by_source_and_tested_elsewhere(root):
    experiment = data.load("tuberculosis", folder=str(root), size=20, masks="")
    sets = all_sets(experiment)
    inside = pd.concat([sets[name].frame for name in ("train", "validation", "internal")])
    assert len(inside) == 20 and (inside.source == inside.label.map({"normal": "nih", "tuberculosis": "tbx11k"})).all()
    assert (inside.groupby("patient").size() > 1).any() and sets["shenzhen"].y.bincount().tolist() == [6, 6]
    people = [set(images.frame.patient) for images in sets.values()]
    assert sum(map(len, people)) == len(set().union(*people))
    assert not experiment.publishable and [key for key, images in sets.items() if images.augment] == ["train"]
    assert sets["shenzhen"].frame.mask_source.eq("human").all() and sets["train"].frame.mask_source.eq("").all()
    boxes = json.loads(inside.set_index("id").loc["tbx11k/images/0.png", "boxes"])
    assert boxes == [["ActiveTuberculosis", 5.0, 10.0, 15.0, 20.0]]  # from 40 pixels to 20


def test_montgomery_is_a_test_where_it_is_there(root, tmp_path):
    assert [*data.load("tuberculosis", folder=str(root), size=20, masks="").tests] == ["internal", "shenzhen"]
    write_source(root, "montgomery", [("normal", "p1", {}), ("tuberculosis", "p2", {})], masked=True)
    write_predicted(root, tmp_path / "drawn")
    images = data.load("tuberculosis", folder=str(root), size=20, masks=str(tmp_path / "drawn")).tests["montgomery"]
    assert images.y.tolist() == [0, 1] and images.frame.mask_source.eq("human").all()


def test_films_are_equalised_squares_of_three_equal_channels(root):
    pixels = np.random.default_rng(0).integers(90, 110, (40, 60), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "shenzhen/images/0.png")
    Image.fromarray(np.ones((40, 60), np.uint8) * 255 * (np.arange(60) < 30)).save(root / "shenzhen/masks/0.png")
    for equalise, span in ((True, 200), (False, 30)):
        images = data.load("tuberculosis", folder=str(root), size=24, equalise=equalise, masks="").tests["shenzhen"]
        x = images.x[images.frame.id == "shenzhen/images/0.png"][0]
        assert x.shape == (3, 24, 24) and (x == x[0]).all() and (np.ptp(x[0].numpy()) > span) == equalise
    mask = images.mask[images.frame.id == "shenzhen/images/0.png"][0, 0]
    assert mask[:, :12].all() and not mask[:, 12:].any()  # stretched with its image


def test_covid_leaves_out_what_would_leak(root):
    (root / "ieee8023/images/7.png").write_bytes((root / "ieee8023/images/5.png").read_bytes())  # of another patient
    sets = all_sets(data.load("covid", folder=str(root), size=20, masks=""))
    inside = pd.concat([sets[name].frame for name in ("train", "validation", "internal")])
    assert inside.groupby(["source", "label"]).size().to_dict() == {
        ("ieee8023", "covid"): 10,  # of 14 three may be Hannover's, one is a copy
        ("nih", "normal"): 10,
        ("nih", "pneumonia"): 10,
    }
    assert sets["external"].frame.groupby(["source", "label"]).size().to_dict() == {
        ("hannover", "covid"): 3,
        ("jsrt", "normal"): 1,
        ("shenzhen", "normal"): 6,
    }
    assert set(sets["ieee8023_pneumonia"].frame.patient) == {"ieee8023/p1000", "ieee8023/p1001"}  # p3: covid


@pytest.fixture
def predicted(root):
    """Predicted masks, full squares, of every film but tbx11k's first."""
    full = np.full((SIDE, SIDE), 255, np.uint8)
    return str(write_predicted(root, root / "predicted", full, but=("tbx11k",)))


def test_training_takes_predicted_masks_and_tests_human_ones(root, predicted):
    for name, images in all_sets(data.load("covid", folder=str(root), size=20, masks=predicted)).items():
        outside = name in ("external", "ieee8023_pneumonia")
        human = [outside and source in ("shenzhen", "jsrt", "ieee8023") for source in images.frame.source]
        assert list(images.frame.mask_source) == [("predicted", "human")[one] for one in human]
        assert images.mask.flatten(1).all(1).tolist() == [not one for one in human]  # the predicted ones are full


def test_films_without_a_predicted_mask_leave_training_and_masks_that_cannot_be_read_are_told(root, predicted):
    sets = all_sets(data.load("tuberculosis", folder=str(root), size=20, masks=predicted))
    ids = set().union(*(images.frame.id for images in sets.values()))
    assert "tbx11k/images/0.png" not in ids and "tbx11k/images/1.png" in ids and len(ids) == 19 + 12
    (Path(predicted) / "nih/all.png").write_bytes(b"")
    with pytest.raises(ValueError, match="nih/all.png: cannot be read as an image .*; predict the masks again"):
        data.load("covid", folder=str(root), size=20, masks=predicted)


def test_a_source_gives_no_more_films_of_a_class_than_wanted(root):
    given = {"folder": str(root), "size": 20, "masks": ""}
    sets = all_sets(data.load("covid", **given, most=8, augment=False))
    assert sets["train"].augment is None
    inside = pd.concat([sets[name].frame for name in ("train", "validation", "internal")])
    assert inside.label.value_counts().to_dict() == {"covid": 8, "normal": 8, "pneumonia": 8}
    assert len(sets["external"]) == 10  # tests are not cut
    again, other = (data.load("covid", **given, most=8, split_seed=seed) for seed in (0, 1))
    assert all(images.frame.equals(sets[name].frame) for name, images in all_sets(again).items())
    assert set(other.train.frame.id) != set(sets["train"].frame.id)
    with pytest.raises(ValueError, match="most must be at least 1, not 0"):
        data.load("covid", **given, most=0)


def test_planted_marks_tell_the_class_outside_the_lungs(root):
    sets = all_sets(data.load("tuberculosis_planted", folder=str(root), size=40))
    assert [key for key, images in sets.items() if images.augment] == ["train"]
    plain = dict(zip(sets["unbiased"].frame.id, sets["unbiased"].x, strict=True))
    side = backgrounds.mark_side(40)
    for name, images in sets.items():
        frame = images.frame
        expected = {"unbiased": -1, "deceiving": 1 - frame.y}.get(name, frame.y)
        assert (frame["mark"] == expected).all()
        for x, mask, (_, row) in zip(images.x, images.mask, frame.iterrows(), strict=True):
            if row["mark"] >= 0:
                where = np.s_[:, row.mark_top : row.mark_top + side, row.mark_left : row.mark_left + side]
                assert set(x[where].unique().tolist()) == {0, 255} and not mask[where].any()
                if row.id in plain:
                    rest = x.clone()
                    rest[where] = plain[row.id][where]
                    assert torch.equal(rest, plain[row.id])
    biased, deceiving = sets["biased"].frame, sets["deceiving"].frame
    assert biased[["id", "mark_top", "mark_left"]].equals(deceiving[["id", "mark_top", "mark_left"]])


def test_films_without_a_mask_bear_no_mark_and_are_left_out(root):
    table = pd.read_csv(root / "shenzhen/index.csv")
    table.assign(mask=table["mask"].where(table.index > 1)).to_csv(root / "shenzhen/index.csv", index=False)
    sets = all_sets(data.load("tuberculosis_planted", folder=str(root), size=40))
    assert sum(len(sets[name]) for name in ("train", "validation", "biased")) == 10
    table.assign(mask="").to_csv(root / "shenzhen/index.csv", index=False)
    with pytest.raises(ValueError, match="to be prepared again with its lung masks: no image has a mask"):
        data.load("tuberculosis_planted", folder=str(root), size=40)


def test_places_are_free_corners_drawn_evenly():
    mask = np.zeros((400, 60, 60), bool)
    mask[:, :45, :] = True  # only the two lower corners are free
    places = backgrounds.choose_places(mask, np.random.default_rng(0))
    assert places[:, 0].min() >= 46 and places[:, 0].max() == 60 - backgrounds.mark_side(60)
    assert 0.4 < (places[:, 1] < 30).mean() < 0.6
    mask[3] = True
    with pytest.raises(ValueError, match="all four corners"):
        backgrounds.choose_places(mask, np.random.default_rng(0))


def test_where_data_and_masks_are(root, predicted, monkeypatch, tmp_path):
    for variable in ("ISNET_DATA", "ISNET_MASKS"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(FileNotFoundError, match="set ISNET_DATA to the folder that holds ieee8023, nih.*README.md"):
        data.load("covid")
    monkeypatch.setenv("ISNET_DATA", str(root))
    told = "set ISNET_MASKS to the folder that holds tbx11k.* made by notebook 08_segment"
    with pytest.raises(FileNotFoundError, match=told):
        data.load("tuberculosis", size=20)
    monkeypatch.setenv("ISNET_MASKS", predicted)
    assert data.load("tuberculosis", size=20).train.frame.mask_source.eq("predicted").all()
    assert len(data.load("tuberculosis_planted", size=40).tests["biased"]) == 2  # which has human masks, and takes them
    monkeypatch.setenv("ISNET_DATA", os.path.relpath(root, Path(__file__).parents[1]))
    monkeypatch.chdir(tmp_path)  # a relative path is seen from the project
    assert len(data.load("tuberculosis", size=20).tests["shenzhen"]) == 12


@pytest.mark.parametrize(("place", "message"), [("", "has no folder nih"), ("predicted", "no folder nih; notebook 08")])
def test_a_source_that_is_absent_is_told_apart_from_one_that_is_wrong(root, predicted, place, message):
    (root / place / "nih/index.csv").unlink()
    with pytest.raises(ValueError, match="nih: 1 problem; .*\n.*index.csv: is missing"):
        data.load("tuberculosis", folder=str(root), size=20, masks=predicted)
    shutil.rmtree(root / place / "nih")
    with pytest.raises(FileNotFoundError, match=message):
        data.load("tuberculosis", folder=str(root), size=20, masks=predicted)


def test_sources_that_lack_something(root):
    table = pd.read_csv(root / "ieee8023/index.csv")
    for changed, message in (
        (table.drop(columns="hannover"), r"ieee8023: .*\n.*column .hannover. is missing"),
        (table.assign(hannover=1), "ieee8023 holds no film of .'covid'."),
    ):
        changed.to_csv(root / "ieee8023/index.csv", index=False)
        with pytest.raises(ValueError, match=message):
            data.load("covid", folder=str(root), size=20, masks="")


COUNTS = {"tuberculosis": {"shenzhen": [263, 287]}, "tuberculosis_planted": {}}
COUNTS |= {"covid": {"external": [356, 0, 243], "ieee8023_pneumonia": [0, 84, 0]}}


@pytest.mark.data
@pytest.mark.skipif(not Path(REAL or "/nowhere").is_dir(), reason="ISNET_DATA is not set")
@pytest.mark.parametrize("name", COUNTS)
def test_real_experiments_load_and_no_patient_is_in_two_sets(name):
    sets = all_sets(data.load(name, folder=REAL, size=48, **({} if "planted" in name else {"masks": ""})))
    counts = {key: sets[key].y.bincount(minlength=len(of)).tolist() for key, of in COUNTS[name].items()}
    assert counts == COUNTS[name]
    people = [set(images.frame.patient) for key, images in sets.items() if key not in ("unbiased", "deceiving")]
    assert sum(map(len, people)) == len(set().union(*people))
