"""ISNet in a plain PyTorch loop: `python notebooks/loops/plain.py` trains on 300 biased digits for half a minute."""

import torch
from torch.utils.data import DataLoader, TensorDataset

from isnetlib import ISNet, data, explain
from isnetlib.networks import build_model
from isnetlib.training.evaluate import background_share


def train(method: ISNet, optimizer: torch.optim.Optimizer, batches, epochs: int) -> list[dict[str, float]]:
    """Train on `batches` of x (B, 3, H, W), y (B,), mask (B, 1, H, W); returns the terms of the loss, step by step."""
    terms = []
    method.train()
    for _ in range(epochs):
        for x, y, mask in batches:
            loss, parts = method.loss(x, y, mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            terms.append(parts)
    return terms


if __name__ == "__main__":
    torch.manual_seed(0)
    x, y, mask, _ = data.load("digits").train[list(range(300))]
    method = ISNet(build_model("small_resnet", classes=10), heatmap_weight=0.5)
    before = background_share(explain(method.model, x), mask).mean()
    batches = DataLoader(TensorDataset(x, y, mask), batch_size=32, shuffle=True, drop_last=True)
    train(method, torch.optim.AdamW(method.parameters(), 3e-3), batches, epochs=20)
    after = background_share(explain(method.model.eval(), x), mask).mean()
    print(f"share of the relevance outside the digits: {before:.2f} before training, {after:.2f} after")
