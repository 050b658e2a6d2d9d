"""Background swapping."""

import pytest
import torch

from isnetlib.data import swap_backgrounds
from isnetlib.data.swap import draw_donors, fill_foreground


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


def test_known_pair(pair):
    x, y, mask = pair
    expected = torch.tensor([1.0, 0.0])[:, None, None, None] * mask
    expected = (expected + torch.tensor([0.8, 0.2])[:, None, None, None] * (1 - mask)).expand_as(x)
    torch.testing.assert_close(swap_backgrounds(x, y, mask, seeded()), expected, atol=1e-5, rtol=0)


def test_foreground_stays_bit_for_bit_and_background_is_the_donors():
    x, y = torch.rand(6, 3, 12, 14, generator=seeded(1)), torch.tensor([0, 1, 2, 0, 1, 2])
    mask = torch.zeros(6, 1, 12, 14)
    for i in range(6):
        mask[i, :, i : i + 5, 3:9] = 1
    swapped = swap_backgrounds(x, y, mask, seeded())
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


def test_images_without_mask_keep_their_background_and_are_no_donors(pair):
    x, y, mask = (torch.cat([part, part]) for part in pair)
    y = torch.tensor([0, 1, 1, 0])
    mask[2:] = 0
    for seed in range(5):
        swapped = swap_backgrounds(x, y, mask, seeded(seed))
        assert torch.equal(swapped[2:], x[2:])
        assert float(swapped[0, 0, 0, 0]) == pytest.approx(0.8) and float(swapped[1, 0, 0, 0]) == pytest.approx(0.2)


def test_full_masks_are_no_donors(pair):
    x, y, mask = pair
    mask = mask.clone()
    mask[1] = 1
    swapped = swap_backgrounds(x, y, mask, seeded())
    assert torch.equal(swapped, x) and swapped.isfinite().all()


def test_one_class_only_changes_nothing(pair):
    x, _, mask = pair
    assert torch.equal(swap_backgrounds(x, torch.tensor([1, 1]), mask, seeded()), x)


def test_donors_are_of_another_class_and_all_are_drawn():
    y, yes = torch.tensor([0, 0, 1, 2, 2]), torch.ones(5, dtype=torch.bool)
    draws = torch.stack([draw_donors(y, yes, yes, seeded(seed)) for seed in range(200)])
    assert (y[draws] != y).all()
    assert set(draws[:, 0].tolist()) == {2, 3, 4}


def test_multi_label_donors_are_any_other_image():
    y, yes = torch.zeros(3, 2), torch.ones(3, dtype=torch.bool)
    draws = torch.stack([draw_donors(y, yes, yes, seeded(seed)) for seed in range(100)])
    assert (draws != torch.arange(3)).all()
    assert set(draws[:, 0].tolist()) == {1, 2}


def test_deterministic_given_the_generator():
    x, y = torch.rand(8, 1, 10, 10, generator=seeded()), torch.arange(8) % 3
    mask = torch.zeros(8, 1, 10, 10)
    mask[..., 3:6, 3:6] = 1
    same = [swap_backgrounds(x, y, mask, seeded(seed)) for seed in (3, 3, 4)]
    assert torch.equal(same[0], same[1]) and not torch.equal(same[0], same[2])
