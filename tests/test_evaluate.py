"""Scores, metrics, background_share, boxes and logit_change against cases worked by hand."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from isnetlib import data, explain
from isnetlib.baselines import build
from isnetlib.baselines.standard import Standard
from isnetlib.networks import build_model, dice
from isnetlib.training import evaluate


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", train_size=20, validation_size=20, test_size=40)


def test_measures_and_thresholds_by_hand():
    y, p = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert evaluate.measure("accuracy", y, p) == 0.75
    assert evaluate.measure("macro_f1", y, p) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert evaluate.measure("auc", y, p) == 1.0
    assert evaluate.log_loss(y, p) == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.7]).mean())
    labels, scores = np.array([[0, 1], [1, 1], [1, 0]]), np.array([[0.1, 0.9], [0.8, 0.4], [0.7, 0.2]])
    assert evaluate.measure("auc", labels, scores) == 1.0
    assert evaluate.measure("accuracy", labels, scores) == pytest.approx(5 / 6)
    y = np.array([[0, 1, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]])
    p = np.array([[0.1, 0.2, 0.3], [0.3, 0.3, 0.9], [0.35, 0.4, 0.2], [0.9, 0.1, 0.1]])
    assert evaluate.thresholds(y, p) == pytest.approx([0.35, 0.2, 0.5])  # the last: no case has the label
    assert evaluate.thresholds(y[:, 0], p[:, :2]) == []


def test_background_share_and_masks_hit_share_and_chance_of_boxes_by_hand():
    R, mask = torch.tensor([[1.0, -2.0], [3.0, -2.0]]).expand(3, 1, 3, 2, 2).clone(), torch.zeros(3, 1, 2, 2)
    mask[0, 0, 0], mask[1] = 1, 1  # the upper row; everything; nothing known
    share = evaluate.background_share(R, mask)
    assert share[:2].tolist() == pytest.approx([5 / 8, 0]) and share[2].isnan()
    cells = ['[["a", 1, 0, 3, 2], ["b", 3.2, 3.6, 3.4, 3.8]]', "", "[]"]  # b: the pixel it starts in
    pixels, R = torch.eye(20).view(20, 1, 1, 4, 5), torch.zeros(3, 1, 2, 4, 5)
    inside = evaluate.box_scores(pixels, cells[:1] * 20)["box_share"].view(4, 5)
    assert inside.nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2], [3, 3]]
    R[..., 0, 1], R[:, 0, 0, 3, 0] = torch.tensor([-2.0, 1.0]), 1.0  # |R| 3 in a box, 1 outside
    found = evaluate.box_scores(R, cells)
    assert [value[0].item() for value in found.values()] == [1, 0.75, 0.25]  # hit, share, chance
    assert evaluate.box_scores(R.flip(3), cells)["box_hit"][0] == 0 and all(v[1:].isnan().all() for v in found.values())


def test_logit_change_is_zero_where_only_the_foreground_is_read():
    torch.manual_seed(0)
    mask = torch.zeros(12, 1, 20, 20)
    mask[:, :, 5:15, 5:15] = 1
    frame = pd.DataFrame({"id": range(12), "patient": range(12), "source": "made up", "y": [0, 1] * 6})
    images = data.Images(torch.rand(12, 3, 20, 20), torch.tensor([0, 1] * 6), mask, frame, ["a", "b"])
    for border, reads_it in ((5, False), (0, True)):
        method = Standard(nn.Sequential(nn.ZeroPad2d(-border), nn.Flatten(), nn.LazyLinear(2)))
        changed = evaluate.logit_change(method, images, evaluate.scores(method, images)[1])
        assert changed.mean() > 0.05 if reads_it else np.allclose(changed, 0, atol=1e-5)


def test_logit_change_of_several_labels_sees_a_shift_of_all_of_them():
    images = data.load("faces_sim", size=32, train_size=4, validation_size=4, test_size=12).tests["biased"]
    method = nn.Module()
    method.predict = lambda x: (10 * (x.mean((1, 2, 3)) - 0.5)).sigmoid()[:, None].expand(-1, 4)  # how bright it is
    changed = evaluate.logit_change(method, images, evaluate.scores(method, images)[1])
    before, after = (part[list(range(12))][0].mean((1, 2, 3)) for part in (images, evaluate.Swapped(images)))
    assert changed == pytest.approx(((after - before).abs() / before.std(correction=0)).numpy(), rel=1e-3)


def test_predictions_hold_a_row_a_case_the_shares_of_explain_and_the_scores_against_boxes(digits):
    method = build("multitask", "small_resnet", 10).train()
    images = digits.tests["deceiving"].subset(range(40))
    images.mask[0] = 0  # not known
    images.frame["boxes"] = ["", *['[["digit", 0, 0, 40, 20]]'] * 39]
    tested = evaluate.test(method, images, batch_size=16, publishable=True)
    frame = tested.predictions
    assert list(frame.columns[:3]) == ["id", "patient", "y"] and len(frame) == 40 and method.training
    x, _, mask, _ = images[list(range(40))]
    shares = evaluate.background_share(explain(method.eval().model, x), mask)
    assert np.allclose(frame["background_share"], shares.numpy(), atol=1e-5, equal_nan=True)
    assert np.allclose(frame["chance_share"][1:], 1 - mask.mean((1, 2, 3)).numpy()[1:])
    assert np.isnan(frame["dice"][0]) and np.allclose(frame["dice"][1:], dice(method.segment(x), mask)[1:], atol=1e-5)
    assert np.isnan(frame["box_hit"][0]) and frame["box_hit"][1:].isin([0, 1]).all()
    assert frame["box_chance"][1:].eq(0.5).all() and frame["box_share"][1:].between(0, 1).all()
    assert tested.maps["relevance"].shape == (evaluate.MAPS, 40, 40) and tested.maps["x"].dtype == np.uint8
    plain = evaluate.test(method, digits.tests["biased"].subset(range(4)))
    assert "x" not in plain.maps and "box_hit" not in plain.predictions  # pictures of people stay where they are


def test_eval_mode_ends_as_it_began_for_each_module(digits):
    method = Standard(build_model("small_resnet", 10)).train()
    frozen = next(module for module in method.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    evaluate.scores(method, digits.validation)
    assert method.training and not frozen.training


def test_a_written_run_holds_every_test_set_and_metrics_come_last(digits, tmp_path):
    evaluate.write(tmp_path, evaluate.test_all(build("standard", "small_resnet", 10), digits), {"epoch": 1})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"epoch": 1}
    assert {path.stem for path in (tmp_path / "predictions").iterdir()} == set(digits.tests)
    assert (tmp_path / "heatmaps.npz").stat().st_size < 100 * 1024
    newest = max((path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "metrics.json"


def test_the_oracle_is_given_the_true_mask_wherever_it_predicts(digits):
    torch.manual_seed(0)
    method, images = build("oracle", "small_resnet", 10).eval(), digits.tests["deceiving"]
    x, y, mask, _ = images[list(range(40))]
    tested = evaluate.test(method, images)
    with torch.no_grad():
        p = method.model(x * mask).softmax(1).numpy()
    assert np.allclose(tested.predictions.filter(regex="^p_"), p, atol=1e-5)
    assert (tested.predictions["background_share"] == 0).all()
    assert np.allclose(tested.predictions["logit_change"], 0, atol=1e-4)  # it never sees the background
    some = images.subset(range(40))
    some.mask[3] = 0
    with pytest.raises(ValueError, match="Oracle needs the mask of every image"):
        evaluate.scores(method, some)
    sets = evaluate.test_all(method, digits._replace(tests={"known": images, "unknown": some}))
    assert list(sets) == ["known"]  # only where test masks exist
