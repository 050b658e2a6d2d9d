"""The comparison methods with a segmenter or attention of their own: each does what its paper says, on any backbone."""

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import isnetlib
from isnetlib import data, train
from isnetlib.baselines.attention_gate import AttentionGate, attended, mean_flow
from isnetlib.baselines.features import find_stages, stages
from isnetlib.baselines.multitask import Decoder, Multitask
from isnetlib.baselines.pipeline import Oracle, Pipeline
from isnetlib.data import Images
from isnetlib.models import build_model
from isnetlib.unet import UNet, dice, iou, pixel_loss

METHODS = [Pipeline, Oracle, Multitask, AttentionGate]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def batch(size=32, classes=3, images=2):
    """Images, labels, and the square in the middle as the mask."""
    mask = torch.zeros(images, 1, size, size)
    mask[..., size // 4 : -size // 4, size // 4 : -size // 4] = 1
    return torch.rand(images, 3, size, size), torch.arange(images) % classes, mask


def made(Method, backbone="small_resnet", classes=3, **options):
    return Method(build_model(backbone, classes), **options)


def ready(Method, *args, **options):
    """As `made`; the pipeline's segmenter, which has not learnt, lets all pass."""
    method = made(Method, *args, **options)
    if Method is Pipeline:
        method.threshold.zero_()
    return method


def predicted(method, x, mask):
    return method.predict(x, mask) if hasattr(method, "needs_mask") else method.predict(x)


def explained(method, x, mask):
    if hasattr(method, "needs_mask"):
        return method.explain(x, mask)
    return method.explain(x) if hasattr(method, "explain") else isnetlib.explain(method.model, x)


class Forced(nn.Module):
    """A segmenter that sees a probability in the image's first channel, or always the same one."""

    def __init__(self, p=None):
        super().__init__()
        self.p = p

    def forward(self, x):
        return (x[:, :1] if self.p is None else self.p.expand(len(x), -1, -1, -1)).logit()


# --- every method
@pytest.mark.parametrize("Method", METHODS)
def test_the_loss_falls_on_digits(Method):
    x, y, mask, _ = data.load("digits", train_size=40, validation_size=10, test_size=10).train[list(range(40))]
    method = ready(Method, classes=10).train()
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(12):
        loss, parts = method.loss(x, y, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0] and all(isinstance(value, float) for value in parts.values())


@pytest.mark.parametrize("backbone, size", [("densenet121", 32), ("mobilenet_v2", 32), ("small_resnet", 30)])
@pytest.mark.parametrize("Method", METHODS)
def test_any_backbone_predicts_learns_and_is_explained(Method, backbone, size):
    (x, y, mask), method = batch(size), ready(Method, backbone)
    method.loss(x, y, mask)[0].backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    method.eval()
    p, R = predicted(method, x, mask), explained(method, x, mask)
    assert p.shape == (2, 3) and torch.allclose(p.sum(1), torch.ones(2))
    assert R.shape == (2, 1, 3, size, size) and R.isfinite().all() and R.abs().sum() > 0
    if hasattr(method, "attention"):
        attention = method.attention(x)
        assert attention.shape == (2, size, size) and attention.min() >= 0 and attention.max() <= 1


@pytest.mark.parametrize("Method", METHODS)
def test_unknown_masks_and_several_labels_give_a_finite_loss(Method):
    x, y, mask = batch()
    loss, parts = made(Method).loss(x, y, torch.zeros_like(mask))
    loss.backward()
    assert loss.isfinite() and parts.get("segmentation", 0.0) == 0
    method = made(Method, multilabel=True)
    assert method.loss(x, torch.tensor([[1.0, 0, 1], [0, 1, 1]]), mask)[0].isfinite()
    assert not torch.allclose(predicted(method.eval(), x, mask).sum(1), torch.ones(2))


@pytest.mark.parametrize("Method", [Pipeline, Multitask, AttentionGate])
def test_a_broken_training_ends_with_the_same_numbers(tmp_path, Method):
    """All state is in the checkpoint: what was prepared, too."""
    digits, options = data.load("digits", train_size=40, validation_size=20, test_size=10), {"batch_size": 20}

    def fitted(folder, dies_at=None):
        with train.seeded(0):
            method = made(Method, classes=10, **({"segmenter_epochs": 1} if Method is Pipeline else {}))
        plain, calls = method.loss, []

        def loss(*batch):
            calls.append(1)
            if len(calls) == dies_at:
                raise InterruptedError
            return plain(*batch)

        method.loss = loss
        train.fit(method, digits.train, digits.validation, folder, epochs=2, report=lambda line: None, **options)
        return method

    whole = fitted(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        fitted(tmp_path / "broken", dies_at=4)
    broken = fitted(tmp_path / "broken")
    fresh = made(Method, classes=10).eval()
    fresh.load_state_dict(whole.state_dict())
    x = digits.validation[list(range(20))][0]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), broken.parameters(), strict=True))
    assert torch.equal(whole.predict(x), broken.predict(x)) and torch.equal(whole.predict(x), fresh.predict(x))


