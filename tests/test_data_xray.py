"""Experiments on chest X-rays: from fabricated folders, and, where ISNET_DATA has them, from the real ones."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from isnetlib import data
from isnetlib.data import folder, marks, xray

REAL = os.environ.get("ISNET_DATA", "")
SIDE = 40
ATTRIBUTES = ["Eyeglasses", "Wearing_Hat", "Wearing_Earrings", "Wearing_Necklace", "Mouth_Open", "Ears_Visible"]


def lungs():
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[8:32, 8:18] = mask[8:32, 22:32] = 255
    return mask


def write_source(root, source, rows, masked=False):
    """A dataset folder of noise; rows: (label, patient, further columns)."""
    (root / source / "images").mkdir(parents=True)
    table = []
    for i, (label, patient, more) in enumerate(rows):
        pixels = np.random.default_rng([len(source), i]).integers(0, 200, (SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(pixels).save(root / source / f"images/{i}.png")
        cells = {"image": f"images/{i}.png", "mask": f"masks/{i}.png" if masked else "", "label": label}
        table.append(cells | {"source": f"{source}_hospital", "patient": patient} | more)
        if masked:
            (root / source / "masks").mkdir(exist_ok=True)
            Image.fromarray(lungs()).save(root / source / f"masks/{i}.png")
    pd.DataFrame(table).to_csv(root / source / "index.csv", index=False)


@pytest.fixture
def root(tmp_path):
    """The sources of all three experiments; the same patient names occur in several."""
    box = json.dumps([["ActiveTuberculosis", 10, 20, 30, 40]])
    write_source(tmp_path, "tbx11k", [("tuberculosis", f"p{i}", {"boxes": box}) for i in range(10)])
    nih = [(("no_finding", "pneumonia", "other")[i % 3], f"p{i // 4}", {}) for i in range(30)]
    write_source(tmp_path, "nih", nih)
    both = [(("normal", "tuberculosis")[i % 2], f"p{i}", {"sex": "F"}) for i in range(12)]
    write_source(tmp_path, "shenzhen", both, masked=True)
    covid = [("covid", f"p{i}", {"hannover": str(int(i < 3))}) for i in range(14)]
    covid += [("pneumonia", f"p{i}", {"hannover": "0"}) for i in (3, 20, 21)]
    write_source(tmp_path, "ieee8023", covid, masked=True)
    write_source(tmp_path, "hannover", [("covid", "p1", {})] * 3)
    write_source(tmp_path, "jsrt", [("normal", "p1", {}), ("nodule", "p2", {})], masked=True)
    return tmp_path


def all_sets(experiment):
    return {"train": experiment.train, "validation": experiment.validation} | experiment.tests


def test_tuberculosis_is_confounded_by_source_and_tested_elsewhere(root):
    experiment = data.load("tuberculosis", folder=str(root), size=20)
    sets = all_sets(experiment)
    assert list(sets) == ["train", "validation", "internal", "shenzhen"] and experiment.metric == "auc"
    inside = pd.concat([sets[name].frame for name in ("train", "validation", "internal")])
    assert len(inside) == 20 and (inside.source == inside.label.map({"normal": "nih", "tuberculosis": "tbx11k"})).all()
    assert (inside.groupby("patient").size() > 1).any() and sets["shenzhen"].y.bincount().tolist() == [6, 6]
    people = [set(images.frame.patient) for images in sets.values()]
    assert sum(map(len, people)) == len(set().union(*people))
    assert not experiment.publishable and sets["train"].classes == xray.TUBERCULOSIS
    assert sets["shenzhen"].frame.mask_source.eq("human").all() and sets["train"].frame.mask_source.eq("").all()
    boxes = json.loads(inside.set_index("id").loc["tbx11k/images/0.png", "boxes"])
    assert boxes == [["ActiveTuberculosis", 5.0, 10.0, 15.0, 20.0]]  # from 40 pixels to 20


def test_films_are_equalised_squares_of_three_equal_channels(root):
    pixels = np.random.default_rng(0).integers(90, 110, (40, 60), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "shenzhen/images/0.png")
    Image.fromarray(np.ones((40, 60), np.uint8) * 255 * (np.arange(60) < 30)).save(root / "shenzhen/masks/0.png")
    for equalise, span in ((True, 200), (False, 30)):
        images = data.load("tuberculosis", folder=str(root), size=24, equalise=equalise).tests["shenzhen"]
        x = images.x[images.frame.id == "shenzhen/images/0.png"][0]
        assert x.shape == (3, 24, 24) and (x == x[0]).all() and (np.ptp(x[0].numpy()) > span) == equalise
    mask = images.mask[images.frame.id == "shenzhen/images/0.png"][0, 0]
    assert mask[:, :12].all() and not mask[:, 12:].any()  # stretched with its image


def test_covid_leaves_out_what_would_leak(root):
    experiment = data.load("covid", folder=str(root), size=20)
    sets = all_sets(experiment)
    assert list(sets) == ["train", "validation", "internal", "external", "ieee8023_pneumonia"]
    assert experiment.metric == "macro_f1" and sets["train"].classes == ["normal", "pneumonia", "covid"]
    inside = pd.concat([sets[name].frame for name in ("train", "validation", "internal")])
    assert inside.groupby(["source", "label"]).size().to_dict() == {
        ("ieee8023", "covid"): 11,  # three may be Hannover's
        ("nih", "normal"): 10,
        ("nih", "pneumonia"): 10,
    }
    assert sets["external"].frame.groupby(["source", "label"]).size().to_dict() == {
        ("hannover", "covid"): 3,
        ("jsrt", "normal"): 1,
        ("shenzhen", "normal"): 6,
    }
    assert set(sets["ieee8023_pneumonia"].frame.patient) == {"ieee8023/p20", "ieee8023/p21"}  # p3 is among the covid


def test_the_split_depends_on_its_seed_alone(root):
    one, same, other = (data.load("covid", folder=str(root), size=20, split_seed=seed) for seed in (0, 0, 1))
    assert one.train.frame.equals(same.train.frame) and one.hashes == same.hashes
    assert set(one.train.frame.id) != set(other.train.frame.id)


def test_hashes_follow_labels_and_films(root):
    before = data.load("tuberculosis", folder=str(root), size=20).hashes
    assert {"tbx11k/index.csv", "nih/files", "shenzhen/index.csv (shenzhen)"} <= set(before)
    text = (root / "shenzhen/index.csv").read_text()
    (root / "shenzhen/index.csv").write_text(text.replace(",F\n", ",M\n"))
    after = data.load("tuberculosis", folder=str(root), size=20).hashes
    assert {name for name in before if before[name] != after[name]} == {"shenzhen/index.csv (shenzhen)"}


def test_a_byte_copy_under_another_patient_is_left_out(root):
    (root / "ieee8023/images/7.png").write_bytes((root / "ieee8023/images/5.png").read_bytes())
    assert "another patient: leakage" in folder.verify(root / "ieee8023").problem[0]
    sets = all_sets(data.load("covid", folder=str(root), size=20))
    ids = pd.concat([sets[name].frame.id for name in ("train", "validation", "internal")])
    assert "ieee8023/images/5.png" in set(ids) and "ieee8023/images/7.png" not in set(ids)


def test_a_person_in_training_and_in_a_test_set_is_an_error(root):
    read = xray._reader(str(root), 20, True, None)
    parts = [read("shenzhen", {name: name for name in xray.TUBERCULOSIS}, xray.TUBERCULOSIS)]
    with pytest.raises(ValueError, match="patients both in training and in a test set: .'shenzhen/p0'"):
        xray._experiment(parts, {"again": parts}, xray.FRACTIONS, 0, "auc")


# --- predicted masks ----------------------------------------------------------------------------------------------


@pytest.fixture
def predicted(root):
    """Predicted masks, a full square of 10 pixels on films of 40, of every film but tbx11k's first."""
    place = root / "predicted"
    for source in ("tbx11k", "nih", "ieee8023", "hannover", "shenzhen", "jsrt"):
        (place / source).mkdir(parents=True)
        names = pd.read_csv(root / source / "index.csv").image
        names = names[1:] if source == "tbx11k" else names
        Image.fromarray(np.full((SIDE, SIDE), 255, np.uint8)).save(place / source / "all.png")
        pd.DataFrame({"image": names, "mask": "all.png"}).to_csv(place / source / "index.csv", index=False)
    return str(place)


