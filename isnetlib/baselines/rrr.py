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

from isnetlib.loss import classification_loss, probabilities
from isnetlib.lrp import logits_of


class RightReasons(nn.Module):
    """The penalty around a classifier `model`.

    penalty_weight: lambda >= 0, to be chosen over decades. multilabel: labels are 0/1 floats (B, K).
    """

    def __init__(self, model: nn.Module, penalty_weight: float = 1.0, multilabel: bool = False):
        super().__init__()
        self.model, self.penalty_weight, self.multilabel = model, penalty_weight, multilabel

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and its terms. x (B, C, H, W), y (B,) or 0/1 floats (B, K), mask (B, 1, H, W) or None; rows
        of zeros: no mask known.
        """
        x = x.detach().requires_grad_()
        logits = logits_of(self.model(x))
        classification = classification_loss(logits, y)
        if mask is None or not mask.any():
            return classification, {"classification": classification.item()}
        (g,) = torch.autograd.grad(log_probabilities(logits, self.multilabel).sum(), x, create_graph=True)
        wrong = penalty(g, mask)
        return classification + self.penalty_weight * wrong, {
            "classification": classification.item(),
            "penalty": wrong.item(),
        }

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier."""
        return probabilities(logits_of(self.model(x)), self.multilabel)


def log_probabilities(logits: Tensor, multilabel: bool = False) -> Tensor:
    """log p of every possible answer: (B, K) of softmax, else (B, 2 K), each logit's log p and log (1 - p)."""
    if multilabel or logits.shape[1] == 1:
        return F.logsigmoid(torch.cat([logits, -logits], 1))
    return logits.log_softmax(1)


def penalty(g: Tensor, mask: Tensor) -> Tensor:
    """Sum of (g (1 - mask))^2 over channels and pixels, mean over the samples whose mask is known. g (B, C, H, W), mask
    (B, 1, H, W).
    """
    known = mask.flatten(1).amax(1) > 0
    return ((g * (1 - mask)).square().sum((1, 2, 3)) * known).sum() / known.sum().clamp(min=1)
