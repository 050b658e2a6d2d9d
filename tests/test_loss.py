"""The heatmap loss, equation by equation, against slow twins and numbers worked out by hand."""

import math

import pytest
import torch
from torch import tensor

from isnetlib.method import loss
from isnetlib.method.course import foreground_range
from isnetlib.method.loss import foreground_term, gwrp, heatmap_loss


@pytest.fixture
def R():
    torch.manual_seed(0)
    return torch.randn(4, 2, 3, 6, 6, dtype=torch.float64)


@pytest.fixture
def mask():
    mask = torch.zeros(4, 1, 6, 6)
    mask[0, :, 1:4, 2:5] = mask[1, :, 0, 0] = mask[2, :, :, 1:] = mask[3, :, 2:4, 2:4] = 1
    return mask


def slow_gwrp(v, d):
    """sum_i d^(i-1) v_i / sum_i d^(i-1) over the fully sorted values; 0^0 = 1."""
    v = sorted(v.tolist(), reverse=True)
    return sum(d**i * value for i, value in enumerate(v)) / sum(d**i for i in range(len(v)))


def slow_background(A, m, d, E):
    """One map A (C, H, W), m (H, W): step by step, as -log(1 - u) of u = G / (G + E), averaged over channels."""
    inside = (A * m).sum() / (m.sum() * len(A))
    G = [slow_gwrp((channel / inside * (1 - m)).flatten(), d) for channel in A]
    return sum(-math.log(1 - g / (g + E)) for g in G) / len(G)


def slow_foreground(A, m, low, high):
    F = (A * m).sum().item()
    if F < low:
        return (F / low - 1) ** 2
    if F <= high:
        return 0.0
    if F <= high + low:
        return ((F - high) / low) ** 2
    return 1 + 2 * (F - high - low) / low


def slow_loss(R, masks, d, E, low, high):
    """Background and foreground term; masks (B, M, H, W); maps whose mask has no inside or no outside are left out."""
    pairs = [(R[b, k].abs(), masks[b, k]) for b in range(len(R)) for k in range(R.shape[1])]
    pairs = [(A, m) for A, m in pairs if 0 < m.mean() < 1]
    background = sum(slow_background(A, m, d, E) for A, m in pairs) / len(pairs)
    return background, sum(slow_foreground(A, m, low, high) for A, m in pairs) / len(pairs)


@pytest.mark.parametrize("decay", [0.0, 1e-9, 0.5, 0.9, 0.996, 0.99999, 1.0])
@pytest.mark.parametrize("n", [1, 36, 3000])
def test_gwrp(decay, n):
    v = torch.rand(n, dtype=torch.float64)
    assert gwrp(v, decay).item() == pytest.approx(slow_gwrp(v, decay), rel=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_loss_is_its_slow_twin(R, mask, decay):
    low, high = (R[0, 0].abs() * mask[0]).sum().item() * 1.5, 60.0
    h = heatmap_loss(R, mask, decay, (0.7, 2.0), (low, high))
    background, foreground = slow_loss(R, mask.double().expand(-1, 2, -1, -1), decay, 1.0, low, high)
    assert h.background.item() == pytest.approx(background, rel=1e-6) and background > 0
    assert h.foreground.item() == pytest.approx(foreground, rel=1e-6) and foreground > 0
    assert h.total.item() == pytest.approx(0.7 * background + 2 * foreground, rel=1e-6)


def test_foreground_term_by_hand():
    """C1 = 2, C2 = 9: the tail begins at 11 with slope 2 / C1 = 1."""
    mask = tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 1, 1, 2, 2)
    for F, expected in {0: 1, 1: 0.25, 2: 0, 5: 0, 9: 0, 10: 0.25, 11: 1, 12: 2, 31: 21}.items():
        assert foreground_term(torch.full((1, 1, 1, 2, 2), F / 2.0), mask, 2, 9).item() == pytest.approx(expected)


@pytest.mark.parametrize("value", [0, 1, torch.nan])
def test_a_mask_without_inside_or_outside_is_weighted_out(R, mask, value):
    R[1], mask[1] = 0 if value == 1 else R[1], value
    R.requires_grad_()
    h = heatmap_loss(R, mask)
    rest = heatmap_loss(R[[0, 2, 3]], mask[[0, 2, 3]])
    torch.testing.assert_close(torch.stack(h), torch.stack(rest))
    (gradient,) = torch.autograd.grad(h.total, R)
    assert gradient.isfinite().all() and not gradient[1].any() and gradient[[0, 2, 3]].any()


def test_a_map_of_zeros_gives_the_full_floor_and_no_nan(R, mask):
    R = (0 * R).requires_grad_()
    h = heatmap_loss(R, mask)
    assert h.background.item() == 0 and h.foreground.item() == 1
    assert torch.autograd.grad(h.total, R)[0].isfinite().all()


def test_a_mask_for_each_map(R, mask):
    masks = torch.cat([mask, mask.flip(-1)], 1)
    masks[0, 1] = 0  # one map of the sample knows no mask, the other does
    background, foreground = slow_loss(R, masks.double(), 0.9, 1.0, 20, 30)
    h = heatmap_loss(R, masks, range=(20, 30))
    assert (h.background.item(), h.foreground.item()) == pytest.approx((background, foreground), rel=1e-6)


