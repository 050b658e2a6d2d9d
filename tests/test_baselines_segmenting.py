"""The comparison methods with a segmenter or gates of their own: each does what its paper says."""

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import isnetlib
from isnetlib import data
from isnetlib.baselines.features import AttentionGate, Gain, Gate, Multitask, find_stages, stages
from isnetlib.baselines.standard import Pipeline
from isnetlib.data import Images
from isnetlib.networks import UNet, build_model, dice, iou
from isnetlib.training import fit as train

pytestmark = pytest.mark.usefixtures("seed")


def batch(size=32, images=2):
    """Images, labels, and the square in the middle as the mask."""
    mask = torch.zeros(images, 1, size, size)
    mask[..., size // 4 : -size // 4, size // 4 : -size // 4] = 1
    return torch.rand(images, 3, size, size), torch.arange(images) % 3, mask


def made(Method, classes=3, **options):
    return Method(build_model("small_resnet", classes), **options)


class Forced(nn.Module):
    """A segmenter that sees a probability in the image's first channel, or always the same one."""

    def __init__(self, p=None):
        super().__init__()
        self.p = p

    def forward(self, x):
        return (x[:, :1] if self.p is None else self.p.expand(len(x), -1, -1, -1)).logit()


def test_stages_are_the_last_maps_of_each_resolution():
    for backbone, names, channels in (
        ("small_resnet", "1 2 3 4", [16, 32, 64, 128]),
        ("inception_v3", "Conv2d_2b_3x3 Conv2d_4a_3x3 Mixed_5d Mixed_6e Mixed_7c", [64, 192, 288, 768, 2048]),
        ("mobilenet_v2", "features.1 features.3 features.6 features.13 features", [16, 24, 32, 96, 1280]),
    ):
        with torch.device("meta"):
            model = build_model(backbone, 5)
            found, classes = find_stages(model)
            maps, logits = stages(model, torch.rand(2, 3, 96, 96), list(found))
        assert found == dict(zip(names.split(), channels, strict=True))
        assert classes == 5 and logits.shape == (2, 5) and [feature.shape[1] for feature in maps] == channels
        assert all(a.shape[2] > 1.6 * b.shape[2] for a, b in zip(maps, maps[1:], strict=False))


def test_stages_are_live_and_leave_nothing_behind():
    model, x = build_model("small_resnet", 3).train(), torch.rand(2, 3, 32, 32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    names = list(find_stages(model)[0])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    maps, logits = stages(model.eval(), x, names)
    assert torch.equal(logits, model(x)) and torch.equal(maps[-1], model[:5](x))
    assert torch.autograd.grad(logits.sum(), maps[-1])[0].abs().sum() > 0
    with pytest.raises(RuntimeError):
        stages(model, x[:, :1], names)
    assert not any(module._forward_hooks for module in model.modules())


def test_networks_without_maps_are_refused():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2))
    one = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    vit = build_model("small_vit", 2, size=32)
    refused = {"no feature maps": (Gain, flat), "no images of": (Gain, vit), "three stages": (AttentionGate, one)}
    for told, (Method, model) in refused.items():
        with pytest.raises(ValueError, match=told):
            Method(model)


def test_the_unet_takes_any_size_and_is_the_papers_at_the_papers_size():
    """31.04 million weights, measured on the reference; there a second output channel has 65 more."""
    for depth, size in ((1, (7, 9)), (3, (40, 40)), (4, (37, 50))):
        assert UNet(depth=depth, width=2)(torch.rand(2, 3, *size)).shape == (2, 1, *size)
    with torch.device("meta"):
        unet = UNet(depth=5, width=64)
    assert sum(p.numel() for p in unet.parameters()) + 65 == 31_043_586
    assert [type(module) for module in unet.down[0]] == 2 * [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]


def test_dice_and_iou_of_a_known_case():
    a, b = torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    a[0, 0, 0], b[0, 0, :, 0] = 1, 1  # four pixels each, one in common
    a[1] = 1
    assert torch.allclose(dice(a, b), torch.tensor([2 / 8, 0, 1]))
    assert torch.allclose(iou(a, b), torch.tensor([1 / 7, 0, 1]))


def test_the_pipeline_is_blind_outside_the_predicted_mask():
    x, y, mask = batch()
    method = made(Pipeline)
    method.segmenter = Forced(0.1 + 0.8 * mask[:1])
    method.eval()
    outside = torch.where(mask > 0, x, torch.rand_like(x))
    inside = torch.where(mask > 0, torch.rand_like(x), x)
    for other, same in ((outside, True), (inside, False)):
        assert torch.equal(method.predict(x), method.predict(other)) == same
        assert torch.equal(method.loss(x, y, mask)[0], method.loss(other, y, mask)[0]) == same
        assert torch.equal(method.explain(x), method.explain(other)) == same
    assert (method.explain(x)[:, 0] * (1 - mask) == 0).all() and method.explain(x).abs().sum() > 0
    assert torch.equal(method.segment(x), mask)


