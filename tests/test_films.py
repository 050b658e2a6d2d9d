"""Simulated chest films: what is inside the lungs, what is outside, and what each of them tells."""

import numpy as np
import pytest
import torch
from scipy.ndimage import label
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import avg_pool2d

from isnetlib import data
from isnetlib.data import drawing, films, films_sim
from isnetlib.data.augment import augment
from isnetlib.train import swapped_set

SMALL = {"train_size": 480, "validation_size": 60, "test_size": 240}
TINY = {"train_size": 12, "validation_size": 6, "test_size": 6}


@pytest.fixture(scope="module")
def tuberculosis():
    return data.load("tuberculosis_sim", **SMALL)


@pytest.fixture(scope="module")
def covid():
    return data.load("covid_sim", **SMALL)


@pytest.fixture(scope="module")
def patients():
    return films.draw_patients(40, 64, np.random.default_rng(0))


def all_sets(experiment):
    return {"train": experiment.train, "validation": experiment.validation, **experiment.tests}


def opacity(patients, kind, seed=1):
    """What a finding adds to the films, the calcified spots left out."""
    kinds = np.full(len(patients.film), kind)
    return np.subtract(*(films.add_findings(patients, k, 0.2, np.random.default_rng(seed)) for k in (kinds, "normal")))


# --- the drawing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 96])
def test_the_mask_is_two_dark_lungs(size):
    patients = films.draw_patients(20, size, np.random.default_rng(size))
    assert patients.mask.dtype == bool and patients.mask.shape == patients.film.shape == (20, size, size)
    for film, mask in zip(patients.film, patients.mask, strict=True):
        parts, _ = label(mask)
        *splinters, b, a = np.argsort(np.bincount(parts.ravel())[1:]) + 1
        assert sum((parts == k).sum() for k in splinters) <= 3  # pixels cut off at the tips
        assert min((parts == k).mean() for k in (a, b)) > 0.06 and 0.15 < mask.mean() < 0.35
        columns = [np.flatnonzero((parts == k).any(0)) for k in (a, b)]
        assert columns[0].max() < columns[1].min() or columns[1].max() < columns[0].min()
        assert film[mask].mean() < film[~mask & (film > 0.2)].mean() - 0.15


def test_anatomy_varies(patients):
    areas = patients.mask.mean((1, 2))
    assert areas.std() > 0.015 and len(np.unique(areas)) > 30


@pytest.mark.parametrize("kind", films.FINDINGS)
def test_findings_change_the_lungs_alone(patients, kind):
    found = films.add_findings(patients, np.full(40, kind), 0.2, np.random.default_rng(1))
    assert np.array_equal(found[~patients.mask], patients.film[~patients.mask])
    added = opacity(patients, kind)
    assert added.min() > -1e-6 and (added.max((1, 2)) > 0.04).all() and added.max() < 0.6


def test_where_findings_lie(patients):
    right = (patients.x < 0) & patients.mask
    low, high = patients.anatomy["apex"], patients.anatomy["dome"]
    upper = patients.y < (low + high) / 2
    share = {}
    for kind in films.FINDINGS:
        added = opacity(patients, kind)
        total = added.sum((1, 2))
        share[kind] = (added * upper).sum((1, 2)) / total, (added * right).sum((1, 2)) / total
    in_upper, in_right = share["tuberculosis"]
    assert in_upper.mean() > 0.85 and np.isin(in_right.round(1), [0, 1]).all()
    in_upper, in_right = share["covid"]
    assert in_upper.mean() < 0.5 and ((in_right > 0.02) & (in_right < 0.98)).mean() > 0.9
    assert np.isin(share["pneumonia"][1].round(1), [0, 1]).all()


def test_without_strength_every_kind_is_normal(patients):
    results = [
        films.add_findings(patients, np.full(40, kind), 0.0, np.random.default_rng(1)) for kind in films.FINDINGS
    ]
    normal = films.add_findings(patients, np.full(40, "normal"), 0.2, np.random.default_rng(1))
    assert all(np.array_equal(result, normal) for result in results)
    spots = (normal != patients.film).any((1, 2))
    assert 0.15 < spots.mean() < 0.55


