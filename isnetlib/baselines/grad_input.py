"""ISNet on input x gradient: the same heatmap loss on the plainest explanation instead of LRP. An ablation.

Bassi, Dertkigil & Cavalli, arXiv 2202.00232, compare with it: does LRP matter, or would any map do?

    R = x d eta / d x,        eta: what the ISNet variant explains (default: selective, one map an image)
    L = (1 - P) L_classification + P (w1 background + w2 foreground),        both terms as in `isnetlib.loss`

It differs from ISNet in the map alone: no eps, no z^B (black pixels have no relevance), and no constant statistics.
With BatchNorm in training mode the gradient is what autograd gives, through the batch statistics; in eval mode R
equals LRP with eps = 0 and box = None.

Ours: each image's own gradient, but for what passes from image to image through batch statistics (the public reference
code differentiates the batch's mean, so that its maps and their foreground range depend on the batch size), and the
selective start, which costs one map and not one a class.
"""

import torch
from torch import Tensor, nn

from isnetlib.isnet import VARIANTS, ISNet
from isnetlib.loss import classification_loss, heatmap_loss, probabilities
from isnetlib.lrp import logits_of


class GradInput(nn.Module):
    """ISNet's loss on input x gradient of a classifier `model`. Options as those of `isnetlib.ISNet`."""

    def __init__(
        self,
        model: nn.Module,
        variant: str = "selective",
        heatmap_weight: float = 0.7,
        decay: float = 0.9,
        steepness: float = 1.0,
        weights: tuple = (1.0, 3.0),
        range: tuple = (1.0, 25.0),
        multilabel: bool = False,
    ):
        super().__init__()
        if variant not in VARIANTS or not 0 <= heatmap_weight <= 1:
            raise ValueError(
                f"need a variant of {', '.join(VARIANTS)} and heatmap_weight P in [0, 1]; got {variant!r}, "
                f"{heatmap_weight}"
            )
        self.model, self.variant, self.heatmap_weight, self.multilabel = model, variant, heatmap_weight, multilabel
        self.decay, self.steepness, self.weights, self.range = decay, steepness, tuple(weights), tuple(range)

    start = ISNet.start  # what each variant explains, by its name

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and its terms. x (B, C, H, W), y (B,) or 0/1 floats (B, K), mask (B, 1, H, W) or None; rows
        of zeros: no mask known.
        """
        x = x.detach().requires_grad_()
        logits = logits_of(self.model(x))
        classification = classification_loss(logits, y)
        if mask is None or self.heatmap_weight == 0:
            return (1 - self.heatmap_weight) * classification, {"classification": classification.item()}
        R = input_times_gradient(x, logits, self.start(logits))
        heatmap = heatmap_loss(R, mask, self.decay, self.steepness, self.weights, self.range)
        total = (1 - self.heatmap_weight) * classification + self.heatmap_weight * heatmap.total
        parts = {"classification": classification, "background": heatmap.background, "foreground": heatmap.foreground}
        return total, {name: part.item() for name, part in parts.items()}

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier."""
        return probabilities(logits_of(self.model(x)), self.multilabel)


def input_times_gradient(x: Tensor, logits: Tensor, start: Tensor) -> Tensor:
    """x times the gradient by x of the quantities whose derivatives by the logits are `start` (B, M, K): (B, M, C, H,
    W), differentiable by weights and by `start`. x must require grad and lead to `logits` (B, K).
    """
    g = [torch.autograd.grad(logits, x, s, create_graph=True)[0] for s in start.unbind(1)]
    return x[:, None] * torch.stack(g, 1)
