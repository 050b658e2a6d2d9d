"""ISNet: an ordinary classifier trained with a second loss, on its own LRP heatmap.

    L = (1 - P) L_classification + P (w1 background + w2 foreground)

    method = isnetlib.ISNet(model, variant="selective")
    loss, parts = method.loss(x, y, mask)            # then loss.backward(), as with any loss
    scores = method.predict(x)                       # the bare classifier: no mask, no relevance, no extra cost

Variants differ in what is explained (Bassi, Dertkigil & Cavalli, arXiv 2202.00232, for `original`; Bassi, Decherchi &
Cavalli, arXiv 2401.08409, for the others): original: every logit, a map each, stacked in one pass: cost grows with the
number of classes. selective: the log-odds of the least likely class, one map. stochastic: one logit a sample, the
winner or, with a fair coin, any other: one map. With several labels an image (multilabel) selective and stochastic are
the same (our choice; the papers' are for a softmax): one label a sample, drawn afresh at each step.
"""

import copy
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from isnetlib.loss import classification_loss, foreground_range, heatmap_loss, probabilities
from isnetlib.lrp import LRP, logits_of, start_for

VARIANTS = ("original", "selective", "stochastic")


class ISNet(nn.Module):
    """The method around a classifier `model` (any network that `isnetlib.check` accepts), which stays as it is.

    heatmap_weight: P in [0, 1]. eps, box, and compile to block: see `isnetlib.LRP` (bf16: its dtype). decay, steepness,
    weights: see `isnetlib.heatmap_loss`. range: (C1, C2) of the foreground term, or "auto": read off the same network
    trained plainly for `plain_epochs` (`prepare`, or `calibrate` by hand). multilabel: labels are 0/1 floats (B, K),
    each with its own sigmoid. maps_at_once: None, or how many maps of an image (of `original`) are explained at a time:
    less memory, more time. every: n = the heatmap loss is computed at every n-th training step alone, n times as heavy:
    the same gradient on average (unless it is clipped), for less time.
    """

    def __init__(
        self,
        model: nn.Module,
        variant: str = "selective",
        heatmap_weight: float = 0.7,
        eps: float = 1e-2,
        box: tuple | None = (0.0, 1.0),
        decay: float = 0.9,
        steepness: float = 1.0,
        weights: tuple = (1.0, 3.0),
        range: tuple | str = (1.0, 25.0),
        plain_epochs: int = 3,
        multilabel: bool = False,
        maps_at_once: int | None = None,
        every: int = 1,
        compile: bool = False,
        bf16: bool = False,
        gates: str = "constant",
        gate_gradient: bool = True,
        statistics: str = "constant",
        biases: str = "live",
        block: bool = False,
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant {variant!r}: use one of {', '.join(VARIANTS)}")
        if not 0 <= heatmap_weight <= 1:
            raise ValueError(
                f"heatmap_weight is P in (1 - P) classification + P heatmap, in [0, 1]; got {heatmap_weight}"
            )
        if maps_at_once is not None and maps_at_once < 1:
            raise ValueError(f"maps_at_once is a number of maps, 1 or more, or None for all; got {maps_at_once}")
        if every < 1:
            raise ValueError(f"every is a number of training steps, 1 or more; got {every}")
        self.model, self.variant, self.heatmap_weight, self.multilabel = model, variant, heatmap_weight, multilabel
        self.maps_at_once, self.every = maps_at_once, every
        self.eps, self.box, self.decay, self.steepness, self.weights = eps, box, decay, steepness, tuple(weights)
        self.switches = {
            "compile": compile,
            "dtype": torch.bfloat16 if bf16 else None,
            "gates": gates,
            "gate_gradient": gate_gradient,
        }
        self.switches |= {"statistics": statistics, "biases": biases, "block": block}
        self.auto_range, self.plain_epochs = range == "auto", plain_epochs
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # trained so far; part of a checkpoint
        self.register_buffer("range", torch.tensor([torch.nan] * 2 if self.auto_range else [float(c) for c in range]))

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and its terms. x (B, C, H, W), y (B,) or 0/1 floats (B, K), mask (B, 1, H, W); None, or rows
        of zeros or NaN: no mask known.

        Each term is a mean: of classification over the images, of the heatmap terms over the images with a mask. So
        the mean loss of parts of a batch (processes, accumulated steps) is that of the whole batch only where the parts
        hold equally many images and equally many masks. Steps without a heatmap loss (`every`) have its terms no part.
        """
        explained = self._explained_now(mask)
        with LRP(self.eps, self.box, **self.switches) if explained else nullcontext() as lrp:
            logits = logits_of(self.model(x))
        classification = classification_loss(logits, y)
        if not explained:
            return (1 - self.heatmap_weight) * classification, {"classification": classification.item()}
        R = self._relevance(lrp, self.start(logits), logits)
        heatmap = heatmap_loss(R, mask, self.decay, self.steepness, self.weights, self._range())
        weight = self.heatmap_weight * (self.every if self.training else 1)
        total = (1 - self.heatmap_weight) * classification + weight * heatmap.total
        parts = {"classification": classification, "background": heatmap.background, "foreground": heatmap.foreground}
        return total, {name: part.item() for name, part in parts.items()}

    def _explained_now(self, mask: Tensor | None) -> bool:
        """Whether this step has a heatmap loss; counts the training steps."""
        turn = not self.training or int(self.steps) % self.every == 0
        self.steps += self.training
        return turn and mask is not None and self.heatmap_weight > 0

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """`loss`, for what calls a module to train it: DistributedDataParallel joins gradients only after its call."""
        return self.loss(x, y, mask)

    def start(self, logits: Tensor) -> Tensor:
        """What this variant explains: initial G at the logits, (B, M, K)."""
        if self.multilabel and self.variant != "original":
            return start_for(logits, label_target(logits))
        if self.variant == "stochastic":
            return start_for(logits, stochastic_target(logits))
        return start_for(logits, "all" if self.variant == "original" else "selective")

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier."""
        return probabilities(logits_of(self.model(x)), self.multilabel)

    def prepare(self, train, validation, learn) -> None:
        """Before training: read the range off a copy of the network that learns plainly and is then thrown away. See
        `isnetlib.train.fit`.
        """
        if not self.auto_range:
            return
        plain = ISNet(copy.deepcopy(self.model), heatmap_weight=0.0, multilabel=self.multilabel)
        learn(plain, self.plain_epochs)
        device = self.range.device
        self.calibrate(
            plain.model, (train[rows][0].to(device) for rows in torch.arange(min(1000, len(train))).split(50))
        )

    def calibrate(self, model: nn.Module, batches) -> tuple[float, float]:
        """Set (C1, C2) from the maps of `model`, the same network trained plainly for a few epochs, in eval mode on
        `batches` of images x; returns them.
        """
        totals, was_training = [], model.training
        model.eval()
        for x in batches:
            with torch.no_grad(), LRP(self.eps, self.box, **self.switches) as lrp:
                logits = logits_of(model(x))
                totals.append(lrp.relevance(self.start(logits), logits).abs().sum((2, 3, 4)).mean(1))
        model.train(was_training)
        low, high = foreground_range(torch.cat(totals))
        self.range.copy_(torch.tensor([low, high]))
        return low, high

    def _relevance(self, lrp: LRP, start: Tensor, logits: Tensor) -> Tensor:
        """Relevance of all maps, `maps_at_once` at a time: what a part keeps for its derivative is computed again when
        backward reaches it, so the parts' memory is never held together.
        """
        parts = start.split(self.maps_at_once or start.shape[1], 1)
        if len(parts) == 1:
            return lrp.relevance(start, logits)
        again = {"use_reentrant": False, "preserve_rng_state": False}
        return torch.cat([checkpoint(lrp.relevance, part, logits, **again) for part in parts], 1)

    def _range(self) -> tuple[float, float]:
        if self.range.isnan().any():
            raise RuntimeError(
                'range="auto" needs ISNet.calibrate(model, batches) before training, or give (C1, C2) by hand, for '
                "example (1, 25)"
            )
        return tuple(self.range.tolist())


def label_target(logits: Tensor) -> Tensor:
    """(B,) labels, for each sample one of the K, each as likely: with a sigmoid a label, the log-odds of a label is its
    logit, and no label's evidence stands for another's as the winner's does under a softmax.
    """
    batch, labels = logits.shape
    return torch.randint(labels, (batch,), device=logits.device)


def stochastic_target(logits: Tensor) -> Tensor:
    """(B,) classes: for each sample the winner with probability 1/2, else one of the other classes, each as likely."""
    batch, classes = logits.shape
    winner = logits.argmax(1)
    if classes == 1:
        return winner
    other = (winner + torch.randint(1, classes, (batch,), device=logits.device)) % classes
    return torch.where(torch.rand(batch, device=logits.device) < 0.5, winner, other)
