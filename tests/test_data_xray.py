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
from stub_films import SIDE, write_predicted, write_sources

from isnetlib import data, train
from isnetlib.baselines import build
from isnetlib.data import checks, folder, marks, xray

REAL = os.environ.get("ISNET_DATA", "")
ATTRIBUTES = ["Eyeglasses", "Wearing_Hat", "Wearing_Earrings", "Wearing_Necklace", "Mouth_Open", "Ears_Visible"]


@pytest.fixture
def root(tmp_path):
    return write_sources(tmp_path)


def all_sets(experiment):
    return {"train": experiment.train, "validation": experiment.validation} | experiment.tests


def test_tuberculosis_is_confounded_by_source_and_tested_elsewhere(root):
    experiment = data.load("tuberculosis", folder=str(root), size=20, masks="")
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
        images = data.load("tuberculosis", folder=str(root), size=24, equalise=equalise, masks="").tests["shenzhen"]
        x = images.x[images.frame.id == "shenzhen/images/0.png"][0]
        assert x.shape == (3, 24, 24) and (x == x[0]).all() and (np.ptp(x[0].numpy()) > span) == equalise
    mask = images.mask[images.frame.id == "shenzhen/images/0.png"][0, 0]
    assert mask[:, :12].all() and not mask[:, 12:].any()  # stretched with its image


def test_covid_leaves_out_what_would_leak(root):
    experiment = data.load("covid", folder=str(root), size=20, masks="")
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
    assert set(sets["ieee8023_pneumonia"].frame.patient) == {"ieee8023/p1000", "ieee8023/p1001"}  # p3: covid


def test_the_split_depends_on_its_seed_alone(root):
    one, same, other = (data.load("covid", folder=str(root), size=20, split_seed=seed, masks="") for seed in (0, 0, 1))
    assert one.train.frame.equals(same.train.frame) and one.hashes == same.hashes
    assert set(one.train.frame.id) != set(other.train.frame.id)


def test_hashes_follow_labels_and_films(root):
    before = data.load("tuberculosis", folder=str(root), size=20, masks="").hashes
    assert {"tbx11k/index.csv", "nih/files", "shenzhen/index.csv (shenzhen)"} <= set(before)
    text = (root / "shenzhen/index.csv").read_text()
    (root / "shenzhen/index.csv").write_text(text.replace(",F\n", ",M\n"))
    after = data.load("tuberculosis", folder=str(root), size=20, masks="").hashes
    assert {name for name in before if before[name] != after[name]} == {"shenzhen/index.csv (shenzhen)"}


def test_a_byte_copy_under_another_patient_is_left_out(root):
    (root / "ieee8023/images/7.png").write_bytes((root / "ieee8023/images/5.png").read_bytes())
    assert "another patient: leakage" in folder.verify(root / "ieee8023").problem[0]
    sets = all_sets(data.load("covid", folder=str(root), size=20, masks=""))
    ids = pd.concat([sets[name].frame.id for name in ("train", "validation", "internal")])
    assert "ieee8023/images/5.png" in set(ids) and "ieee8023/images/7.png" not in set(ids)


def test_a_person_in_training_and_in_a_test_set_is_an_error(root):
    read = xray._reader(("shenzhen",), str(root), 20, True, "")
    parts = [read("shenzhen", {name: name for name in xray.TUBERCULOSIS}, xray.TUBERCULOSIS)]
    with pytest.raises(ValueError, match="patients both in training and in a test set: .'shenzhen/p0'"):
        xray._experiment(parts, {"again": parts}, xray.FRACTIONS, 0, "auc", False)


# --- predicted masks ----------------------------------------------------------------------------------------------


@pytest.fixture
def predicted(root):
    """Predicted masks, full squares, of every film but tbx11k's first."""
    full = np.full((SIDE, SIDE), 255, np.uint8)
    return str(write_predicted(root, root / "predicted", full, but=("tbx11k",)))


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


# --- augmentation and size ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tuberculosis", "tuberculosis_planted", "covid"])
def test_training_films_alone_are_augmented_and_all_can_do_without(root, name):
    given = {"folder": str(root), "size": 40} | ({} if "planted" in name else {"masks": ""})
    sets = all_sets(data.load(name, **given))
    changed = {key: not torch.equal(images[[0, 1]][0], images.x[:2].float() / 255) for key, images in sets.items()}
    assert changed == {key: key == "train" for key in sets}
    still = data.load(name, **given, augment=False).train
    assert torch.equal(still[[0, 1]][0], still.x[:2].float() / 255) and torch.equal(still.x, sets["train"].x)


def test_a_mark_moves_with_its_film_and_mask(root):
    films = data.load("tuberculosis_planted", folder=str(root), size=40).train
    films.x, side = torch.zeros_like(films.x), marks.mark_side(40)
    for x, top, left in zip(films.x, films.frame.mark_top, films.frame.mark_left, strict=True):
        x[:, top : top + side, left : left + side] = 255
    torch.manual_seed(0)
    seen = [films[list(range(len(films)))] for _ in range(20)]
    bright, mask = torch.cat([x[:, :1] > 0.5 for x, *_ in seen]), torch.cat([mask for *_, mask, _ in seen])
    sizes = bright.flatten(1).sum(1)
    assert sizes.min() > 0 and len(sizes.unique()) > 3  # always there, and not always the same
    assert (bright * mask).sum() < 0.01 * bright.sum()  # and off the lungs


