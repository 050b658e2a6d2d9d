"""GAIN, right for the right reasons, ISNet on input x gradient, background randomisation: each on cases whose answer is
known.
"""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import nn

import isnetlib
from isnetlib import data, heatmap_loss
from isnetlib.baselines.background_random import BackgroundRandom, randomise
from isnetlib.baselines.gain import Gain, grad_cam, run, run_aside
from isnetlib.baselines.grad_input import GradInput
from isnetlib.baselines.rrr import RightReasons, penalty
from isnetlib.loss import classification_loss
from isnetlib.models import build_model

torch.set_num_threads(1)  # tensors as small as these take longer on several threads, far longer on busy cores

MADE = {
    "gain": Gain,
    "gain_ext": functools.partial(Gain, mask_weight=10.0),
    "rrr": RightReasons,
    "grad_input": GradInput,
    "background_random": BackgroundRandom,
}
every_method = pytest.mark.parametrize("name", MADE)


@functools.cache
def small_vgg():
    """vgg11_bn with narrow linear layers: its operations, not its 129 million weights."""
    model = build_model("vgg11_bn", 3)
    for i, (inputs, outputs) in {0: (25088, 16), 3: (16, 16), 6: (16, 3)}.items():
        model.classifier[i] = nn.Linear(inputs, outputs)
    return model


def network(name):
    torch.manual_seed(0)
    if name == "vgg11_bn":
        return copy.deepcopy(small_vgg())
    return build_model(name, 3, **({"width": 4, "stem_stride": 1} if name == "small_resnet" else {}))


def batch(n=4, size=32, dtype=torch.float32):
    """x, y, mask: the last image has no mask."""
    torch.manual_seed(1)
    mask = torch.zeros(n, 1, size, size)
    mask[:-1, :, 8:24, 4:20] = 1
    return torch.rand(n, 3, size, size, dtype=dtype), torch.arange(n) % 3, mask


def colours(weight, pixels=16):
    """A classifier on 4x4 images whose feature maps are the colours, and whose logits are `weight` (K, 3) on their
    sums.
    """
    model = nn.Sequential(
        nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(weight))
    )
    model[0].weight.data = torch.eye(3)[:, :, None, None]
    model[4].weight.data, model[4].bias.data = pixels * torch.tensor(weight), torch.zeros(len(weight))
    return model


# ----------------------------------------------------------------------------------- what holds for every method
@every_method
def test_the_loss_falls_on_digits(name):
    images = data.load("digits", train_size=20, validation_size=10, test_size=10).train
    x, y, mask, _ = images[list(range(20))]
    torch.manual_seed(0)
    method = MADE[name](build_model("small_resnet", 10))
    optimizer, losses = torch.optim.AdamW(method.parameters(), 3e-3), []
    for _ in range(12):
        loss, parts = method.loss(x, y, mask)
        assert all(isinstance(part, float) for part in parts.values())
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("net", ["small_resnet", "resnet18", "densenet121", "vgg11_bn"])
@every_method
def test_other_structures_learn_in_every_weight_and_stay_as_they_were(net, name):
    model = network(net)
    before = {key: module._forward_hooks.copy() for key, module in model.named_modules()}
    method = MADE[name](model)
    loss, _ = method.loss(*batch())
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.any() for p in model.parameters() if p.ndim > 1)
    assert before == {key: module._forward_hooks for key, module in model.named_modules()}
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("net", ["small_resnet", "resnet18", "densenet121", "vgg11_bn"])
@pytest.mark.parametrize("name", ["rrr", "grad_input"])
def test_the_second_derivative_is_the_slope_of_the_loss(net, name):
    method = MADE[name](network(net).double())  # in training mode: batch statistics and, in vgg11_bn, dropout
    x, y, mask = batch(dtype=torch.float64)
    weight = next(p for p in method.parameters() if p.ndim == 4)
    start, step = weight.data.clone(), torch.randn_like(weight)

    def loss(size):
        torch.manual_seed(2)
        weight.data = start + size * step
        value, parts = method.loss(x, y, mask)
        assert len(parts) > 1
        return value

    (gradient,) = torch.autograd.grad(loss(0.0), weight)
    h = 1e-10  # so small that no ReLU switches: the gradient by the input jumps there
    slope = (loss(h) - loss(-h)).item() / (2 * h)
    assert (gradient * step).sum().item() == pytest.approx(slope, rel=1e-3)


