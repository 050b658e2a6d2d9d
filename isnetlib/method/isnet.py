"""ISNet: an ordinary classifier trained with a second loss, on its own LRP heatmap.

    L = (1 - P) L_classification + P (w1 background + w2 foreground)

    method = isnetlib.ISNet(model, variant="selective")
    loss, parts = method.loss(x, y, mask)            # then loss.backward(), as with any loss
    scores = method.predict(x)                       # the bare classifier: no mask, no relevance, no extra cost

Variants differ in what is explained (Bassi, Dertkigil & Cavalli, arXiv 2202.00232, for `original`; Bassi, Decherchi &
Cavalli, arXiv 2401.08409, for the others): original: every logit, a map each, stacked in one pass: cost grows with the
number of classes. selective: the log-odds of the least likely class, one map. stochastic: one logit a sample, the
winner or, with a fair coin, any other: one map. With several labels an image (multilabel) selective and stochastic are
the same (our choice; the papers' are for a softmax): one label's logit a sample, drawn afresh at each step.
"""

from contextlib import nullcontext
from functools import partial
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from isnetlib.method.course import Weight, foreground_range, gradient_norm
from isnetlib.method.loss import classification_loss, heatmap_loss, probabilities
from isnetlib.method.lrp import LRP, logits_of, refuse_hidden, refuse_unseen, start_for
from isnetlib.method.options import flag, number, pair

VARIANTS = ("original", "selective", "stochastic")


