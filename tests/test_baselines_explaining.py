"""What holds for every comparison method; then those without a segmenter, on cases whose answer is known."""

import copy
import inspect
import re
from functools import partial
from itertools import permutations, product

import pytest
import torch
from scipy.stats import binomtest
from small_nets import assert_slope
from torch import nn

import isnetlib
from isnetlib import heatmap_loss
from isnetlib.baselines import METHODS, build
from isnetlib.baselines.features import Gain, grad_cam, stages
from isnetlib.baselines.standard import BackgroundRandom, GradInput, RightReasons, randomise
from isnetlib.method.loss import classification_loss
from isnetlib.networks import build_model
from isnetlib.training.evaluate import heatmap, inputs

SMALL = build_model("small_resnet", 2, width=2)
NAMES = [name for name in METHODS if "isnet" not in name and name != "vit"]


def network(name="small_resnet"):
    torch.manual_seed(0)
    return build_model(name, 3, **({"width": 4} if name == "small_resnet" else {}))


def made(name, net="small_resnet", **options):
    """The method; the pipeline's segmenter, which has not learnt, lets all pass."""
    method = METHODS[name](network(net), **options)
    if name == "pipeline":
        method.threshold.zero_()
    return method


def batch(size=32, dtype=torch.float32):
    """x, y, mask of four images; the last has no mask."""
    torch.manual_seed(1)
    mask = torch.zeros(4, 1, size, size)
    mask[:-1, :, 8:24, 4:20] = 1
    return torch.rand(4, 3, size, size, dtype=dtype), torch.arange(4) % 3, mask


def colours(weight):
    """A classifier on 4x4 images whose maps are the colours, and whose logits are `weight` (K, 3) on their sums."""
    later = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(weight))
    model = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), *later)
    model[0].weight.data = torch.eye(3)[:, :, None, None]
    model[4].weight.data, model[4].bias.data = 16 * torch.tensor(weight), torch.zeros(len(weight))
    return model


@pytest.mark.parametrize(
    "name, net",
    [*product(NAMES, ["small_resnet"]), *product(["gain_ext", "multitask", "attention_gate"], ["densenet121"])],
)
def test_any_network_learns_in_every_weight_is_explained_and_stays_as_it_was(name, net):
    method, (x, y, mask) = made(name, net), batch()
    before = [(module.training, module._forward_hooks.copy()) for module in method.modules()]
    loss, parts = method.loss(x, y, mask)
    loss.backward()
    weights = [p for p in method.parameters() if p.requires_grad]
    assert loss.isfinite() and all(isinstance(part, float) for part in parts.values())
    assert all(p.grad.isfinite().all() and (p.grad.any() or p.ndim == 1) for p in weights)
    assert before == [(module.training, module._forward_hooks) for module in method.modules()]
    given = inputs(method.eval(), x[:3], mask[:3])
    p, R = method.predict(*given), heatmap(method, *given)
    assert p.shape == (3, 3) and torch.allclose(p.sum(1), torch.ones(3))
    if name not in ("pipeline", "oracle"):
        assert torch.equal(p, method.model(x[:3]).softmax(1))  # the bare classifier
    assert R.shape == (3, 1, 3, 32, 32) and R.isfinite().all() and R.abs().sum() > 0


@pytest.mark.parametrize(
    "name, term",
    [("gain_ext", "mask"), ("rrr", "penalty"), ("grad_input", "background"), ("grad_input", "foreground"),
     ("multitask", "segmentation"), ("oracle", "classification")],
)  # fmt: skip
def test_an_image_without_mask_does_not_count_in_the_term_on_the_mask(name, term):
    options = {"range": (100.0, 200.0)} if name == "grad_input" else {}  # into one read off these images they all fall
    method, (x, y, mask) = made(name, **options).eval(), batch()
    (_, whole), (_, known) = method.loss(x, y, mask), method.loss(x[:-1], y[:-1], mask[:-1])
    assert whole[term] == pytest.approx(known[term], rel=1e-5) and known[term] > 0
    loss, none = method.loss(x, y, torch.zeros_like(mask))
    loss.backward()
    assert none[term] == 0 and all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "oracle"])
