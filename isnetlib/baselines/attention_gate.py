"""The attention-gated network: gates, which no mask supervises, choose where to look on two stages of the classifier.

    s = psi ReLU(theta x + upsample(phi g))                a map of scores, (B, 1, H, W)
    c = (s - min s) / sum (s - min s)                      coefficients, which sum to 1 over the pixels
    v = sum over pixels of c x                             (B, C)
    logits = W [v_1, v_2, mean of g] + b                   L = cross-entropy

x: features of a stage, g: the deepest stage, theta, phi, psi: 1 x 1 convolutions (Schlemper et al., Attention gated
networks, Medical Image Analysis 2019: AG-Sononet with grid attention, normalisation "concatenation_mean_flow" and
aggregation "concat"; the comparison method of the ISNet paper, arXiv 2202.00232, as well). Ours, so that it works with
any classifier: the gates sit on the last two stages before the deepest, and the part of W that reads the mean of g is
the classifier's own head (the same thing where that is one linear layer on the mean, as in ResNet and DenseNet). psi
has no bias: subtracting the minimum would cancel it.
"""

import torch
from torch import Tensor, nn

from isnetlib.baselines.features import find_stages, stages, upsampled
from isnetlib.loss import classification_loss, probabilities

TINY = 1e-6  # added to the scores above their minimum: where all are equal, so are the coefficients


class AttentionGate(nn.Module):
    """A classifier with two attention gates; `model` is the whole of it, which predicts and is explained.

    inner_channels: of theta and phi; None = those of the deepest stage, as in the paper's code.
    """

    def __init__(self, model: nn.Module, inner_channels: int | None = None, multilabel: bool = False):
        super().__init__()
        self.model, self.multilabel = Gated(model, inner_channels), multilabel

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
        """Classification loss; the mask is not read."""
        loss = classification_loss(self.model(x), y)
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor) -> Tensor:
        return probabilities(self.model(x), self.multilabel)

    @torch.no_grad()
    def attention(self, x: Tensor) -> Tensor:
        """Mean of the two gates' coefficients, each divided by its maximum, (B, H, W) in [0, 1]."""
        *maps, deepest = stages(self.model.backbone, x, self.model.names)[0]
        coefficients = [gate(feature, deepest) for gate, feature in zip(self.model.gates, maps, strict=True)]
        return sum(upsampled(c / c.amax((2, 3), keepdim=True), x.shape[2:])[:, 0] for c in coefficients) / len(maps)


class Gated(nn.Module):
    """`backbone` with gates on its last two stages before the deepest: images to logits (B, K).

    Where no gradient is recorded, and so in `isnetlib.explain`, the coefficients are detached: their values are the
    same, and LRP takes them for constants, so that relevance passes to the gated features and none to the coefficients.
    """

    def __init__(self, backbone: nn.Module, inner_channels: int | None = None):
        super().__init__()
        found, classes = find_stages(backbone)
        if len(found) < 3:
            raise ValueError(
                f"attention gates need three stages of feature maps; {type(backbone).__name__} has {len(found)}"
            )
        *gated, deepest = [stage.channels for stage in found[-3:]]
        self.backbone, self.names = backbone, [stage.name for stage in found[-3:]]
        self.gates = nn.ModuleList(Gate(c, deepest, inner_channels or deepest) for c in gated)
        self.head = nn.Linear(sum(gated), classes, bias=False)  # W for v_1 and v_2; b is in the backbone's head

    def forward(self, x: Tensor) -> Tensor:
        (*maps, deepest), logits = stages(self.backbone, x, self.names)
        looked_at = [attended(feature, gate(feature, deepest)) for gate, feature in zip(self.gates, maps, strict=True)]
        return logits + self.head(torch.cat(looked_at, 1))


class Gate(nn.Module):
    """Where to look in features x (B, C, H, W), given the deepest features g (B, D, h, w): coefficients (B, 1, H, W)
    that sum to 1.
    """

    def __init__(self, channels: int, deepest: int, inner: int):
        super().__init__()
        self.theta = nn.Conv2d(channels, inner, 1, bias=False)
        self.phi = nn.Conv2d(deepest, inner, 1, bias=False)
        self.psi = nn.Conv2d(inner, 1, 1, bias=False)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        theta = self.theta(x)
        return mean_flow(self.psi(torch.relu(theta + upsampled(self.phi(g), x.shape[2:]))))


def mean_flow(scores: Tensor) -> Tensor:
    """(s - min s) / sum (s - min s) over the pixels of (B, 1, H, W)."""
    above = scores - scores.amin((2, 3), keepdim=True) + TINY
    return above / above.sum((2, 3), keepdim=True)


def attended(x: Tensor, coefficients: Tensor) -> Tensor:
    """sum over pixels of coefficients (B, 1, H, W) times features x (B, C, H, W): (B, C)."""
    return (x * (coefficients if torch.is_grad_enabled() else coefficients.detach())).sum((2, 3))
