"""Swapped backgrounds; augmentation, which moves image and mask together by no more than is said."""

import pytest
import torch

from isnetlib.data import backgrounds
from isnetlib.data.backgrounds import STANDING, augment, draw_donors, fill_foreground, swap_backgrounds

ZERO = dict.fromkeys(("turn", "scale", "shift", "contrast", "brightness"), 0.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pair():
    """Background 0.2 with an object of 1.0 on the left; background 0.8 with an object of 0.0 on the right."""
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, :, 4:12, 1:6] = 1
    mask[1, :, 4:12, 10:15] = 1
    values = torch.tensor([[0.2, 1.0], [0.8, 0.0]])[:, :, None, None, None]
    return (values[:, 0] * (1 - mask) + values[:, 1] * mask).expand(2, 3, 16, 16), torch.tensor([0, 1]), mask


def test_foreground_stays_bit_for_bit_and_background_is_the_donors():
    x, y = torch.rand(6, 3, 12, 14, generator=seeded(1)), torch.tensor([0, 1, 2, 0, 1, 2])
    mask = torch.zeros(6, 1, 12, 14)
    for i in range(6):
        mask[i, :, i : i + 5, 3:9] = 1
    swapped, same, other = (swap_backgrounds(x, y, mask, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(swapped, same) and not torch.equal(swapped, other)
    everywhere = (mask > 0).expand_as(x)
    assert torch.equal(swapped[everywhere], x[everywhere])
    for i in range(6):
        both = ((mask[i] == 0) & (mask == 0)).expand_as(x)  # background here and in the donor
        donors = [j for j in range(6) if torch.equal(swapped[i][both[j]], x[j][both[j]])]
        assert len(donors) == 1 and y[donors[0]] != y[i]


def test_the_donors_object_does_not_show():
    """A donor's object changes nothing, whatever it looks like."""
    x, y = torch.rand(2, 3, 20, 20, generator=seeded(1)), torch.tensor([0, 1])
    mask = torch.zeros(2, 1, 20, 20)
    mask[0, :, :4, :4] = mask[1, :, 5:17, 5:17] = 1
    other = torch.where(mask[1] > 0, 1 - x[1], x[1])
    results = [swap_backgrounds(torch.stack([x[0], donor]), y, mask, seeded())[0] for donor in (x[1], other)]
    assert torch.equal(*results)


def test_fill_stays_within_the_backgrounds_range_even_far_from_it():
    x = torch.rand(1, 1, 64, 64, generator=seeded()) * 0.1 + 0.4
    foreground = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    foreground[..., :2, :2] = False  # the far corner is 87 pixels, 22 sigma, away
    x[foreground] = 1
    filled = fill_foreground(x, foreground)
    assert torch.equal(filled[~foreground], x[~foreground])
    low, high = x[~foreground].min(), x[~foreground].max()
    assert filled.min() >= low - 1e-5 and filled.max() <= high + 1e-5


def test_fill_is_the_normalised_gaussian_of_the_background():
    x = torch.rand(1, 1, 9, 7, generator=seeded(), dtype=torch.float64)
    foreground = torch.zeros(1, 1, 9, 7, dtype=torch.bool)
    foreground[..., 3:6, 2:5] = True
    filled = fill_foreground(x, foreground, scale=1 / 4)
    total = weight = 0.0
    for r, c in (~foreground[0, 0]).nonzero().tolist():  # the fill at row 4, column 3, written as a sum
        w = torch.exp(torch.tensor(-0.5 * ((r - 4) ** 2 + (c - 3) ** 2) / (9 / 4) ** 2, dtype=torch.float64))
        total, weight = total + w * x[0, 0, r, c], weight + w
    torch.testing.assert_close(filled[0, 0, 4, 3], total / weight, atol=1e-7, rtol=0)


def test_images_without_mask_or_background_keep_theirs_and_are_no_donors(pair):
    x, y, mask = (torch.cat([part, part]) for part in pair)
    y, mask[2], mask[3] = torch.tensor([0, 1, 1, 0]), 0, 1
    for seed in range(5):
        swapped = swap_backgrounds(x, y, mask, seeded(seed))
        assert torch.equal(swapped[2:], x[2:])
        assert float(swapped[0, 0, 0, 0]) == pytest.approx(0.8) and float(swapped[1, 0, 0, 0]) == pytest.approx(0.2)


@pytest.mark.parametrize("y", [torch.tensor([0, 0, 1, 2, 2]), torch.zeros(5, 2)])
def test_donors_are_of_another_class_or_with_several_labels_another_image_and_all_are_drawn(y):
    draws = torch.stack([draw_donors(y, torch.full((5,), 0.5), seeded(seed)) for seed in range(200)])
    assert (y[draws] != y).all() if y.ndim == 1 else (draws != torch.arange(5)).all()
    assert set(draws[:, 0].tolist()) == ({2, 3, 4} if y.ndim == 1 else {1, 2, 3, 4})


def block(n, size=40):
    x = torch.zeros(n, 1, size, size)
    x[:, :, 12:28, 10:30] = 1
    return x


def test_each_image_is_moved_with_its_mask_by_no_more_than_is_said_and_the_global_generator_is_left():
    x = block(16)
    state = torch.get_rng_state()
    moved, mask = augment(x, x, seeded(), **STANDING)
    assert torch.equal(torch.get_rng_state(), state) and set(mask.unique().tolist()) == {0, 1}
    assert not torch.equal(mask, x) and (moved[mask == 1].mean() - moved[mask == 0].mean()) > 0.6
    assert (mask.mean((1, 2, 3)) / x.mean((1, 2, 3))).sub(1).abs().max() < 0.3
    x = torch.rand(4, 3, 24, 24, generator=seeded(1))
    still, mask = augment(x, block(4, 24), seeded(), **ZERO)
    assert torch.allclose(still, x, atol=1e-5) and torch.equal(mask, block(4, 24))
    same = augment(block(4), block(4), seeded())[0]
    assert not any(torch.equal(same[0], other) for other in same[1:])


def test_a_mark_in_the_outermost_corner_is_never_lost():
    side = backgrounds.mark_side(96)
    x = torch.zeros(3000, 1, 96, 96)
    x[..., :side, :side] = 1
    left = augment(x, x, seeded(), contrast=0.0, brightness=0.0)[0].flatten(1).sum(1) / side**2
    assert left.min() > 0.15 and left.mean() > 0.75
