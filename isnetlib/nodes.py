"""What the forward pass leaves to the relevance pass: a `Node` an operation, and a `Layer` where that has weights.

Rules (`isnetlib.rules`) make them, `isnetlib.graph.Graph` keeps them in order, `isnetlib.lrp.LRP` walks them backwards.
G is the modified gradient of `isnetlib.rules`, (M, B, ...): M maps that share the activations of a batch of B.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(eq=False, slots=True)
class Node:
    """One operation of the forward pass; `pull` maps G at its output, (M, B, ...), to one G (or None) a parent."""

    name: str
    parents: list["Node"]
    shape: torch.Size
    pull: Callable[[Tensor], list[Tensor | None]] | None = (
        None  # None: not covered, `why` tells the place and the reason
    )
    layer: "Layer | None" = None  # weights, where the operation is a linear layer
    scale: Tensor | None = None  # per-channel factor, where it is a BatchNorm that no linear layer precedes
    image: Callable | None = None  # where it only rearranges pixels: parents' images -> its image
    z: Tensor | None = None  # its output, kept where z^B applies
    relu: bool = False  # whether a ReLU follows
    consumers: int = 0  # operations that read its output
    views: "Node | None" = None  # the node whose memory it shares
    spoiled: bool = False  # its memory was overwritten through a view
    gate: bool = False  # an activation with f(0) != 0, or what linear operations made of such alone
    rest: float | None = None  # where it is a gate: its value at z = 0, the same everywhere
    factor: "Node | None" = None  # the parent that is a gate, where relevance goes to it (gates="shared")
    why: str = ""

    def memory(self) -> "Node":
        """The node that owns the memory of this one: itself, unless it is a view."""
        return self if self.views is None else self.views.memory()


class Layer(NamedTuple):
    """A linear layer: z = forward(x, weight) + bias; transpose(G, weight, input shape) is its transposed operator on
    (M, B, ...).
    """

    forward: Callable
    transpose: Callable
    weight: Tensor
    bias: Tensor | None
    inputs: int | None  # dimension of (M, B, ...) that `weight`'s second runs over; None where groups split it
    conf: tuple | None = None  # stride, padding, dilation and groups of a convolution that is not split into groups

    def transpose_both(self, g: Tensor, a: Tensor, b: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """transpose(g, a) and transpose(g, b) in one operation where possible: a kernel for three colours costs as much
        as one for six.
        """
        if self.inputs is None:
            return self.transpose(g, a, shape), self.transpose(g, b, shape)
        wide = list(shape)
        wide[self.inputs - 1 if self.inputs > 0 else self.inputs] *= 2
        return self.transpose(g, torch.cat([a, b], 1), wide).chunk(2, self.inputs)

    def fold(self, scale: Tensor, mean: Tensor, shift: Tensor | None) -> "Layer":
        """The same layer followed by BatchNorm: w^ = w s, b^ = s (b - mean) + beta, with s = gamma / sigma held
        constant but for gamma.
        """
        bias = scale * ((0 if self.bias is None else self.bias) - mean) + (0 if shift is None else shift)
        return self._replace(weight=self.weight * scale.view(-1, *[1] * (self.weight.ndim - 1)), bias=bias)

    def node(self, name: str, x: Node, shape: torch.Size) -> Node:
        return Node(name, [x], shape, lambda g: [self.transpose(g, self.weight, x.shape)], layer=self)
