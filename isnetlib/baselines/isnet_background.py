"""ISNet on images with random backgrounds: both ways against a background that tells the class, in one training. Ours.

    L = (1 - P) L_classification + P (w1 background + w2 foreground)        of x_i mask_i + background(x_j) (1 - mask_i)

Random backgrounds (`isnetlib.baselines.background_random`) leave the background useless on average; the heatmap loss
forbids to look at it. The relevance is that of the image which the network was given.
"""

from torch import Tensor, nn

from isnetlib.baselines.background_random import randomise
from isnetlib.method.isnet import ISNet
from isnetlib.method.options import number


class IsnetBackground(ISNet):
    """ISNet, selective; p: probability that an image gets another background. Other options as of `ISNet`."""

    def __init__(
        self,
        model: nn.Module,
        p: float = 0.75,
        heatmap_weight: float | tuple | str = "auto",
        weights: tuple = (1.0, 3.0),
        range: tuple | str = "auto",
        fall: tuple = (0.15, 0.55),
        multilabel: bool = False,
    ):
        options = {"weights": weights, "range": range, "fall": fall, "multilabel": multilabel}
        super().__init__(model, "selective", heatmap_weight, **options)
        self.p = number("p", p, high=1)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        """As ISNet's; in eval mode the images keep their own backgrounds."""
        return super().loss(randomise(x, mask, self.p) if self.training and mask is not None else x, y, mask)
