"""Right for the right reasons: the gradient of the log-probabilities must vanish outside the mask.

Ross, Hughes & Doshi-Velez, "Right for the Right Reasons: Training Differentiable Models by Constraining their
Explanations", IJCAI 2017 (arXiv 1703.03717).

    g = d/dx sum_k log p_k(x)                                                              an image's own gradient
    L = L_classification + penalty_weight * mean over images of sum_pixels,channels (g (1 - mask))^2

Several labels: sum_k log p_k + log (1 - p_k); one logit likewise.

Ours: (1) Means over the batch where the paper writes sums, so that neither term depends on the batch size. The weights'
decay that the paper adds is the optimiser's, the same for every method. (2) The second mean is over the images with a
mask. (3) BatchNorm in training mode: g is what autograd gives, through the batch statistics, so it also holds an
image's (small) effect on the log-probabilities of the others of its batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isnetlib.baselines.standard import Standard
from isnetlib.method.course import Weight
from isnetlib.method.lrp import logits_of
from isnetlib.networks import known


class RightReasons(Standard):
    """The penalty around a classifier `model`. penalty_weight: lambda >= 0, to be chosen over decades, or
    (start, end), falling (`isnetlib.method.course`).
    """

    reads_masks = True

    def __init__(self, model: nn.Module, penalty_weight: float | tuple = 1.0, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.penalty_weight = Weight("penalty_weight", penalty_weight)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        x = x.detach().requires_grad_()
        logits = logits_of(self.model(x))
        classification = self.classify(logits, y)
        (g,) = torch.autograd.grad(log_probabilities(logits, self.multilabel).sum(), x, create_graph=True)
        wrong = penalty(g, mask)
        parts = {"classification": classification.item(), "penalty": wrong.item()}
        return classification + self.penalty_weight.now() * wrong, parts


def log_probabilities(logits: Tensor, multilabel: bool) -> Tensor:
    """log p of every possible answer: (B, K) of softmax, else (B, 2 K), each logit's log p and log (1 - p)."""
    if multilabel or logits.shape[1] == 1:
        return F.logsigmoid(torch.cat([logits, -logits], 1))
    return logits.log_softmax(1)


def penalty(g: Tensor, mask: Tensor) -> Tensor:
    """Sum of (g (1 - mask))^2 over channels and pixels, mean over the samples whose mask is known. g (B, C, H, W), mask
    (B, 1, H, W).
    """
    rows, mask = known(mask), torch.nan_to_num(mask.float())
    return ((g * (1 - mask)).square().sum((1, 2, 3)) * rows).sum() / rows.sum().clamp(min=1)
