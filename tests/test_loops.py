"""The examples of notebooks/loops: each empties the background of biased digits in a few seconds of training."""

import plain
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from isnetlib import ISNet, data, explain
from isnetlib.networks import build_model
from isnetlib.training.evaluate import background_share


def by_plain_pytorch(method, x, y, mask):
    batches = DataLoader(TensorDataset(x, y, mask), 32, shuffle=True)
    return len(plain.train(method, torch.optim.AdamW(method.parameters(), 3e-3), batches, epochs=10))


def by_lightning(method, x, y, mask):
    pytest.importorskip("lightning", reason="pip install -e '.[loops]'")
    from lightning_loop import train

    return train(method, DataLoader(TensorDataset(x, y, mask), 32, shuffle=True), epochs=10).global_step


def by_hugging_face(method, x, y, mask):
    pytest.importorskip("accelerate", reason="pip install -e '.[loops]'")
    from huggingface_loop import train

    return len(train(method, x, y, mask, epochs=30))


warning = pytest.mark.filterwarnings("ignore")  # of other libraries, and of few workers


@pytest.mark.parametrize(
    "by", [by_plain_pytorch, pytest.param(by_lightning, marks=warning), pytest.param(by_hugging_face, marks=warning)]
)
def test_the_background_is_emptied(by):
    torch.manual_seed(0)
    model, limit = build_model("small_resnet", 10, width=8), 0.7
    if by is by_hugging_face:
        small_vit = pytest.importorskip("huggingface_loop", reason="pip install -e '.[loops]'").small_vit
        model, limit = small_vit(10), 0.6  # without the heatmap loss the share rises
    method, digits = ISNet(model, heatmap_weight=0.5, weights=(1.0, 1.0)), data.load("digits")
    x, y, mask, _ = digits.train[list(range(96))]

    def share():
        own = method.to("cpu").train(by is not by_hugging_face)  # few images: running statistics lag behind
        return background_share(explain(own.model, x), mask).mean().item()

    before = share()
    assert by(method.train(), x, y, mask) == 30 and share() < limit * before
