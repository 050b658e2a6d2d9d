"""Two losses on the gradient at the input, in training through the batch statistics, as autograd gives it.

Right for the right reasons (Ross, Hughes & Doshi-Velez, IJCAI 2017, arXiv 1703.03717): the gradient of the
log-probabilities must vanish outside the mask.

    g = d/dx sum_k log p_k(x)         several labels, or one logit: sum_k log p_k + log (1 - p_k)
    L = L_classification + penalty_weight * mean over images of sum_pixels,channels (g (1 - mask))^2

Ours: means where the paper writes sums, the second over the images with a mask; the weights' decay is the optimiser's.

ISNet on input x gradient, an ablation (Bassi, Dertkigil & Cavalli, arXiv 2202.00232): does LRP matter, or any map do?

    R = x d eta / d x,        eta: what ISNet explains: selective, or of several labels one, drawn; one map an image
    L = (1 - P) L_classification + P (w1 background + w2 foreground),        both terms as in `isnetlib.method.loss`

No eps, no z^B (black pixels have no relevance): in eval mode R equals LRP with eps = 0 and box = None. Ours: each
image's own gradient (the public reference code differentiates the batch's mean), and the selective start.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isnetlib.baselines.standard import Standard
from isnetlib.method.course import Weight
from isnetlib.method.isnet import ISNet
from isnetlib.method.loss import classification_loss
from isnetlib.method.lrp import logits_of
from isnetlib.networks import known


class RightReasons(Standard):
    """penalty_weight: 0 or more, to be chosen over decades, or (start, end), falling (`isnetlib.method.course`)."""

    reads_masks = True

    def __init__(self, model: nn.Module, penalty_weight: float | tuple = 1.0, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.penalty_weight = Weight("penalty_weight", penalty_weight)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        x = x.detach().requires_grad_()
        logits = logits_of(self.model(x))
        classification = self.classify(logits, y)
        if self.multilabel or logits.shape[1] == 1:
            log_p = F.logsigmoid(torch.cat([logits, -logits], 1))
        else:
            log_p = logits.log_softmax(1)
        (g,) = torch.autograd.grad(log_p.sum(), x, create_graph=True)
        rows, mask = known(mask), torch.nan_to_num(mask.float())
        penalty = ((g * (1 - mask)).square().sum((1, 2, 3)) * rows).sum() / rows.sum().clamp(min=1)
        parts = {"classification": classification.item(), "penalty": penalty.item()}
        return classification + self.penalty_weight.now() * penalty, parts


class GradInput(ISNet):
    """Options as of `ISNet`."""

    def __init__(self, model, heatmap_weight="auto", weights=(1.0, 3.0), range="auto", multilabel=False):
        super().__init__(model, "selective", heatmap_weight, weights=weights, range=range, multilabel=multilabel)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        x = x.detach().requires_grad_()
        logits = logits_of(self.model(x))
        classification = classification_loss(logits, y, self.multilabel)
        if mask is None:
            return (1 - self.heatmap_weight.now()) * classification, {"classification": classification.item()}
        (g,) = torch.autograd.grad(logits, x, self.start(logits)[:, 0], create_graph=True)
        return self.joined(classification, (x * g)[:, None], mask, self.heatmap_weight.now())