def test_one_logit_and_masks_of_other_types(name):
    x, y, mask = batch()
    options = {"penalty_weight": 1e-3} if name == "rrr" else {}
    method = METHODS[name](build_model("small_resnet", 1, width=4), **options)
    found = []
    for given in (mask, mask.bool(), torch.where(mask.flatten(1).any(1)[:, None, None, None], mask, torch.nan)):
        torch.manual_seed(1)
        loss, _ = copy.deepcopy(method).loss(x, y % 2, given)
        loss.backward()
        found.append(loss.item())
    assert found == [pytest.approx(found[0])] * 3


@pytest.mark.parametrize("name", NAMES)
def test_several_labels(name):
    (x, _, mask), labels = batch(), torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    mask[-1] = mask[0]
    for y in (labels, torch.zeros(4, 3)):
        method = made(name, multilabel=True)
        loss, _ = method.loss(x, y, mask)
        loss.backward()
        assert loss.isfinite() and all(p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)
        p = method.eval().predict(*inputs(method, x, mask))
        assert p.shape == (4, 3) and ((p >= 0) & (p <= 1)).all() and not torch.allclose(p.sum(1), torch.ones(4))


def test_a_misspelt_method_and_wrong_options_are_refused():
    for name, options, told in (
        ("standart", {}, "unknown method 'standart'; known: standard, gain"),
        ("isnet_selective", {"heatmap_wait": 0.5}, "no option 'heatmap_wait'; it has: heatmap_weight"),
        ("gain", {"alpha": -1}, "alpha must be a number from 0 on, a pair .* got -1"),
    ):
        with pytest.raises(ValueError, match=told):
            build(name, "small_resnet", 3, **options)


SHARES, NUMBERS = ("p", "heatmap_weight", "segmentation_weight", "decay"), (-1, float("nan"), float("inf"), "1", None)
WRONG = {bool: ("yes", None, 1), int: (*NUMBERS, 0, 2.5, True), float: (*NUMBERS, True), tuple: ("ab", 1, (1,))}
WRONG[tuple] += tuple((2.0, value) for value in NUMBERS)
FURTHER = {"range": ((2.0, 1.0), (0, 1)), "box": ((1, 0), (float("nan"), 1)), "gates": ("open", None)}
FURTHER |= {"steps": (0, 2.5, "1", True), "maps_at_once": (0, 2.5, "1", True)}
FURTHER |= {"ablation": (1, "x"), "fall": ((0.5, 0.5), (0.1, 1.5))}


def test_options_that_cannot_be_are_named_with_their_values_before_any_training():
    """Every option of every method, by the type of its default."""
    for method in METHODS.values():
        for option, parameter in inspect.signature(method).parameters.items():
            values = WRONG.get(type(parameter.default), ()) + FURTHER.get(option, (1.5,) if option in SHARES else ())
            for value in values:
                if (option, value) != ("box", None):  # which may be
                    with pytest.raises(ValueError, match=f"{option}.*{re.escape(str(value))}"):
                        method(SMALL, **{option: value})


def scene():
    """Two 4x4 images with a red object in front of blue, and its mask."""
    x, mask = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    mask[0, :, 1:3, 1:3] = mask[1, :, :2] = 1
    x[:, 0], x[:, 2] = mask[:, 0], 1 - mask[:, 0]
    return x, torch.tensor([0, 0]), mask


def test_grad_cam_is_the_colour_that_tells_the_class():
    x, _, mask = scene()
    model = colours([[1.0, 0, 0], [0, 1, 0.5]])
    (features,), logits = stages(model, x, ["1"])
    A = grad_cam(features, logits, torch.tensor([[0, 1], [0, 1]]))
    torch.testing.assert_close(A, torch.stack([x[:, 0], 0.5 * x[:, 2]], 1))
    assert (grad_cam(features, -logits, torch.tensor([[0], [0]])) == 0).all()  # ReLU
    by_weight, by_linear = torch.autograd.grad(A.sum(), [model[0].weight, model[4].weight], allow_unused=True)
    assert by_weight.any() and by_linear is None  # the weights of the channels are constants


