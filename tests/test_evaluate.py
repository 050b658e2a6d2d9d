"""Scores, metrics, background_share and logit_change against cases worked by hand."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from isnetlib import data, evaluate, explain
from isnetlib.baselines import build
from isnetlib.baselines.standard import Standard


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", train_size=20, validation_size=20, test_size=40)


def test_measure_by_hand():
    y, p = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert evaluate.measure("accuracy", y, p) == 0.75
    assert evaluate.measure("macro_f1", y, p) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert evaluate.measure("auc", y, p) == 1.0
    assert evaluate.log_loss(y, p) == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.7]).mean())
    labels, scores = np.array([[0, 1], [1, 1], [1, 0]]), np.array([[0.1, 0.9], [0.8, 0.4], [0.7, 0.2]])
    assert evaluate.measure("auc", labels, scores) == 1.0
    assert evaluate.measure("accuracy", labels, scores) == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="unknown metric 'acuracy'"):
        evaluate.measure("acuracy", y, p)


def test_background_share_by_hand():
    R, mask = torch.tensor([[1.0, -2.0], [3.0, -2.0]]).expand(3, 1, 3, 2, 2).clone(), torch.zeros(3, 1, 2, 2)
    mask[0, 0, 0], mask[1] = 1, 1  # the upper row; everything; nothing known
    assert evaluate.background_share(R, mask)[0].item() == pytest.approx(5 / 8)
    assert evaluate.background_share(R, mask)[1].item() == 0 and evaluate.background_share(R, mask)[2].isnan()


class Reads(nn.Module):
    """Two logits from the pixels of a window: a classifier of known dependence on the background."""

    def __init__(self, window):
        super().__init__()
        self.window, self.fc = window, nn.LazyLinear(2)

    def forward(self, x):
        return self.fc(x[:, :, self.window, self.window].flatten(1))


def test_logit_change_is_zero_where_only_the_foreground_is_read():
    torch.manual_seed(0)
    mask = torch.zeros(12, 1, 20, 20)
    mask[:, :, 5:15, 5:15] = 1
    names = [str(k) for k in range(12)]
    frame = pd.DataFrame({"id": names, "patient": names, "source": "made up", "y": [0, 1] * 6})
    images = data.Images(torch.rand(12, 3, 20, 20), torch.tensor([0, 1] * 6), mask, frame, ["a", "b"])
    for window, reads_background in ((slice(5, 15), False), (slice(0, 20), True)):
        method = Standard(Reads(window))
        change = evaluate.logit_change(method, images, evaluate.scores(method, images)[1])
        assert change.mean() > 0.05 if reads_background else np.allclose(change, 0, atol=1e-5)


def test_predictions_hold_a_row_a_case_and_the_shares_of_explain(digits):
    method = build("standard", "small_resnet", 10).train()
    images = digits.tests["deceiving"]
    tested = evaluate.test(method, images, batch_size=16, publishable=True)
    frame = tested.predictions
    assert list(frame.columns[:3]) == ["id", "patient", "y"] and len(frame) == 40 and method.training
    assert np.allclose(frame.filter(regex="^p_").sum(axis=1), 1, atol=1e-5)
    x, _, mask, _ = images[list(range(40))]
    method.eval()
    shares = evaluate.background_share(explain(method.model, x), mask)
    assert np.allclose(frame["background_share"], shares.numpy(), atol=1e-5)
    assert np.allclose(frame["chance_share"], 1 - mask.mean((1, 2, 3)).numpy())
    assert tested.maps["relevance"].shape == (evaluate.MAPS, 40, 40) and tested.maps["x"].dtype == np.uint8
    assert "x" not in evaluate.test(method, images, publishable=False).maps  # pictures of people stay where they are


def test_a_written_run_can_be_read_back_and_metrics_come_last(digits, tmp_path):
    method = build("standard", "small_resnet", 10)
    tested = {rule: evaluate.test_all(method, digits) for rule in ("swapped", "internal")}
    summary = evaluate.write(tmp_path, tested, {"epoch": {"swapped": 1, "internal": 0}})
    assert (
        json.loads((tmp_path / "metrics.json").read_text())["metrics"]["biased"]["accuracy"]
        == summary["metrics"]["biased"]["accuracy"]
    )
    names = {"biased", "unbiased", "random", "deceiving"}
    assert (
        {p.stem for p in (tmp_path / "predictions").iterdir()}
        == names
        == {p.stem for p in (tmp_path / "predictions_internal_selection").iterdir()}
    )
    assert (tmp_path / "heatmaps.npz").stat().st_size < 100 * 1024
    newest = max((p for p in tmp_path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
    assert newest.name == "metrics.json"


def test_the_oracle_is_given_the_true_mask_wherever_it_predicts(digits, tmp_path):
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
    some.mask = some.mask.clone()
    some.mask[3] = 0
    with pytest.raises(ValueError, match="Oracle needs the mask of every image"):
        evaluate.scores(method, some)
    sets = evaluate.test_all(method, digits._replace(tests={"known": images, "unknown": some}))
    assert list(sets) == ["known"]  # only where test masks exist


@pytest.mark.parametrize("name", ["pipeline", "multitask"])
def test_dice_is_that_of_the_predicted_masks(digits, name):
    torch.manual_seed(0)
    method, images = build(name, "small_resnet", 10).eval(), digits.tests["biased"].subset(range(8))
    images.mask = images.mask.clone()
    images.mask[0] = 0  # not known
    tested = evaluate.test(method, images)
    x, _, mask, _ = images[list(range(8))]
    said = method.segment(x)
    by_hand = 2 * (said * mask).sum((1, 2, 3)) / (said + mask).sum((1, 2, 3))
    assert np.isnan(tested.predictions["dice"][0])
    assert np.allclose(tested.predictions["dice"][1:], by_hand[1:], atol=1e-5)
    assert evaluate.summarise(tested.predictions)["dice"] == pytest.approx(by_hand[1:].mean().item(), abs=1e-5)


@pytest.mark.parametrize("name", ["attention_gate", "gain_ext", "multitask"])
def test_attention_is_kept_beside_relevance_within_the_size_of_a_run(digits, tmp_path, name):
    torch.manual_seed(0)
    method = build(name, "small_resnet", 10)
    tested = evaluate.test_all(method, digits)
    x, *_ = digits.tests["biased"][list(range(evaluate.MAPS))]
    kept = tested["biased"].maps["attention"]
    assert kept.dtype == np.uint8 and np.allclose(kept / 255, method.eval().attention(x), atol=0.01)
    evaluate.write(tmp_path, {"swapped": tested}, {})
    assert (tmp_path / "heatmaps.npz").stat().st_size < 100 * 1024
    assert "attention" not in evaluate.test(build("standard", "small_resnet", 10), digits.tests["biased"]).maps


def test_thresholds_maximise_f1_on_the_cases_given():
    y = np.array([[0, 1, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]])
    p = np.array([[0.1, 0.2, 0.3], [0.3, 0.3, 0.9], [0.35, 0.4, 0.2], [0.9, 0.1, 0.1]])
    assert evaluate.thresholds(y, p) == pytest.approx([0.35, 0.2, 0.5])  # the last: no case has the label
    assert evaluate.thresholds(y[:, 0], p[:, :2]) == []


def test_logit_change_of_several_labels_sees_a_shift_of_all_of_them():
    images = data.load("faces_sim", size=32, train_size=4, validation_size=4, test_size=12).tests["biased"]

    class Brightness(torch.nn.Module):
        def predict(self, x):  # every label's logit is the image's mean
            return (10 * (x.mean((1, 2, 3)) - 0.5)).sigmoid()[:, None].expand(-1, 4)

    _, p = evaluate.scores(Brightness(), images)
    changed = evaluate.logit_change(Brightness(), images, p)
    x, y, mask, _ = images[list(range(12))]
    swapped = data.swap_backgrounds(x, y, mask, torch.Generator().manual_seed(0))
    by_hand = 10 * (swapped.mean((1, 2, 3)) - x.mean((1, 2, 3))).abs() / (10 * x.mean((1, 2, 3))).std(correction=0)
    assert changed == pytest.approx(by_hand.numpy(), rel=1e-3)
