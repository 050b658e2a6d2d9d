"""The benches: a clock that the test holds, sums that add up, networks of known answers, truths of simulations."""

from types import SimpleNamespace

import architectures
import constants
import cost
import explaining
import numpy as np
import pandas as pd
import pytest
import simulation
import torch
from small_nets import images, randomised
from torch import nn

import isnetlib
from isnetlib.data.images import Images
from isnetlib.networks import build_model

SECONDS = {"standard": 2.0, "isnet_selective": 5.0, "isnet_selective+bf16": 4.0, "pipeline": 3.0}
TINY = ("small_resnet", 16, 2)


@pytest.fixture
def clock(monkeypatch):
    """Time passes only where a fake step is made."""
    now = SimpleNamespace(t=0.0)
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: now.t))
    return now


def taking(clock, seconds):
    """A function that takes ten times as long the first time, and every third round is disturbed by something else."""
    calls = iter(range(10**6))

    def step():
        k = next(calls)
        clock.t += seconds * (10 if k == 0 else 7 if k % 3 == 0 else 1)

    return step


def test_ratios_are_medians_over_those_of_the_plain_one(clock, monkeypatch):
    monkeypatch.setattr(cost, "training_step", lambda v, *setting: taking(clock, SECONDS[v]))
    monkeypatch.setattr(cost, "inference", lambda v, *setting: taking(clock, SECONDS[v]))
    monkeypatch.setattr(cost, "cosine_to_fp32", lambda *setting: 0.75)
    variants = ["standard", "isnet_selective", "isnet_selective+bf16"]
    table = cost.measure(*TINY, 3, variants, rounds=5, memory=False, predicting=["pipeline"])
    rows = table.set_index(["phase", "variant"])
    assert list(table) == cost.COLUMNS and rows.loc["training"]["maps"].tolist() == [0, 1, 1]
    assert rows.loc["training"]["ratio_to_plain_step"].tolist() == [1.0, 2.5, 2.0]
    assert rows.loc["training"]["cosine_to_fp32"].fillna(-1).tolist() == [-1, -1, 0.75]
    assert rows.loc["inference"]["ratio_to_plain_inference"].tolist() == [1.0, 2.5, 1.5]
    used = rows.loc["inference"]["parameters"]
    assert used["pipeline"] > used["isnet_selective"] == sum(p.numel() for p in build_model(TINY[0], 3).parameters())


def test_a_tool_that_is_missing_or_fails_has_a_reason_and_no_number(clock):
    def missing(model, x):
        import no_such_package_as_this  # noqa: F401

    def failing(model, x):
        raise RuntimeError("sizes 32\nand 96")

    tools = {"forward": lambda model, x: taking(clock, 2.0), "ours": lambda model, x: taking(clock, 5.0)}
    table = explaining.rows("small_resnet", 16, 5, tools=tools | {"a": missing, "b": failing})
    assert list(table) == explaining.COLUMNS and table["ratio_to_forward"].fillna(-1).tolist() == [1.0, 2.5, -1, -1]
    assert table["note"].tolist()[:2] == ["", ""] and table["note"][3] == "RuntimeError: sizes 32 and 96"
    assert "no_such_package_as_this" in table["note"][2]


def test_zennit_is_set_up_to_explain_as_this_library_does():
    """A network without biases, where the two agree but for the last layer's stabiliser."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3))
    nn.init.zeros_(model[-1].bias)
    model[-1].weight.data.mul_(100)  # logits far above the stabiliser
    x = torch.rand(1, 3, 8, 8)
    _, theirs = explaining.by_zennit(model, x)()
    ours = isnetlib.explain(model, x)[:, 0]
    assert (theirs - ours).norm() / ours.norm() < 0.01 and model[1].inplace  # the rules are on a copy


def test_a_network_has_errors_and_a_ratio():
    (row,) = architectures.row("squeezenet1_1", 32, batch=2, rounds=1).itertuples()
    assert row.supported and max(row.identity_error, row.conservation) < 1e-6 and row.ratio_one_map > 1


def data_of(x, mask, ids):
    frame = pd.DataFrame({"id": ids, "patient": "", "source": "drawn", "y": 1})
    return Images(x, torch.ones(len(x), dtype=torch.long), mask, frame, ["no", "yes"])


@pytest.mark.parametrize("name", ["small_resnet", "resnet18"])
def test_the_terms_are_those_of_lrp_and_add_up_to_the_logits(name):
    model, x, mask = randomised(build_model(name, 3)), images(3, 32, 32), torch.zeros(2, 1, 32, 32)
    mask[..., 16:] = 1
    start = torch.eye(3, dtype=torch.float64)[[0, 2]]
    found = constants.parts(model, x, mask, start)
    assert torch.allclose(sum(found.values()), (model(x) * start).sum(1))
    R = isnetlib.explain(model, x, target=torch.tensor([0, 2]), eps=0, box=None).sum((1, 2))
    assert torch.allclose(found["pixels_inside"], (R * mask[:, 0]).sum((1, 2)))
    assert torch.allclose(found["pixels_outside"], (R * (1 - mask[:, 0])).sum((1, 2)))
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    assert torch.allclose(found["elsewhere"], last.bias[[0, 2]]) and found["constants_outside"].abs().min() > 0
    assert all(not module._forward_hooks for module in model.modules())


def test_a_background_that_works_a_switch_is_found_out():
    """mean of ReLU(1 - x): no pixel of the background is relevant, dark or bright, yet it decides."""
    conv, last = nn.Conv2d(1, 1, 1), nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        conv.weight.fill_(-1.0)
        conv.bias.fill_(1.0)
        last.weight.copy_(torch.tensor([[0.0], [1.0]]))
    model = nn.Sequential(conv, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    dark, bright, half = (torch.full((2, 1, 8, 8), value).double() for value in (0.25, 0.25, 1.0))
    dark[..., :4], bright[..., :4], half[..., :4] = 0.0, 1.0, 0.0
    before, after = (data_of(x, half, ["a", "b"]) for x in (dark, bright))
    found = constants.change(model, before, after)
    assert found["cases"] == 2 and found["pixels_outside"] == found["pixels_inside"] == found["constants_inside"] == 0
    assert found["change"] == found["constants_outside"] == 0.5
    with pytest.raises(ValueError, match="different cases"):
        constants.change(model, before, data_of(bright, half, ["a", "c"]))


def test_starts_ask_for_the_truth():
    assert constants.start_of(torch.tensor([2, 0]), 3, None).tolist() == [[-0.5, -0.5, 1], [1, -0.5, -0.5]]
    assert constants.start_of(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 2, 1).tolist() == [[0, -1], [0, 1]]


def test_score_intervals_cover_where_others_fail_and_tests_hold_their_level():
    for measure, classes, studies, good, bad in (
        ("macro_f1", 10, 150, "score, jackknife", "t over cases"),
        ("auc", 3, 300, "score, DeLong", "DeLong"),
    ):
        found = simulation.coverage(measure, 50, classes, 0.97, studies, 50, np.random.default_rng(0)).set_index("name")
        assert found["share"][good] > 0.91 and found["share"][bad] < 0.93
    for seeds in (1, 3):
        found = simulation.false_positives(50, 3, 0.7, seeds, 200, np.random.default_rng(0))
        assert (found["share"] < 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5).all() and found["share"].max() > 0
        assert set(found["measure"]) == {"accuracy", "macro_f1", "auc"} and found["holds"].all()