def without_mask_term(name, method, x, y):
    """The loss that is left where no mask is known."""
    classification = classification_loss(method.model(x), y)
    if name == "grad_input":
        return 0.3 * classification
    return Gain(method.model).loss(x, y, None)[0] if name.startswith("gain") else classification


@every_method
def test_without_masks_the_term_on_the_mask_is_gone(name):
    method = MADE[name](network("small_resnet").eval())
    x, y, mask = batch()
    loss, _ = method.loss(x, y, torch.zeros_like(mask))
    expected = without_mask_term(name, method, x, y)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(method.loss(x, y, None)[0], expected)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize(
    "name, terms", [("gain_ext", ["mask"]), ("rrr", ["penalty"]), ("grad_input", ["background", "foreground"])]
)
def test_an_image_without_mask_does_not_count_in_the_term_on_the_mask(name, terms):
    method = MADE[name](network("small_resnet").eval())
    x, y, mask = batch()
    (_, whole), (_, known) = method.loss(x, y, mask), method.loss(x[:-1], y[:-1], mask[:-1])
    assert [whole[term] for term in terms] == pytest.approx([known[term] for term in terms], rel=1e-5)
    assert all(known[term] > 0 for term in terms[:1]) and len(whole) > len(terms)


@every_method
def test_several_labels_and_one_logit(name):
    x, _, mask = batch()
    labels = torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    torch.manual_seed(0)
    one = build_model("small_resnet", 1, width=4)
    for method, y in (
        (MADE[name](network("small_resnet"), multilabel=True), labels),
        (MADE[name](network("small_resnet"), multilabel=True), torch.zeros(4, 3)),
        (MADE[name](one), torch.tensor([0, 1, 1, 0])),
    ):
        loss, _ = method.loss(x, y, mask)
        loss.backward()
        assert loss.isfinite() and all(p.grad.isfinite().all() for p in method.parameters())
        p = method.predict(x)
        assert len(p) == 4 and (p >= 0).all() and (p <= 1).all()


@every_method
def test_all_that_was_learnt_is_in_the_state_and_predict_is_the_bare_classifier(name):
    method, other = (MADE[name](network("small_resnet")) for _ in range(2))
    optimizer = torch.optim.SGD(method.parameters(), 0.1)
    method.loss(*batch())[0].backward()
    optimizer.step()
    x = batch()[0]
    other.eval(), method.eval()
    assert not torch.equal(other.predict(x), method.predict(x))
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.predict(x), method.predict(x))
    assert torch.equal(method.predict(x), method.model(x).softmax(1))
    assert set(method.state_dict()) == {f"model.{key}" for key in method.model.state_dict()}


# ----------------------------------------------------------------------------------- GAIN
def scene():
    """Two 4x4 images with a red object in front of blue, and its mask."""
    x, mask = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    mask[0, :, 1:3, 1:3] = mask[1, :, :2] = 1
    x[:, 0], x[:, 2] = mask[:, 0], 1 - mask[:, 0]
    return x, torch.tensor([0, 0]), mask


def test_grad_cam_is_the_colour_that_tells_the_class():
    x, _, mask = scene()
    model = colours([[1.0, 0, 0], [0, 1, 0.5]])
    logits, features = run(model, x)
    A = grad_cam(features, logits, torch.tensor([[0, 1], [0, 1]]))
    torch.testing.assert_close(A, torch.stack([x[:, 0], 0.5 * x[:, 2]], 1))
    assert (grad_cam(features, -logits, torch.tensor([[0], [0]])) == 0).all()  # ReLU
    by_weight, by_linear = torch.autograd.grad(A.sum(), [model[0].weight, model[4].weight], allow_unused=True)
    assert by_weight.any() and by_linear is None  # the weights of the channels are constants