@pytest.mark.parametrize("name", films_sim.HOSPITALS)
def test_looks_change_everything_but_the_lungs(patients, name):
    u = np.random.default_rng(2).random((40, 8), dtype=np.float32)
    shown = films.apply_look(patients.film, patients.mask, films_sim.HOSPITALS[name], u)
    assert np.array_equal(shown[patients.mask], patients.film[patients.mask])
    assert ((shown != patients.film)[~patients.mask].mean() > 0.5) and np.isfinite(shown).all()


@pytest.mark.parametrize("size", [64, 96, 128])
def test_markers_are_whole(size):
    """No letter reaches a lung, where the look is not shown; each film has all its letters, in the marker's corner."""
    rng = np.random.default_rng(3)
    mask = films.draw_patients(60, size, rng).mask
    for look in films_sim.HOSPITALS.values():
        blank = np.full(mask.shape, -1.0, dtype=np.float32)
        films._mark(blank, look, rng.random((60, 2)))
        letters = blank == np.float32(look.ink)
        assert np.array_equal(letters.sum((1, 2)), np.full(60, drawing.text(look.word, max(1, size // 64)).sum()))
        assert not (letters & mask).any()
        rows, columns = letters.any((0, 2)).nonzero()[0], letters.any((0, 1)).nonzero()[0]
        assert (rows.max() < size / 2) == (look.corner[0] == "t") and (columns.max() < size / 2) == (
            look.corner[1] == "l"
        )


def test_an_ellipse_measures_the_distance_near_its_edge():
    x, y = np.array([1.1, 0.9, 0.0, 0.0]), np.array([0.0, 0.0, 0.55, 0.45])
    assert drawing.ellipse(x, y, 0, 0, 1.0, 0.5) == pytest.approx([-0.1, 0.1, -0.05, 0.05], abs=1e-3)


# --- the experiments ----------------------------------------------------------------------------------------------


def test_what_the_experiments_hold(tuberculosis, covid):
    assert (tuberculosis.metric, covid.metric) == ("auc", "macro_f1")
    assert tuberculosis.train.classes == ["normal", "tuberculosis"]
    assert covid.train.classes == ["normal", "pneumonia", "covid"]
    assert list(tuberculosis.tests) == ["internal", "deceiving", "hospital_c", "hospital_d"]
    assert list(covid.tests) == ["internal", "deceiving", "external"]
    for experiment in (tuberculosis, covid):
        assert experiment.publishable and len({images.x.shape[-1] for images in all_sets(experiment).values()}) == 1
        for images in all_sets(experiment).values():
            x, y, mask, _ = images[[0, 1]]
            assert x.shape == (2, 3, 64, 64) and torch.equal(x[:, 0], x[:, 1]) and torch.equal(x[:, 0], x[:, 2])
            assert 0 <= x.min() and x.max() <= 1 and images.x.dtype == torch.uint8
            assert np.ptp(np.bincount(images.y)) <= 1 and np.array_equal(images.frame.y, images.y)
            assert not images.frame.id.duplicated().any() and images.frame.patient.equals(images.frame.id)
        patients = [set(images.frame.id) for name, images in all_sets(experiment).items() if name != "deceiving"]
        assert len(set.union(*patients)) == sum(map(len, patients))


def test_nothing_is_cut_off_inside_the_lungs(tuberculosis):
    images = tuberculosis.train
    inside = images.x[:, :1][images.mask > 0]
    assert (inside == 0).float().mean() < 1e-3 and (inside == 255).float().mean() < 1e-3


def test_hospitals_tell_the_class_in_training_alone(tuberculosis, covid):
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


def test_deceiving_films_are_the_internal_ones_with_the_other_look(tuberculosis):
    internal, deceiving = tuberculosis.tests["internal"], tuberculosis.tests["deceiving"]
    inside = (internal.mask > 0).expand_as(internal.x)
    assert internal.frame.id.equals(deceiving.frame.id) and torch.equal(internal.mask, deceiving.mask)
    assert torch.equal(internal.x[inside], deceiving.x[inside])
    assert (internal.x[~inside] != deceiving.x[~inside]).float().mean() > 0.5


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.75])
def test_rho_is_the_share_of_films_from_their_own_hospital(rho):
    experiment = films_sim.load_tuberculosis(rho=rho, **TINY | {"train_size": 60})
    own = np.where(experiment.train.y == 1, "hospital_a", "hospital_b")
    assert (experiment.train.frame.source == own).mean() == rho
    own = np.where(experiment.tests["deceiving"].y == 1, "hospital_a", "hospital_b")
    assert (experiment.tests["deceiving"].frame.source != own).all()


# --- what can be read where ---------------------------------------------------------------------------------------


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


def test_the_lungs_tell_the_class_everywhere(tuberculosis):
    aucs = read(tuberculosis.train, tuberculosis.tests, "lungs")
    assert min(aucs.values()) > 0.75, aucs
    assert aucs["internal"] == aucs["deceiving"]


def test_the_background_tells_the_hospital_and_nothing_else(tuberculosis):
    tests = tuberculosis.tests | {"swapped": swapped_set(tuberculosis.validation)}
    aucs = read(tuberculosis.train, tests, "background")
    assert aucs["internal"] > 0.99 and aucs["deceiving"] < 0.01 and aucs["swapped"] < 0.1, aucs
    assert all(abs(aucs[name] - 0.5) < 0.12 for name in ("hospital_c", "hospital_d")), aucs


def test_with_hospitals_at_random_the_background_tells_nothing():
    experiment = films_sim.load_tuberculosis(rho=0.5, **SMALL)
    aucs = read(experiment.train, {"internal": experiment.tests["internal"]}, "background")
    assert abs(aucs["internal"] - 0.5) < 0.12, aucs
    assert read(experiment.train, {"internal": experiment.tests["internal"]}, "lungs")["internal"] > 0.75


def test_augmented_films_are_drawn_anew_and_move_in_training_alone():
    few = {"train_size": 6, "validation_size": 2, "test_size": 2}
    moved, plain, old = (
        data.load(name, **few, **options)
        for name, options in (
            ("tuberculosis_augmented_sim", {}),
            ("tuberculosis_sim", {"data_seed": 1}),
            ("tuberculosis_sim", {}),
        )
    )
    assert moved.train.augment is augment and plain.train.augment is None
    assert all(test.augment is None for test in (moved.validation, *moved.tests.values()))
    assert torch.equal(moved.train.x, plain.train.x) and list(moved.tests) == list(plain.tests)
    assert all((moved.tests[name].x != old.tests[name].x).float().mean() > 0.5 for name in old.tests)
    with pytest.raises(ValueError, match="tuberculosis_augmented_sim has no option 'sise'; known: size, rho"):
        data.load("tuberculosis_augmented_sim", sise=64)


def test_three_classes_are_read_in_the_lungs(covid):
    reader = make_pipeline(StandardScaler(), PCA(60, random_state=0), LogisticRegression(C=0.1, max_iter=1000))
    reader.fit(*pixels(covid.train, "lungs"))
    x, y = pixels(covid.tests["external"], "lungs")
    assert roc_auc_score(y, reader.predict_proba(x), multi_class="ovo") > 0.7


# --- seeds and options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [films_sim.load_tuberculosis, films_sim.load_covid])
def test_deterministic_and_fewer_are_the_first_of_more(load):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002, the global generator is the point
    once, again, other = load(**TINY), load(**TINY), load(**TINY, data_seed=1)
    more = load(**TINY | {"train_size": 66})
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    for name, images in all_sets(once).items():
        assert torch.equal(images.x, all_sets(again)[name].x) and images.frame.equals(all_sets(again)[name].frame)
        assert not torch.equal(images.mask, all_sets(other)[name].mask)
    assert torch.equal(more.train.x[:12], once.train.x) and len(more.train) == 66
    assert not torch.equal(once.train.mask[:6], once.validation.mask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 63}, "size must be at least 64"),
        ({"rho": -0.1}, "rho"),
        ({"strength": 2.0}, "strength"),
        ({"data_seed": -1}, "data_seed"),
        ({"validation_size": 0}, "validation_size"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        films_sim.load_tuberculosis(**options)
