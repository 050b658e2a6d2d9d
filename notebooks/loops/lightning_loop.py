"""ISNet in Lightning's Trainer: `python notebooks/loops/lightning_loop.py` (`pip install -e '.[loops]'`)."""

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

from isnetlib import ISNet, data, explain
from isnetlib.networks import build_model
from isnetlib.training.evaluate import background_share


class Training(lightning.LightningModule):
    """A method whose loss is Lightning's objective. batch: x (B, 3, H, W), y (B,), mask (B, 1, H, W)."""

    def __init__(self, method: ISNet):
        super().__init__()
        self.method = method

    def training_step(self, batch, batch_idx):
        loss, parts = self.method.loss(*batch)
        self.log_dict(parts)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.method.parameters(), 3e-3)


def train(method: ISNet, batches: DataLoader, epochs: int) -> lightning.Trainer:
    """Train `method`; the terms of the loss are in the Trainer's `callback_metrics`. Writes no files."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=epochs, enable_model_summary=False, **quiet)
    trainer.fit(Training(method), batches)
    return trainer


if __name__ == "__main__":
    lightning.seed_everything(0)
    x, y, mask, _ = data.load("digits").train[list(range(300))]
    method = ISNet(build_model("small_resnet", classes=10), heatmap_weight=0.5)
    before = background_share(explain(method.model, x), mask).mean()
    train(method, DataLoader(TensorDataset(x, y, mask), batch_size=32, shuffle=True, drop_last=True), epochs=20)
    after = background_share(explain(method.model.eval().to(x.device), x), mask).mean()
    print(f"share of the relevance outside the digits: {before:.2f} before training, {after:.2f} after")