def test_the_mined_image_loses_the_object_and_keeps_the_rest():
    x, y, mask = scene()
    method = Gain(colours([[1.0, 0, 0], [0, 1, 0]]))
    logits, features = run(method.model, x)
    A = grad_cam(features, logits, y[:, None])[:, 0]
    mined, gone = method.mined(x, A), torch.sigmoid(torch.tensor(5.0)).item()  # T at A = 1; 1 - T at A = 0
    assert gone > 0.99
    torch.testing.assert_close(mined[:, 0], (1 - gone) * x[:, 0])
    torch.testing.assert_close(mined[:, 2], gone * x[:, 2])
    red = (1 - gone) * mask.sum((1, 2, 3))  # logit of class 0 that is left; the other is 0
    assert method.loss(x, y, mask)[1]["mining"] == pytest.approx(red.sigmoid().mean().item())


@pytest.mark.parametrize("alpha", [1.0, 0.0])
def test_attention_mining_is_high_where_a_clue_is_left_outside_and_training_takes_it_in(alpha):
    x, y, mask = scene()
    whole, partial = (Gain(colours([[1.0, 0, blue], [0, 1, 0]]), alpha) for blue in (0.0, 0.4))  # 0.4 < sigma
    low, high = (method.loss(x, y, mask)[1]["mining"] for method in (whole, partial))
    T = torch.sigmoid(10 * (torch.tensor([1.0, 0.4]) - 0.5))
    left = (1 - T[0]) * mask.sum((1, 2, 3)) + 0.4 * (1 - T[1]) * (1 - mask).sum((1, 2, 3))  # logit 0; logit 1 is 0
    assert low < 0.52 and high == pytest.approx(left.sigmoid().mean().item()) and high > 0.9
    optimizer = torch.optim.Adam(partial.parameters(), 0.02)
    for _ in range(60):
        loss, parts = partial.loss(x, y, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if alpha:
        assert parts["mining"] < 0.3 and partial.attention(x).amin() > 0.3  # the blue background is attended to as well
    else:
        assert parts["mining"] > 0.85
    assert parts["classification"] < 0.05


def test_extended_gain_adds_the_squared_distance_to_the_mask():
    x, y, mask = scene()
    model = colours([[0.5, 0, 0], [0, 1, 0]])  # A = 1/2 on the object, 0 elsewhere
    plain, extended = Gain(model).loss(x, y, mask), Gain(model, mask_weight=10.0).loss(x, y, mask)
    by_hand = 0.25 * mask.mean().item()
    assert extended[1]["mask"] == pytest.approx(by_hand) and "mask" not in plain[1]
    assert (extended[0] - plain[0]).item() == pytest.approx(10 * by_hand)
    scaled = Gain(model, mask_weight=10.0, normalise=True).loss(x, y, mask)[1]
    assert scaled["mask"] == pytest.approx(0, abs=1e-6)  # scaled to [0, 1], the map is the mask


def test_several_labels_are_averaged_over_the_present_ones_of_an_image():
    x, _, mask = scene()
    method = Gain(colours([[1.0, 0, 0], [0, 0, 0.5], [0, 1, 0]]), mask_weight=10.0, multilabel=True)
    _, parts = method.loss(x, torch.tensor([[1.0, 1, 0], [1, 0, 0]]), mask)
    out = 1 - mask.mean((1, 2, 3))  # the map of label 0 is the mask, that of label 1 half of what is outside
    errors = torch.stack([(0 + (1 - out[0]) + 0.25 * out[0]) / 2, torch.tensor(0.0)])
    assert parts["mask"] == pytest.approx(errors.mean().item())


def test_mined_images_leave_the_running_statistics_alone_but_use_their_own():
    model = network("small_resnet")
    plain, (x, y, mask) = copy.deepcopy(model), batch()
    plain(x)
    Gain(model, mask_weight=10.0).loss(x, y, mask)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True))
    aside = run_aside(model, x)
    assert torch.equal(aside, plain(x)) and not torch.equal(aside, model.eval()(x))


