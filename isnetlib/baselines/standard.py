"""The standard classifier, and the methods that change only its images or its loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isnetlib.data import swap_backgrounds
from isnetlib.method.course import Weight
from isnetlib.method.isnet import ISNet
from isnetlib.method.loss import classification_loss, probabilities
from isnetlib.method.lrp import logits_of
from isnetlib.method.options import flag, number
from isnetlib.networks import known


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
        """Loss and its terms; x (B, C, H, W), y (B,) or floats (B, K), mask (B, 1, H, W) of 0/1, zeros: not known."""
        loss = self.classify(logits_of(self.model(x)), y)
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier."""
        return probabilities(logits_of(self.model(x)), self.multilabel)


# --- random backgrounds in training: ours, what a practitioner with masks would try first
class BackgroundRandom(Standard):
    """L = cross-entropy of f(x'),  x'_i = x_i mask_i + background(x_j) (1 - mask_i),  j another image of the batch, its
    own object filled in from its surroundings. p: probability that an image gets another background.
    """

    reads_masks = True

    def __init__(self, model: nn.Module, p: float = 1.0, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.p = number("p", p, high=1)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        return super().loss(randomise(x, mask, self.p) if self.training and mask is not None else x, y)


class IsnetBackground(ISNet):
    """ISNet, selective, on x': the background is useless on average, and forbidden. Other options as of `ISNet`."""

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


# --- losses on the gradient at the input, in training through the batch statistics, as autograd gives it
class RightReasons(Standard):
    """Right for the right reasons (Ross, Hughes & Doshi-Velez, IJCAI 2017, arXiv 1703.03717): the gradient of the
    log-probabilities must vanish outside the mask.

        g = d/dx sum_k log p_k(x)         several labels, or one logit: sum_k log p_k + log (1 - p_k)
        L = L_classification + penalty_weight * mean over images of sum_pixels,channels (g (1 - mask))^2

    Ours: means where the paper writes sums, the second over images with a mask; the weights' decay is the optimiser's.
    penalty_weight: 0 or more, to be chosen over decades, or (start, end), falling (`isnetlib.method.course`).
    """

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
    """ISNet on input x gradient, an ablation (Bassi, Dertkigil & Cavalli, arXiv 2202.00232): does LRP matter?

        R = x d eta / d x,    eta: what ISNet explains: selective, or of several labels one, drawn; one map an image

    No eps, no z^B (black pixels have no relevance): in eval mode R equals LRP with eps = 0 and box = None. Ours: each
    image's own gradient (the public reference code differentiates the batch's mean), and the selective start. Options
    as of `ISNet`.
    """

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
