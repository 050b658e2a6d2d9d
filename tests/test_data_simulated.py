"""Simulated chest films and faces: what is inside the mask, what is outside, and what each of them tells."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import label
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stub_films import all_sets
from torch.nn.functional import avg_pool2d

from isnetlib import data
from isnetlib.data.backgrounds import augment
from isnetlib.data.simulated import drawing, faces, films
from isnetlib.training.evaluate import Swapped

ALL = list(faces.PREVALENCE)
SMALL = {"train_size": 480, "validation_size": 60, "test_size": 240}
TINY = {"train_size": 12, "validation_size": 6, "test_size": 8}


@functools.cache
def loaded(name):
    sizes = {"train_size": 300, "validation_size": 40, "test_size": 100} if name == "faces_sim" else SMALL
    return data.load(name, **sizes)


@pytest.fixture(scope="module")
def patients():
    return films.draw_patients(40, 64, np.random.default_rng(0))


def draw(attributes, pattern=0, n=30, size=64):
    rows = np.zeros((n, len(ALL)), dtype=int)
    rows[:, [ALL.index(name) for name in attributes]] = 1
    return faces.draw_faces(rows, np.full(n, pattern), size, np.random.default_rng(0))


def test_the_mask_is_two_dark_lungs():
    patients = films.draw_patients(20, 96, np.random.default_rng(96))
    for film, mask in zip(patients.film, patients.mask, strict=True):
        parts, _ = label(mask)
        *splinters, b, a = np.argsort(np.bincount(parts.ravel())[1:]) + 1
        assert sum((parts == k).sum() for k in splinters) <= 3  # pixels cut off at the tips
        assert min((parts == k).mean() for k in (a, b)) > 0.06 and 0.15 < mask.mean() < 0.35
        columns = [np.flatnonzero((parts == k).any(0)) for k in (a, b)]
        assert columns[0].max() < columns[1].min() or columns[1].max() < columns[0].min()
        assert film[mask].mean() < film[~mask & (film > 0.2)].mean() - 0.15


@pytest.mark.parametrize("kind", films.FINDINGS)
def test_findings_change_the_lungs_alone(patients, kind):
    found, spots = (films.add_findings(patients, [k] * 40, 0.2, np.random.default_rng(1)) for k in (kind, "normal"))
    assert np.array_equal(found[~patients.mask], patients.film[~patients.mask])
    added = found - spots  # calcified, in films of all kinds
    assert added.min() > -1e-6 and (added.max((1, 2)) > 0.04).all() and added.max() < 0.6


@pytest.mark.parametrize("name", films.HOSPITALS)
def test_looks_change_everything_but_the_lungs(patients, name):
    u = np.random.default_rng(2).random((40, 8), dtype=np.float32)
    shown = films.apply_look(patients.film, patients.mask, films.HOSPITALS[name], u)
    assert np.array_equal(shown[patients.mask], patients.film[patients.mask])
    assert ((shown != patients.film)[~patients.mask].mean() > 0.5) and np.isfinite(shown).all()


@pytest.mark.parametrize("size", [64, 128])
def test_markers_are_whole(size):
    """No letter reaches a lung, where the look is not shown; each film has all its letters, in the marker's corner."""
    rng = np.random.default_rng(3)
    mask = films.draw_patients(60, size, rng).mask
    for look in films.HOSPITALS.values():
        blank = np.full(mask.shape, -1.0, dtype=np.float32)
        films.write_marker(blank, look, rng.random((60, 2)))
        letters = blank == np.float32(look["ink"])
        assert np.array_equal(letters.sum((1, 2)), np.full(60, drawing.text(look["word"], max(1, size // 64)).sum()))
        assert not (letters & mask).any()
        rows, columns = letters.any((0, 2)).nonzero()[0], letters.any((0, 1)).nonzero()[0]
        assert (rows.max() < size / 2) == (look["corner"][0] == "t")
        assert (columns.max() < size / 2) == (look["corner"][1] == "l")


@pytest.mark.parametrize("name", ["tuberculosis_sim", "covid_sim", "faces_sim"])
def test_no_patient_is_in_two_sets_and_classes_are_balanced(name):
    sets = all_sets(loaded(name))
    for images in sets.values():
        assert images.frame.patient.equals(images.frame.id) and images.frame.id.is_unique
        if images.multilabel:
            assert np.array_equal(images.frame[images.classes], images.y)
        else:
            assert np.ptp(np.bincount(images.y)) <= 1 and np.array_equal(images.frame.y, images.y)
    shared = ("unbiased", "swapped", "deceiving")
    assert not pd.concat([sets[kind].frame.id for kind in sets if kind not in shared]).duplicated().any()


def test_hospitals_tell_the_class_in_training_alone():
    tuberculosis, covid = loaded("tuberculosis_sim"), loaded("covid_sim")
    home = {"normal": "hospital_b", "tuberculosis": "hospital_a", "pneumonia": "hospital_b", "covid": "hospital_a"}
    other = {"hospital_a": "hospital_b", "hospital_b": "hospital_a"}
    for experiment in (tuberculosis, covid):
        own = {name: [home[images.classes[k]] for k in images.y] for name, images in all_sets(experiment).items()}
        for name in ("train", "validation", "internal"):
            assert list(all_sets(experiment)[name].frame.source) == own[name]
        assert list(experiment.tests["deceiving"].frame.source) == [other[name] for name in own["deceiving"]]
    for name in ("hospital_c", "hospital_d"):
        frame = tuberculosis.tests[name].frame
        assert set(frame.source) == {name} and frame.y.mean() == 0.5
    external = covid.tests["external"].frame
    assert external.groupby("y").source.nunique().eq(1).all()
    assert set(external.source).isdisjoint(covid.train.frame.source) and external.source.nunique() == 3


def pixels(images, part):
    """(N, 1024) of the lungs alone or of the background alone, without the lungs' content but with their outline."""
    x, y, mask, _ = images[list(range(len(images)))]
    kept = x[:, :1] * (mask if part == "lungs" else 1 - mask)
    return avg_pool2d(kept, 2).flatten(1).numpy(), y.numpy()


def read(train, tests, part):
    """AUC of a linear reader of the pixels, by test set."""
    reader = make_pipeline(StandardScaler(), PCA(60, random_state=0), LogisticRegression(C=0.1, max_iter=1000))
    reader.fit(*pixels(train, part))
    scores = {name: pixels(images, part) for name, images in tests.items()}
    return {name: roc_auc_score(y, reader.predict_proba(x)[:, 1]) for name, (x, y) in scores.items()}


def test_the_lungs_tell_the_class_everywhere_and_the_background_the_hospital():
    tuberculosis = loaded("tuberculosis_sim")
    tests = tuberculosis.tests | {"swapped": Swapped(tuberculosis.validation)}
    lungs, background = (read(tuberculosis.train, tests, part) for part in ("lungs", "background"))
    assert min(lungs.values()) > 0.75 and lungs["internal"] == lungs["deceiving"], lungs
    assert background["internal"] > 0.99 and background["deceiving"] < 0.01 and background["swapped"] < 0.1, background
    assert all(abs(background[name] - 0.5) < 0.12 for name in ("hospital_c", "hospital_d")), background


@pytest.mark.parametrize("name", ["tuberculosis_sim", "faces_sim"])
def test_augmented_images_move_in_training_alone(name):
    moved, plain = (data.load(name, **TINY, augment=value) for value in (True, False))
    assert [images.augment for images in all_sets(moved).values()] == [augment] + [None] * (1 + len(moved.tests))
    assert torch.equal(moved.train.x, plain.train.x) and plain.train.augment is None
    assert data.load("tuberculosis_look_sim", **TINY).train.augment is augment
    assert data.load("tuberculosis_look_sim", **TINY).train.augment is augment


def test_tests_may_be_drawn_from_another_seed():
    plain, other = (data.load("tuberculosis_sim", **TINY, data_seed=1, test_seed=seed) for seed in (None, 2))
    whole = data.load("tuberculosis_sim", **TINY, data_seed=2)
    for name, images in all_sets(other).items():
        source = plain if name in ("train", "validation") else whole
        assert torch.equal(images.x, all_sets(source)[name].x)


def test_masks_are_one_piece():
    mask = draw([])[1]
    for one in mask:
        areas = np.bincount(label(one)[0].ravel())[1:]
        assert areas.max() > 0.98 * areas.sum() and 0.1 < one.mean() < 0.5
    assert mask.mean((1, 2)).std() > 0.03


@pytest.mark.parametrize("name", [*ALL, "stripes", "dots"])
def test_an_attribute_changes_its_own_side_of_the_mask_alone_and_a_pattern_the_background(name):
    plain, outline = draw([])
    x, mask = draw([name]) if name in ALL else draw([], faces.PATTERNS.index(name))
    right, wrong = (mask, ~mask) if name in faces.INSIDE else (~mask, mask)
    assert np.array_equal(mask, outline) and (x == plain).all(1)[wrong].all()
    changed = ((np.abs(x - plain) > 0.02).any(1) & right).sum((1, 2))
    assert (changed >= (4 if name in ALL else 0.02 * 64**2)).all()


def test_attributes_are_drawn_independently():
    drawn = faces.draw_attributes(20_000, [0, 0])
    assert drawn.mean(0) == pytest.approx(list(faces.PREVALENCE.values()), abs=0.015)
    correlation = np.corrcoef(drawn, rowvar=False)
    assert np.abs(correlation[~np.eye(6, dtype=bool)]).max() < 0.03


def test_the_pattern_tells_the_tied_attribute_in_training_alone():
    tied = {name: images.frame[["Smiling", "pattern"]] for name, images in all_sets(loaded("faces_sim")).items()}
    for name in ("train", "validation", "biased"):
        assert ((tied[name].pattern == "stripes") == (tied[name].Smiling == 1)).all()
        assert set(tied[name].pattern) == {"stripes", "dots"}
    assert ((tied["deceiving"].pattern == "stripes") == (tied["deceiving"].Smiling == 0)).all()
    assert set(tied["deceiving"].pattern) == {"stripes", "dots"} and set(tied["unbiased"].pattern) == {"none"}


@pytest.mark.parametrize("name", ["tuberculosis_sim", "faces_sim"])
def test_test_sets_differ_outside_the_mask_alone(name):
    tests = loaded(name).tests
    first, *others = [tests["internal"], tests["deceiving"]] if "internal" in tests else tests.values()
    inside = (first.mask > 0).expand_as(first.x)
    for images in others:
        assert torch.equal(images.x[inside], first.x[inside]) and torch.equal(images.mask, first.mask)
        assert torch.equal(images.y, first.y) and images.frame.id.equals(first.frame.id)
        assert (images.x[~inside] != first.x[~inside]).float().mean() > 0.05


@pytest.mark.parametrize("name", ["tuberculosis_sim", "covid_sim", "faces_sim"])
def test_fewer_are_the_first_of_more_and_the_global_generators_are_left(name):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002, the global generator is the point
    once, other, more = (data.load(name, **TINY | own) for own in ({}, {"data_seed": 1}, {"train_size": 66}))
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    for kind, images in all_sets(once).items():
        assert not torch.equal(images.mask, all_sets(other)[kind].mask)
    assert torch.equal(more.train.x[:12], once.train.x) and torch.equal(more.train.y[:12], once.train.y)
