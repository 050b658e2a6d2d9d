"""The background audit: known answers for what it measures, verdicts for models whose reading is known, errors told."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from isnetlib import audit
from isnetlib.__main__ import main
from isnetlib.baselines.standard import Standard
from isnetlib.data.images import Images
from isnetlib.models import build_model

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
    images = confounded()
    caught, cleared = (audit.audit(reader(region), images, cases=1) for region in (1 - CENTRE, CENTRE))
    assert caught["kind"] == "depends" and cleared["kind"] == "not shown"
    value = {name: {row["background"]: row["value"] for row in one["table"]} for name, one in
             (("caught", caught), ("cleared", cleared))}  # fmt: skip
    assert value["caught"]["as_it_is"] > 0.99 and value["caught"]["swapped"] < 0.05  # donors are of the other class
    assert value["caught"]["removed"] == pytest.approx(0.5)  # every image has the same background
    assert len(set(value["cleared"].values())) == 1
    assert caught["share"] > 0.99 and cleared["share"] < 0.01 and cleared["logit_change"] == pytest.approx(0, abs=1e-5)
    assert caught["chance"] == pytest.approx(0.75)


def test_the_verdict_rests_on_performance_first():
    def table(drop, low, high, value=0.9):
        rows = [("as_it_is", "auc", value, 0.8, 0.0, 0.0, 0.0), ("removed", "auc", 0.9, 0.8, 0.0, -0.01, 0.01),
                ("blurred", "auc", 0.9, 0.8, 0.0, 0.0, 0.0), ("swapped", "auc", 0.9, 0.8, drop, low, high)]  # fmt: skip
        return pd.DataFrame(rows, columns=["background", "metric", "value", "accuracy", "drop", "low", "high"])

    assert audit.verdict(table(0.4, 0.3, 0.5), 0.01, 0.7)[0] == "depends"  # however little relevance is outside
    assert audit.verdict(table(0.06, -0.02, 0.14), 0.01, 0.7)[0] == "undecided"
    assert audit.verdict(table(0.0, -0.02, 0.02), 0.6, 0.7)[0] == "look closer"
    assert audit.verdict(table(0.0, -0.02, 0.02), 0.01, 0.7)[0] == "not shown"
    assert audit.verdict(table(0.0, -0.02, 0.02, value=0.5), 0.01, 0.7)[0] == "undecided"


def test_the_object_stays_bit_for_bit_and_the_background_changes():
    images = confounded(8)
    inside = CENTRE.expand(8, 3, -1, -1) > 0.5
    for name, one in audit.treated(images).items():
        assert torch.equal(one.x[inside], images.x[inside])
        assert torch.equal(one.x, images.x) == (name == "as_it_is")
    flat = torch.where(CENTRE > 0.5, 1.0, 0.25).expand(1, 3, -1, -1)
    assert torch.allclose(audit.blurred(flat, CENTRE), flat, atol=1e-4)  # a flat background has no object in it
    assert audit.removed(flat, CENTRE)[0, 0, 0, 0] == pytest.approx(0.25 * 1 + 0.75 * 0.25)


def test_boxes_have_known_scores():
    inside = audit.box_area([[1, 0, 3, 2]], 4)
    assert np.argwhere(inside).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    R = torch.ones(2, 1, 3, 4, 4)
    R[0, :, :, 0, 1] = -5.0  # the maximum of the absolute value, in the box
    R[1, :, :, 3, 3] = 5.0
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :, :2] = 1  # two columns: 8 pixels, 2 of them in the box
    scores = audit.score_boxes(R, mask, [[[1, 0, 3, 2]], [[1, 0, 3, 2]]])
    assert scores["pointing_game"].tolist() == [True, False] and scores["pointing_chance"].tolist() == [0.25, 0.25]
    assert (
        scores["box_share"].tolist() == pytest.approx([6 / 12, 2 / 8]) and scores["box_chance"].tolist() == [0.25] * 2
    )
    assert audit.score_boxes(R, mask, [[], []]).empty


# --- files


@pytest.fixture
def place(tmp_path):
    """A checkpoint of a run and a folder of 12 images, whose name and class carry markup."""
    rng, rows, data = np.random.default_rng(0), [], tmp_path / "<i>data"
    data.mkdir()
    for k in range(12):
        grey = rng.integers(60 + 90 * (k % 2), 110 + 90 * (k % 2), (40, 40)).astype(np.uint8)
        Image.fromarray(grey).save(data / f"{k}.png")
        mask = np.zeros((40, 40), np.uint8)
        mask[10:30, 10:30] = 255
        Image.fromarray(mask).save(data / f"{k}m.png")
        boxes = json.dumps([["x", 12, 12, 20, 20]]) if k % 2 else "[]"
        rows.append((f"{k}.png", f"{k}m.png", ["a", "<b>"][k % 2], "s", k, boxes))
    table = pd.DataFrame(rows, columns=["image", "mask", "label", "source", "patient", "boxes"])
    table.to_csv(data / "index.csv", index=False)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "predictions").mkdir()
    parameters = {
        "experiment": "folder",
        "method": "standard",
        "backbone": "small_resnet",
        "data_options": {"size": 32},
    }
    (run / "manifest.json").write_text(json.dumps({"parameters": parameters}))
    (run / "predictions" / "internal.csv").write_text("id,y,p_a,p_<b>\n")
    torch.manual_seed(0)
    method = Standard(build_model("small_resnet", 2))
    torch.save({"method": method.state_dict(), "epoch": 3}, run / "checkpoints" / "swapped.pt")
    torch.save(method.model.state_dict(), tmp_path / "plain.pt")
    return tmp_path, table


def call(place, checkpoint="run/checkpoints/swapped.pt", *more):
    folder = place[0]
    return main(["audit", str(folder / checkpoint), "--data", str(folder / "<i>data"),
                 "--out", str(folder / "page.html"), *more])  # fmt: skip


def test_the_command_writes_one_page_with_escaped_names(place, capsys):
    assert call(place) == 0
    page = (place[0] / "page.html").read_text()
    assert "<i>data" not in page and "&lt;i&gt;data" in page and "&lt;b&gt;" in page and "<b>" not in page
    assert "data:image/png;base64," in page and 'src="http' not in page and "A low share clears no model" in page
    assert "6 images have boxes" in page and "page.html" in capsys.readouterr().out
    first = page.replace("swapped.pt", "")
    plain = ["--backbone", "small_resnet", "--classes", "a", "<b>", "--size", "32"]
    assert call(place, "plain.pt", *plain) == 0  # the same network without its run
    assert (place[0] / "page.html").read_text().replace("plain.pt", "") == first


def test_wrong_models_are_told_in_one_line(place, capsys):
    folder = place[0]
    (folder / "text.pt").write_text("no checkpoint")
    torch.save(Standard(nn.Linear(1, 2)), folder / "code.pt")  # a pickled object could run code
    torch.save(torch.zeros(3), folder / "tensor.pt")
    plain = ["--backbone", "small_resnet", "--size", "32"]
    for checkpoint, more, message in [
        ("gone.pt", [], "gone.pt is not a file: name a checkpoint"),
        ("text.pt", [], "is not a checkpoint of tensors and numbers alone"),
        ("code.pt", [], "is not a checkpoint of tensors and numbers alone"),
        ("tensor.pt", [], "holds a Tensor, not a state_dict"),
        ("plain.pt", [], "give --backbone"),
        ("plain.pt", plain, "give --classes"),
        ("plain.pt", [*plain, "--classes", "a", "<b>", "c"], "holds other weights than this network with 3 classes"),
        ("plain.pt", [*plain, "--classes", "a", "c"], "the labels ['<b>'] are no classes of the model"),
        ("plain.pt", ["--backbone", "resnet999", "--classes", "a", "<b>"], "unknown backbone 'resnet999'"),
    ]:
        assert call(place, checkpoint, *more) == 2
        error = capsys.readouterr().err
        assert error.startswith("isnet: ") and message in error and error.count("\n") == 1, error


def test_wrong_data_are_told(place, capsys):
    data, table = place[0] / "<i>data", place[1]
    for change, message in [
        ({"mask": ""}, "no image has a mask"),
        ({"boxes": "[1]"}, "its boxes are not"),
        ({"label": "a"}, "do not hold every class"),
    ]:
        table.assign(**change).to_csv(data / "index.csv", index=False)
        assert call(place) == 2
        assert message in capsys.readouterr().err
    table.to_csv(data / "index.csv", index=False)
    (data / "3.png").write_bytes(b"broken")
    assert call(place) == 2
    assert "3.png" in capsys.readouterr().err
    assert main(["audit", str(place[0] / "plain.pt"), "--data", "nowhere", "--backbone", "small_resnet",
                 "--classes", "a", "b"]) == 2  # fmt: skip
    assert "nowhere is not a folder" in capsys.readouterr().err
