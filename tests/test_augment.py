"""Augmentation: image and mask move together, by no more than is said, and by the generator that is given."""

import pandas as pd
import torch

from isnetlib.data.augment import GENTLE, STANDING, augment
from isnetlib.data.images import Images
from isnetlib.data.marks import mark_side

ZERO = GENTLE._replace(turn=0.0, scale=0.0, shift=0.0, contrast=0.0, brightness=0.0)


def block(n, size=40):
    x = torch.zeros(n, 1, size, size)
    x[:, :, 12:28, 10:30] = 1
    return x


def test_image_and_mask_are_moved_together_and_the_global_generator_is_left():
    x = block(16)
    state = torch.get_rng_state()
    moved, mask = augment(x, x, torch.Generator().manual_seed(0), STANDING)
    assert torch.equal(torch.get_rng_state(), state) and set(mask.unique().tolist()) == {0, 1}
    assert not torch.equal(mask, x) and (moved[mask == 1].mean() - moved[mask == 0].mean()) > 0.6
    assert (mask.mean((1, 2, 3)) / x.mean((1, 2, 3))).sub(1).abs().max() < 0.3


def test_nothing_is_changed_by_a_reach_of_zero_and_each_image_draws_its_own():
    x = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    still, mask = augment(x, block(4, 24), torch.Generator().manual_seed(0), ZERO)
    assert torch.allclose(still, x, atol=1e-5) and torch.equal(mask, block(4, 24))
    same = augment(block(4), block(4), torch.Generator().manual_seed(0))[0]
    assert not any(torch.equal(same[0], other) for other in same[1:])


def test_equal_channels_stay_equal_and_pixels_in_range():
    x = torch.rand(8, 1, 32, 32).expand(-1, 3, -1, -1)
    moved, _ = augment(x, block(8, 32))
    assert torch.equal(moved, moved[:, :1].expand_as(moved)) and 0 <= moved.min() and moved.max() <= 1


def test_a_shift_is_of_half_the_side_and_has_no_direction():
    reach = ZERO._replace(shift=0.2)  # of 20 pixels: 4
    _, mask = augment(block(500), block(500), torch.Generator().manual_seed(0), reach)
    place = torch.arange(40.0)
    across = [(m[0].sum(0) * place).sum() / m.sum() - 19.5 for m in mask]
    assert 3.4 < max(across) <= 4.5 and -4.5 <= min(across) < -3.4 and abs(sum(across) / 500) < 0.3


def test_a_mark_in_the_outermost_corner_is_never_lost():
    side = mark_side(96)
    x = torch.zeros(3000, 1, 96, 96)
    x[..., :side, :side] = 1
    reach = GENTLE._replace(contrast=0.0, brightness=0.0)
    left = augment(x, x, torch.Generator().manual_seed(0), reach)[0].flatten(1).sum(1) / side**2
    assert left.min() > 0.15 and left.mean() > 0.75


def test_it_fits_the_hook_of_a_data_set():
    frame = pd.DataFrame({"id": range(4), "patient": range(4), "source": "a", "y": 0})
    x = (255 * block(4)).to(torch.uint8).expand(-1, 3, -1, -1)
    images = Images(x, torch.zeros(4, dtype=torch.long), block(4), frame, ["one"], augment)
    torch.manual_seed(3)
    first, again = images[[0, 1]], images[[0, 1]]
    torch.manual_seed(3)
    repeated = images[[0, 1]]
    assert torch.equal(first[0], repeated[0]) and torch.equal(first[2], repeated[2])
    assert not torch.equal(first[0], again[0]) and first[0].shape == (2, 3, 40, 40)