# --- feature maps
VGG = "features.2 features.6 features.13 features.20 features.27 features"


@pytest.mark.parametrize(
    "backbone, names, channels",
    [
        ("small_resnet", "1 2 3 4", [16, 32, 64, 128]),
        ("resnet18", "relu layer1 layer2 layer3 layer4", [64, 64, 128, 256, 512]),
        ("vgg11_bn", VGG, [64, 128, 256, 512, 512, 512]),
        ("inception_v3", "Conv2d_2b_3x3 Conv2d_4a_3x3 Mixed_5d Mixed_6e Mixed_7c", [64, 192, 288, 768, 2048]),
        ("mobilenet_v2", "features.1 features.3 features.6 features.13 features", [16, 24, 32, 96, 1280]),
    ],
)
def test_stages_are_the_last_maps_of_each_resolution(backbone, names, channels):
    with torch.device("meta"):
        model = build_model(backbone, 5)
        found, classes = find_stages(model)
        maps, logits = stages(model, torch.rand(2, 3, 96, 96), names.split())
    assert [stage.name for stage in found] == names.split() and [stage.channels for stage in found] == channels
    assert classes == 5 and logits.shape == (2, 5) and [feature.shape[1] for feature in maps] == channels
    assert all(a.shape[2] > 1.6 * b.shape[2] for a, b in zip(maps, maps[1:], strict=False))


def test_stages_are_live_and_leave_nothing_behind():
    model, x = build_model("small_resnet", 3).train(), torch.rand(2, 3, 32, 32)
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    find_stages(model)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert [block.training for block in model[:3]] == [True, False, True]
    model.eval()
    maps, logits = stages(model, x)
    assert torch.equal(logits, model(x)) and torch.equal(maps[-1], model[:5](x))
    assert torch.autograd.grad(logits.sum(), maps[-1])[0].abs().sum() > 0
    with pytest.raises(RuntimeError):
        stages(model, x[:, :1])
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match="no feature maps"):
        find_stages(nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2)))


# --- the segmenter
@pytest.mark.parametrize("depth, size", [(1, (7, 9)), (3, (40, 40)), (4, (37, 50))])
def test_the_unet_takes_any_size(depth, size):
    assert UNet(depth=depth, width=2)(torch.rand(2, 3, *size)).shape == (2, 1, *size)


def test_the_unet_is_the_papers_at_the_papers_size():
    """31.04 million weights, measured on the reference; there a second output channel has 65 more."""
    with torch.device("meta"):
        unet = UNet(depth=5, width=64)
    assert sum(p.numel() for p in unet.parameters()) + 65 == 31_043_586
    assert [type(module) for module in unet.down[0]] == 2 * [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]


def test_the_unet_sees_far_and_sharply():
    unet, x = UNet(depth=3, width=4).eval(), torch.rand(1, 3, 32, 32, requires_grad=True)
    (g,) = torch.autograd.grad(unet(x)[0, 0, 16, 16], x)
    assert g[0, :, 16, 16].abs().sum() > 0 and g[0, :, 16, 4].abs().sum() > 0
    nn.init.zeros_(unet.up[0].weight)  # the skip alone: four convolutions reach four pixels
    (g,) = torch.autograd.grad(unet(x)[0, 0, 16, 16], x)
    assert g[0, :, 16, 16].abs().sum() > 0 and g[0, :, 16, :12].abs().sum() == 0


def test_dice_and_iou_of_a_known_case():
    a, b = torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    a[0, 0, 0], b[0, 0, :, 0] = 1, 1  # four pixels each, one in common
    a[1] = 1
    assert torch.allclose(dice(a, b), torch.tensor([2 / 8, 0, 1])) and torch.allclose(
        iou(a, b), torch.tensor([1 / 7, 0, 1])
    )


def test_pixel_loss_is_the_mean_over_known_masks():
    logits, mask = torch.randn(3, 1, 4, 4), (torch.rand(3, 1, 4, 4) > 0.5).float()
    mask[1] = 0
    p = logits.sigmoid()
    by_hand = -(mask * p.log() + (1 - mask) * (1 - p).log())[[0, 2]].mean()
    assert torch.allclose(pixel_loss(logits, mask), by_hand)
    assert pixel_loss(logits, torch.zeros_like(mask)) == 0 and pixel_loss(logits, None) == 0


