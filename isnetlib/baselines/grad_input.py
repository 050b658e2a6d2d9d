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

from isnetlib.baselines.standard import Standard
from isnetlib.method.course import Weight
from isnetlib.method.isnet import ISNet
from isnetlib.method.loss import heatmap_loss
from isnetlib.method.lrp import logits_of
from isnetlib.method.options import pair


class GradInput(Standard):
    """ISNet's loss on input x gradient of a classifier `model`. heatmap_weight, fall: as of ISNet. weights: (w1, w2).
    range: (C1, C2) of the foreground term.
    """

    variant, start, reads_masks = "selective", ISNet.start, True

    def __init__(
        self,
        model: nn.Module,
        heatmap_weight: float | tuple | str = 0.7,
        weights: tuple = (1.0, 3.0),
        range: tuple = (1.0, 25.0),
        fall: tuple = (0.15, 0.55),
        multilabel: bool = False,
    ):
        super().__init__(model, multilabel)
        self.heatmap_weight = Weight("heatmap_weight P", heatmap_weight, 1, fall, steered=True)
        self.weights, self.range = pair("weights", weights), pair("range", range, rising=True)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        x = x.detach().requires_grad_()
        logits = logits_of(self.model(x))
        classification = self.classify(logits, y)
        (g,) = torch.autograd.grad(logits, x, self.start(logits)[:, 0], create_graph=True)
        heatmap = heatmap_loss((x * g)[:, None], mask, weights=self.weights, range=self.range)
        P = self.heatmap_weight.now()
        total = (1 - P) * classification + P * heatmap.total
        self.heatmap_weight.follow(heatmap.background.item())
        parts = {"classification": classification, "background": heatmap.background, "foreground": heatmap.foreground}
        return total, {name: part.item() for name, part in parts.items()}