def test_training_takes_predicted_masks_and_tests_human_ones(root, predicted):
    experiment = data.load("covid", folder=str(root), size=20, masks=predicted)
    for name, images in all_sets(experiment).items():
        outside = name in ("external", "ieee8023_pneumonia")
        human = [outside and source in ("shenzhen", "jsrt", "ieee8023") for source in images.frame.source]
        assert list(images.frame.mask_source) == [("predicted", "human")[one] for one in human]
        assert images.mask.flatten(1).all(1).tolist() == [not one for one in human]  # the predicted ones are full
    assert "nih/predicted masks" in experiment.hashes


def test_films_without_a_predicted_mask_leave_training(root, predicted):
    sets = all_sets(data.load("tuberculosis", folder=str(root), size=20, masks=predicted))
    ids = set().union(*(images.frame.id for images in sets.values()))
    assert "tbx11k/images/0.png" not in ids and "tbx11k/images/1.png" in ids and len(ids) == 19 + 12


def test_predicted_masks_that_cannot_be_read(root, predicted):
    (Path(predicted) / "nih/all.png").write_bytes(b"")
    with pytest.raises(ValueError, match="nih/all.png: cannot be read as an image .*; predict the masks again"):
        data.load("covid", folder=str(root), size=20, masks=predicted)
    (Path(predicted) / "nih/index.csv").unlink()
    with pytest.raises(ValueError, match="nih: 1 problem.*\n.*index.csv, row 0: is missing"):
        data.load("covid", folder=str(root), size=20, masks=predicted)


