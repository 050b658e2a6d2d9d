"""The small backbones: sizes, outputs, what is refused, and what the vision transformer is as a method."""

import pytest
import torch
from torchvision.models.convnext import CNBlock
from torchvision.ops import SqueezeExcitation

import isnetlib
from isnetlib import evaluate
from isnetlib.baselines import build
from isnetlib.models import SMALL, build_model, small_resnet


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [28, 40, 112])
@pytest.mark.parametrize("name", SMALL)
def test_small_networks_are_of_one_size_class_and_learn(name, size):
    model = build_model(name, 10, size=size)
    assert 200_000 < sum(p.numel() for p in model.parameters()) < 400_000  # small_resnet has 309,000
    logits = model(torch.rand(4, 3, size, size))
    assert logits.shape == (4, 10)
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_each_family_has_its_own_parts():
    parts = {name: [type(m) for m in build_model(name, 3, size=40).modules()] for name in SMALL}
    assert parts["small_se"].count(SqueezeExcitation) == 4 and parts["small_convnext"].count(CNBlock) == 4
    assert SqueezeExcitation not in parts["small_resnet"]


def test_squeeze_with_open_gates_is_the_small_resnet():
    plain, gated = small_resnet(3).eval(), small_resnet(3, squeeze=True).eval()
    names = {name.replace(".bn2.0.", ".bn2."): name for name in gated.state_dict() if ".bn2.1." not in name}
    state = {name: plain.state_dict()[short] for short, name in names.items()}
    gated.load_state_dict(gated.state_dict() | state)
    for module in gated.modules():
        if isinstance(module, SqueezeExcitation):  # sigmoid(30) = 1 in float32
            torch.nn.init.zeros_(module.fc2.weight)
            torch.nn.init.constant_(module.fc2.bias, 30.0)
    x = torch.rand(2, 3, 40, 40)
    assert torch.allclose(plain(x), gated(x), atol=1e-5)


def test_the_transformer_has_patches_for_its_size_and_says_what_is_wrong():
    assert [build_model("small_vit", 2, size=size).patch_size for size in (28, 40, 96, 112)] == [4, 5, 12, 14]
    with pytest.raises(ValueError, match="needs size"):
        build_model("small_vit", 2)
    with pytest.raises(ValueError, match="no patch of 4 pixels or more tiles an image of 41"):
        build_model("small_vit", 2, size=41)
    with pytest.raises(ValueError, match="unknown backbone 'small_vti'.*small_convnext"):
        build_model("small_vti", 2)


def test_vit_is_the_standard_classifier_of_another_family():
    method = build("vit", "small_resnet", 3, 40)
    assert type(method.model).__name__ == "VisionTransformer"  # whatever the study's backbone
    y = torch.arange(6) % 3
    x = torch.rand(6, 3, 40, 40) * (y / 2).view(-1, 1, 1, 1)  # brightness tells the class
    optimizer = torch.optim.AdamW(method.parameters(), 1e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss, parts = method.loss(x, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0] and set(parts) == {"classification"}
    assert torch.allclose(method.predict(x).sum(1), torch.ones(6), atol=1e-5)


@pytest.mark.parametrize("name", ["small_se", "small_convnext", "small_vit"])
def test_its_relevance_has_a_background_share(name):
    model = build_model(name, 3, size=40).eval()
    isnetlib.check(model, (3, 40, 40))
    mask = torch.zeros(2, 1, 40, 40)
    mask[..., 10:30, 10:30] = 1
    share = evaluate.background_share(isnetlib.explain(model, torch.rand(2, 3, 40, 40)), mask)
    assert ((share > 0) & (share < 1)).all()
