"""Simulated faces: what lies inside the mask, what outside, and what the background tells."""

import numpy as np
import pytest
import torch
from scipy.ndimage import label
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from isnetlib import data
from isnetlib.data import faces, faces_sim
from isnetlib.evaluate import measure

ALL = list(faces.PREVALENCE)
TINY = {"train_size": 12, "validation_size": 6, "test_size": 8}


@pytest.fixture(scope="module")
def experiment():
    return data.load("faces_sim", train_size=300, validation_size=40, test_size=100, attributes=ALL)


def all_sets(experiment):
    return {"train": experiment.train, "validation": experiment.validation, **experiment.tests}


def draw(attributes, pattern=0, n=30, size=64):
    rows = np.zeros((n, len(ALL)), dtype=int)
    rows[:, [ALL.index(name) for name in attributes]] = 1
    return faces.draw_faces(rows, np.full(n, pattern), size, np.random.default_rng(0))


@pytest.fixture(scope="module")
def plain():
    return draw([])


def test_masks_are_one_piece(plain):
    x, mask = plain
    assert mask.dtype == bool and mask.shape == (30, 64, 64) and x.shape == (30, 3, 64, 64)
    for one in mask:
        areas = np.bincount(label(one)[0].ravel())[1:]
        assert areas.max() > 0.98 * areas.sum() and 0.1 < one.mean() < 0.5
    assert mask.mean((1, 2)).std() > 0.03


@pytest.mark.parametrize("name", ALL)
def test_an_attribute_changes_its_own_side_of_the_mask_alone(plain, name):
    x, mask = draw([name])
    assert np.array_equal(mask, plain[1])
    changed = (np.abs(x - plain[0]) > 0.02).any(1)
    right, wrong = (mask, ~mask) if name in faces.INSIDE else (~mask, mask)
    assert not (changed & wrong).any() and np.array_equal(x[:, 0][wrong], plain[0][:, 0][wrong])
    assert ((changed & right).sum((1, 2)) >= 4).all()


@pytest.mark.parametrize("name", ["stripes", "dots"])
def test_a_pattern_changes_the_background_alone(plain, name):
    x, mask = draw([], faces.PATTERNS.index(name))
    changed = (x != plain[0]).any(1)
    assert not (changed & mask).any() and (changed.mean((1, 2)) > 0.02).all()


def test_attributes_lie_where_they_belong():
    """By the mean row of the changed pixels: the hat above the glasses, mouth and beard below them."""
    centres = {}
    for name in ALL:
        changed = np.abs(draw([name])[0] - draw([])[0]).sum(1)
        centres[name] = (changed.sum(2) * np.arange(64)).sum(1) / changed.sum((1, 2))
    below_glasses = [("Eyeglasses", name) for name in ("Mouth_Open", "Smiling", "Beard", "Wearing_Earrings")]
    for above, below in [("Wearing_Hat", "Eyeglasses"), *below_glasses]:
        assert (centres[above] < centres[below]).mean() > 0.9, (above, below)


def test_what_the_experiment_holds(experiment):
    assert (experiment.metric, experiment.publishable) == ("auc", True)
    assert list(experiment.tests) == ["biased", "unbiased", "deceiving", "swapped"]
    for images in all_sets(experiment).values():
        x, y, mask, _ = images[[0, 1]]
        assert images.classes == ALL and x.shape == (2, 3, 64, 64) and mask.shape == (2, 1, 64, 64)
        assert y.shape == (2, 6) and y.dtype == torch.float32 and images.x.dtype == torch.uint8
        assert 0 <= x.min() and x.max() <= 1
        assert [list(map(float, row.split())) for row in images.frame.y] == images.y.tolist()
        assert np.array_equal(images.frame[ALL], images.y) and images.frame.patient.equals(images.frame.id)
    names = [set(all_sets(experiment)[part].frame.id) for part in ("train", "validation", "biased")]
    assert len(set.union(*names)) == 440


def test_attributes_are_drawn_independently():
    drawn, rank = faces_sim.draw_attributes(20_000, [0, 0])
    assert drawn.mean(0) == pytest.approx(list(faces.PREVALENCE.values()), abs=0.015)
    correlation = np.corrcoef(np.column_stack([drawn, rank]), rowvar=False)
    assert np.abs(correlation[~np.eye(7, dtype=bool)]).max() < 0.03


