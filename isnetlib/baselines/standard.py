"""The standard classifier: the network and its classification loss, nothing else. It sees no mask."""

from torch import Tensor, nn

from isnetlib.method.loss import classification_loss, probabilities
from isnetlib.method.lrp import logits_of


class Standard(nn.Module):
    """L = cross-entropy (binary for labels of 0/1 floats (B, K), then multilabel, or one logit) of `model`; every
    comparison method is one of these with another `loss`.
    """

    reads_masks = False  # in training: without any, it would be another method

    def __init__(self, model: nn.Module, multilabel: bool = False):
        super().__init__()
        self.model, self.multilabel = model, multilabel

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and its terms. x (B, C, H, W), y (B,) or 0/1 floats (B, K), mask (B, 1, H, W) of 0/1, zeros
        where none is known.
        """
        loss = classification_loss(logits_of(self.model(x)), y)
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier."""
        return probabilities(logits_of(self.model(x)), self.multilabel)


def share(name: str, value: float) -> float:
    """`value` of the option `name`, a weight or probability; ValueError where it does not lie in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
    return value
