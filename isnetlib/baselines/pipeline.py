"""Segment, then classify: a U-Net cuts the background away, and the classifier sees what is left.

    L = cross-entropy of f(x * m),    m = 1 where sigmoid(U(x)) > t, else 0

The comparison method of the ISNet paper (arXiv 2202.00232): the U-Net U learns the training masks by pixel
cross-entropy and is frozen, the threshold t is chosen on validation, the classifier f is trained on the images
multiplied by the predicted masks. At run time no mask is needed, but two networks. Ours: t is the best of a grid by
mean intersection over union on validation masks (the paper's is not known); the U-Net learns by the same recipe
(optimiser, batches, augmentation) as every classifier; its size is an option.
"""

import torch
from torch import Tensor, nn

from isnetlib.loss import classification_loss, probabilities
from isnetlib.lrp import explain, logits_of
from isnetlib.unet import UNet, dice, iou, known

GRID = torch.arange(1, 20) / 20  # 0.05, 0.1, ... 0.95


class Pipeline(nn.Module):
    """A frozen segmenter before the classifier `model`.

    segmenter_epochs: passes over the training set for the U-Net, before the classifier's. depth, width: see
    `isnetlib.unet.UNet`. Buffers, once prepared: `threshold`, `dice` (mean Dice of the predicted masks on validation).
    """

    def __init__(
        self,
        model: nn.Module,
        segmenter_epochs: int = 6,
        depth: int = 4,
        width: int = 8,
        multilabel: bool = False,
    ):
        super().__init__()
        self.model, self.segmenter_epochs, self.multilabel = model, segmenter_epochs, multilabel
        self.segmenter = UNet(depth=depth, width=width).requires_grad_(False).eval()
        self.register_buffer("threshold", torch.tensor(0.5))
        self.register_buffer("dice", torch.tensor(torch.nan))

    def train(self, mode: bool = True):
        """Train mode is the classifier's alone."""
        super().train(mode)
        self.segmenter.eval()
        return self

    def prepare(self, train, validation, learn) -> None:
        """Before training: the segmenter learns the training masks, then its threshold is chosen. See
        `isnetlib.train.fit`.
        """
        self.segmenter.requires_grad_(True)
        learn(self.segmenter, self.segmenter_epochs)
        self.segmenter.requires_grad_(False).eval()
        self.segmenter.zero_grad()  # left-over gradients would count in the clipping of the classifier's
        self.choose_threshold(validation)

    @torch.no_grad()
    def choose_threshold(self, validation, batch_size: int = 100) -> None:
        """Set `threshold` to that of `GRID` with the highest mean intersection over union on the images of a data set
        whose masks are known, and `dice` to the mean Dice there. Raises ValueError where no mask is known.
        """
        overlap, agreement = [], []
        for rows in torch.arange(len(validation)).split(batch_size):
            x, _, mask, _ = validation[rows]
            x, mask = (part[known(mask)].to(self.threshold.device) for part in (x, mask))
            p = self.segmenter(x).sigmoid()
            predicted = [(p > t).to(mask.dtype) for t in GRID]
            overlap.append(torch.stack([iou(m, mask) for m in predicted]))
            agreement.append(torch.stack([dice(m, mask) for m in predicted]))
        overlap, agreement = (torch.cat(part, 1).mean(1) for part in (overlap, agreement))
        if overlap.isnan().any():
            raise ValueError("no validation image has a mask: the segmenter's threshold cannot be chosen without")
        best = overlap.argmax()
        self.threshold.copy_(GRID[best])
        self.dice.copy_(agreement[best])

    @torch.no_grad()
    def segment(self, x: Tensor) -> Tensor:
        """Predicted mask (B, 1, H, W) of 0 and 1."""
        return (self.segmenter(x).sigmoid() > self.threshold).to(x.dtype)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
        """Classification loss of the masked images; the true mask is not read."""
        loss = classification_loss(logits_of(self.model(x * self.segment(x))), y)
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) of both networks in a row."""
        return probabilities(logits_of(self.model(x * self.segment(x))), self.multilabel)

    def explain(self, x: Tensor) -> Tensor:
        """Relevance of the winning class, (B, 1, C, H, W): that of the classifier at the masked image, handed back
        through the product with the mask, which is a constant to LRP: outside, 0.
        """
        return explain_masked(self.model, x, self.segment(x))

    def attention(self, x: Tensor) -> Tensor:
        """The predicted mask, (B, H, W)."""
        return self.segment(x)[:, 0]


class Oracle(nn.Module):
    """The same classifier on images multiplied by their true masks, in testing too: what a perfect segmenter would
    allow. An upper bound for a `Pipeline`, no competitor. Samples whose mask is not known are weighted out of the loss.
    """

    needs_mask = True  # at test time: predict and explain take it

    def __init__(self, model: nn.Module, multilabel: bool = False):
        super().__init__()
        self.model, self.multilabel = model, multilabel

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        logits, rows = logits_of(self.model(x * mask)), known(mask)
        loss = classification_loss(logits[rows], y[rows]) if rows.any() else 0.0 * logits.sum()
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor, mask: Tensor) -> Tensor:
        return probabilities(logits_of(self.model(x * mask)), self.multilabel)

    def explain(self, x: Tensor, mask: Tensor) -> Tensor:
        """As `Pipeline.explain`, with the true mask."""
        return explain_masked(self.model, x, mask)


def explain_masked(model: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Relevance (B, 1, C, H, W) of `model`'s winning class at x * mask, at the pixels of x: z^B gives black pixels
    relevance too, but outside the mask black is no reading of x, and none of it reaches x.
    """
    return explain(model, x * mask) * mask[:, None]