class ISNet(nn.Module):
    """The method around a classifier `model` (any network that `isnetlib.check` accepts), which stays as it is.

    heatmap_weight: "auto", ours: P is steered (see `isnetlib.method.course`); a number in [0, 1], as in the papers: P
    is constant; (start, end): P falls between the shares `fall` of a training of `steps` steps, which `fit` tells. eps,
    box, gates, bf16: see `isnetlib.LRP`. decay, weights, range: of the heatmap loss, see `isnetlib.heatmap_loss`; range
    "auto": read off the first batch (`foreground_range`). multilabel: labels are 0/1 floats (B, K), each with its own
    sigmoid. maps_at_once: None, or how many maps of an image (of `original`) are explained at a time: less memory, more
    time. ablation: see `isnetlib.method.ablations`, and "every": n, the heatmap loss at every n-th training step alone,
    n times as heavy: the same gradient on average, for less time. Raises ValueError for values out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        variant: str = "selective",
        heatmap_weight: float | tuple | str = "auto",
        eps: float = 1e-2,
        box: tuple | None = (0.0, 1.0),
        decay: float = 0.9,
        weights: tuple = (1.0, 3.0),
        range: tuple | str = "auto",
        fall: tuple = (0.15, 0.55),
        steps: int | None = None,
        multilabel: bool = False,
        maps_at_once: int | None = None,
        bf16: bool = False,
        gates: str = "constant",
        ablation: dict | None = None,
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant {variant!r}: use one of {', '.join(VARIANTS)}")
        if not (isinstance(ablation, dict | None) and isinstance(model, nn.Module)):
            got = f"got {type(model).__name__}, {ablation!r}"
            raise ValueError(f"model must be a torch module, ablation a dictionary; {got}")
        refuse_hidden(model)
        others = dict(ablation or {})
        self.every = number("every", others.pop("every", 1), 1, kind=Integral)
        self.lrp = partial(LRP, eps, box, gates, bf16, others)
        self.lrp()  # wrong options are told now
        self.looked = False  # whether all was seen that depends on the image
        self.model, self.variant, self.multilabel = model, variant, flag("multilabel", multilabel)
        self.heatmap_weight = Weight("heatmap_weight P", heatmap_weight, 1, fall, steps, steered=True)
        self.decay, self.weights = number("decay", decay, high=1), pair("weights", weights)
        self.maps_at_once = None if maps_at_once is None else number("maps_at_once", maps_at_once, 1, kind=Integral)
        known = (0, 0) if isinstance(range, str) and range == "auto" else pair("range", range, rising=True)
        self.range_given = tuple(map(float, known))  # zeros: of the first batch
        self.register_buffer("range", torch.tensor(self.range_given))
        self.watch = False  # whether `loss` also tells (C1, C2) and its terms' gradient norms: two more backward passes

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and its terms. x (B, C, H, W), y (B,), or floats (B, K): 0/1 with multilabel, else
        probabilities; mask (B, 1, H, W); None, or rows of zeros or NaN: no mask known.

        Terms are means, of the heatmap over the images with a mask. So the mean loss of parts of a batch (processes,
        accumulated steps) is that of the whole batch only where all hold equally many images and equally many masks.
        """
        turn = not self.training or int(self.heatmap_weight.steps) % self.every == 0
        P = self.heatmap_weight.now()
        explained = turn and mask is not None and P > 0
        with self.lrp(image=x) if explained else nullcontext() as lrp:
            logits = logits_of(self.model(x))
        if explained and not self.looked:
            refuse_unseen(self.model, x[:2], self.lrp, lrp)
            self.looked = True
        classification = classification_loss(logits, y, self.multilabel)
        if not explained:
            return (1 - P) * classification, {"classification": classification.item()}
        R = self._relevance(lrp, self.start(logits), logits)
        return self.joined(classification, R, mask, P, self.every if self.training else 1)

    def joined(self, classification: Tensor, R: Tensor, mask: Tensor, P: float, times: int = 1) -> tuple[Tensor, dict]:
        """Both losses, the heatmap loss of relevance R `times` as heavy, and the terms; P follows them."""
        heatmap = heatmap_loss(R, mask, self.decay, self.weights, self._range(R, mask))
        area = torch.nan_to_num(mask.float()).flatten(1).mean(1)
        if ((area > 0) & (area < 1)).any():  # else the batch tells nothing of the background
            self.heatmap_weight.follow(heatmap.background.item())
        parts = {"classification": classification} | heatmap._asdict()
        parts = {name: part.item() for name, part in parts.items() if name != "total"} | {"P": P}
        if self.watch:
            parts["range_low"], parts["range_high"] = self.range.tolist()
            for name, term in {"classification": classification, "heatmap": heatmap.total}.items():
                parts[f"gradient_{name}"] = gradient_norm(term, self.model)
        return (1 - P) * classification + P * times * heatmap.total, parts

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """`loss`: DistributedDataParallel joins gradients only after a module's call."""
        return self.loss(x, y, mask)

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier."""
        return probabilities(logits_of(self.model(x)), self.multilabel)

    def start(self, logits: Tensor) -> Tensor:
        """What this variant explains: initial G at the logits, (B, M, K)."""
        if self.variant == "original":
            return start_for(logits, "all")
        if self.multilabel:
            return start_for(logits, torch.randint(logits.shape[1], logits.shape[:1], device=logits.device))
        return start_for(logits, stochastic_target(logits) if self.variant == "stochastic" else "selective")

    def _range(self, R: Tensor, mask: Tensor) -> tuple[float, float]:
        """(C1, C2); "auto" reads it off the first batch of a training that holds a mask."""
        if self.range_given[0]:
            return self.range_given  # whatever state was loaded
        if not self.range.any():
            found = foreground_range(R, mask)
            if not (found and self.training):
                return found or (1.0, 25.0)  # without a mask it is not used
            self.range.copy_(torch.tensor(found))
        return tuple(self.range.tolist())

    def _relevance(self, lrp: LRP, start: Tensor, logits: Tensor) -> Tensor:
        """Relevance of all maps, `maps_at_once` at a time: what a part keeps for backward is computed again there."""
        if self.maps_at_once is None or start.shape[1] <= self.maps_at_once:
            return lrp.relevance(start, logits)
        again = partial(checkpoint, lrp.relevance, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([again(part, logits) for part in start.split(self.maps_at_once, 1)], 1)


def stochastic_target(logits: Tensor) -> Tensor:
    """(B,) classes: for each sample the winner with probability 1/2, else one of the other classes, each as likely."""
    batch, classes = logits.shape
    winner = logits.argmax(1)
    if classes == 1:
        return winner
    other = (winner + torch.randint(1, classes, (batch,), device=logits.device)) % classes
    return torch.where(torch.rand(batch, device=logits.device) < 0.5, winner, other)