def test_threshold_and_dice_of_a_known_segmenter():
    """Background 0.2, a rim of 0.42, object 0.6: 0.45 is the first of the grid that leaves rim and background out."""
    x, y, mask = batch(images=3)
    seen = torch.where(mask > 0, 0.6, 0.2).expand_as(x).clone()
    seen[..., :4, :] = 0.42
    rows = pd.DataFrame({"id": range(3), "patient": range(3), "source": "", "y": y})
    mask[2] = 0  # not known
    method = made(Pipeline)
    method.segmenter = Forced()
    method.prepare(None, Images(seen, y, mask, rows, list("abc")), lambda *given: None)
    assert method.threshold.item() == pytest.approx(0.45) and method.dice == 1
    method.segmenter = Forced(0.1 + 0.8 * torch.ones_like(mask[:1]))  # all is object: four times the mask
    method.prepare(None, Images(seen, y, mask, rows, list("abc")), lambda *given: None)
    assert method.dice.item() == pytest.approx(2 * 0.25 / 1.25)
    with pytest.raises(ValueError, match="no validation image has a mask"):  # before its training
        method.prepare(None, Images(seen, y, torch.zeros_like(mask), rows, list("abc")), None)


def test_the_segmenter_learns_first_and_is_frozen_then(tmp_path):
    digits = data.load("digits", train_size=60, validation_size=20, test_size=10)
    method = made(Pipeline, classes=10, segmenter_epochs=8)
    train.fit(method, digits.train, digits.validation, tmp_path, epochs=1, batch_size=12, report=lambda line: None)
    assert not method.train().segmenter.training and method.model.training
    x, _, mask, _ = digits.validation[list(range(20))]
    assert dice(method.segment(x), mask).mean().item() == pytest.approx(method.dice.item())  # as when it had learnt
    assert method.dice > 0.6


def test_the_multitask_loss_is_the_weighted_sum():
    x, y, mask = batch()
    mask[1] = 0
    method = made(Multitask, segmentation_weight=0.3).eval()
    loss, parts = method.loss(x, y, mask)
    maps, _ = stages(method.model, x, method.names)
    segmented = F.binary_cross_entropy_with_logits(method.decoder(maps, x.shape[2:])[:1], mask[:1])
    classified = F.cross_entropy(method.model(x), y)
    assert torch.allclose(loss, 0.7 * classified + 0.3 * segmented)
    assert parts == pytest.approx({"classification": classified.item(), "segmentation": segmented.item()})


def test_coefficients_of_known_scores():
    gate = Gate(1, 1)
    for convolution in (gate.theta, gate.phi, gate.psi):
        nn.init.ones_(convolution.weight)
    scores, g = torch.tensor([[-1.0, 0.0], [1.0, 2.0]]).view(1, 1, 2, 2), torch.ones(1, 1, 1, 1)
    assert torch.allclose(gate(scores, g).flatten(), torch.tensor([0.0, 1, 2, 3]) / 6, atol=1e-5)
    assert torch.allclose(gate(torch.full((1, 1, 2, 2), 7.0), g), torch.tensor(0.25))


def test_the_logits_are_one_linear_layer_on_the_concatenation():
    model, x = made(AttentionGate).eval().model, torch.rand(2, 3, 32, 32)
    *maps, deepest = stages(model.backbone, x, model.names)[0]
    c = [gate(feature, deepest) for feature, gate in zip(maps, model.gates, strict=True)]
    v = [(coefficients * feature).sum((2, 3)) for coefficients, feature in zip(c, maps, strict=True)]
    last = model.backbone[-1]
    W = torch.cat([model.head.weight, last.weight], 1)
    assert torch.allclose(model(x), F.linear(torch.cat([*v, deepest.mean((2, 3))], 1), W, last.bias), atol=1e-5)
    assert not torch.allclose(c[0], model.gates[0](maps[0], deepest.flip(3)))  # the gating signal decides


def test_the_gates_learn_but_are_constants_to_relevance(monkeypatch):
    """eps 0 and no z^B: image times gradient of the network whose coefficients are fixed numbers."""
    method, x = made(AttentionGate).double().eval(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    R = isnetlib.explain(method.model, x, eps=0, box=None)[:, 0]
    leaf = x.clone().requires_grad_()
    (live,) = torch.autograd.grad(method.model(leaf).amax(1).sum(), leaf)
    monkeypatch.setattr(Gate, "forward", lambda *given, learns=Gate.forward: learns(*given).detach())
    (fixed,) = torch.autograd.grad(method.model(leaf).amax(1).sum(), leaf)
    assert torch.allclose(R, x * fixed, atol=1e-9) and not torch.allclose(R, x * live, rtol=0.01)
