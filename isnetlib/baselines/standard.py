"""The standard classifier: the network and its classification loss, nothing else. It sees no mask."""

from torch import Tensor, nn

from isnetlib.method.loss import classification_loss, probabilities
from isnetlib.method.lrp import logits_of
from isnetlib.method.options import flag


class Standard(nn.Module):
    """L = cross-entropy of `model`, binary for one logit or with `multilabel` (labels of 0/1 floats (B, K)); every
    comparison method is one of these with another `loss`. Options out of range are a ValueError.
    """

    reads_masks = False  # in training: without any, it would be another method

    def __init__(self, model: nn.Module, multilabel: bool = False):
        super().__init__()
        self.model, self.multilabel = model, flag("multilabel", multilabel)

    def classify(self, logits: Tensor, y: Tensor) -> Tensor:
        """The classification loss."""
        return classification_loss(logits, y, self.multilabel)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and its terms. x (B, C, H, W), y (B,) or floats (B, K), mask (B, 1, H, W) of 0/1, zeros where
        none is known.
        """
        loss = self.classify(logits_of(self.model(x)), y)
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier."""
        return probabilities(logits_of(self.model(x)), self.multilabel)