def test_stopped_and_resumed_training_on_augmented_films_ends_with_the_same_numbers(root, tmp_path):
    images = data.load("tuberculosis", folder=str(root), size=32, masks="")

    def fit(name, stop=None):
        def report(line):
            if stop is not None and line.startswith(f"epoch {stop}/"):
                raise KeyboardInterrupt

        with train.seeded(0):
            method = build("standard", "small_resnet", 2)
        given = {"epochs": 3, "batch_size": 7, "metric": "auc", "report": report}
        return train.fit(method, images.train, images.validation, tmp_path / name, **given)

    with pytest.raises(KeyboardInterrupt):
        fit("stopped", stop=2)
    columns = ["loss", "val_loss", "swapped_loss"]
    assert np.array_equal(fit("stopped")[columns], fit("whole")[columns])


def test_a_source_gives_no_more_films_of_a_class_than_wanted(root):
    given = {"folder": str(root), "size": 20, "masks": ""}
    sets = all_sets(data.load("covid", **given, most=8))
    inside = pd.concat([sets[name].frame for name in ("train", "validation", "internal")])
    assert inside.label.value_counts().to_dict() == {"covid": 8, "normal": 8, "pneumonia": 8}
    assert len(sets["external"]) == 10  # tests are not cut
    again, other = (
        set(pd.concat([one.frame for one in all_sets(e).values()]).id)
        for e in (data.load("covid", **given, most=8), data.load("covid", **given, most=8, split_seed=1))
    )
    assert set(inside.id) <= again and not set(inside.id) <= other  # who is taken follows the seed
    with pytest.raises(ValueError, match="most is a number of films, 1 or more"):
        data.load("covid", **given, most=0)


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


def test_where_data_and_masks_are(root, predicted, monkeypatch, tmp_path):
    for variable in ("ISNET_DATA", "ISNET_MASKS"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(FileNotFoundError, match="set ISNET_DATA to the folder that holds ieee8023, nih.*README.md"):
        data.load("covid")
    monkeypatch.setenv("ISNET_DATA", str(root))
    with pytest.raises(FileNotFoundError, match="set ISNET_MASKS to the folder that notebook 08_segment wrote"):
        data.load("tuberculosis", size=20)
    monkeypatch.setenv("ISNET_MASKS", predicted)
    assert data.load("tuberculosis", size=20).train.frame.mask_source.eq("predicted").all()
    assert len(data.load("tuberculosis_planted", size=40).tests["biased"]) == 2  # which has human masks, and takes them
    monkeypatch.setenv("ISNET_DATA", os.path.relpath(root, Path(__file__).parents[1]))
    monkeypatch.chdir(tmp_path)  # a relative path is seen from the project
    assert len(data.load("tuberculosis", size=20).tests["shenzhen"]) == 12


@pytest.mark.parametrize(("place", "message"), [("", "has no folder nih"), ("predicted", "has no masks of nih")])
def test_a_source_that_is_absent_is_told_apart_from_one_that_is_wrong(root, predicted, place, message):
    (root / place / "nih/index.csv").unlink()
    with pytest.raises(ValueError, match="nih: 1 problem.*\n.*index.csv, row 0: is missing"):
        data.load("tuberculosis", folder=str(root), size=20, masks=predicted)
    shutil.rmtree(root / place / "nih")
    with pytest.raises(FileNotFoundError, match=message):
        data.load("tuberculosis", folder=str(root), size=20, masks=predicted)


def test_sources_that_lack_something(root):
    table = pd.read_csv(root / "ieee8023/index.csv")
    table.drop(columns="hannover").to_csv(root / "ieee8023/index.csv", index=False)
    with pytest.raises(ValueError, match=r"ieee8023/index.csv has no column .'hannover'.; prepare the source again"):
        data.load("covid", folder=str(root), size=20, masks="")
    table.assign(hannover=1).to_csv(root / "ieee8023/index.csv", index=False)
    with pytest.raises(ValueError, match=r"ieee8023 holds no film of .'covid'."):
        data.load("covid", folder=str(root), size=20, masks="")


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
    assert len(table) - len(checks.without_copies(Path(REAL) / name, table)) == len(problems)


@pytest.mark.parametrize("name", [real("celebamask_hq")])
def test_real_faces_verify(name):
    assert folder.verify(Path(REAL) / name, attributes=ATTRIBUTES, patient=None).empty


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        pytest.param("tuberculosis", {"shenzhen": [263, 287]}, marks=needs_data),
        pytest.param("covid", {"external": [356, 0, 243], "ieee8023_pneumonia": [0, 84, 0]}, marks=needs_data),
        pytest.param("tuberculosis_planted", {}, marks=needs_data),
    ],
)
def test_real_experiments_load_and_no_patient_is_in_two_sets(name, sets):
    experiment = data.load(name, folder=REAL, size=48, **({} if "planted" in name else {"masks": ""}))
    for key, counts in sets.items():
        assert experiment.tests[key].y.bincount(minlength=len(counts)).tolist() == counts
    of_same_films = {
        key: images for key, images in all_sets(experiment).items() if key not in ("unbiased", "deceiving")
    }
    assert not pd.concat([images.frame for images in of_same_films.values()]).id.duplicated().any()
    people = [set(images.frame.patient) for images in of_same_films.values()]
    assert sum(map(len, people)) == len(set().union(*people))
    assert all(images.y.bincount(minlength=2).min() > 0 for images in list(of_same_films.values())[:3])
