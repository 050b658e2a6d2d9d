"""Every classification family of torchvision, at a small member: right, conserving, trainable, with nothing to undo."""

import pytest
import torch
import torchvision.models as models
from test_lrp import assert_same, state_of
from torch import nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import FusedMBConvConfig, MBConvConfig
from torchvision.models.maxvit import MaxVit
from torchvision.models.regnet import BlockParams
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2
from twins import unlike

import isnetlib
from isnetlib.architectures import COLUMNS, conservation_error, randomised, rows, twin_relevance
from isnetlib.models import build_model


def swin(**version):
    return SwinTransformer([4, 4], 8, [2, 2], [2, 4], [4, 4], num_classes=3, **version)


def convnext():
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 24, 1), CNBlockConfig(24, None, 2)]
    return models.ConvNeXt(blocks, stochastic_depth_prob=0.3, num_classes=3)


def efficientnet_v1():
    blocks = [MBConvConfig(1, 3, 1, 16, 8, 1, 1, 1), MBConvConfig(4, 5, 2, 8, 16, 2, 1, 1)]
    return models.EfficientNet(blocks, dropout=0.2, stochastic_depth_prob=0.3, num_classes=3)


def efficientnet_v2():
    blocks = [FusedMBConvConfig(1, 3, 1, 16, 8, 1), FusedMBConvConfig(4, 3, 2, 8, 16, 1)]
    blocks += [MBConvConfig(4, 3, 2, 16, 16, 2)]
    return models.EfficientNet(blocks, dropout=0.2, stochastic_depth_prob=0.3, num_classes=3, last_channel=64)


def regnet(se_ratio):
    params = BlockParams.from_init_params(depth=4, w_0=16, w_a=8.0, w_m=2.0, group_width=8, se_ratio=se_ratio)
    return models.RegNet(params, num_classes=3)


def resnet(**kind):
    return models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], 3, **kind)


def alexnet():
    model = models.AlexNet(num_classes=3)
    model.classifier = nn.Sequential(nn.Dropout(), nn.Linear(256 * 36, 32), nn.ReLU(inplace=True), nn.Linear(32, 3))
    return model


FAMILIES = {  # the other families: test_lrp.py
    "alexnet": (alexnet, 64),
    "convnext": (convnext, 64),
    "efficientnet v1": (efficientnet_v1, 48),
    "efficientnet v2": (efficientnet_v2, 48),
    "maxvit": (lambda: MaxVit((32, 32), 8, 2, [8, 16], [1, 1], 4, 0.3, num_classes=3), 32),
    "mobilenet v3": (lambda: build_model("mobilenet_v3_small", 3), 48),
    "regnet x": (lambda: regnet(None), 48),
    "regnet y": (lambda: regnet(0.25), 48),
    "resnext": (lambda: resnet(groups=4, width_per_group=16), 48),
    "wide resnet": (lambda: resnet(width_per_group=128), 48),
    "swin v1": (swin, 48),
    "swin v2": (lambda: swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2), 48),
    "vit": (lambda: models.VisionTransformer(32, 8, 2, 2, 16, 32, dropout=0.1, num_classes=3), 32),
}


@pytest.fixture(scope="module", params=FAMILIES)
def network(request):
    torch.manual_seed(0)
    build, size = FAMILIES[request.param]
    x = torch.rand(2, 3, size, size, dtype=torch.float64)
    return randomised(build().double(), x), x


@pytest.mark.parametrize("training", [False, True])
def test_without_eps_it_is_input_times_gradient_of_the_slow_twin(network, training):
    model, x = network
    model.train(training)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.0
    torch.manual_seed(1)
    twin = twin_relevance(model, x, 1)
    torch.manual_seed(1)  # the same dropout
    assert unlike(isnetlib.explain(model, x, 1, eps=0, box=None), twin) < 1e-6


def test_relevance_is_conserved_without_constants(network):
    model, x = network
    assert conservation_error(model, x, 1) < 1e-6


def test_nothing_to_undo(network):
    model, x = network
    before = state_of(model.train())
    R = isnetlib.explain(model, x)
    assert_same(state_of(model), before)
    assert R.isfinite().all() and R.any()


@pytest.mark.parametrize("gates", ["constant", "shared"])
@pytest.mark.parametrize("family", ["convnext", "efficientnet v1", "maxvit", "mobilenet v3", "swin v2", "vit"])
def test_it_can_be_trained_through(family, gates):
    """d (R . v) / d all weights along a random direction, against finite differences; selective, eps and z^B."""
    torch.manual_seed(0)
    build, size = FAMILIES[family]
    x = torch.rand(2, 3, size, size, dtype=torch.float64)
    model, v = randomised(build().double(), x), torch.randn_like(x)[:, None]

    def value():
        with isnetlib.LRP(0.1, gates=gates) as lrp:
            logits = model(x)
        R = lrp.relevance(isnetlib.start_for(logits, "selective"), logits)
        return (R * v).sum()

    parameters = list(model.parameters())
    slopes = torch.autograd.grad(value(), parameters, allow_unused=True, materialize_grads=True)
    directions, h, ends = [torch.randn_like(p) for p in parameters], 1e-9, []
    with torch.no_grad():
        for step in (h, -2 * h):
            torch._foreach_add_(parameters, directions, alpha=step)
            ends.append(value().item())
    analytic = sum((slope * d).sum() for slope, d in zip(slopes, directions, strict=True)).item()
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(analytic, rel=1e-5)


def test_the_table_has_a_row_a_network():
    table = rows({"squeezenet1_1": 32}, batch=2, rounds=1)
    assert list(table) == COLUMNS and table.supported.all() and table.identity_error[0] < 1e-6
    assert table.conservation[0] < 1e-6 and table.ratio_one_map[0] > 1


@pytest.mark.parametrize("gates", ["constant", "shared"])
@pytest.mark.parametrize("family", ["efficientnet v1", "swin v1", "vit"])
def test_autocast(family, gates):
    """The forward pass in bfloat16, relevance in float32."""
    torch.manual_seed(0)
    build, size = FAMILIES[family]
    x = torch.rand(2, 3, size, size)
    model = randomised(build(), x)
    with torch.autocast("cpu", torch.bfloat16), isnetlib.LRP(gates=gates) as lrp:
        logits = model(x)
    R = lrp.relevance(isnetlib.start_for(logits, 1), logits)
    assert R.dtype == torch.float32
    R.sum().backward()
    exact = isnetlib.explain(model, x, 1, gates=gates)
    assert torch.nn.functional.cosine_similarity(R.flatten(), exact.flatten(), 0) > 0.9
