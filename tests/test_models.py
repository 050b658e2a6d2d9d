"""The small backbones: sizes, outputs, relevance, what is refused, and the vision transformer as a method."""

import pytest
import torch
from torchvision.models.convnext import CNBlock
from torchvision.ops import SqueezeExcitation

import isnetlib
from isnetlib.baselines import build
from isnetlib.networks import SMALL, build_model


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [28, 112])
@pytest.mark.parametrize("name", SMALL)
def test_small_networks_are_of_one_size_class_learn_and_are_explained(name, size):
    model, part = build_model(name, 10, size=size), {"small_se": SqueezeExcitation, "small_convnext": CNBlock}
    assert 200_000 < sum(p.numel() for p in model.parameters()) < 400_000  # small_resnet has 309,000
    logits = model(torch.rand(4, 3, size, size))
    assert logits.shape == (4, 10)
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    assert name not in part or [type(module) for module in model.modules()].count(part[name]) == 4
    isnetlib.check(model, (3, size, size))


def test_the_transformer_has_patches_for_its_size_and_says_what_is_wrong():
    assert [build_model("small_vit", 2, size=size).patch_size for size in (28, 40, 96, 112)] == [4, 5, 12, 14]
    assert type(build("vit", "small_resnet", 3, 40).model).__name__ == "VisionTransformer"  # whatever the backbone
    for size in (None, 41):
        with pytest.raises(ValueError, match=f"small_vit: size is {size}; it must be the images' side, tiled by pat"):
            build_model("small_vit", 2, size=size)
    with pytest.raises(ValueError, match="unknown backbone 'small_vti'.*small_convnext"):
        build_model("small_vti", 2)
