"""The background audit: known answers for what it measures, verdicts for models whose reading is known, errors told."""

from argparse import Namespace

import numpy as np
import pandas as pd
import pytest
import shapes
import torch
from torch import nn

import isnetlib
from isnetlib import audit
from isnetlib.__main__ import main
from isnetlib.baselines import build
from isnetlib.baselines.standard import Standard
from isnetlib.data.images import Images
from isnetlib.networks import build_model

SIDE = 32
CENTRE = torch.zeros(1, 1, SIDE, SIDE)
CENTRE[..., 8:24, 8:24] = 1


def confounded(n=120):
    """Images whose object and whose background both tell the class, but for noise."""
    torch.manual_seed(0)
    y = torch.arange(n) % 2
    level = 0.35 + 0.3 * y.float()[:, None, None, None] + 0.05 * torch.randn(n, 1, 1, 1).clamp(-2, 2)
    x = (level + 0.03 * torch.randn(n, 3, SIDE, SIDE)).clamp(0, 1)
    frame = pd.DataFrame({"id": range(n), "patient": np.arange(n) // 2, "source": "s", "y": y.numpy()})
    return Images(x, y, CENTRE.expand(n, -1, -1, -1), frame, ["a", "b"])


def reader(region):
    """A linear classifier of the mean of a region (1, 1, H, W), the threshold half way."""
    linear = nn.Linear(3 * SIDE * SIDE, 2)
    weight = (20 * region / (3 * region.sum())).expand(1, 3, -1, -1).flatten()
    with torch.no_grad():
        linear.weight.copy_(torch.stack([-weight, weight]))
        linear.bias.copy_(torch.tensor([10.0, -10.0]))
    return audit.Classifier(Standard(nn.Sequential(nn.Flatten(), linear)), ["a", "b"], SIDE, False)


def test_a_model_that_reads_the_background_is_caught_and_one_that_reads_the_object_is_not():
    caught, cleared = (audit.measure(reader(region), confounded()) for region in (1 - CENTRE, CENTRE))
    assert (caught["verdict"], cleared["verdict"]) == ("depends", "not shown")
    value, unmoved = (found["table"].set_index("background")["value"] for found in (caught, cleared))
    assert value["as_it_is"] > 0.99 and value["swapped"] < 0.05  # donors are of the other class
    assert value["removed"] == pytest.approx(0.5)  # every image has the same background
    assert unmoved.nunique() == 1 and caught["faults"] == "alike"  # of a linear model on images that are much alike
    assert caught["share"] > 0.99 and cleared["share"] < 0.01 and caught["chance"] == pytest.approx(0.75)


def test_the_verdict_rests_on_performance_first():
    names = ["as_it_is", "removed", "swapped"]
    for drop, low, high, share, value, word in (
        (0.4, 0.3, 0.5, 0.01, 0.9, "depends"),  # however little relevance is outside
        (0.06, -0.02, 0.14, 0.01, 0.9, "undecided"),
        (0.0, -0.02, 0.02, 0.6, 0.9, "look closer"),
        (0.0, -0.02, 0.02, 0.01, 0.9, "not shown"),
        (0.0, -0.02, 0.02, 0.01, 0.5, "undecided"),
    ):
        table = pd.DataFrame({"background": names, "value": value, "drop": 0.0, "low": -0.01, "high": 0.01})
        table.loc[2, ["drop", "low", "high"]] = drop, low, high
        assert audit.verdict(table, share, chance=0.7) == word


def test_the_object_stays_bit_for_bit_and_the_background_changes():
    images = confounded(8)
    inside = CENTRE.expand(8, 3, -1, -1) > 0.5
    for name, one in audit.treated(images).items():
        x = one[list(range(8))][0]
        assert torch.equal(x[inside], images.x[inside])
        assert torch.equal(x, images.x) == (name == "as_it_is")


@pytest.fixture
def place(tmp_path):
    """Checkpoints, and a folder of 12 images, whose name and class carry markup."""
    data = shapes.write(tmp_path / "<i>data", images=12)
    table = pd.read_csv(data / "index.csv").replace({"label": {"cold": "a", "warm": "<b>"}})
    table.to_csv(data / "index.csv", index=False)
    torch.manual_seed(0)
    model = build_model("small_resnet", 2)
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    torch.save({"method": isnetlib.ISNet(model).state_dict(), "epoch": 3}, tmp_path / "isnet.pt")  # of `fit`
    (tmp_path / "text.pt").write_text("no checkpoint")
    torch.save(Standard(nn.Linear(1, 2)), tmp_path / "code.pt")  # a pickled object could run code
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    return tmp_path, table


NETWORK = ["--backbone", "small_resnet", "--size", "32"]
CLASSES = ["--classes", "a", "<b>"]


def call(place, checkpoint, *more):
    checkpoint, data, page = (str(place[0] / name) for name in (checkpoint, "<i>data", "page.html"))
    return main(["audit", checkpoint, "--data", data, "--out", page, *more])


def test_the_command_writes_one_page_with_escaped_names(place, capsys):
    pages = {}
    for name in ("plain.pt", "isnet.pt"):
        assert call(place, name, *NETWORK, *CLASSES) == 0
        pages[name] = (place[0] / "page.html").read_text()
    page = pages["plain.pt"]
    assert "<i>data" not in page and "&lt;i&gt;data" in page and "&lt;b&gt;" in page and "<b>" not in page
    assert "data:image/png;base64," in page and 'src="http' not in page and "{" not in page.split("</style>")[1]
    word = capsys.readouterr().out.splitlines()[0]
    assert word in ("depends", "undecided", "look closer", "not shown") and f"audit: {word}</h1>" in page
    again = pages["isnet.pt"].replace("isnet.pt", "plain.pt")
    assert again.partition("<img")[0] == page.partition("<img")[0]  # the picture has names, too


def test_wrong_models_and_data_are_told_in_one_line(place, capsys):
    for checkpoint, more, message in (
        *((name, [], f"{name} is no file of tensors and numbers") for name in ("text.pt", "code.pt", "tensor.pt")),
        ("gone.pt", [], "No such file or directory"),
        ("plain.pt", [], "give --backbone"),
        ("plain.pt", NETWORK, "give --classes"),
        ("plain.pt", [*NETWORK, *CLASSES, "c"], "holds other weights than this network with 3 classes"),
    ):
        assert call(place, checkpoint, *more) == 2
        error = capsys.readouterr().err
        assert error.startswith("isnet: ") and message in error and error.count("\n") == 1, error
    data, table = place[0] / "<i>data", place[1]
    for change, message in [
        ({"mask": ""}, "no image has a mask"),
        ({"label": "a"}, "do not hold every class"),
        ({"patient": "one"}, "do not hold every class of two patients or more"),  # nothing could be drawn anew
        ({"label": "c"}, "label is 'c'"),
        ({}, "003.png"),
    ]:
        table.assign(**change).to_csv(data / "index.csv", index=False)
        if not change:
            (data / "images" / "003.png").write_bytes(b"broken")
        assert call(place, "plain.pt", *NETWORK, *CLASSES) == 2
        assert message in capsys.readouterr().err


def wrapped(state, start):
    return {f"{start}{name}": value for name, value in state.items()}


def test_weights_are_found_however_a_loop_wraps_them(tmp_path):
    torch.manual_seed(1)
    method = isnetlib.ISNet(build_model("small_resnet", 2))
    bare, isnet = method.model.state_dict(), method.state_dict()
    for saved in (
        isnet,
        {"method": isnet, "epoch": 3},
        wrapped(isnet, "module."),
        {"model": bare, "optimizer": {"state": {}}, "args": Namespace(lr=0.1)},
        {"model_state_dict": wrapped(bare, "module._orig_mod.")},
        {"state_dict": wrapped(isnet, "model.") | {"criterion.weight": torch.ones(2)}},
        wrapped(bare, "_orig_mod.module."),
    ):
        torch.save(saved, tmp_path / "c.pt")
        before = torch.get_rng_state()
        found = audit.load_classifier(tmp_path / "c.pt", "small_resnet", ["a", "b"], 40).method
        assert torch.equal(torch.get_rng_state(), before)
        same = zip(found.model.state_dict().values(), bare.values(), strict=True)
        assert type(found) is Standard and not found.training and all(torch.equal(*pair) for pair in same)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_programs_are_refused_with_the_way_out_and_so_is_a_network_behind_a_segmenter(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()).eval()
    path, x = tmp_path / "p.pt2", torch.rand(1, 3, 8, 8)
    torch.export.save(torch.export.export(net, (x,)), path)
    torch.jit.save(torch.jit.trace(net, x), tmp_path / "p.pt")
    for program in (path, tmp_path / "p.pt"):
        with pytest.raises(ValueError, match=r"no file of tensors.*: torch.save.*torch.jit.load or torch.export.load"):
            audit.load_classifier(program, "small_resnet", ["a", "b"])
    torch.save({"method": build("pipeline", "small_resnet", 2).state_dict()}, path)
    with pytest.raises(ValueError, match="a U-Net cuts the background away before this network"):
        audit.load_classifier(path, "small_resnet", ["a", "b"])
