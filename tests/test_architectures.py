"""Every classification family of torchvision, at a small member: right, conserving, trainable, with nothing to undo."""

from functools import partial

import pytest
import torch
import torchvision.models as models
import twins
from architectures import conservation_error, randomised, twin_relevance
from small_nets import assert_slope, relevance
from test_lrp import state_of
from torch import nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import FusedMBConvConfig, MBConvConfig
from torchvision.models.maxvit import MaxVit
from torchvision.models.regnet import BlockParams
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2
from twins import unlike

import isnetlib
from isnetlib.networks import build_model


def swin(**version):
    return SwinTransformer([4, 4], 8, [2, 2], [2, 4], [4, 4], num_classes=3, **version)


def convnext():
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 24, 1), CNBlockConfig(24, None, 2)]
    return models.ConvNeXt(blocks, stochastic_depth_prob=0.3, num_classes=3)


def efficientnet(version):
    first = [FusedMBConvConfig(1, 3, 1, 16, 8, 1), FusedMBConvConfig(4, 3, 1, 8, 8, 1)]
    first = first if version == 2 else [MBConvConfig(1, 3, 1, 16, 8, 1, 1, 1)]
    blocks = [*first, MBConvConfig(4, 5, 2, 8, 16, 2, 1, 1)]
    return models.EfficientNet(blocks, dropout=0.2, stochastic_depth_prob=0.3, num_classes=3, last_channel=64)


def regnet_y():
    params = BlockParams.from_init_params(depth=4, w_0=16, w_a=8.0, w_m=2.0, group_width=8, se_ratio=0.25)
    return models.RegNet(params, num_classes=3)


def small_head(model, inputs):
    model.classifier = nn.Sequential(nn.Dropout(), nn.Linear(inputs, 32), nn.ReLU(inplace=True), nn.Linear(32, 3))
    return model


NAMED = "resnet18 resnet50 densenet121 googlenet inception_v3 squeezenet1_1 mobilenet_v2 shufflenet_v2_x1_0".split()
NAMED += ["mnasnet0_5"]
FAMILIES = {name: (partial(build_model, name, 3), 75 if name == "inception_v3" else 48) for name in NAMED} | {
    "alexnet": (lambda: small_head(models.AlexNet(), 256 * 36), 64),
    "vgg": (lambda: small_head(models.vgg11_bn(init_weights=False), 512 * 49), 48),
    "convnext": (convnext, 64),
    "efficientnet v1": (partial(efficientnet, 1), 48),
    "efficientnet v2": (partial(efficientnet, 2), 48),
    "maxvit": (lambda: MaxVit((32, 32), 8, 2, [8, 16], [1, 1], 4, 0.3, num_classes=3), 32),
    "mobilenet v3": (lambda: build_model("mobilenet_v3_small", 3), 48),
    "regnet": (regnet_y, 48),
    "resnext": (lambda: models.ResNet(models.resnet.Bottleneck, [1] * 4, 3, groups=4, width_per_group=16), 48),
    "swin v1": (swin, 48),
    "swin v2": (lambda: swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2), 48),
    "vit": (lambda: models.VisionTransformer(32, 8, 2, 2, 16, 32, dropout=0.1, num_classes=3), 32),
}


def member(family, dtype=torch.float64):
    """A small network of the family, its constants random, and images for it."""
    torch.manual_seed(0)
    build, size = FAMILIES[family]
    x = torch.rand(2, 3, size, size, dtype=dtype)
    return randomised(build().to(dtype), x), x


@pytest.fixture(scope="module", params=FAMILIES)
def network(request):
    return member(request.param)


@pytest.mark.parametrize("training", [False, True])
def test_without_eps_it_is_the_slow_twin_with_nothing_to_undo(network, training):
    model, x = network
    model.train(training)
    torch.manual_seed(1)
    twin = twin_relevance(model, x, 1)
    torch.manual_seed(1)  # the same dropout
    before = state_of(model)
    assert unlike(isnetlib.explain(model, x, 1, eps=0, box=None), twin) < 1e-6
    assert state_of(model) == before


def test_eps_is_back_propagation_with_modified_activations(network, request):
    model, x = network
    if request.node.callspec.params["network"] in [*NAMED, "alexnet", "resnext", "vgg"]:  # of ReLU and ReLU6 alone
        R = isnetlib.explain(model.eval(), x, "all", eps=1e-2, box=None)[:, 1:2]
        assert unlike(R, twins.explain(model, x, 1, eps=1e-2)) < 1e-6


@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
def test_relevance_is_conserved_without_constants(network, box):
    model, x = network
    assert conservation_error(model, x, 1, box) < 1e-6


@pytest.mark.parametrize("gates", ["constant", "shared"])
@pytest.mark.parametrize("family", ["convnext", "efficientnet v1", "maxvit", "mobilenet v3", "swin v2", "vit"])
def test_it_can_be_trained_through(family, gates):
    """d (R . v) / d all weights along a random direction, against finite differences; selective, eps and z^B."""
    model, x = member(family)
    v = torch.randn_like(x)[:, None]

    def value():
        return (relevance(model, x, "selective", 0.1, gates=gates) * v).sum()

    assert_slope(value, model.parameters(), h=1e-9, rel=1e-5)


@pytest.mark.parametrize("family, gates", [("efficientnet v1", "constant"), ("swin v1", "shared"), ("vit", "constant")])
def test_autocast(family, gates):
    """The forward pass in bfloat16, relevance in float32."""
    model, x = member(family, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        R = relevance(model, x, 1, gates=gates)
    assert R.dtype == torch.float32
    R.sum().backward()
    exact = isnetlib.explain(model, x, 1, gates=gates)
    assert torch.nn.functional.cosine_similarity(R.flatten(), exact.flatten(), 0) > 0.9
