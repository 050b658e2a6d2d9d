"""The data contract, and the biased digits."""

import numpy as np
import pandas as pd
import pytest
import torch
from stub_films import all_sets
from torch.utils.data import DataLoader

from isnetlib import data
from isnetlib.data import backgrounds, digits

KINDS = ["biased", "unbiased", "random", "deceiving"]


@pytest.fixture(scope="module")
def experiment():
    return data.load("digits")


def mark_pixels(images):
    """Where the marks' 6 x 6 squares stand, (N, H, W) bool; nothing for an image without mark."""
    where = torch.zeros(images.x[:, 0].shape, dtype=torch.bool)
    for i, (top, left) in enumerate(images.frame[["mark_top", "mark_left"]].to_numpy()):
        if top >= 0:
            where[i, top : top + 6, left : left + 6] = True
    return where


def tiny(**changes):
    frame = pd.DataFrame({"id": list("abc"), "patient": list("abc"), "source": "s", "y": [0, 1, 1]})
    x = torch.arange(3 * 3 * 4 * 4, dtype=torch.uint8).view(3, 3, 4, 4)
    mask = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    mask[1, :, :2] = 1
    options = {"x": x, "y": torch.tensor([0, 1, 1]), "mask": mask, "frame": frame, "classes": ["no", "yes"]}
    return data.Images(**(options | changes))


def test_items_batches_and_subsets_and_augment_sees_the_batch_and_leaves_the_data_alone():
    images = tiny()
    x, y, mask, i = images[1]
    assert (x.dtype, x.shape, y.dtype, y.shape) == (torch.float32, (3, 4, 4), torch.int64, ())
    assert (mask.dtype, mask.shape, mask.sum(), i) == (torch.float32, (1, 4, 4), 8, 1)
    assert torch.equal(x, images.x[1].float() / 255)
    assert images[-1][3] == 2 and images[np.int64(1)][3] == 1 and len(list(images)) == 3
    [batch] = DataLoader(images, batch_size=3, num_workers=1)
    for from_loader, direct, items in zip(batch, images[np.arange(3)], zip(*images, strict=True), strict=True):
        stacked = torch.stack([torch.as_tensor(item) for item in items])
        assert torch.equal(from_loader, stacked) and torch.equal(direct, stacked)
    part = images.subset([2, 0])
    assert list(part.frame.id) == ["c", "a"] and list(part.frame.index) == [0, 1]
    assert torch.equal(part[0][0], images[2][0]) and part[0][3] == 0
    flipped = tiny(augment=lambda x, mask: (x.flip(-1).mul_(0.5), mask.flip(-2)))
    for _ in range(2):
        assert torch.equal(flipped[[1, 2]][0], images[[1, 2]][0].flip(-1) * 0.5)
    assert torch.equal(flipped[1][2], images[1][2].flip(-2))


