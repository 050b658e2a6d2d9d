"""GAIN, guided attention: the classifier's own Grad-CAM map must hold all that tells the class, and lie in the mask.

Li, Wu, Peng, Ernst & Fu, "Tell Me Where to Look: Guided Attention Inference Network", CVPR 2018 (arXiv 1802.10171).
With f the last feature map before global pooling and s_c the logit of a class c that is present:

    w = mean over positions of d s_c / d f                   the channels' weights, held constant
    A = ReLU(sum_k w_k f_k)                                  Grad-CAM, upsampled to the image (bilinear)
    I* = I - T(A) I,    T(A) = sigmoid(omega (A - sigma))    the mined image: what A points at is blacked out
    L_am = mean probability of c on I*                       attention mining: nothing of c may be left outside A
    L_e = mean (A - mask)^2                                  over the samples with a mask
    L = L_classification + alpha L_am + mask_weight L_e      mask_weight 0: GAIN, which sees no mask; 10: extended GAIN

Several labels: a map and a mined image for each present label, averaged over an image's labels.

Ours: (1) A enters as the paper's equations have it, unscaled; public code often scales each map to [0, 1] first
(`normalise`). (2) The paper does not say what batch statistics do in the second stream. Mined images are normalised
with their own, as any batch in training is, but leave the running statistics alone: prediction never sees a mined
image, and running means would otherwise end halfway between both kinds. (3) L_e leaves out samples without mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from isnetlib.loss import TINY, classification_loss, probabilities
from isnetlib.lrp import logits_of


class Gain(nn.Module):
    """GAIN around a classifier `model`; with `mask_weight` > 0 extended GAIN.

    alpha: weight of attention mining. omega, sigma: slope and threshold of the soft mask T. mask_weight: weight of the
    distance to the mask. normalise: scale each map to [0, 1]. multilabel: labels are 0/1 floats (B, K).
    """

    def __init__(
        self,
        model: nn.Module,
        alpha: float = 1.0,
        omega: float = 10.0,
        sigma: float = 0.5,
        mask_weight: float = 0.0,
        normalise: bool = False,
        multilabel: bool = False,
    ):
        super().__init__()
        self.model, self.alpha, self.omega, self.sigma = model, alpha, omega, sigma
        self.mask_weight, self.normalise, self.multilabel = mask_weight, normalise, multilabel

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and its terms. x (B, C, H, W), y (B,) or 0/1 floats (B, K), mask (B, 1, H, W) or None; rows
        of zeros: no mask known.
        """
        logits, features = run(self.model, x)
        classes, share = self._explained(y, logits.shape[1])
        A = self._full_size(grad_cam(features, self._scores(logits), classes), x)
        classification, mining = classification_loss(logits, y), self._mining(x, A, classes, share)
        total = classification + self.alpha * mining
        parts = {"classification": classification.item(), "mining": mining.item()}
        if self.mask_weight and mask is not None:
            distance = mask_distance(A, mask, share)
            total, parts["mask"] = total + self.mask_weight * distance, distance.item()
        return total, parts

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier."""
        return probabilities(logits_of(self.model(x)), self.multilabel)

    def attention(self, x: Tensor) -> Tensor:
        """Grad-CAM of the winning class, (B, H, W), each map divided by its largest value."""
        with torch.inference_mode(False), torch.enable_grad():
            logits, features = run(self.model, x.detach().clone().requires_grad_())
            scores = self._scores(logits)
            A = grad_cam(features, scores, scores.argmax(1, keepdim=True)).detach()
            A = F.interpolate(A, x.shape[-2:], mode="bilinear")[:, 0]
        return A / (A.amax((1, 2), keepdim=True) + TINY)

    def mined(self, x: Tensor, A: Tensor) -> Tensor:
        """I* = I - T(A) I. x (N, C, H, W), A (N, H, W)."""
        return x - torch.sigmoid(self.omega * (A - self.sigma))[:, None] * x

    def _mining(self, x, A, classes, share):
        """L_am; 0 with fewer than two mined images, since batch statistics need two."""
        rows, maps = share.nonzero(as_tuple=True)
        if len(rows) < 2:
            return A.sum() * 0
        logits = run_aside(self.model, self.mined(x[rows], A[rows, maps]))
        right = probabilities(logits, self.multilabel).gather(1, classes[rows, maps][:, None])[:, 0]
        return (right * share[rows, maps]).sum()

    def _explained(self, y, columns):
        """Classes (B, M) whose maps are made, and the share of each map in a mean over images of the mean over an
        image's present classes, (B, M).
        """
        if not self.multilabel:
            return y.view(-1, 1).long(), torch.full((len(y), 1), 1 / len(y), device=y.device)
        share = y / y.sum(1, keepdim=True).clamp(min=1)
        return torch.arange(columns, device=y.device).expand(len(y), -1), share / share.sum().clamp(min=1)

    def _scores(self, logits):
        """A column a class: one logit is the score of class 1, its negative that of class 0."""
        return torch.cat([-logits, logits], 1) if logits.shape[1] == 1 and not self.multilabel else logits

    def _full_size(self, A, x):
        A = F.interpolate(A, x.shape[-2:], mode="bilinear")
        if not self.normalise:
            return A
        low, high = A.amin((2, 3), keepdim=True), A.amax((2, 3), keepdim=True)
        return (A - low) / (high - low + TINY)


def mask_distance(A: Tensor, mask: Tensor, share: Tensor) -> Tensor:
    """L_e: mean squared difference of A (B, M, H, W) and mask (B, 1, H, W), weighted by share (B, M), over the samples
    whose mask is known; 0 where none is.
    """
    share = share * (mask.flatten(1).amax(1, keepdim=True) > 0)
    return ((A - mask).square().mean((2, 3)) * share).sum() / share.sum().clamp(min=TINY)


def grad_cam(features: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """A = ReLU(sum_k w_k f_k), w = mean over positions of d score / d f as a constant: (B, M, h, w).

    features (B, k, h, w), in the graph of scores (B, K), both as `run` gives them; classes (B, M): which score of each
    sample. Differentiable by the features.
    """
    w = [
        torch.autograd.grad(scores.gather(1, c[:, None]).sum(), features, retain_graph=True)[0].mean((2, 3))
        for c in classes.unbind(1)
    ]
    return torch.einsum("bmk,bkhw->bmhw", torch.stack(w, 1), features).relu()


class LastFeatureMap(TorchFunctionMode):
    """While active, `found` is the last feature map so far: the last 4-D result of anything but pooling and dropout.

    For torchvision's CNNs it is that of the last activation, also where that is no module (DenseNet). A map of a single
    pixel points nowhere: where an image is as small as that, it is the last larger one.
    """

    def __init__(self):
        super().__init__()
        self.found = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        passes_on = any(word in getattr(func, "__name__", "") for word in ("pool", "dropout"))
        if isinstance(result, Tensor) and result.ndim == 4 and min(result.shape[2:]) > 1 and not passes_on:
            self.found = result
        return result


def run(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K) and the last feature map before global pooling (B, k, h, w), of one forward pass."""
    with LastFeatureMap() as seen:
        logits = logits_of(model(x))
    if seen.found is None or not seen.found.requires_grad:
        raise ValueError("GAIN needs a convolutional network: this model has no feature map (batch, channels, h, w)")
    return logits, seen.found


def run_aside(model: nn.Module, x: Tensor) -> Tensor:
    """Logits of a forward pass in the model's mode that leaves its buffers (running statistics) as they were."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return logits_of(torch.func.functional_call(model, buffers, (x,)))