def test_mining_is_high_where_a_clue_is_left_outside_the_map_and_extended_gain_adds_the_distance_to_the_mask():
    """By hand: T(1) of the object and T(0.4) of the blue, 0.4 being below sigma, are gone from the mined image."""
    x, y, mask = scene()
    whole, partial = (Gain(colours([[1.0, 0, blue], [0, 1, 0]]), 3.0, 10.0) for blue in (0.0, 0.4))
    (_, low), (total, high) = whole.loss(x, y, mask), partial.loss(x, y, mask)
    T = torch.sigmoid(10 * (torch.tensor([1.0, 0.4]) - 0.5))
    left = (1 - T[0]) * mask.sum((1, 2, 3)) + 0.4 * (1 - T[1]) * (1 - mask).sum((1, 2, 3))  # logit 0; logit 1 is 0
    assert low["mining"] < 0.52 and 0.9 < high["mining"] == pytest.approx(left.sigmoid().mean().item())
    assert low["mask"] == 0 and high["mask"] == pytest.approx(0.16 * (1 - mask).mean().item())
    assert total.item() == pytest.approx(high["classification"] + 3 * high["mining"] + 10 * high["mask"])
    assert "mask" not in Gain(partial.model).loss(x, y, mask)[1]


def test_several_labels_are_averaged_over_the_present_ones_of_an_image():
    x, _, mask = scene()
    method = Gain(colours([[1.0, 0, 0], [0, 0, 0.5], [0, 1, 0]]), mask_weight=10.0, multilabel=True)
    _, parts = method.loss(x, torch.tensor([[1.0, 1, 0], [1, 0, 0]]), mask)
    out = 1 - mask.mean((1, 2, 3))  # the map of label 0 is the mask, that of label 1 half of what is outside
    errors = torch.stack([(0 + (1 - out[0]) + 0.25 * out[0]) / 2, torch.tensor(0.0)])
    assert parts["mask"] == pytest.approx(errors.mean().item())


def test_mined_images_leave_the_running_statistics_alone():
    model, (x, y, mask) = network(), batch()
    plain = copy.deepcopy(model)
    plain(x)
    Gain(model, mask_weight=10.0).loss(x, y, mask)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True))


@pytest.mark.parametrize("kind, logits", [("softmax", 5), ("labels", 5), ("one logit", 1)])
def test_the_penalty_of_a_linear_model_is_the_one_by_hand(kind, logits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, logits)).double()
    x, mask = torch.rand(3, 3, 4, 4, dtype=torch.float64), torch.zeros(3, 1, 4, 4)
    mask[0, :, 1:3, :2] = mask[1, :, 2:] = 1
    y = torch.zeros(3, 5) if kind == "labels" else torch.zeros(3, dtype=torch.int64)
    method = RightReasons(model, penalty_weight=7.0, multilabel=kind == "labels")
    loss, parts = method.loss(x, y, mask)
    W, z = model[1].weight, model(x)  # d sum_k log p_k = sum_k w_k - K sum_j p_j w_j; of log p + log (1 - p): 1 - 2 p
    g = (W.sum(0) - len(W) * z.softmax(1) @ W if kind == "softmax" else (1 - 2 * z.sigmoid()) @ W).view_as(x)
    by_hand = ((g[:2] * (1 - mask[:2])) ** 2).sum() / 2  # the third has no mask
    assert parts["penalty"] == pytest.approx(by_hand.item(), rel=1e-10) and by_hand > 0
    expected = classification_loss(z, y, kind == "labels") + 7 * by_hand
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, W)[0] for each in (loss, expected)))


