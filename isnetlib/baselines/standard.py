"""The standard classifier, and the methods that change only its images or its loss."""

from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isnetlib.data import swap_backgrounds
from isnetlib.method.course import Weight
from isnetlib.method.isnet import ISNet
from isnetlib.method.loss import classification_loss, probabilities
from isnetlib.method.lrp import explain, logits_of
from isnetlib.method.options import flag, number
from isnetlib.networks import UNet, iou, known


class Standard(nn.Module):
    """L = cross-entropy of `model`, binary for one logit or `multilabel` (0/1 floats (B, K)). ValueError: an option."""

    reads_masks = False  # in training: without any, it would be another method

    def __init__(self, model: nn.Module, multilabel: bool = False):
        super().__init__()
        self.model, self.multilabel = model, flag("multilabel", multilabel)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
        """Loss and its terms; x (B, C, H, W), y (B,) or floats (B, K), mask (B, 1, H, W) of 0/1, zeros: not known."""
        loss = classification_loss(logits_of(self.model(x)), y, self.multilabel)
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier."""
        return probabilities(logits_of(self.model(x)), self.multilabel)


# --- the background cut away
class Oracle(Standard):
    """The classifier on images cut out by their true masks, in testing too: an upper bound, no competitor."""

    reads_masks = True
    needs_mask = True  # at test time: predict and explain take it

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        logits, rows = logits_of(self.model(x * mask)), known(mask)  # the others are weighted out
        loss = classification_loss(logits[rows], y[rows], self.multilabel) if rows.any() else 0.0 * logits.sum()
        return loss, {"classification": loss.item()}

    def predict(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().predict(x * mask)

    def explain(self, x: Tensor, mask: Tensor) -> Tensor:
        """Relevance (B, 1, C, H, W) of the winning class; outside the mask black is no reading of x, and it is 0."""
        return explain(self.model, x * mask) * mask[:, None]


class Pipeline(Oracle):
    """Segment, then classify: L = cross-entropy of f(x * m),    m = 1 where sigmoid(U(x)) > t, else 0

    A comparison method of the ISNet paper (arXiv 2202.00232): the U-Net U learns the training masks by pixel cross-
    entropy and is frozen; then the classifier f is trained. Ours: t is the best of a grid by mean intersection over
    union on validation masks; U learns by f's recipe for segmenter_epochs passes. depth, width: of the `UNet`. Buffers,
    once prepared: `threshold`, `dice` (mean Dice on validation). Called, it gives logits (B, K).
    """

    needs_mask = False

    def __init__(self, model: nn.Module, segmenter_epochs=6, depth=4, width=8, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.segmenter_epochs = number("segmenter_epochs", segmenter_epochs, 1, kind=Integral)
        shape = {"depth": number("depth", depth, 1, kind=Integral), "width": number("width", width, 1, kind=Integral)}
        self.segmenter = UNet(**shape).requires_grad_(False).eval()
        self.register_buffer("threshold", torch.tensor(0.5))
        self.register_buffer("dice", torch.tensor(torch.nan))

    def train(self, mode: bool = True):
        super().train(mode)
        self.segmenter.eval()  # train mode is the classifier's alone
        return self

    def prepare(self, train, validation, learn) -> None:
        """Before training, see `fit`."""
        if not (validation.area() > 0).any():
            raise ValueError("no validation image has a mask: the segmenter's threshold cannot be chosen without")
        self.segmenter.requires_grad_(True)
        learn(self.segmenter, self.segmenter_epochs)
        self.segmenter.requires_grad_(False).eval()
        self.segmenter.zero_grad()  # left-over gradients would count in the clipping of the classifier's
        parts, grid = [], torch.arange(1, 20) / 20  # 0.05, 0.1, ... 0.95
        for rows in torch.arange(len(validation)).split(100):
            x, _, mask, _ = validation[rows]
            x, mask = (part[known(mask)].to(self.threshold.device) for part in (x, mask))
            p = self.segmenter(x).sigmoid()
            parts.append(torch.stack([iou((p > t).to(mask.dtype), mask) for t in grid]))
        overlap = torch.cat(parts, 1)
        best = overlap.mean(1).argmax()
        self.threshold.copy_(grid[best])
        self.dice.copy_((2 * overlap / (1 + overlap)).mean(1)[best])  # Dice by intersection over union

    @torch.no_grad()
    def segment(self, x: Tensor) -> Tensor:
        """Predicted mask (B, 1, H, W) of 0 and 1."""
        return (self.segmenter(x).sigmoid() > self.threshold).to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return logits_of(self.model(x * self.segment(x)))

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        return Standard.loss(self, x * self.segment(x), y)  # an empty prediction counts

    def predict(self, x: Tensor) -> Tensor:
        return super().predict(x, self.segment(x))

    def explain(self, x: Tensor) -> Tensor:
        return super().explain(x, self.segment(x))


# --- random backgrounds in training: ours, what a practitioner with masks would try first
class BackgroundRandom(Standard):
    """L = cross-entropy of f(x'),  x'_i = x_i mask_i + background(x_j) (1 - mask_i),  j another image of the batch, its
    own object filled in from its surroundings. p: probability that an image gets another background.
    """

    reads_masks = True

    def __init__(self, model: nn.Module, p: float = 1.0, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.p = number("p", p, high=1)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        return super().loss(randomise(x, mask, self.p) if self.training else x, y)


class IsnetBackground(ISNet):
    """ISNet, selective, on x': the background is useless on average, and forbidden. Other options as of `ISNet`."""

    def __init__(self, model, p=0.75, heatmap_weight="auto", weights=(1.0, 3.0), range="auto", multilabel=False):
        super().__init__(model, "selective", heatmap_weight, weights=weights, range=range, multilabel=multilabel)
        self.p = number("p", p, high=1)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        return super().loss(randomise(x, mask, self.p) if self.training else x, y, mask)


def randomise(x: Tensor, mask: Tensor, p: float) -> Tensor:
    """Each image x (B, C, H, W) with probability p on the background of another of the batch, drawn by torch's global
    generator; foreground pixels (mask > 0.5) stay bit for bit, and images without mask neither take nor give.
    """
    anyone = torch.zeros(len(x), 1, device=x.device)  # labels with two dimensions: any other image may be the donor
    chosen = torch.rand(len(x), device=x.device) < p
    return torch.where(chosen[:, None, None, None], swap_backgrounds(x, anyone, mask), x)


# --- losses on the gradient at the input, in training through the batch statistics, as autograd gives it
class RightReasons(Standard):
    """Right for the right reasons (Ross, Hughes & Doshi-Velez, IJCAI 2017, arXiv 1703.03717): the gradient of the
    log-probabilities must vanish outside the mask.

        g = d/dx sum_k log p_k(x)         several labels, or one logit: sum_k log p_k + log (1 - p_k)
        L = L_classification + penalty_weight * mean over images of sum_pixels,channels (g (1 - mask))^2

    Ours: means where the paper writes sums, the second over images with a mask; the weights' decay is the optimiser's.
    penalty_weight: 0 or more, to be chosen over decades, or (start, end), falling.
    """

    reads_masks = True

    def __init__(self, model: nn.Module, penalty_weight: float | tuple = 1.0, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.penalty_weight = Weight("penalty_weight", penalty_weight)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        x = x.detach().requires_grad_()
        logits = logits_of(self.model(x))
        classification = classification_loss(logits, y, self.multilabel)
        binary = self.multilabel or logits.shape[1] == 1
        log_p = F.logsigmoid(torch.cat([logits, -logits], 1)) if binary else logits.log_softmax(1)
        (g,) = torch.autograd.grad(log_p.sum(), x, create_graph=True)
        rows, mask = known(mask), torch.nan_to_num(mask.float())
        penalty = ((g * (1 - mask)).square().sum((1, 2, 3)) * rows).sum() / rows.sum().clamp(min=1)
        parts = {"classification": classification.item(), "penalty": penalty.item()}
        return classification + self.penalty_weight.now() * penalty, parts


class GradInput(ISNet):
    """ISNet on input x gradient, an ablation (Bassi, Dertkigil & Cavalli, arXiv 2202.00232): does LRP matter?

        R = x d eta / d x,    eta: what ISNet explains: selective, or of several labels one, drawn; one map an image

    No eps, no z^B (black pixels have no relevance): in eval mode R equals LRP with eps = 0 and box = None. Ours: each
    image's own gradient (public code: of the batch's mean), and the selective start. Options as of `ISNet`.
    """

    def __init__(self, model, heatmap_weight="auto", weights=(1.0, 3.0), range="auto", multilabel=False):
        super().__init__(model, "selective", heatmap_weight, weights=weights, range=range, multilabel=multilabel)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        x = x.detach().requires_grad_()
        logits = logits_of(self.model(x))
        classification = classification_loss(logits, y, self.multilabel)
        (g,) = torch.autograd.grad(logits, x, self.start(logits)[:, 0], create_graph=True)
        return self.joined(classification, (x * g)[:, None], mask, self.heatmap_weight.now())
