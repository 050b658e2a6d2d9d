"""Methods on the classifier's stages, the feature maps inside, one a resolution: multi-task, attention gates, GAIN.

Of all maps of a resolution a stage is the last one made by a module nearest to the root of the network: inner steps of
a block that goes on to the next resolution do not count.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isnetlib.baselines.standard import Standard
from isnetlib.method.course import Weight
from isnetlib.method.loss import TINY, classification_loss, probabilities
from isnetlib.method.lrp import logits_of
from isnetlib.networks import known, pixel_loss

SIDE = 224  # pixels of the blank image that finds the stages: every torchvision classifier takes this size
POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # what they give belongs to the head, not to the features
WIDTH = 16  # channels of the multi-task decoder at the finest stage; they double at each step down
ABOVE = 1e-6  # added to the gates' scores above their minimum: where all are equal, so are the coefficients
OMEGA, SIGMA = 10.0, 0.5  # slope and threshold of GAIN's soft mask T


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
    """Path of the module that puts out each stage -> its channels, finest first; the number of logits. ValueError."""
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


# --- the multi-task network
class Multitask(Standard):
    """One encoder classifies and segments, hoping that what it learns for the mask keeps it on the object.

        L = (1 - P) L_classification + P L_segmentation,    L_segmentation = mean pixel cross-entropy against the mask

    A comparison method of the ISNet paper (arXiv 2202.00232), a U-Net with a classification head of 4096 units twice.
    Ours: the encoder is any classifier with its own head, and a light decoder goes up its stages; the paper's loss is
    not published, and the form is ISNet's. segmentation_weight: P in [0, 1], or (start, end), falling.
    """

    reads_masks = True

    def __init__(self, model: nn.Module, segmentation_weight: float | tuple = 0.5, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.segmentation_weight = Weight("segmentation_weight", segmentation_weight, 1)
        found, _ = find_stages(model)
        self.names, self.decoder = list(found), Decoder(list(found.values()))

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        maps, logits = stages(self.model, x, self.names)
        classification = classification_loss(logits, y, self.multilabel)
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
            y = join(torch.cat([skip, F.interpolate(y, skip.shape[2:], mode="bilinear")], 1))
        return F.interpolate(self.out(y), size, mode="bilinear")


# --- attention gates
class AttentionGate(Standard):
    """Gates, which no mask supervises, choose where to look on two stages (Schlemper et al., Medical Image Analysis
    2019: AG-Sononet with grid attention, "concatenation_mean_flow", "concat"). x: a stage, g: the deepest stage.

        s = psi ReLU(theta x + upsample(phi g))         a map of scores; theta, phi, psi: 1 x 1 convolutions
        c = (s - min s) / sum (s - min s)               coefficients, which sum to 1 over the pixels
        logits = W [v_1, v_2, mean of g] + b            v = sum over pixels of c x;  L = cross-entropy

    Ours: the gates sit on the last two stages before the deepest; the part of W that reads g is the classifier's own
    head, and psi has no bias, which the minimum would cancel. `model` is the whole: it predicts and is explained.
    """

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
        v = [(feature * gate(feature, deepest)).sum((2, 3)) for gate, feature in zip(self.gates, maps, strict=True)]
        return logits + self.head(torch.cat(v, 1))


class Gate(nn.Module):
    """Features x (B, C, H, W) and the deepest ones g (B, D, h, w) to coefficients (B, 1, H, W), constants to LRP."""

    def __init__(self, channels: int, deepest: int):
        super().__init__()
        self.theta = nn.Conv2d(channels, deepest, 1, bias=False)
        self.phi = nn.Conv2d(deepest, deepest, 1, bias=False)
        self.psi = nn.Conv2d(deepest, 1, 1, bias=False)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        scores = self.psi(torch.relu(self.theta(x) + F.interpolate(self.phi(g), x.shape[2:], mode="bilinear")))
        above = scores - scores.amin((2, 3), keepdim=True) + ABOVE
        coefficients = above / above.sum((2, 3), keepdim=True)
        return coefficients if torch.is_grad_enabled() else coefficients.detach()  # as in `isnetlib.explain`


# --- GAIN
class Gain(Standard):
    """GAIN, guided attention (Li, Wu, Peng, Ernst & Fu, CVPR 2018, arXiv 1802.10171): the classifier's own Grad-CAM map
    must hold all that tells the class, and lie in the mask. f: the last stage, s_c: the logit of a present class c.

        w = mean over positions of d s_c / d f                   the channels' weights, held constant
        A = ReLU(sum_k w_k f_k)                                  Grad-CAM, upsampled to the image (bilinear)
        I* = I - T(A) I,    T(A) = sigmoid(omega (A - sigma))    the mined image: what A points at is blacked out
        L_am = mean probability of c on I*                       attention mining: nothing of c may be left outside A
        L_e = mean (A - mask)^2                                  over the samples with a mask
        L = L_classification + alpha L_am + mask_weight L_e      mask_weight 0: GAIN, sees no mask; 10: extended GAIN

    Several labels: a map and a mined image a present label, averaged over an image's. A is not scaled, as in the paper,
    unlike in public code. Ours: mined images have batch statistics of their own and leave the running ones alone, since
    prediction never sees any. alpha, mask_weight: a number each, or (start, end), falling.
    """

    def __init__(self, model: nn.Module, alpha=1.0, mask_weight=0.0, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.alpha, self.mask_weight = Weight("alpha", alpha), Weight("mask_weight", mask_weight)
        self.reads_masks = max(self.mask_weight.ends) > 0
        *_, self.last = find_stages(model)[0]

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        (features,), logits = stages(self.model, x, [self.last])
        classes, share = self._explained(y, logits.shape[1])
        scores = torch.cat([-logits, logits], 1) if logits.shape[1] == 1 and not self.multilabel else logits
        A = F.interpolate(grad_cam(features, scores, classes), x.shape[2:], mode="bilinear")
        classification, mining = classification_loss(logits, y, self.multilabel), self._mining(x, A, classes, share)
        total = classification + self.alpha.now() * mining
        parts = {"classification": classification.item(), "mining": mining.item()}
        if self.reads_masks:
            share, mask = share * known(mask)[:, None], torch.nan_to_num(mask.float())
            distance = ((A - mask).square().mean((2, 3)) * share).sum() / share.sum().clamp(min=TINY)
            total, parts["mask"] = total + self.mask_weight.now() * distance, distance.item()
        return total, parts

    def _mining(self, x, A, classes, share):
        """L_am; 0 with fewer than two mined images, since batch statistics need two."""
        rows, maps = share.nonzero(as_tuple=True)
        if len(rows) < 2:
            return A.sum() * 0
        mined = x[rows] - torch.sigmoid(OMEGA * (A[rows, maps] - SIGMA))[:, None] * x[rows]
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}  # running statistics stay
        right = probabilities(logits_of(torch.func.functional_call(self.model, buffers, (mined,))), self.multilabel)
        return (right.gather(1, classes[rows, maps][:, None])[:, 0] * share[rows, maps]).sum()

    def _explained(self, y, columns):
        """Classes (B, M) whose maps are made; their shares (B, M) in a mean over images of that over present ones."""
        if not self.multilabel:
            return y.view(-1, 1).long(), torch.full((len(y), 1), 1 / len(y), device=y.device)
        share = y / y.sum(1, keepdim=True).clamp(min=1)
        return torch.arange(columns, device=y.device).expand(len(y), -1), share / share.sum().clamp(min=1)


def grad_cam(features: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """A (B, M, h, w) of `classes` (B, M) of scores (B, K), with gradient by the features (B, k, h, w) behind them."""
    w = []
    for c in classes.unbind(1):
        (slope,) = torch.autograd.grad(scores.gather(1, c[:, None]).sum(), features, retain_graph=True)
        w.append(slope.mean((2, 3)))
    return torch.einsum("bmk,bkhw->bmhw", torch.stack(w, 1), features).relu()