@pytest.mark.parametrize("Method", [partial(GradInput, heatmap_weight=0.7, range=(1.0, 25.0)), RightReasons])
def test_the_loss_is_differentiated_through_the_batch_statistics(Method):
    """Against finite differences, in train mode: the map is a gradient, so the loss needs a second derivative."""
    method, given = Method(network().double().train()), batch(dtype=torch.float64)
    value = torch.enable_grad()(lambda: method.loss(*given)[0])
    assert_slope(value, method.model.parameters(), h=1e-6, rel=1e-4)


def test_in_eval_mode_the_map_and_the_loss_are_those_of_lrp_0():
    model, (x, y, mask) = network().double().eval(), batch(dtype=torch.float64)
    method = GradInput(model, heatmap_weight=0.4, range=(1.0, 25.0))
    loss, parts = method.loss(x, y, mask)
    with isnetlib.LRP(eps=0, box=None) as lrp:
        logits = model(x)
    h = heatmap_loss(lrp.relevance(method.start(logits), logits), mask)
    assert (parts["background"], parts["foreground"]) == pytest.approx((h.background.item(), h.foreground.item()))
    expected, weights = 0.6 * classification_loss(logits, y) + 0.4 * h.total, list(model.parameters())
    torch.testing.assert_close(loss, expected)
    for gradients in zip(*(torch.autograd.grad(each, weights) for each in (loss, expected)), strict=True):
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


def test_the_object_stays_bit_for_bit_and_anothers_background_arrives():
    """Images 0 to 5; the last has no mask, and neither takes nor gives."""
    mask = torch.zeros(6, 1, 8, 8)
    mask[:5, :, 2:5, 3:7] = 1
    x = torch.where(mask > 0, torch.rand(6, 3, 8, 8), torch.arange(6)[:, None, None, None] / 10)
    inside, seen = mask.expand_as(x) > 0, set()
    for _ in range(40):
        new = randomise(x, mask, 1.0)
        assert torch.equal(new[inside], x[inside]) and torch.equal(new[5], x[5])
        donors = (10 * new.masked_fill(inside, torch.nan).flatten(1).nanmean(1)).round().long()
        torch.testing.assert_close(new[~inside], (donors / 10)[:, None, None, None].expand_as(x)[~inside])
        seen |= set(enumerate(donors[:5].tolist()))
    assert seen == set(permutations(range(5), 2))  # everyone gets everyone else's, whatever the class


def test_the_classifier_learns_from_new_images_drawn_by_the_global_generator():
    y, mask = (part.repeat(50, *[1] * (part.ndim - 1)) for part in batch()[1:])
    x, method = torch.rand(200, 3, 32, 32), BackgroundRandom(network().eval(), p=0.3)
    torch.manual_seed(5)
    loss = method.loss(x, y, mask)[0]
    torch.manual_seed(5)
    seen = randomise(x, mask, 0.3)
    torch.testing.assert_close(loss, classification_loss(method.model(seen), y))
    changed = (seen != x).flatten(1).any(1).sum().item()
    assert binomtest(changed, 150, 0.3).pvalue > 1e-3  # the 50 without mask are never changed


def test_in_eval_mode_backgrounds_stay_and_nothing_is_drawn():
    for name in ("background_random", "isnet_background"):
        method, given = made(name).eval(), batch()
        state = torch.get_rng_state()
        losses = [method.loss(*given)[0].item() for _ in range(2)]
        assert losses[0] == losses[1] and torch.equal(state, torch.get_rng_state())


def test_random_backgrounds_are_finite_under_autocast():
    x, mask = torch.rand(3, 3, 64, 64), torch.zeros(3, 1, 64, 64)
    mask[0, :, 1:, :] = mask[1, :, 20:40] = 1  # of the first next to nothing is background
    torch.manual_seed(0)
    plain = randomise(x, mask, 1.0)
    with torch.autocast("cpu", torch.float16):
        torch.manual_seed(0)
        assert torch.equal(randomise(x, mask, 1.0), plain) and plain.isfinite().all()
