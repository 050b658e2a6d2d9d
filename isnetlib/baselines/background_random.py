"""Background randomisation: in training, each object stands in front of another image's background.

    L = cross-entropy of `model` on x_i mask_i + background(x_j) (1 - mask_i),    j another image of the batch

The donor j is drawn at random whatever its class: nothing in the background tells the class any more. Its own object
is filled in from its surroundings (`isnetlib.data.swap.fill_foreground`). The ISNet paper does not compare with this:
it is ours, the strongest simple idea that a practitioner with masks would try first. It needs them in training alone.
"""

import torch
from torch import Tensor, nn

from isnetlib.data import swap_backgrounds
from isnetlib.loss import classification_loss, probabilities
from isnetlib.lrp import logits_of


class BackgroundRandom(nn.Module):
    """Cross-entropy of a classifier `model` on images with random backgrounds.

    p: probability in [0, 1] that an image gets another background. multilabel: labels are 0/1 floats (B, K).
    """

    def __init__(self, model: nn.Module, p: float = 1.0, multilabel: bool = False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p is the probability that an image gets another background, in [0, 1]; got {p}")
        self.model, self.p, self.multilabel = model, p, multilabel

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and its terms. x (B, C, H, W), y (B,) or 0/1 floats (B, K), mask (B, 1, H, W) or None; images
        without mask (zeros) keep their backgrounds.
        """
        if mask is not None:
            x = randomise(x, mask, self.p)
        loss = classification_loss(logits_of(self.model(x)), y)
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier, on the images as they are."""
        return probabilities(logits_of(self.model(x)), self.multilabel)


def randomise(x: Tensor, mask: Tensor, p: float = 1.0) -> Tensor:
    """Each image x (B, C, H, W) with probability p on the background of another of the batch, drawn by torch's global
    generator; foreground pixels (mask > 0.5) stay bit for bit, and images without mask neither take nor give.
    """
    anyone = torch.zeros(len(x), 1, device=x.device)  # labels with two dimensions: any other image may be the donor
    chosen = torch.rand(len(x), device=x.device) < p
    return torch.where(chosen[:, None, None, None], swap_backgrounds(x, anyone, mask), x)
