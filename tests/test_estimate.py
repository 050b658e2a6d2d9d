"""Operations are counted as they can be by hand, and an estimate is their sum over a speed."""

import pytest
import torch
import yaml
from test_notebooks import NOTEBOOKS
from torch import nn

from isnetlib import estimate
from isnetlib.models import build_model
from isnetlib.study import read_studies

SIDE = 32


def by_hand(name, size):
    """Operations of a forward pass of one image, layer by layer, and those of the first convolution."""
    model, found = build_model(name, 2), []

    def seen(module, given, out):
        outputs = out[0].numel() if isinstance(module, nn.Conv2d) else module.out_features
        inputs = module.weight[0].numel()  # multiply-adds for each output
        found.append(2 * inputs * outputs)

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(seen)
    with torch.no_grad():
        model.eval()(torch.rand(1, 3, size, size))
    return sum(found), found[0]


def parameters(method, **options):
    return {"method": method, "backbone": "small_resnet", "method_options": options}


def test_a_plain_step_is_three_forward_passes_but_for_the_first_layers_input():
    forward, first = by_hand("small_resnet", SIDE)
    found = estimate.counted(parameters("standard"), 2, SIDE)
    assert found == {"step": 3 * forward - first, "predict": forward}


def test_what_methods_add_is_counted():
    plain = estimate.counted(parameters("standard"), 3, SIDE)["step"]
    found = {name: estimate.counted(parameters(name), 3, SIDE) for name in ("isnet_selective", "rrr", "isnet_original")}
    ratio = {name: one["step"] / plain for name, one in found.items()}
    assert 1.9 < ratio["isnet_selective"] < 2.5 and 1.9 < ratio["rrr"] < 2.5 and 3.8 < ratio["isnet_original"] < 5
    pipeline = estimate.counted(parameters("pipeline"), 3, SIDE)
    segmenting = pipeline["step"] - plain  # one forward pass of its U-Net
    assert 2.8 < pipeline["segmenter"] / segmenting < 3.0
    oracle = estimate.counted(parameters("oracle"), 3, SIDE)
    assert oracle["predict"] == found["rrr"]["predict"]


def test_an_estimate_sums_runs_trials_and_validation(tmp_path, monkeypatch):
    for path in NOTEBOOKS.glob("*.ipynb"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    runs = {"tuberculosis": {"methods": ["standard", "pipeline"], "seeds": {"standard": [0, 1], "pipeline": [0]}}}
    search = {"tuberculosis": {"standard": {"option": "x", "values": [1.0, 2.0]}}}
    content = {
        "experiments": {"tuberculosis": {"data": {"size": 32}, "train": {"epochs": 8}}},
        "methods": {"standard": {}, "pipeline": {"segmenter_epochs": 5}},
        "studies": {"own": {"budget_minutes": 1, "runs": runs, "search": search}},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    cost = {"step": 30.0, "predict": 10.0, "segmenter": 7.0}
    monkeypatch.setattr(estimate, "counted", lambda parameters, classes, size: cost)
    films = {"tuberculosis": estimate.Films(2, 100, 20)}
    table = estimate.estimate("own", tmp_path, tmp_path / "results", films, speed=2.0).set_index("method")
    epochs = 2 * 8 + 2 * 2  # two runs, two trials of a quarter
    assert table.loc["standard", ["runs", "trials", "film_passes"]].tolist() == [2, 2, epochs * 100]
    assert table.loc["standard", "hours"] == pytest.approx(epochs * (100 * 30 + 2 * 20 * 10) / 2 / 3600)
    assert table.loc["pipeline", "hours"] == pytest.approx((8 * (100 * 30 + 2 * 20 * 10) + 5 * 100 * 7) / 2 / 3600)


def test_the_full_data_sets_are_known_for_the_experiments_of_the_paper():
    assert set(read_studies(NOTEBOOKS)["studies"]["paper"]["runs"]) == set(estimate.FULL)