def test_parts_that_do_not_fit():
    for changes, message in (
        ({"x": torch.zeros(3, 4, 4)}, "x must be"),
        ({"x": torch.full((3, 3, 4, 4), 7.0)}, r"lie in \[0, 1\]"),
        ({"y": torch.zeros(2, dtype=torch.int64)}, "y must be"),
        ({"y": torch.tensor([0, 1, 2])}, "2 classes"),
        ({"y": torch.full((3, 2), 0.5)}, "0 or 1"),
        ({"mask": torch.full((3, 1, 4, 4), 0.5)}, "only 0 and 1"),
        ({"frame": pd.DataFrame({"id": [1, 2, 3]})}, "patient"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny(**changes)


def test_unknown_names_and_options_out_of_range():
    for name, options, message in (
        ("numbers", {}, "known: digits, folder, tuberculosis"),
        ("digits", {"rhoo": 1}, "no option 'rhoo'; known: canvas, rho"),
        ("folder", {"extern": ["a"]}, "no option 'extern'; known: folder, .*, external, fractions, split_seed$"),
        ("folder", {}, "missing 1 required positional argument: .folder."),
        ("digits", {"canvas": 36}, "canvas must be at least 37, not 36"),
        ("digits", {"rho": 1.1}, "rho must be from 0 to 1"),
        ("digits", {"train_size": 3501}, "train_size must be from 1 to 3500"),
        ("covid_sim", {"size": 63}, "size must be at least 64, not 63"),
        ("faces_sim", {"data_seed": -1}, "expected non-negative integer"),
        ("tuberculosis_sim", {"validation_size": 0}, "validation_size must be at least 1, not 0"),
        ("tuberculosis_sim", {"bias": "mark"}, "bias must be 'look' or 'marks', not 'mark'"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            data.load(name, **options)


def test_splits_are_disjoint_and_stratified(experiment):
    ids = {name: set(images.frame.id) for name, images in all_sets(experiment).items() if name not in KINDS[1:]}
    assert [len(part) for part in ids.values()] == [3500, 500, 1000]
    assert len(set.union(*ids.values())) == 5000 and experiment.publishable
    for images in all_sets(experiment).values():
        assert np.array_equal(np.bincount(images.y), [len(images) // 10] * 10)
        assert np.array_equal(images.frame.y, images.y) and images.frame.patient.equals(images.frame.id)


def test_masks_are_the_ink_dilated_marks_touch_none_and_nothing_else_is_in_the_background(experiment):
    images = experiment.tests["unbiased"].subset(range(20))
    ink = (images.x[:, :1] > digits.INK).float()
    assert torch.equal(images.mask.float(), torch.nn.functional.max_pool2d(ink, 5, 1, 2))
    for images in all_sets(experiment).values():
        marks = mark_pixels(images)
        grown = torch.nn.functional.max_pool2d(marks[:, None].float(), 3, 1, 1)  # a free pixel lies between
        assert (grown * images.mask).sum() == 0
        background = (images.x[:, 0] > 0) & (images.mask[:, 0] == 0)
        assert not (background & ~marks).any()  # so all ink lies in the mask, too
        marked = images.frame.mark.to_numpy() >= 0
        assert marks.flatten(1).sum(1).eq(36 * torch.tensor(marked)).all()
        shown = images.x[:, 0][marks].view(-1, 6, 6).numpy() == 255
        assert np.array_equal(shown, backgrounds.glyphs()[images.frame.mark[marked]])


def test_marks_of_the_four_test_sets(experiment):
    frames = {kind: images.frame for kind, images in experiment.tests.items()}
    for frame in (frames["biased"], experiment.train.frame, experiment.validation.frame):
        assert (frame.mark == frame.y).all()
    assert (frames["unbiased"].mark == -1).all()
    assert 0.05 < (frames["random"].mark == frames["random"].y).mean() < 0.15
    assert frames["random"].groupby("y").mark.nunique().eq(10).all()
    pairs = frames["deceiving"][["y", "mark"]].drop_duplicates()
    assert len(pairs) == 10 and set(pairs.mark) == set(range(10)) and (pairs.mark != pairs.y).all()


def test_test_sets_share_digits_and_places_of_marks(experiment):
    biased, *others = experiment.tests.values()
    inside = (biased.mask > 0).expand_as(biased.x)
    for images in others:
        shared = ["id", "y"] if images is experiment.tests["unbiased"] else ["id", "y", "mark_top", "mark_left"]
        assert images.frame[shared].equals(biased.frame[shared]) and torch.equal(images.mask, biased.mask)
        assert torch.equal(images.x[inside], biased.x[inside])


@pytest.mark.parametrize("rho", [0.1, 0.75])
def test_rho_is_the_share_of_own_marks_and_the_smallest_canvas_has_room(rho):
    experiment = digits.load(canvas=37, rho=rho, train_size=200, validation_size=100, test_size=100)
    for images in (experiment.train, experiment.validation, experiment.tests["biased"]):
        assert (images.frame.mark == images.frame.y).mean() == pytest.approx(rho)
        assert not (mark_pixels(images) & (images.mask[:, 0] > 0)).any() and images.x.shape[-1] == 37
    assert (experiment.tests["deceiving"].frame.mark != experiment.tests["deceiving"].frame.y).all()


def test_subsets_are_parts_of_the_whole(experiment):
    sizes = {"train_size": 40, "validation_size": 20, "test_size": 30}
    once, other = digits.load(**sizes), digits.load(**sizes, data_seed=1)
    for name, images in all_sets(once).items():
        whole, n = all_sets(experiment)[name], len(images)
        assert torch.equal(images.x, whole.x[:n])
        assert images.frame.equals(whole.frame[:n]) and np.array_equal(np.bincount(images.y), [n // 10] * 10)
        assert not torch.equal(images.x, all_sets(other)[name].x)
