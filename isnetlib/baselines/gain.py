"""GAIN, guided attention: the classifier's own Grad-CAM map must hold all that tells the class, and lie in the mask.

Li, Wu, Peng, Ernst & Fu, "Tell Me Where to Look: Guided Attention Inference Network", CVPR 2018 (arXiv 1802.10171).
With f the last stage of features (`isnetlib.baselines.features`) and s_c the logit of a class c that is present:

    w = mean over positions of d s_c / d f                   the channels' weights, held constant
    A = ReLU(sum_k w_k f_k)                                  Grad-CAM, upsampled to the image (bilinear)
    I* = I - T(A) I,    T(A) = sigmoid(omega (A - sigma))    the mined image: what A points at is blacked out
    L_am = mean probability of c on I*                       attention mining: nothing of c may be left outside A
    L_e = mean (A - mask)^2                                  over the samples with a mask
    L = L_classification + alpha L_am + mask_weight L_e      mask_weight 0: GAIN, which sees no mask; 10: extended GAIN

Several labels: a map and a mined image for each present label, averaged over an image's labels.

Ours: (1) A enters as the paper's equations have it, unscaled; public code often scales each map to [0, 1] first. (2)
Mined images are normalised with batch statistics of their own, but leave the running statistics alone: prediction never
sees a mined image. (3) L_e leaves out samples without mask.
"""

import torch
from torch import Tensor, nn

from isnetlib.baselines.features import find_stages, stages, upsampled
from isnetlib.baselines.standard import Standard
from isnetlib.method.course import Weight
from isnetlib.method.loss import TINY, probabilities
from isnetlib.method.lrp import logits_of
from isnetlib.networks import known

OMEGA, SIGMA = 10.0, 0.5  # slope and threshold of the soft mask T


class Gain(Standard):
    """GAIN around a classifier `model`; with `mask_weight` > 0 extended GAIN.

    alpha: weight of attention mining. mask_weight: weight of the distance to the mask. Each a number, or (start, end),
    falling (`isnetlib.method.course`).
    """

    def __init__(
        self, model: nn.Module, alpha: float | tuple = 1.0, mask_weight: float | tuple = 0.0, multilabel: bool = False
    ):
        super().__init__(model, multilabel)
        self.alpha, self.mask_weight = Weight("alpha", alpha), Weight("mask_weight", mask_weight)
        self.reads_masks = max(self.mask_weight.ends) > 0
        *_, self.last = find_stages(model)[0]

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        (features,), logits = stages(self.model, x, [self.last])
        classes, share = self._explained(y, logits.shape[1])
        scores = torch.cat([-logits, logits], 1) if logits.shape[1] == 1 and not self.multilabel else logits
        A = upsampled(grad_cam(features, scores, classes), x.shape[2:])
        classification, mining = self.classify(logits, y), self._mining(x, A, classes, share)
        total = classification + self.alpha.now() * mining
        parts = {"classification": classification.item(), "mining": mining.item()}
        if self.reads_masks:
            distance = mask_distance(A, mask, share)
            total, parts["mask"] = total + self.mask_weight.now() * distance, distance.item()
        return total, parts

    def _mining(self, x, A, classes, share):
        """L_am; 0 with fewer than two mined images, since batch statistics need two."""
        rows, maps = share.nonzero(as_tuple=True)
        if len(rows) < 2:
            return A.sum() * 0
        logits = run_aside(self.model, mined(x[rows], A[rows, maps]))
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


def mined(x: Tensor, A: Tensor) -> Tensor:
    """I* = I - T(A) I. x (N, C, H, W), A (N, H, W)."""
    return x - torch.sigmoid(OMEGA * (A - SIGMA))[:, None] * x


def mask_distance(A: Tensor, mask: Tensor, share: Tensor) -> Tensor:
    """L_e: mean squared difference of A (B, M, H, W) and mask (B, 1, H, W), weighted by share (B, M), over the samples
    whose mask is known; 0 where none is.
    """
    share, mask = share * known(mask)[:, None], torch.nan_to_num(mask.float())
    return ((A - mask).square().mean((2, 3)) * share).sum() / share.sum().clamp(min=TINY)


def grad_cam(features: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """A = ReLU(sum_k w_k f_k), w = mean over positions of d score / d f as a constant: (B, M, h, w).

    features (B, k, h, w), in the graph of scores (B, K); classes (B, M): which score of each sample. Differentiable by
    the features.
    """
    w = [
        torch.autograd.grad(scores.gather(1, c[:, None]).sum(), features, retain_graph=True)[0].mean((2, 3))
        for c in classes.unbind(1)
    ]
    return torch.einsum("bmk,bkhw->bmhw", torch.stack(w, 1), features).relu()


def run_aside(model: nn.Module, x: Tensor) -> Tensor:
    """Logits of a forward pass in the model's mode that leaves its buffers (running statistics) as they were."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return logits_of(torch.func.functional_call(model, buffers, (x,)))
