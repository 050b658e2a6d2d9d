"""Segment, then classify: a U-Net cuts the background away, and the classifier sees what is left.

    L = cross-entropy of f(x * m),    m = 1 where sigmoid(U(x)) > t, else 0

A comparison method of the ISNet paper (arXiv 2202.00232): the U-Net U learns the training masks by pixel cross-entropy
and is frozen; then the classifier f is trained. Ours: t is the best of a grid by mean intersection over union on
validation masks; the U-Net learns by the same recipe (optimiser, batches, augmentation) as every classifier.
"""

from numbers import Integral

import torch
from torch import Tensor, nn

from isnetlib.baselines.standard import Standard
from isnetlib.method.lrp import explain, logits_of
from isnetlib.method.options import number
from isnetlib.networks import UNet, iou, known


class Oracle(Standard):
    """The classifier on images cut out by their true masks, in testing too: an upper bound, no competitor."""

    reads_masks = True
    needs_mask = True  # at test time: predict and explain take it

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        logits, rows = logits_of(self.model(x * mask)), known(mask)  # the others are weighted out
        loss = self.classify(logits[rows], y[rows]) if rows.any() else 0.0 * logits.sum()
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().predict(x * mask)

    def explain(self, x: Tensor, mask: Tensor) -> Tensor:
        """Relevance (B, 1, C, H, W) of the winning class; outside the mask black is no reading of x, and it is 0."""
        return explain(self.model, x * mask) * mask[:, None]


class Pipeline(Oracle):
    """segmenter_epochs: passes over the training set for the U-Net, before the classifier's. depth, width: of the
    `UNet`. Buffers, once prepared: `threshold`, `dice` (mean Dice on validation).
    """

    needs_mask = False

    def __init__(self, model: nn.Module, segmenter_epochs=6, depth=4, width=8, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.segmenter_epochs = number("segmenter_epochs", segmenter_epochs, 1, kind=Integral)
        shape = {"depth": number("depth", depth, 1, kind=Integral), "width": number("width", width, 1, kind=Integral)}
        self.segmenter = UNet(**shape).requires_grad_(False).eval()
        self.register_buffer("threshold", torch.tensor(0.5))
        self.register_buffer("dice", torch.tensor(torch.nan))

    def train(self, mode: bool = True):
        super().train(mode)
        self.segmenter.eval()  # train mode is the classifier's alone
        return self

    def prepare(self, train, validation, learn) -> None:
        """Before training, see `fit`: the U-Net learns; `threshold` and `dice` follow from masks of validation."""
        if not (validation.area() > 0).any():
            raise ValueError("no validation image has a mask: the segmenter's threshold cannot be chosen without")
        self.segmenter.requires_grad_(True)
        learn(self.segmenter, self.segmenter_epochs)
        self.segmenter.requires_grad_(False).eval()
        self.segmenter.zero_grad()  # left-over gradients would count in the clipping of the classifier's
        parts, grid = [], torch.arange(1, 20) / 20  # 0.05, 0.1, ... 0.95
        for rows in torch.arange(len(validation)).split(100):
            x, _, mask, _ = validation[rows]
            x, mask = (part[known(mask)].to(self.threshold.device) for part in (x, mask))
            p = self.segmenter(x).sigmoid()
            parts.append(torch.stack([iou((p > t).to(mask.dtype), mask) for t in grid]))
        overlap = torch.cat(parts, 1)
        best = overlap.mean(1).argmax()
        self.threshold.copy_(grid[best])
        self.dice.copy_((2 * overlap / (1 + overlap)).mean(1)[best])  # Dice by intersection over union

    @torch.no_grad()
    def segment(self, x: Tensor) -> Tensor:
        """Predicted mask (B, 1, H, W) of 0 and 1."""
        return (self.segmenter(x).sigmoid() > self.threshold).to(x.dtype)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        return Standard.loss(self, x * self.segment(x), y)  # an empty prediction counts

    def predict(self, x: Tensor) -> Tensor:
        return super().predict(x, self.segment(x))

    def explain(self, x: Tensor) -> Tensor:
        return super().explain(x, self.segment(x))


class Cut(nn.Module):
    """A trained pipeline in use: images (B, C, H, W) to logits (B, K) of what its U-Net leaves of them."""

    def __init__(self, pipeline: Pipeline):
        super().__init__()
        self.pipeline = pipeline

    def forward(self, x: Tensor) -> Tensor:
        return logits_of(self.pipeline.model(x * self.pipeline.segment(x)))

    def explain(self, x: Tensor) -> Tensor:
        return self.pipeline.explain(x)
