"""GAIN, guided attention: the classifier's own Grad-CAM map must hold all that tells the class, and lie in the mask.

Li, Wu, Peng, Ernst & Fu, "Tell Me Where to Look: Guided Attention Inference Network", CVPR 2018 (arXiv 1802.10171).
With f the last stage of features (`isnetlib.baselines.features`) and s_c the logit of a class c that is present:

    w = mean over positions of d s_c / d f                   the channels' weights, held constant
    A = ReLU(sum_k w_k f_k)                                  Grad-CAM, upsampled to the image (bilinear)
    I* = I - T(A) I,    T(A) = sigmoid(omega (A - sigma))    the mined image: what A points at is blacked out
    L_am = mean probability of c on I*                       attention mining: nothing of c may be left outside A
    L_e = mean (A - mask)^2                                  over the samples with a mask
    L = L_classification + alpha L_am + mask_weight L_e      mask_weight 0: GAIN, which sees no mask; 10: extended GAIN

Several labels: a map and a mined image for each present label, averaged over an image's labels. A enters as in the
paper's equations, unscaled; public code often scales each map to [0, 1] first. Ours: mined images have batch statistics
of their own, but leave the running ones alone, since prediction never sees such images.
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
    """alpha: weight of attention mining; mask_weight: of the distance to the mask. Each a number, or (start, end),
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
        right = probabilities(run_aside(self.model, mined), self.multilabel)
        return (right.gather(1, classes[rows, maps][:, None])[:, 0] * share[rows, maps]).sum()

    def _explained(self, y, columns):
        """Classes (B, M) whose maps are made, and each map's share (B, M) in a mean over images of the mean over an
        image's present classes.
        """
        if not self.multilabel:
            return y.view(-1, 1).long(), torch.full((len(y), 1), 1 / len(y), device=y.device)
        share = y / y.sum(1, keepdim=True).clamp(min=1)
        return torch.arange(columns, device=y.device).expand(len(y), -1), share / share.sum().clamp(min=1)


def grad_cam(features: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """A = ReLU(sum_k w_k f_k), w = mean over positions of d score / d f as a constant: (B, M, h, w), differentiable by
    the features (B, k, h, w), which are in the graph of scores (B, K). classes (B, M): which scores of each sample.
    """
    w = []
    for c in classes.unbind(1):
        (slope,) = torch.autograd.grad(scores.gather(1, c[:, None]).sum(), features, retain_graph=True)
        w.append(slope.mean((2, 3)))
    return torch.einsum("bmk,bkhw->bmhw", torch.stack(w, 1), features).relu()


def run_aside(model: nn.Module, x: Tensor) -> Tensor:
    """Logits of a forward pass in the model's mode that leaves its buffers (running statistics) as they were."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return logits_of(torch.func.functional_call(model, buffers, (x,)))