# --- planted marks ------------------------------------------------------------------------------------------------


def test_planted_marks_tell_the_class_outside_the_lungs(root):
    experiment = data.load("tuberculosis_planted", folder=str(root), size=40)
    sets = all_sets(experiment)
    assert list(sets) == ["train", "validation", "biased", "unbiased", "deceiving"] and experiment.metric == "auc"
    plain = {row: x for images in [sets["unbiased"]] for row, x in zip(images.frame.id, images.x, strict=True)}
    side = marks.mark_side(40)
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
    table = pd.read_csv(root / "shenzhen/index.csv").assign(mask="")
    table.to_csv(root / "shenzhen/index.csv", index=False)
    with pytest.raises(ValueError, match="no film of shenzhen has a lung mask"):
        data.load("tuberculosis_planted", folder=str(root), size=40)
    table.loc[2:, "mask"] = [f"masks/{i}.png" for i in range(2, 12)]
    table.to_csv(root / "shenzhen/index.csv", index=False)
    sets = all_sets(data.load("tuberculosis_planted", folder=str(root), size=40))
    assert sum(len(sets[name]) for name in ("train", "validation", "biased")) == 10


def test_places_are_free_corners_drawn_evenly():
    mask = np.zeros((400, 60, 60), bool)
    mask[:, :45, :] = True  # only the two lower corners are free
    places = marks.choose_places(mask, np.random.default_rng(0))
    assert places[:, 0].min() >= 46 and places[:, 0].max() == 60 - marks.mark_side(60)
    assert 0.4 < (places[:, 1] < 30).mean() < 0.6
    mask[3] = True
    with pytest.raises(ValueError, match="all four corners"):
        marks.choose_places(mask, np.random.default_rng(0))


@pytest.mark.parametrize(("size", "side"), [(20, 6), (64, 6), (112, 12), (224, 24)])
def test_sizes_of_marks(size, side):
    assert marks.mark_side(size) == side


# --- mistakes -----------------------------------------------------------------------------------------------------


def test_where_the_data_are(root, monkeypatch):
    monkeypatch.delenv("ISNET_DATA", raising=False)
    with pytest.raises(ValueError, match="give the option folder, or set ISNET_DATA"):
        data.load("covid")
    monkeypatch.setenv("ISNET_DATA", str(root))
    assert len(data.load("tuberculosis", size=20).tests["shenzhen"]) == 12
    (root / "nih/index.csv").unlink()
    with pytest.raises(ValueError, match="nih: 1 problem.*\n.*index.csv, row 0: is missing"):
        data.load("tuberculosis", size=20)


def test_sources_that_lack_something(root):
    table = pd.read_csv(root / "ieee8023/index.csv")
    table.drop(columns="hannover").to_csv(root / "ieee8023/index.csv", index=False)
    with pytest.raises(ValueError, match=r"ieee8023/index.csv has no column .'hannover'.; prepare the source again"):
        data.load("covid", folder=str(root), size=20)
    table.assign(hannover=1).to_csv(root / "ieee8023/index.csv", index=False)
    with pytest.raises(ValueError, match=r"ieee8023 holds no film of .'covid'."):
        data.load("covid", folder=str(root), size=20)


# --- real folders -------------------------------------------------------------------------------------------------

needs_data = [
    pytest.mark.data,
    pytest.mark.skipif(not Path(REAL or "/nowhere").is_dir(), reason="ISNET_DATA is not set"),
]


def real(name):
    absent = pytest.mark.skipif(not (Path(REAL) / name).is_dir(), reason=f"ISNET_DATA has no {name}")
    return pytest.param(name, marks=[*needs_data, absent])


@pytest.mark.parametrize(
    "name", [real(name) for name in ("montgomery", "shenzhen", "jsrt", "tbx11k", "hannover", "nih", "ieee8023")]
)
def test_real_sources_verify_but_for_copies(name):
    problems = folder.verify(Path(REAL) / name)
    assert problems.problem.str.startswith("is a copy of").all()
    table, _ = folder.read_index(Path(REAL) / name, "label", (), None, "patient", None, ())
    assert len(table) - len(xray.without_copies(Path(REAL) / name, table)) == len(problems)


@pytest.mark.parametrize("name", [real("celebamask_hq")])
def test_real_faces_verify(name):
    assert folder.verify(Path(REAL) / name, attributes=ATTRIBUTES, patient=None).empty


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        pytest.param("tuberculosis", {"shenzhen": [263, 287]}, marks=needs_data),
        pytest.param("covid", {"external": [356, 0, 243], "ieee8023_pneumonia": [0, 84, 0]}, marks=needs_data),
    ],
)
def test_real_experiments_load(name, sets):
    experiment = data.load(name, folder=REAL, size=32)
    assert {
        key: experiment.tests[key].y.bincount(minlength=len(counts)).tolist() for key, counts in sets.items()
    } == sets
    frame = pd.concat(
        [images.frame for images in (experiment.train, experiment.validation, *experiment.tests.values())]
    )
    assert not frame.id.duplicated().any()
