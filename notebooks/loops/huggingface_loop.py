"""ISNet in Hugging Face's Trainer, around its ViT: `python notebooks/loops/huggingface_loop.py`
(`pip install -e '.[loops]'`). The ViT has random weights; nothing is downloaded.

The Trainer needs no subclass: it calls the method with the fields of the data set (x, y, mask) and takes the first
thing that comes back as the loss.
"""

import tempfile

import torch
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from isnetlib import ISNet, data, explain
from isnetlib.training.evaluate import background_share


def small_vit(classes: int, size: int = 40) -> ViTForImageClassification:
    """A ViT of two layers for images of `size` pixels a side, in patches of 8."""
    widths = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = ViTConfig(image_size=size, patch_size=8, num_labels=classes, **widths)
    return ViTForImageClassification(config)


def train(method: ISNet, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor, epochs: int) -> list[dict[str, float]]:
    """Train `method` on x (N, 3, H, W), y (N,), mask (N, 1, H, W); returns the Trainer's log. Keeps no files."""
    rows = [dict(zip(("x", "y", "mask"), row, strict=True)) for row in zip(x, y, mask, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        options = {"learning_rate": 3e-3, "num_train_epochs": epochs, "per_device_train_batch_size": 32}
        quiet = {
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "logging_strategy": "epoch",
        }
        trainer = Trainer(method, TrainingArguments(folder, **options, **quiet), train_dataset=rows)
        trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    torch.manual_seed(0)
    x, y, mask, _ = data.load("digits").train[list(range(320))]
    method = ISNet(small_vit(classes=10), heatmap_weight=0.5)
    before = background_share(explain(method.model.eval(), x), mask).mean()
    train(method, x, y, mask, epochs=20)
    after = background_share(explain(method.model.eval().to(x.device), x), mask).mean()
    print(f"share of the relevance outside the digits: {before:.2f} before training, {after:.2f} after")
