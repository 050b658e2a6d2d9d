"""The examples of notebooks/loops: each empties the background of biased digits in a few seconds of training."""

import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from isnetlib import ISNet, data, explain
from isnetlib.evaluate import background_share
from isnetlib.models import build_model

LOOPS = Path(__file__).parent.parent / "notebooks" / "loops"
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(LOOPS)
    yield
    for name in ("plain", "lightning_loop", "huggingface_loop"):
        sys.modules.pop(name, None)


@pytest.fixture
def digits():
    """x (96, 3, 40, 40), y, mask."""
    return data.load("digits").train[list(range(96))][:3]


def small():
    torch.manual_seed(0)
    return ISNet(build_model("small_resnet", 10, width=8), heatmap_weight=0.5, weights=(1.0, 1.0))


def state(method, x, y, mask):
    """Mean share of the relevance outside the digits, and the background term of the loss, on the images themselves."""
    share = background_share(explain(method.model, x), mask).mean().item()
    with torch.no_grad():
        return share, method.loss(x, y, mask)[1]["background"]


def test_plain_pytorch(digits):
    from plain import train

    method = small()
    share, term = state(method, *digits)
    batches = DataLoader(TensorDataset(*digits), 32, shuffle=True)
    terms = train(method, torch.optim.AdamW(method.parameters(), 3e-3), batches, epochs=10)
    after = state(method, *digits)
    assert after[0] < 0.7 * share and after[1] < 0.7 * term
    assert len(terms) == 30 and terms[-1]["background"] < 0.7 * terms[0]["background"]


@pytest.mark.filterwarnings("ignore")  # Lightning's own, of other libraries and of few workers
def test_lightning(digits):
    pytest.importorskip("lightning", reason="lightning is not installed: pip install -e '.[loops]'")
    from lightning_loop import train

    method = small()
    share, term = state(method, *digits)
    trainer = train(method, DataLoader(TensorDataset(*digits), 32, shuffle=True), epochs=10)
    after = state(method.to("cpu"), *digits)
    assert after[0] < 0.7 * share and after[1] < 0.7 * term
    assert trainer.global_step == 30 and trainer.callback_metrics["background"] < 0.7 * term


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_trainer_with_a_vit(digits):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[loops]'")
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install -e '.[loops]'")
    pytest.importorskip("isnetlib.attention", reason="attention has no relevance rule here")
    from huggingface_loop import small_vit, train

    torch.manual_seed(0)
    method = ISNet(small_vit(10), weights=(1.0, 1.0))
    share, term = state(method.eval(), *digits)
    log = train(method, *digits, epochs=30)
    after = state(method.to("cpu").eval(), *digits)
    assert after[0] < 0.6 * share and after[1] < 0.3 * term  # without the heatmap loss the share rises
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