def test_the_pattern_tells_the_tied_attribute_in_training_alone(experiment):
    tied = {name: images.frame[["Smiling", "pattern"]] for name, images in all_sets(experiment).items()}
    for name in ("train", "validation", "biased"):
        assert ((tied[name].pattern == "stripes") == (tied[name].Smiling == 1)).all()
        assert set(tied[name].pattern) == {"stripes", "dots"}
    assert ((tied["deceiving"].pattern == "stripes") == (tied["deceiving"].Smiling == 0)).all()
    assert set(tied["deceiving"].pattern) == {"stripes", "dots"} and set(tied["unbiased"].pattern) == {"none"}


def test_test_sets_share_their_faces(experiment):
    biased, *others = experiment.tests.values()
    inside = (biased.mask > 0).expand_as(biased.x)
    for images in others:
        assert torch.equal(images.x[inside], biased.x[inside]) and torch.equal(images.mask, biased.mask)
        assert torch.equal(images.y, biased.y) and images.frame.id.equals(biased.frame.id)
        assert (images.x[~inside] != biased.x[~inside]).float().mean() > 0.05


def patterns(images):
    """Energy of the spectrum of the picture's four corners (24 x 24), which tells stripes from dots."""
    x = images.x.float().mean(1).where(images.mask[:, 0] == 0, 128.0)
    corners = torch.stack([x[:, :24, :24], x[:, :24, 40:], x[:, 24:48, :24], x[:, 24:48, 40:]])
    spectrum = torch.fft.rfft2(corners - corners.mean((2, 3), keepdim=True)).abs().log1p().mean(0)
    return spectrum.flatten(1).numpy()


def test_a_reader_of_the_background_is_right_then_wrong(experiment):
    smiling = ALL.index("Smiling")
    reader = LogisticRegression(C=0.1, max_iter=2000).fit(patterns(experiment.train), experiment.train.y[:, smiling])
    aucs = {
        name: roc_auc_score(images.y[:, smiling], reader.decision_function(patterns(images)))
        for name, images in experiment.tests.items()
    }
    assert aucs["biased"] > 0.9 and aucs["deceiving"] < 0.1, aucs
    assert abs(aucs["unbiased"] - 0.5) < 0.2 and abs(aucs["swapped"] - 0.5) < 0.2, aucs


def test_without_a_tie_there_is_no_pattern():
    experiment = faces_sim.load(tied=None, attributes=["Wearing_Hat"], **TINY)
    assert list(experiment.tests) == ["internal", "swapped"] and experiment.train.y.shape == (12, 1)
    for images in (experiment.train, experiment.validation, experiment.tests["internal"]):
        assert set(images.frame.pattern) == {"none"}


@pytest.mark.parametrize("rho", [0.0, 0.25])
def test_rho_is_the_share_of_own_patterns(rho):
    frame = faces_sim.load(rho=rho, **TINY).train.frame
    assert ((frame.pattern == "stripes") == (frame.Smiling == 1)).mean() == rho


def test_deterministic_and_fewer_are_the_first_of_more():
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002, the global generator is the point
    once, again, other = faces_sim.load(**TINY), faces_sim.load(**TINY), faces_sim.load(**TINY, data_seed=1)
    more = faces_sim.load(**TINY | {"train_size": 57})
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    for name, images in all_sets(once).items():
        assert torch.equal(images.x, all_sets(again)[name].x) and images.frame.equals(all_sets(again)[name].frame)
        assert not torch.equal(images.mask, all_sets(other)[name].mask)
    assert torch.equal(more.train.x[:12], once.train.x) and torch.equal(more.train.y[:12], once.train.y)
    assert len(more.train) == 57 and not torch.equal(once.train.mask[:6], once.validation.mask)


def test_evaluation_measures_several_labels(experiment):
    y = experiment.tests["biased"].y.numpy()
    assert measure("auc", y, y) == 1 and measure("auc", y, np.full(y.shape, 0.5)) == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 16}, "size must be at least 32"),
        ({"attributes": "Smiling"}, "attributes must be a list"),
        ({"attributes": ["Smiling", "Tall"]}, "attributes must be a list"),
        ({"attributes": ["Smiling", "Smiling"]}, "twice"),
        ({"attributes": ["Beard"]}, "tied must be None or one of the attributes Beard"),
        ({"rho": 2.0}, "rho"),
        ({"data_seed": -1}, "data_seed"),
        ({"test_size": 0}, "test_size"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        faces_sim.load(**options)
