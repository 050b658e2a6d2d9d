"""The standard classifier: the network and its classification loss, nothing else. And random backgrounds in training.

    L = cross-entropy of f(x)                                                        standard, which sees no mask
    L = cross-entropy of f(x'),   x'_i = x_i mask_i + background(x_j) (1 - mask_i)   background_random
    L = (1 - P) cross-entropy of f(x') + P (w1 background + w2 foreground) of x'     isnet_background

The donor j is another image of the batch, its own object filled in from its surroundings. The last two are ours: random
backgrounds, the simple idea that a practitioner with masks would try first, make the background useless on average,
ISNet forbids to look at it.
"""

import torch
from torch import Tensor, nn

from isnetlib.data import swap_backgrounds
from isnetlib.method.isnet import ISNet
from isnetlib.method.loss import classification_loss, probabilities
from isnetlib.method.lrp import logits_of
from isnetlib.method.options import flag, number


class Standard(nn.Module):
    """L = cross-entropy of `model`, binary for one logit or with `multilabel` (labels of 0/1 floats (B, K)); every
    comparison method is one of these with another `loss`, or an ISNet. Options out of range are a ValueError.
    """

    reads_masks = False  # in training: without any, it would be another method

    def __init__(self, model: nn.Module, multilabel: bool = False):
        super().__init__()
        self.model, self.multilabel = model, flag("multilabel", multilabel)

    def classify(self, logits: Tensor, y: Tensor) -> Tensor:
        return classification_loss(logits, y, self.multilabel)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and its terms. x (B, C, H, W), y (B,) or floats (B, K), mask (B, 1, H, W) of 0/1, zeros where
        none is known.
        """
        loss = self.classify(logits_of(self.model(x)), y)
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier."""
        return probabilities(logits_of(self.model(x)), self.multilabel)


class BackgroundRandom(Standard):
    """p: probability that an image gets another background, in training; images without mask keep their own."""

    reads_masks = True

    def __init__(self, model: nn.Module, p: float = 1.0, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.p = number("p", p, high=1)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        return super().loss(randomise(x, mask, self.p) if self.training and mask is not None else x, y)


class IsnetBackground(ISNet):
    """ISNet, selective; p as of `BackgroundRandom`, other options as of `ISNet`."""

    def __init__(self, model, p=0.75, heatmap_weight="auto", weights=(1.0, 3.0), range="auto", multilabel=False):
        super().__init__(model, "selective", heatmap_weight, weights=weights, range=range, multilabel=multilabel)
        self.p = number("p", p, high=1)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        return super().loss(randomise(x, mask, self.p) if self.training and mask is not None else x, y, mask)


def randomise(x: Tensor, mask: Tensor, p: float) -> Tensor:
    """Each image x (B, C, H, W) with probability p on the background of another of the batch, drawn by torch's global
    generator; foreground pixels (mask > 0.5) stay bit for bit, and images without mask neither take nor give.
    """
    anyone = torch.zeros(len(x), 1, device=x.device)  # labels with two dimensions: any other image may be the donor
    chosen = torch.rand(len(x), device=x.device) < p
    return torch.where(chosen[:, None, None, None], swap_backgrounds(x, anyone, mask), x)
