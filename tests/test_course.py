"""The weight of a loss term in the course of a training."""

import math

import pytest
import torch
from test_train import tiny

from isnetlib import ISNet
from isnetlib.baselines import build
from isnetlib.method.course import HIGHEST, LOWEST, PACE, START, TARGET, Weight, falling, steered
from isnetlib.networks import build_model

LOSS_WEIGHTS = [("rrr", "penalty_weight"), ("gain", "alpha"), ("gain_ext", "mask_weight")]
LOSS_WEIGHTS += [("multitask", "segmentation_weight"), ("grad_input", "heatmap_weight")]


def test_falling_is_level_then_even_then_level_and_steered_moves_the_log_odds_by_the_clipped_log_ratio():
    found = [falling(0.9, 0.5, done, (0.2, 0.6)) for done in (0, 0.2, 0.3, 0.4, 0.6, 1)]
    assert found == pytest.approx([0.9, 0.9, 0.8, 0.7, 0.5, 0.5])

    def odds(P):
        return math.log(P / (1 - P))

    for mean, expected in ((TARGET, 0.0), (math.sqrt(math.e) * TARGET, 0.01), (100.0, 0.02), (0.0, -0.02)):
        assert odds(steered(0.6, mean, TARGET, 0.02)) - odds(0.6) == pytest.approx(expected)
    assert steered(HIGHEST, 9.0, TARGET, 1.0) == HIGHEST and steered(LOWEST, 0.0, TARGET, 1.0) == LOWEST


def test_a_weight_falls_over_the_planned_steps_and_waits_in_eval_mode():
    weight = Weight("p", (1.0, 0.0), between=(0.0, 1.0), steps=4)
    found = [weight.now(), weight.now()]
    weight.eval()
    found += [weight.now(), weight.now()]
    weight.train()
    assert found + [weight.now() for _ in range(4)] == [1.0, 0.75, 0.75, 0.75, 0.5, 0.25, 0.0, 0.0]


def test_auto_keeps_a_running_mean_and_its_state_is_in_the_checkpoint():
    weight, P, mean = Weight("p", "auto", 1, steered=True), START, None
    for background in (1.0, 0.5, 0.01, 0.01):
        assert weight.now() == pytest.approx(P)
        weight.follow(background)
        mean = background if mean is None else mean + (background - mean) / 20
        P = steered(P, mean, TARGET, PACE)
    again = Weight("p", "auto", 1, steered=True)
    again.load_state_dict(weight.state_dict())
    again.follow(0.0)
    weight.follow(0.0)
    assert again.now() == weight.now() < P or again.now() == weight.now()
    before = weight.eval().now()
    weight.follow(5.0)
    assert weight.now() == before


def test_auto_falls_where_the_background_is_not_closed_in_time_and_is_free_again_once_it_is():
    late, early = (Weight("p", "auto", 1, steps=100, steered=True) for _ in range(2))
    courses = {late: [], early: []}
    for step in range(100):
        for weight, closed in ((late, 60), (early, 20)):
            courses[weight].append(weight.now())
            weight.mean.fill_(0.01 if step == closed else 0.5)
            weight.follow(0.5)
    late, early = courses.values()
    assert late[24] == START and late[35] == pytest.approx(0.7) and late[50] == pytest.approx(0.5)
    assert max(late[62:]) > 0.5 and early[35] == HIGHEST  # once closed, P may rise again


def test_state_is_not_spoilt_by_a_broken_step_or_a_foreign_state():
    weight = Weight("p", "auto", 1, steered=True)
    for broken in (math.nan, math.inf):
        weight.follow(broken)
    assert weight.now() == START and weight.mean == 0
    constant = Weight("p", 0.3, 1, steered=True)
    constant.load_state_dict(weight.state_dict())
    assert constant.now() == 0.3  # of its own option, not of what was loaded

    def mps(tensor):
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return tensor

    assert weight._apply(mps) is weight and weight.value.dtype == torch.float64
    method = ISNet(build_model("small_resnet", 2, width=4), heatmap_weight="auto", range=(2.0, 50.0))
    method.load_state_dict(ISNet(build_model("small_resnet", 2, width=4), heatmap_weight="auto").state_dict())
    assert method._range(torch.ones(1, 1, 1, 2, 2), torch.zeros(1, 1, 2, 2)) == (2.0, 50.0)


def test_values_out_of_range_are_refused_and_auto_where_nothing_is_steered():
    for wrong in (-0.1, 1.1, (0.5,), (0.9, 2.0), "often", None, math.nan, True, "Auto"):
        with pytest.raises(ValueError, match="heatmap_weight P must be a number from 0 to 1, a pair"):
            ISNet(build_model("small_resnet", 2, width=4), heatmap_weight=wrong)
    with pytest.raises(ValueError, match="segmentation_weight must be a number from 0 to 1, a pair .* of such; got"):
        build("multitask", "small_resnet", 2, segmentation_weight="auto")
    with pytest.raises(ValueError, match="say how many steps it has, steps=N"):
        Weight("p", (0.9, 0.1)).now()
    with pytest.raises(ValueError, match="fall must be two numbers from 0 to 1, the second larger"):
        Weight("p", (0.9, 0.1), between=(0.5, 0.5))


@pytest.mark.parametrize("method, option", LOSS_WEIGHTS)
def test_every_loss_weight_of_a_rival_may_fall(method, option):
    """At the ends of its course the loss is that of the constant."""
    digits = tiny()
    batch = digits.train[torch.arange(8)][:3]
    for done, end in ((0, 0), (100, 1)):
        torch.manual_seed(0)
        falling = build(method, "small_resnet", 10, **{option: (0.8, 0.2)})
        torch.manual_seed(0)
        constant = build(method, "small_resnet", 10, **{option: (0.8, 0.2)[end]})
        weight = getattr(falling, option)
        weight.plan(100)
        weight.steps.fill_(done)
        assert falling.train().loss(*batch)[0] == constant.train().loss(*batch)[0]


def test_auto_is_steered_by_batches_with_a_mask_alone():
    torch.manual_seed(0)
    method = ISNet(build_model("small_resnet", 10, width=4), heatmap_weight="auto").train()
    x, y, mask = torch.rand(4, 3, 32, 32), torch.arange(4), torch.zeros(4, 1, 32, 32)
    for none in (mask, mask + 1, mask + torch.nan):  # none says what the background is
        method.loss(x, y, none)
        assert method.heatmap_weight.mean == 0
    mask[1, :, 8:24, 8:24] = 1
    method.loss(x, y, mask)
    assert method.heatmap_weight.mean > 0
