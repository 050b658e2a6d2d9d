"""The attention-gated network: gates, which no mask supervises, choose where to look on two stages of the classifier.

    s = psi ReLU(theta x + upsample(phi g))                a map of scores, (B, 1, H, W)
    c = (s - min s) / sum (s - min s)                      coefficients, which sum to 1 over the pixels
    v = sum over pixels of c x                             (B, C)
    logits = W [v_1, v_2, mean of g] + b                   L = cross-entropy

x: features of a stage, g: the deepest stage, theta, phi, psi: 1 x 1 convolutions (Schlemper et al., Attention gated
networks, Medical Image Analysis 2019: AG-Sononet with grid attention, normalisation "concatenation_mean_flow" and
aggregation "concat"; a comparison method of the ISNet paper, arXiv 2202.00232). Ours, so that it works with any
classifier: the gates sit on the last two stages before the deepest, and the part of W that reads the mean of g is the
classifier's own head. psi has no bias: subtracting the minimum would cancel it.
"""

import torch
from torch import Tensor, nn

from isnetlib.baselines.features import find_stages, stages, upsampled
from isnetlib.baselines.standard import Standard

TINY = 1e-6  # added to the scores above their minimum: where all are equal, so are the coefficients


class AttentionGate(Standard):
    """A classifier with two attention gates; `model` is the whole of it, which predicts and is explained."""

    def __init__(self, model: nn.Module, multilabel: bool = False):
        super().__init__(Gated(model), multilabel)


class Gated(nn.Module):
    """`backbone` with gates on its last two stages before the deepest: images to logits (B, K).

    Where no gradient is recorded, and so in `isnetlib.explain`, the coefficients are detached: LRP takes them for
    constants, so that relevance passes to the gated features and none to the coefficients.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        found, classes = find_stages(backbone)
        if len(found) < 3:
            raise ValueError(f"attention gates need three stages of maps; {type(backbone).__name__} has {len(found)}")
        self.backbone, self.names = backbone, list(found)[-3:]
        *gated, deepest = (found[name] for name in self.names)
        self.gates = nn.ModuleList(Gate(channels, deepest) for channels in gated)
        self.head = nn.Linear(sum(gated), classes, bias=False)  # W for v_1 and v_2; b is in the backbone's head

    def forward(self, x: Tensor) -> Tensor:
        (*maps, deepest), logits = stages(self.backbone, x, self.names)
        looked_at = [attended(feature, gate(feature, deepest)) for gate, feature in zip(self.gates, maps, strict=True)]
        return logits + self.head(torch.cat(looked_at, 1))


class Gate(nn.Module):
    """Features x (B, C, H, W) and the deepest ones g (B, D, h, w) to coefficients (B, 1, H, W)."""

    def __init__(self, channels: int, deepest: int):
        super().__init__()
        self.theta = nn.Conv2d(channels, deepest, 1, bias=False)
        self.phi = nn.Conv2d(deepest, deepest, 1, bias=False)
        self.psi = nn.Conv2d(deepest, 1, 1, bias=False)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return mean_flow(self.psi(torch.relu(self.theta(x) + upsampled(self.phi(g), x.shape[2:]))))


def mean_flow(scores: Tensor) -> Tensor:
    """(s - min s) / sum (s - min s) over the pixels of (B, 1, H, W)."""
    above = scores - scores.amin((2, 3), keepdim=True) + TINY
    return above / above.sum((2, 3), keepdim=True)


def attended(x: Tensor, coefficients: Tensor) -> Tensor:
    """sum over pixels of coefficients (B, 1, H, W) times features x (B, C, H, W): (B, C)."""
    return (x * (coefficients if torch.is_grad_enabled() else coefficients.detach())).sum((2, 3))