def test_a_larger_mask_is_shrunk_so_that_no_foreground_is_lost(R, mask):
    big = torch.zeros(4, 1, 24, 24)
    big[:, 0, 9, 14] = 1
    small = torch.zeros(4, 1, 6, 6)
    small[:, 0, 2, 3] = 1
    assert torch.equal(torch.stack(heatmap_loss(R, big)), torch.stack(heatmap_loss(R, small)))
    assert torch.equal(loss.prepare_mask(big, R)[0][:, :, 0], small)


def test_foreground_range_and_net_share_by_hand():
    """(F / 2, 12.5 F), F the median over the maps with a mask of the total relevance in it; |sum R| of sum |R|."""
    R = torch.ones(4, 1, 2, 4, 4) * tensor([1.0, -2.0, 3.0, 100.0]).view(4, 1, 1, 1, 1)
    mask = torch.zeros(4, 1, 4, 4)
    mask[:3, :, :2, :2] = 1  # of two channels and four pixels: 8, 16, 24; the fourth has no mask
    assert foreground_range(R, mask) == (8.0, 200.0)
    assert foreground_range(R, 0 * mask) is None
    for wrong in (0 * R, R * torch.nan, R * torch.inf):
        with pytest.raises(ValueError, match="gives no range: give \\(C1, C2\\)"):
            foreground_range(wrong, mask)
    R = torch.zeros(2, 1, 1, 2, 2)
    R[0, 0, 0, 0] = tensor([3.0, -1.0])  # |2| of 4
    R[1, 0, 0, 0] = tensor([1.0, -1.0])
    mask = torch.zeros(2, 1, 2, 2)
    mask[:, :, 0] = 1
    assert loss.net_share(R, mask[:, :, None])[:, 0].tolist() == [0.5, 0.0]
    assert heatmap_loss(R, mask).net_share == 0.25


def test_wrong_options_and_shapes_are_refused(R, mask):
    for wrong in ({"decay": 1.1}, {"decay": -0.1}, {"decay": math.nan}, {"range": (0, 1)}, {"range": (2, 1)}):
        with pytest.raises(ValueError, match="need 0 <= decay <= 1 and 0 < C1 < C2"):
            heatmap_loss(R, mask, **wrong)
    stretched = mask[..., :4], mask.repeat(1, 1, 2, 1)  # another shape of image: not to be taken for a smaller one
    wrong = (R[:, 0], mask), *((R, m) for m in (mask[:2], mask.expand(-1, 3, -1, -1), mask[:, 0], *stretched))
    for maps, masks in wrong:
        with pytest.raises(ValueError, match="mask must be \\(batch, 1, height, width\\), in proportion to R"):
            heatmap_loss(maps, masks)
        with pytest.raises(ValueError, match="in proportion to R"):
            foreground_range(maps, masks)
    assert heatmap_loss(R, torch.zeros(4, 1, 13, 12).index_fill(2, torch.tensor([3]), 1)).total.isfinite()  # rounded
    for big, small in (((240, 320), (8, 10)), ((230, 224), (29, 28)), ((24, 32), (225, 301))):
        assert loss.prepare_mask(torch.ones(1, 1, *small), torch.ones(1, 1, 1, *big))[0].shape[-2:] == big
    for mask[2, 0, 3, 3] in (0.5, 255, -1, torch.inf):
        with pytest.raises(ValueError, match="a mask holds 0 \\(background\\) and 1"):
            heatmap_loss(R, mask)


def test_half_precision_maps_are_raised_to_float32_and_autocast_around_it_changes_nothing(R, mask):
    for half in (R.half(), R.bfloat16()):
        total = heatmap_loss(half, mask).total
        assert total.dtype == torch.float32 and torch.equal(total, heatmap_loss(half.float(), mask).total)
    R = R * (1 + 1e6 * (1 - mask[:, None]))
    with torch.autocast("cpu", torch.float16):
        half = heatmap_loss(R, mask)
    assert half.total.isfinite() and torch.equal(half.total, heatmap_loss(R, mask).total)


def test_classification_loss_and_probabilities():
    logits = tensor([[2.0, -1.0, 0.5]])
    assert loss.classification_loss(logits, tensor([1])) == torch.nn.functional.cross_entropy(logits, tensor([1]))
    p = logits.sigmoid()
    bce = -(p[0, 0].log() + (1 - p[0, 1]).log() + p[0, 2].log()) / 3
    torch.testing.assert_close(loss.classification_loss(logits, tensor([[1.0, 0.0, 1.0]]), multilabel=True), bce)
    soft = -(tensor([0.7, 0.1, 0.2]) * logits.log_softmax(1)).sum()
    torch.testing.assert_close(loss.classification_loss(logits, tensor([[0.7, 0.1, 0.2]])), soft)
    one = tensor([[3.0], [-2.0]])
    bce = (math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-2))) / 2
    for y in (tensor([1, 0]), tensor([1.0, 0.0]), tensor([[1.0], [0.0]])):
        assert loss.classification_loss(one, y).item() == pytest.approx(bce)
    torch.testing.assert_close(loss.probabilities(one), torch.cat([1 - one.sigmoid(), one.sigmoid()], 1))
    torch.testing.assert_close(loss.probabilities(logits, multilabel=True), p)
    torch.testing.assert_close(loss.probabilities(logits).sum(1), torch.ones(1))
