"""Stages, the feature maps inside any convolutional classifier, one a resolution; and two methods that add to them.

Of all maps of one resolution a stage is the last one that a module nearest to the root of the network made: inner steps
of a block that goes on to the next resolution do not count.

The multi-task network: one encoder classifies and segments, hoping that what it learns for the mask keeps it on the
object. A comparison method of the ISNet paper (arXiv 2202.00232), a U-Net with a classification head on its bottleneck.

    L = (1 - P) L_classification + P L_segmentation,    L_segmentation = mean pixel cross-entropy against the mask

Ours, so that it works with any classifier: the encoder is that classifier, with its own head (the paper's has 4096
units twice), and a light decoder goes up its stages. The paper's training loss is not published; the form is ISNet's.

The attention-gated network (Schlemper et al., Medical Image Analysis 2019: AG-Sononet with grid attention,
"concatenation_mean_flow", "concat"): gates, which no mask supervises, choose where to look on two stages. x: features
of a stage, g: the deepest stage, theta, phi, psi: 1 x 1 convolutions, of which psi needs no bias.

    s = psi ReLU(theta x + upsample(phi g))                a map of scores, (B, 1, H, W)
    c = (s - min s) / sum (s - min s)                      coefficients, which sum to 1 over the pixels
    v = sum over pixels of c x                             (B, C)
    logits = W [v_1, v_2, mean of g] + b                   L = cross-entropy

Ours: the gates sit on the last two stages before the deepest; the part of W that reads g is the classifier's own head.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isnetlib.baselines.standard import Standard
from isnetlib.method.course import Weight
from isnetlib.method.lrp import logits_of
from isnetlib.networks import pixel_loss

SIDE = 224  # pixels of the blank image that finds the stages: every torchvision classifier takes this size
POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # what they give belongs to the head, not to the features
WIDTH = 16  # channels of the multi-task decoder at the finest stage; they double at each step down
TINY = 1e-6  # added to the gates' scores above their minimum: where all are equal, so are the coefficients


# --- stages
def stages(model: nn.Module, x: Tensor, names: list[str]) -> tuple[list[Tensor], Tensor]:
    """(What the modules of these names put out, (B, C, H, W) each; logits) of one forward pass, with gradient."""
    seen = {}
    hooks = [_watch(model.get_submodule(name), name, seen.__setitem__) for name in names]
    try:
        logits = logits_of(model(x))
    finally:
        for hook in hooks:
            hook.remove()
    return [seen[name] for name in names], logits


@torch.no_grad()
def find_stages(model: nn.Module) -> tuple[dict[str, int], int]:
    """Path of the module that puts out each stage -> channels of that map, finest first; and the number of logits.
    ValueError where there are no stages.
    """
    last = {}  # side -> (depth in the tree of modules, path, channels)

    def keep(name, output):
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
            side, depth = output.shape[3], name.count(".")
            if side not in last or depth <= last[side][0]:
                last[side] = depth, name, output.shape[1]

    model, parameter = copy.deepcopy(model).eval(), next(model.parameters())
    for name, module in model.named_modules():
        if name and not isinstance(module, POOLS):
            _watch(module, name, keep)
    try:
        classes = logits_of(model(parameter.new_zeros(1, 3, SIDE, SIDE))).shape[1]
    except (AssertionError, RuntimeError) as error:  # a transformer for images of one size
        raise ValueError(f"{type(model).__name__} takes no images of {SIDE} pixels: {error}") from None
    found, deeper = {}, 0
    for side, (_, name, channels) in sorted(last.items()):
        if side**2 >= 2 * deeper**2:  # convolutions without padding make nearly equal sizes: one stage
            found, deeper = {name: channels} | found, side
    if not found:
        raise ValueError(f"{type(model).__name__} has no feature maps (batch, channels, height, width) inside")
    return found, classes


def _watch(module, name, see):
    return module.register_forward_hook(lambda module, inputs, output: see(name, output))


def upsampled(y: Tensor, size: torch.Size) -> Tensor:
    """Bilinear interpolation of maps (B, C, h, w) to (B, C, *size)."""
    return F.interpolate(y, size=tuple(size), mode="bilinear", align_corners=False)


# --- the multi-task network
class Multitask(Standard):
    """segmentation_weight: P in [0, 1], or (start, end), falling (`isnetlib.method.course`)."""

    reads_masks = True

    def __init__(self, model: nn.Module, segmentation_weight: float | tuple = 0.5, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.segmentation_weight = Weight("segmentation_weight", segmentation_weight, 1)
        found, _ = find_stages(model)
        self.names, self.decoder = list(found), Decoder(list(found.values()))

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        maps, logits = stages(self.model, x, self.names)
        classification = self.classify(logits, y)
        segmentation = pixel_loss(self.decoder(maps, x.shape[2:]), mask)
        P = self.segmentation_weight.now()
        total = (1 - P) * classification + P * segmentation
        return total, {"classification": classification.item(), "segmentation": segmentation.item()}

    @torch.no_grad()
    def segment(self, x: Tensor) -> Tensor:
        """Predicted mask (B, 1, H, W) of 0 and 1."""
        maps, _ = stages(self.model, x, self.names)
        return (self.decoder(maps, x.shape[2:]).sigmoid() > 0.5).to(x.dtype)


class Decoder(nn.Module):
    """Feature maps of these `channels`, finest first, to one logit map of the images' size."""

    def __init__(self, channels: list[int]):
        super().__init__()
        widths = [WIDTH * 2**k for k in range(len(channels) - 1)] + [channels[-1]]
        self.join = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c + below, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU())
            for c, w, below in zip(channels, widths, widths[1:], strict=False)
        )
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, maps: list[Tensor], size: torch.Size) -> Tensor:
        y = maps[-1]
        for join, skip in reversed(list(zip(self.join, maps, strict=False))):
            y = join(torch.cat([skip, upsampled(y, skip.shape[2:])], 1))
        return upsampled(self.out(y), size)


# --- attention gates
class AttentionGate(Standard):
    """A classifier with two attention gates; `model` is the whole of it, which predicts and is explained."""

    def __init__(self, model: nn.Module, multilabel: bool = False):
        super().__init__(Gated(model), multilabel)


class Gated(nn.Module):
    """`backbone` with gates on its last two stages before the deepest: images to logits (B, K)."""

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
        scores = self.psi(torch.relu(self.theta(x) + upsampled(self.phi(g), x.shape[2:])))
        above = scores - scores.amin((2, 3), keepdim=True) + TINY
        return above / above.sum((2, 3), keepdim=True)


def attended(x: Tensor, coefficients: Tensor) -> Tensor:
    """v (B, C). Where no gradient is recorded, and so in `isnetlib.explain`, LRP takes the coefficients for constants:
    relevance passes to the gated features and none to them.
    """
    return (x * (coefficients if torch.is_grad_enabled() else coefficients.detach())).sum((2, 3))
