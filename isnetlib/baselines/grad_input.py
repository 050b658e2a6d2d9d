"""ISNet on input x gradient: the same heatmap loss on the plainest explanation instead of LRP. An ablation.

Bassi, Dertkigil & Cavalli, arXiv 2202.00232, compare with it: does LRP matter, or would any map do?

    R = x d eta / d x,        eta: what ISNet explains: selective, or of several labels one, drawn; one map an image
    L = (1 - P) L_classification + P (w1 background + w2 foreground),        both terms as in `isnetlib.method.loss`

It differs from ISNet in the map alone: no eps, no z^B (black pixels have no relevance), and no constant statistics.
With BatchNorm in training mode the gradient is what autograd gives, through the batch statistics; in eval mode R
equals LRP with eps = 0 and box = None.

Ours: each image's own gradient (the public reference code differentiates the batch's mean, so that its maps depend on
the batch size), and the selective start, which costs one map and not one a class.
"""

import torch
from torch import Tensor, nn

from isnetlib.method.isnet import ISNet
from isnetlib.method.loss import classification_loss
from isnetlib.method.lrp import logits_of


class GradInput(ISNet):
    """ISNet's loss on input x gradient of a classifier `model`. Options as of `ISNet`."""

    def __init__(
        self,
        model: nn.Module,
        heatmap_weight: float | tuple | str = "auto",
        weights: tuple = (1.0, 3.0),
        range: tuple | str = "auto",
        fall: tuple = (0.15, 0.55),
        multilabel: bool = False,
    ):
        options = {"weights": weights, "range": range, "fall": fall, "multilabel": multilabel}
        super().__init__(model, "selective", heatmap_weight, **options)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        x = x.detach().requires_grad_()
        logits = logits_of(self.model(x))
        classification = classification_loss(logits, y, self.multilabel)
        if mask is None:
            return (1 - self.heatmap_weight.now()) * classification, {"classification": classification.item()}
        (g,) = torch.autograd.grad(logits, x, self.start(logits)[:, 0], create_graph=True)
        return self.joined(classification, (x * g)[:, None], mask, self.heatmap_weight.now())
