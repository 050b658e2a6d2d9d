"""What constants carry: sums that add up to the logits, known answers of tiny networks, and what is said of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_nets import images, randomised
from torch import nn

from isnetlib import constants, constants_findings, explain, readme, relevance_findings
from isnetlib.data.images import Experiment, Images
from isnetlib.models import build_model
from isnetlib.runs import Run

HALF = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
HALF[..., 4:] = 1


def dark_or_bright():
    """mean of ReLU(1 - x): a bright pixel switches off its place's constant."""
    conv = nn.Conv2d(1, 1, 1)
    nn.init.constant_(conv.weight, -1.0)
    nn.init.constant_(conv.bias, 1.0)
    last = nn.Linear(1, 2, bias=False)
    nn.init.constant_(last.weight, 1.0)
    with torch.no_grad():
        last.weight[0] = 0
    return nn.Sequential(conv, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last).double()


def data_of(x, mask, ids):
    frame = pd.DataFrame({"id": ids, "patient": "", "source": "drawn", "y": 1})
    return Images(x, torch.ones(len(x), dtype=torch.long), mask, frame, ["no", "yes"])


@pytest.mark.parametrize("name", ["small_resnet", "resnet18"])
def test_the_terms_are_those_of_lrp_and_add_up_to_the_logits(name):
    size, model = (32, randomised(build_model(name, 3)))
    x, mask, start = images(3, size, size), torch.zeros(2, 1, size, size), torch.eye(3, dtype=torch.float64)[[0, 2]]
    mask[..., size // 2 :] = 1
    found = constants.parts(model, x, mask, start)
    logits = (model(x) * start).sum(1)
    assert torch.allclose(sum(found.values()), logits)
    R = explain(model, x, target=torch.tensor([0, 2]), eps=0, box=None).sum((1, 2))
    assert torch.allclose(found["pixels_inside"], (R * mask[:, 0]).sum((1, 2)))
    assert torch.allclose(found["pixels_outside"], (R * (1 - mask[:, 0])).sum((1, 2)))
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    assert torch.allclose(found["elsewhere"], last.bias[[0, 2]])  # nothing else is left over
    assert found["constants_outside"].abs().min() > 0


def test_constants_are_told_by_place():
    x = torch.full((2, 1, 8, 8), 0.25, dtype=torch.float64)
    x[..., :4] = 1.0  # the background switches its own constants off
    found = constants.parts(dark_or_bright(), x, HALF, torch.tensor([[0.0, 1.0]] * 2))
    told = {name: values.tolist() for name, values in found.items()}
    assert told["constants_inside"] == [0.5, 0.5] and told["constants_outside"] == [0, 0]
    assert told["pixels_inside"] == [-0.125, -0.125] and told["pixels_outside"] == [0, 0]


def test_a_background_that_works_a_switch_is_found_out():
    """No pixel of the background is relevant on either image, yet it decides."""
    dark, bright = torch.full((2, 1, 8, 8), 0.25).double(), torch.full((2, 1, 8, 8), 0.25).double()
    dark[..., :4], bright[..., :4] = 0.0, 1.0
    model = dark_or_bright().float()
    before, after = (data_of(x, HALF, ["a", "b"]) for x in (dark, bright))
    found = constants.change(model, before, after)
    assert found["cases"] == 2 and found["pixels_outside"] == found["pixels_inside"] == found["constants_inside"] == 0
    assert found["change"] == found["constants_outside"] == 0.5
    with pytest.raises(ValueError, match="different cases"):
        constants.change(model, before, data_of(bright, HALF, ["a", "c"]))
    unknown = data_of(dark, HALF * torch.tensor([0, 1]).view(2, 1, 1, 1), ["a", "b"])
    assert constants.change(model, unknown, after)["cases"] == 1


def test_the_model_is_left_as_it_was():
    model = build_model("small_resnet", 2).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    constants.parts(model, torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32), torch.ones(2, 2))
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(not module._forward_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_what_cannot_be_taken_apart_is_refused(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"start must be \(2, 2\) as the logits, not \(2, 1\)"):
        constants.parts(dark_or_bright(), HALF, HALF, torch.ones(2, 1))
    data = data_of(HALF.float(), HALF, ["a", "b"])
    run = Run("digits", "pipeline", 0, tmp_path, {}, {"data_options": {}})
    with pytest.raises(ValueError, match="digits has no two test sets with the same objects"):
        constants.of_run(run, Experiment(data, data, {"biased": data}, "accuracy", {}))
    whole = type("Whole", (), {"explain": None, "model": None})()
    monkeypatch.setattr(constants, "load_classifier", lambda path: type("Found", (), {"method": whole}))
    with pytest.raises(ValueError, match="pipeline: its prediction is more than that of one classifier"):
        constants.of_run(run, Experiment(data, data, {"biased": data, "deceiving": data}, "accuracy", {}))


def test_starts_ask_for_the_truth():
    assert constants.start_of(torch.tensor([2, 0]), 3, None).tolist() == [[-0.5, -0.5, 1], [1, -0.5, -0.5]]
    assert constants.start_of(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 2, 1).tolist() == [[0, -1], [0, 1]]


@pytest.fixture
def frame():
    rows = [["digits", "standard", 0, 0.5, 1.0, 0.25, 0.25], ["digits", "standard", 1, 0.5, 3.0, 0.25, 0.25]]
    rows += [["digits", "isnet_selective", 0, 0.0, -0.5, 1.0, 2.5], ["faces_sim", "isnet_selective", 0, 0, 0.1, 0, 0]]
    found = pd.DataFrame(rows, columns=["experiment", "method", "seed", *constants.PLACES[:4]])
    found["change"] = found[list(constants.PLACES[:4])].sum(axis=1)
    label = found["experiment"].map({"faces_sim": "Smiling"})
    return found.assign(study="full", label=label, cases=10, elsewhere=0.0, **{"from": "biased", "to": "deceiving"})


def test_what_is_said_of_a_path_follows_the_terms(frame):
    told = constants_findings.path_sentence(frame, "digits", "standard")
    assert (
        "of the 3.00 that" in told
        and "2 trainings, each 2.00 to 4.00), 2.50 come from pixels and 0.50 from constants" in told
    )
    assert "most of it passes where a heatmap shows it" in told
    hidden = constants_findings.path_sentence(frame, "digits", "isnet_selective")
    assert "-0.50 come from pixels and 3.50 from constants" in hidden and "mostly where no heatmap" in hidden
    assert "log-odds of the truth of Smiling" in constants_findings.path_sentence(frame, "faces_sim", "isnet_selective")
    assert constants_findings.path_sentence(frame, "digits", "rrr") == ""
    assert constants_findings.path_sentence(None, "digits", "standard") == ""
    (limit,) = constants_findings.limit_sentences(frame)  # where hardly anything is lost there is nothing to tell
    assert limit.startswith("digits, ISNet selective: of the 3.00")
    assert list(constants_findings.limit_sentences(None)) == []


def test_the_table_has_a_line_an_experiment_and_method(frame):
    text = readme.constants_table(Path("results"), {"full": {"constants": frame}, "real": {}})
    assert "| digits | Standard classifier | 2 | 3.00 | 2.00 to 4.00 | 2.00 | 0.50 | 0.25 | 0.25 |" in text
    assert "| faces_sim, Smiling | ISNet selective | 1 | 0.10 | 0.10 to 0.10 | 0.10 |" in text
    assert "(results/full/tables/constants.csv)" in text and "results/real" not in text
    assert readme.constants_table(Path("results"), {"real": {}}) == ""


def test_a_hole_in_a_heatmap_is_told_with_its_path(frame):
    rows = [("accuracy", "biased", 0.9), ("accuracy", "deceiving", 0.1), ("background_share", "deceiving", 0.01)]
    rows += [("chance_share", "deceiving", 0.8)]
    seeds = pd.DataFrame(rows, columns=["metric", "test_set", "mean"])
    seeds = seeds.assign(experiment="digits", method="isnet_selective", cases=10, primary=seeds["metric"] == "accuracy")
    (told,) = relevance_findings.hole_sentences(seeds, "digits", frame)
    assert "come from pixels and 3.50 from constants" in told and "not tested" not in told
    (told,) = relevance_findings.hole_sentences(seeds, "digits", None)
    assert "which, was not tested" in told
    assert np.isclose(frame["change"].iloc[2], 3.0)
