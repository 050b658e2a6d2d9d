"""The standard classifier: the network and its classification loss, nothing else. It sees no mask."""

from torch import Tensor, nn

from isnetlib.loss import classification_loss, probabilities
from isnetlib.lrp import logits_of


class Standard(nn.Module):
    """L = cross-entropy (binary cross-entropy for 0/1 labels or one logit) of `model`."""

    def __init__(self, model: nn.Module, multilabel: bool = False):
        super().__init__()
        self.model, self.multilabel = model, multilabel

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
        loss = classification_loss(logits_of(self.model(x)), y)
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor) -> Tensor:
        return probabilities(logits_of(self.model(x)), self.multilabel)