@pytest.mark.parametrize(
    "net, where",
    [
        ("resnet18", lambda model, x: nn.Sequential(*list(model.children())[:-2])(x)),
        ("densenet121", lambda model, x: F.relu(model.features(x))),
        ("vgg11_bn", lambda model, x: model.features[:-1](x)),
        ("small_resnet", lambda model, x: model[:-3](x)),
    ],
)
def test_the_feature_map_is_that_of_the_last_activation_before_pooling(net, where):
    model, x = network(net).eval(), batch(size=64)[0]
    torch.testing.assert_close(run(model, x)[1], where(model, x))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_attention_is_the_map_of_the_winning_class_between_0_and_1(mode):
    x, _, mask = scene()
    method = Gain(colours([[3.0, 0, 0], [0, 0, 0.1]])).eval()
    with mode():
        torch.testing.assert_close(method.attention(x), mask[:, 0])
        assert method.attention(0 * x).eq(0).all()


def test_a_network_without_feature_maps_is_refused():
    with pytest.raises(ValueError, match="GAIN needs a convolutional network"):
        Gain(nn.Sequential(nn.Flatten(), nn.Linear(48, 2))).loss(*scene())


# ----------------------------------------------------------------------------------- right for the right reasons
def closed_form(W, z, kind):
    """g (B, pixels) of a linear model, by hand. Softmax: sum_k d log p_k = sum_k w_k - K sum_j p_j w_j."""
    if kind == "softmax":
        return W.sum(0) - len(W) * z.softmax(1) @ W
    return (1 - 2 * z.sigmoid()) @ W  # d (log p + log (1 - p)) / dz = 1 - 2 p


@pytest.mark.parametrize("kind, logits", [("softmax", 5), ("labels", 5), ("one logit", 1)])
def test_the_penalty_of_a_linear_model_is_the_one_by_hand(kind, logits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, logits)).double()
    x, mask = torch.rand(3, 3, 4, 4, dtype=torch.float64), torch.zeros(3, 1, 4, 4)
    mask[0, :, 1:3, :2] = mask[1, :, 2:] = 1
    y = torch.zeros(3, 5) if kind == "labels" else torch.zeros(3, dtype=torch.int64)
    method = RightReasons(model, penalty_weight=7.0, multilabel=kind == "labels")
    loss, parts = method.loss(x, y, mask)
    g = closed_form(model[1].weight, model(x), kind).view(3, 3, 4, 4)
    by_hand = ((g[:2] * (1 - mask[:2])) ** 2).sum() / 2  # the third has no mask
    assert parts["penalty"] == pytest.approx(by_hand.item(), rel=1e-10) and by_hand > 0
    torch.testing.assert_close(loss, classification_loss(model(x), y) + 7 * by_hand)


def test_the_penalty_is_an_images_own_and_none_inside_the_mask():
    method = RightReasons(network("small_resnet").eval())
    x, y, mask = batch()
    alone, repeated = (method.loss(x[:1].repeat(n, 1, 1, 1), y[:1].repeat(n), mask[:1].repeat(n, 1, 1, 1))[1]
                       for n in (1, 6))  # fmt: skip
    assert repeated["penalty"] == pytest.approx(alone["penalty"], rel=1e-5)
    assert penalty(torch.randn(4, 3, 32, 32), torch.ones(4, 1, 32, 32)) == 0


# ----------------------------------------------------------------------------------- ISNet on input x gradient
@pytest.mark.parametrize(
    "net, variant",
    [
        ("small_resnet", "selective"),
        ("small_resnet", "original"),
        ("small_resnet", "stochastic"),
        ("densenet121", "selective"),
    ],
)
def test_in_eval_mode_the_map_and_the_loss_are_those_of_lrp_0(net, variant):
    model, (x, y, mask) = network(net).double().eval(), batch(dtype=torch.float64)
    method = GradInput(model, variant, heatmap_weight=0.4)
    torch.manual_seed(3)
    loss, parts = method.loss(x, y, mask)
    torch.manual_seed(3)
    with isnetlib.LRP(eps=0, box=None) as lrp:
        logits = model(x)
    h = heatmap_loss(lrp.relevance(method.start(logits), logits), mask)
    assert (parts["background"], parts["foreground"]) == pytest.approx((h.background.item(), h.foreground.item()))
    expected, weights = 0.6 * classification_loss(logits, y) + 0.4 * h.total, list(model.parameters())
    torch.testing.assert_close(loss, expected)
    for gradients in zip(*(torch.autograd.grad(each, weights) for each in (loss, expected)), strict=True):
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