# --- the pipeline
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
    assert torch.equal(method.attention(x), mask[:, 0])


def test_without_z_box_the_relevance_is_that_of_the_whole_pipeline():
    """eps 0 and no z^B: image times gradient through the product with the mask."""
    x, _, mask = batch()
    method = made(Pipeline).eval()
    masked, leaf = x * mask, x.clone().requires_grad_()
    method.model(leaf * mask).amax(1).sum().backward()
    R = isnetlib.explain(method.model, masked, eps=0, box=None) * mask[:, None]
    assert torch.allclose(R[:, 0], x * leaf.grad, atol=1e-5)


def test_threshold_and_dice_of_a_known_segmenter():
    """Background 0.2, a rim of 0.42, object 0.6: 0.45 is the first of the grid that leaves rim and background out."""
    x, y, mask = batch(images=3)
    seen = torch.where(mask > 0, 0.6, 0.2).expand_as(x).clone()
    seen[..., :4, :] = 0.42
    rows = pd.DataFrame({"id": range(3), "patient": range(3), "source": "", "y": y})
    mask[2] = 0  # not known
    method = made(Pipeline)
    method.segmenter = Forced()
    method.choose_threshold(Images(seen, y, mask, rows, list("abc")), batch_size=2)
    assert method.threshold.item() == pytest.approx(0.45) and method.dice == 1
    method.segmenter = Forced(
        0.1 + 0.8 * torch.ones_like(mask[:1])
    )  # all is object: the mask is a quarter of the image
    method.choose_threshold(Images(seen, y, mask, rows, list("abc")))
    assert method.dice.item() == pytest.approx(2 * 0.25 / 1.25)
    with pytest.raises(ValueError, match="no validation image has a mask"):
        method.choose_threshold(Images(seen, y, torch.zeros_like(mask), rows, list("abc")))


def test_the_segmenter_learns_first_and_is_frozen_then(tmp_path):
    digits = data.load("digits", train_size=100, validation_size=20, test_size=10)
    method = made(Pipeline, classes=10, segmenter_epochs=10)
    prepare, after = method.prepare, {}

    def noted(*args):
        prepare(*args)
        after.update({key: value.clone() for key, value in method.segmenter.state_dict().items()})

    method.prepare = noted
    before = {key: value.clone() for key, value in method.segmenter.state_dict().items()}
    train.fit(method, digits.train, digits.validation, tmp_path, epochs=2, batch_size=20, report=lambda line: None)
    now = method.segmenter.state_dict()
    assert all(torch.equal(now[key], value) for key, value in after.items())
    assert not torch.equal(now["out.weight"], before["out.weight"])
    assert not method.train().segmenter.training and method.model.training
    assert method.dice > 0.6
    x, _, mask, _ = digits.validation[list(range(20))]
    assert dice(method.segment(x), mask).mean().item() == pytest.approx(method.dice.item())


def test_the_oracle_needs_the_true_mask_and_sees_nothing_else():
    x, y, mask = batch()
    method = made(Oracle).eval()
    other = torch.where(mask > 0, x, torch.rand_like(x))
    assert torch.equal(method.predict(x, mask), method.predict(other, mask))
    assert not torch.equal(method.predict(x, mask), method.predict(other, torch.ones_like(mask)))
    with pytest.raises(TypeError):
        method.predict(x)
    part = mask.clone()
    part[1] = 0
    assert torch.allclose(method.loss(x, y, part)[0], method.loss(x[:1], y[:1], mask[:1])[0])


# --- the multi-task network
def test_the_multitask_loss_is_the_weighted_sum():
    x, y, mask = batch()
    mask[1] = 0
    method = made(Multitask, segmentation_weight=0.3).eval()
    loss, parts = method.loss(x, y, mask)
    segmented = F.binary_cross_entropy(method.attention(x)[:1, None], mask[:1])
    classified = F.cross_entropy(method.model(x), y)
    assert torch.allclose(loss, 0.7 * classified + 0.3 * segmented)
    assert parts == pytest.approx({"classification": classified.item(), "segmentation": segmented.item()})
    assert torch.equal(method.predict(x), method.model(x).softmax(1))
    with pytest.raises(ValueError, match="segmentation_weight"):
        made(Multitask, segmentation_weight=1.5)


