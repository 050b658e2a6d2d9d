"""The weight of a loss term over a training: constant, falling, or steered. Ours; the papers have constants.

    w                 constant
    (start, end)      w = start, falling evenly between two shares of the training's steps, then end
    "auto"            P of a heatmap loss: its log-odds u follow the background term b, of which m is a running mean:
                      m <- m + (b - m) / 20,    u <- u + pace clip(log(m / target), -1, 1),    P = 1 / (1 + exp(-u))
                      Until m is first below the target, P is at most w of (0.9, 0.5), falling from a quarter on.

Why: at a large constant P a network learns maps that are alike in every image and no class; at a small one it learns
the shortcut first. A large P at the start shuts the way through the background; as it falls, the object is learnt.
A training that has not shut it in its first quarter would else learn little (results/steering/report.html).
"""

import math
from numbers import Integral

import torch
from torch import Tensor, nn

from isnetlib.method.loss import prepare_mask
from isnetlib.method.options import number, pair

START, LOWEST, HIGHEST = 0.9, 0.05, 0.9  # of P under "auto"
TARGET = 0.1  # of the background term; at 0.2 one training of two read the marker (validation, tuberculosis_sim)
MEMORY = 20  # steps
WAITING, BETWEEN = (0.9, 0.5), (0.25, 0.45)  # P at most while the background is not closed; shares of the training
PACE, TRAVEL = 0.02, 40.0  # log-odds a step: where the training's length is unknown, and in all where it is known


def falling(start: float, end: float, done: float, between: tuple[float, float]) -> float:
    """The weight when the share `done` of the training is over."""
    first, last = between
    return start + (end - start) * min(max((done - first) / (last - first), 0.0), 1.0)


def steered(P: float, mean: float, target: float, pace: float) -> float:
    """The next P: up while the mean background term is above the target, down while below."""
    move = pace * min(max(math.log(max(mean, 1e-12) / target), -1.0), 1.0)
    odds = math.log(P / (1 - P)) + move
    return min(max(1 / (1 + math.exp(-odds)), LOWEST), HIGHEST)


class Weight(nn.Module):
    """A weight that knows where in the training it is; its state is in buffers, so that a resumed run is the same run.

    name: of the option, for errors. weight: a number from 0 to high, (start, end), or, where it can be `steered`,
    "auto"; else ValueError. between: the shares of the training between which it falls. steps: of the training.
    """

    def __init__(self, name, weight, high=math.inf, between=(0.15, 0.55), steps: int | None = None, steered=False):
        super().__init__()
        self.name, self.auto, self.between = name, steered and weight == "auto", pair("fall", between, 1, rising=True)
        ends = (START, START) if self.auto else weight if isinstance(weight, (tuple, list)) else (weight, weight)
        try:
            start, end = (number(name, value, high=high) for value in ends)
        except (TypeError, ValueError):
            what = f"a number from 0 {'on' if high == math.inf else f'to {high:g}'}, a pair (start, end) of such"
            what += ', or "auto"' * steered
            raise ValueError(f"{name} must be {what}; got {weight!r}") from None
        self.ends = (start, end)
        planned = 0 if steps is None else number("steps", steps, 1, kind=Integral)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # trained so far
        self.register_buffer("planned", torch.tensor(planned))
        self.register_buffer("value", torch.tensor(float(start), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))  # of the background term; 0: none yet
        self.register_buffer("closed", torch.tensor(False))  # whether that mean has been below the target

    def _apply(self, fn, recurse=True):
        try:
            return super()._apply(fn, recurse)
        except TypeError:  # MPS has no float64: there the state stays on the CPU
            return self

    def plan(self, steps: int) -> None:
        self.planned.fill_(steps)

    def now(self) -> float:
        """The weight of this step; in train mode a step is counted."""
        if not self.auto and self.ends[0] == self.ends[1]:
            self.value.fill_(self.ends[0])  # whatever state was loaded
        elif self.training and not self.auto:
            if not self.planned:
                raise ValueError(f"{self.name} falls in the course of a training: say how many steps it has, steps=N")
            self.value.fill_(falling(*self.ends, int(self.steps) / int(self.planned), self.between))
        self.steps += self.training
        return self.value.item()

    def follow(self, background: float) -> None:
        """Under "auto", after a training step with this background term: the next P."""
        if self.auto and self.training and math.isfinite(background):  # a scaler skips the steps that are not
            self.mean.copy_(torch.where(self.mean == 0, background, self.mean + (background - self.mean) / MEMORY))
            self.closed |= self.mean < TARGET
            pace = TRAVEL / int(self.planned) if self.planned else PACE
            P = steered(self.value.item(), self.mean.item(), TARGET, pace)
            if self.planned and not self.closed:
                P = min(P, falling(*WAITING, int(self.steps) / int(self.planned), BETWEEN))
            self.value.fill_(P)


def gradient_norm(term: Tensor, model: nn.Module) -> float:
    """Norm of a term's gradient by the weights; the graph is kept for the backward pass."""
    weights = [p for p in model.parameters() if p.requires_grad]
    parts = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
    return torch.stack([g.norm() for g in parts if g is not None]).norm().item()


def foreground_range(R: Tensor, mask: Tensor) -> tuple[float, float] | None:
    """(C1, C2) = (F / 2, 12.5 F), F: median of the ROI's total relevance over maps R before training (random small
    networks: near 2; ImageNet weights: up to 50); None where no mask carries an instruction. Ours.
    """
    mask, valid = prepare_mask(mask, R)
    totals = (R.detach().abs() * mask).sum((2, 3, 4))[valid.expand(R.shape[:2]).bool()]
    if not len(totals):
        return None
    F = totals.median().item()
    if not 0 < F < math.inf:
        raise ValueError(f"a median relevance of {F:.3g} in the masks gives no range: give (C1, C2), e.g. (1, 25)")
    return F / 2, 12.5 * F