def test_the_scale_of_the_map_does_not_depend_on_the_batch():
    method = GradInput(network("small_resnet").eval())
    x, y, mask = batch()
    alone, repeated = (method.loss(x[:1].repeat(n, 1, 1, 1), y[:1].repeat(n), mask[:1].repeat(n, 1, 1, 1))[1]
                       for n in (1, 6))  # fmt: skip
    assert repeated == pytest.approx(alone, rel=1e-4) and alone["background"] > 0


@pytest.mark.parametrize("wrong", [{"variant": "dual"}, {"heatmap_weight": 1.5}])
def test_wrong_options_of_grad_input_are_refused(wrong):
    with pytest.raises(ValueError, match="selective.*heatmap_weight"):
        GradInput(nn.Identity(), **wrong)


# ----------------------------------------------------------------------------------- background randomisation
def marked(n):
    """n images: an object of noise in front of a background whose one grey is the image's class, 0 or 1."""
    torch.manual_seed(0)
    y, mask = torch.arange(n) % 2, torch.zeros(n, 1, 8, 8)
    mask[:, :, 2:5, 3:7] = 1
    return torch.where(mask > 0, torch.rand(n, 3, 8, 8), y[:, None, None, None].float()), y, mask


def test_the_object_stays_bit_for_bit_and_anothers_background_arrives():
    _, _, mask = marked(6)
    grey = torch.arange(6) / 10
    x = torch.where(mask > 0, torch.rand(6, 3, 8, 8), grey[:, None, None, None])
    seen = set()
    for _ in range(40):
        new = randomise(x, mask)
        inside = mask.expand_as(x) > 0
        assert torch.equal(new[inside], x[inside])
        backgrounds = new.masked_fill(inside, torch.nan).flatten(1).nanmean(1)
        donors = (10 * backgrounds).round().long()
        torch.testing.assert_close(new[~inside], (donors / 10)[:, None, None, None].expand_as(x)[~inside])
        assert (donors != torch.arange(6)).all()
        seen |= set(enumerate(donors.tolist()))
    assert len(seen) == 30  # everyone gets everyone else's, whatever the class


def test_a_mark_in_the_background_no_longer_tells_the_class():
    x, y, mask = marked(400)
    new = randomise(x, mask)
    assert (x[:, 0, 0, 0] == y).all()
    agree = (new[:, 0, 0, 0].round() == y).sum().item()
    assert binomtest(agree, 400, 199 / 399).pvalue > 1e-3


def test_images_without_mask_neither_take_nor_give_and_p_is_a_probability():
    x, _, mask = marked(200)
    mask[0] = 0
    x[0] = 0.5
    new = randomise(x, mask)
    assert torch.equal(new[0], x[0]) and not (new[1:, 0, 0, 0] == 0.5).any()
    assert torch.equal(randomise(x, mask, 0.0), x)
    x[1:] = torch.where(mask[1:] > 0, x[1:], torch.arange(1, 200)[:, None, None, None] / 200)
    changed = (randomise(x, mask, 0.3) != x)[1:, 0, 0, 0].sum().item()
    assert binomtest(changed, 199, 0.3).pvalue > 1e-3
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        BackgroundRandom(nn.Identity(), p=1.5)


def test_the_classifier_learns_from_the_new_images_drawn_by_the_global_generator():
    method, (x, y, mask) = BackgroundRandom(network("small_resnet").eval()), batch()
    torch.manual_seed(5)
    loss = method.loss(x, y, mask)[0]
    torch.manual_seed(5)
    torch.testing.assert_close(loss, classification_loss(method.model(randomise(x, mask)), y))
    assert not torch.equal(loss, method.loss(x, y, torch.zeros_like(mask))[0])