@pytest.mark.parametrize("weight, learns", [(0.0, False), (0.5, True)])
def test_the_decoder_teaches_the_encoder(weight, learns):
    """At P = 0 the mask changes no gradient, else it changes the encoder's, through every stage."""
    x, y, mask = batch()
    method, gradients = made(Multitask, segmentation_weight=weight), []
    for one in (mask, 1 - mask):
        method.zero_grad()
        method.loss(x, y, one)[0].backward()
        gradients.append(method.model[0][0].weight.grad.clone())
    assert torch.equal(*gradients) != learns


def test_the_decoder_reads_every_stage():
    maps = [torch.rand(2, 4 * k, 16 // k, 16 // k, requires_grad=True) for k in (1, 2, 4)]
    logits = Decoder([4, 8, 16], width=8)(maps, (33, 31))
    assert logits.shape == (2, 1, 33, 31)
    assert all(g.abs().sum() > 1e-3 for g in torch.autograd.grad(logits.square().sum(), maps))


def test_the_decoder_finds_the_mask():
    x, y, mask = batch(images=4)
    x = 0.5 * x + 0.5 * mask
    method = made(Multitask)
    optimizer = torch.optim.AdamW(method.parameters(), 1e-2)
    for _ in range(30):
        loss, _ = method.loss(x, y, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert dice((method.attention(x)[:, None] > 0.5).float(), mask).min() > 0.9


# --- the attention gate
def test_mean_flow_of_known_scores():
    scores = torch.tensor([[-1.0, 0.0], [1.0, 2.0]]).view(1, 1, 2, 2)
    assert torch.allclose(mean_flow(scores).flatten(), torch.tensor([0.0, 1, 2, 3]) / 6, atol=1e-5)
    assert torch.allclose(mean_flow(torch.full((1, 1, 2, 2), 7.0)), torch.tensor(0.25))


def test_a_gate_forced_to_one_position_passes_that_position_only():
    method = made(AttentionGate)
    gate = method.model.gates[0]
    for weight in (gate.theta.weight, gate.phi.weight, gate.psi.weight):
        nn.init.zeros_(weight)
    with torch.no_grad():
        gate.theta.weight[0, 0] = 1  # the score is the first feature
        gate.psi.weight[0, 0] = 1
    x, g = torch.rand(1, 32, 10, 10), torch.rand(1, 128, 3, 3)
    x[0, 0] = 0
    x[0, 0, 6, 2] = 1
    passed = attended(x, gate(x, g))
    assert torch.allclose(passed, x[:, :, 6, 2], atol=1e-3)
    other = torch.rand_like(x)
    other[0, 0], other[0, :, 6, 2] = x[0, 0], x[0, :, 6, 2]
    assert torch.allclose(passed, attended(other, gate(other, g)), atol=1e-3)


def test_the_gating_signal_decides_where_to_look():
    gate = made(AttentionGate).model.gates[1]
    x, g = torch.rand(2, 64, 6, 6), torch.rand(2, 128, 3, 3)
    c = gate(x, g)
    assert c.shape == (2, 1, 6, 6) and torch.allclose(c.sum((2, 3)), torch.ones(2, 1)) and c.min() >= 0
    assert not torch.allclose(c, gate(x, g.flip(3)))


def test_the_logits_are_one_linear_layer_on_the_concatenation():
    model, x = made(AttentionGate).eval().model, torch.rand(2, 3, 32, 32)
    *maps, deepest = stages(model.backbone, x, model.names)[0]
    assert [feature.shape[1] for feature in maps] == [32, 64] and deepest.shape[1] == 128
    v = [(feature * gate(feature, deepest)).sum((2, 3)) for feature, gate in zip(maps, model.gates, strict=True)]
    last = model.backbone[-1]
    whole = F.linear(
        torch.cat([*v, deepest.mean((2, 3))], 1), torch.cat([model.head.weight, last.weight], 1), last.bias
    )
    assert torch.allclose(model(x), whole, atol=1e-5)


def test_the_gates_learn_but_are_constants_to_relevance(monkeypatch):
    """eps 0 and no z^B: image times gradient of the network whose coefficients are fixed numbers."""
    method, x = made(AttentionGate).double().eval(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    R = isnetlib.explain(method.model, x, eps=0, box=None)[:, 0]
    leaf = x.clone().requires_grad_()
    (live,) = torch.autograd.grad(method.model(leaf).amax(1).sum(), leaf)
    monkeypatch.setattr("isnetlib.baselines.attention_gate.attended", lambda x, c: (x * c.detach()).sum((2, 3)))
    (fixed,) = torch.autograd.grad(method.model(leaf).amax(1).sum(), leaf)
    assert torch.allclose(R, x * fixed, atol=1e-9) and not torch.allclose(R, x * live, rtol=0.01)


def test_a_network_of_one_resolution_has_no_place_for_gates():
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="need three stages"):
        AttentionGate(flat)
