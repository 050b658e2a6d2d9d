"""Background randomisation: in training, each object stands in front of another image's background.

    L = cross-entropy of `model` on x_i mask_i + background(x_j) (1 - mask_i),    j another image of the batch

The donor j is drawn at random whatever its class; its own object is filled in from its surroundings
(`isnetlib.data.backgrounds.fill_foreground`). The ISNet paper does not compare with this: it is ours, the strongest
simple idea that a practitioner with masks would try first.
"""

import torch
from torch import Tensor, nn

from isnetlib.baselines.standard import Standard
from isnetlib.data import swap_backgrounds
from isnetlib.method.options import number


class BackgroundRandom(Standard):
    """Cross-entropy of a classifier `model` on images with random backgrounds; images without mask keep their own.

    p: probability that an image gets another background.
    """

    reads_masks = True

    def __init__(self, model: nn.Module, p: float = 1.0, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.p = number("p", p, high=1)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        """In eval mode the images keep their own backgrounds."""
        return super().loss(randomise(x, mask, self.p) if self.training and mask is not None else x, y)


def randomise(x: Tensor, mask: Tensor, p: float) -> Tensor:
    """Each image x (B, C, H, W) with probability p on the background of another of the batch, drawn by torch's global
    generator; foreground pixels (mask > 0.5) stay bit for bit, and images without mask neither take nor give.
    """
    anyone = torch.zeros(len(x), 1, device=x.device)  # labels with two dimensions: any other image may be the donor
    chosen = torch.rand(len(x), device=x.device) < p
    return torch.where(chosen[:, None, None, None], swap_backgrounds(x, anyone, mask), x)
