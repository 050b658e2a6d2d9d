"""How relevance crosses each operation: one short rule an operation.

A network is a graph of operations. During the forward pass `isnetlib.method.lrp.LRP` asks the rule of each operation
for its output and for a `Node`, which knows how to pull relevance back. What is pulled back is not the relevance R
itself but the *modified gradient* G with R = a * G (a: the activation): in this form the LRP-eps rule is
back-propagation in which every activation function f multiplies by f(z) / (z + eps s(z)) instead of f'(z), and
everything linear is left as it is (Bassi, Decherchi & Cavalli, arXiv 2401.08409). G has shape (M, B, ...): M maps share
the activations of a batch of B.

`RULES[name]` is the rule of the operation called `name` (relu, F.relu, Tensor.relu_ and nn.ReLU are all "relu"). A rule
takes the graph (`isnetlib.method.graph`) and the operation's own arguments but `inplace`, which the graph sees to, and
returns (output, Node). Operations that are linear in their inputs and hold no weights share a rule, `linear_map`:
autograd finds their transpose. To teach a new operation:

    @isnetlib.rule("my_activation")
    def my_activation(graph, z):
        return isnetlib.method.operations.activate(graph, my_activation_function, z)

    @isnetlib.rule("my_linear_operation")
    def my_linear_operation(graph, x): return graph.linear(torch.my_linear_operation, x)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from isnetlib.method.kernels import Convolve, ConvTranspose, ReluGate, convolve, transposed

RULES: dict[str, Callable] = {}
SEVERAL: set[str] = set()  # operations whose rule takes several tensors of the image
SHAPED_LIKE = {"expand_as", "view_as", "reshape_as", "type_as"}  # the second tensor lends its shape or type, no values
MOVES = """reshape unflatten ravel permute transpose swapaxes swapdims movedim t clone expand repeat getitem narrow
select index_select chunk tensor_split split unbind flip roll rot90 to T mT""".split()
REARRANGES = {*MOVES, *SHAPED_LIKE}  # each number that comes out is one that went in
LINEAR = """mean sum stack pad pixel_shuffle pixel_unshuffle channel_shuffle interpolate upsample float double rsub neg
masked_fill avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d""".split()
CONSTANT = """detach zeros_like ones_like empty_like full_like rand_like randn_like
new_zeros new_ones new_empty new_full new_tensor""".split()
# questions about a tensor, no operations on it
ASKS = set("dim size numel stride is_contiguous is_floating_point shape ndim dtype device layout requires_grad".split())
SAME_AS = {"iadd": "add", "radd": "add", "isub": "sub", "subtract": "sub", "imul": "mul", "rmul": "mul"}
SAME_AS |= {"multiply": "mul", "itruediv": "div", "truediv": "div", "divide": "div", "true_divide": "div"}
SAME_AS |= {"concat": "cat", "concatenate": "cat"}


def rule(*names: str, several: bool = False):
    """Register the rule of the operations called `names`. several: tensors of the image may stand in any argument."""

    def register(function):
        RULES.update(dict.fromkeys(names, function))
        SEVERAL.update(names if several else ())
        return function

    return register


@dataclass(eq=False, slots=True)
class Node:
    """One operation of the forward pass; `pull` maps G at its output, (M, B, ...), to one G (or None) a parent."""

    name: str
    parents: list["Node"]
    pull: Callable[[Tensor], list[Tensor | None]] | None = None  # None: not covered, `why` tells the place and reason
    shape: torch.Size | None = None  # of its output
    layer: "Layer | None" = None  # weights, where the operation is a linear layer
    scale: Tensor | None = None  # per-channel factor, where it is a BatchNorm that no linear layer precedes
    gain: "Gain | None" = None  # where it is a ReLU after such a BatchNorm
    image: Callable | None = None  # where it only rearranges pixels: parents' images -> its image
    z: Tensor | None = None  # its output, kept where z^B applies
    relu: bool = False  # whether a ReLU follows
    consumers: int = 0  # operations that read its output
    views: "Node | None" = None  # the node whose memory it shares
    spoiled: bool = False  # its memory was overwritten through a view
    gate: bool = False  # an activation with f(0) != 0, or what linear operations made of such alone
    rest: float | None = None  # where it is a gate: its value at z = 0, the same everywhere
    factor: "Node | None" = None  # the parent that is a gate, where relevance goes to it (gates="shared")
    history: object = None  # the grad_fn of its output
    why: str = ""

    def memory(self) -> "Node":
        return self if self.views is None else self.views.memory()


@dataclass(slots=True)
class Gain:
    """A BatchNorm's factor at the ReLU after it; above: is it in the weights of the only reader, a convolution?"""

    factor: Tensor
    above: bool = False


class Layer(NamedTuple):
    """A linear layer z = forward(x, weight) + bias; transpose(G, weight, input shape): its transpose of (M, B, ...)."""

    forward: Callable
    transpose: Callable
    weight: Tensor
    bias: Tensor | None
    conf: tuple | None = None  # stride, padding, dilation and groups of a convolution that is not split into groups

    def fold(self, scale: Tensor, mean: Tensor, shift: Tensor | None) -> "Layer":
        """The layer followed by BatchNorm: w^ = w s, b^ = s (b - mean) + beta, s = gamma / sigma, sigma a constant."""
        bias = scale * ((0 if self.bias is None else self.bias) - mean) + (0 if shift is None else shift)
        return self._replace(weight=self.weight * scale.view(-1, *[1] * (self.weight.ndim - 1)), bias=bias)

    def node(self, name: str, x: Node) -> Node:
        def pull(g):
            weight = self.weight * x.gain.factor if x.gain and x.gain.above else self.weight
            return [self.transpose(g, weight, x.shape)]

        return Node(name, [x], pull, layer=self)


# --- linear layers
@rule("conv1d", "conv2d", "conv3d")
def convolution(graph, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """G_j = sum_k w_jk G_k: the transposed convolution."""
    n, padding = weight.ndim - 2, 0 if padding == "valid" else padding
    stride, dilation = (list(v) if isinstance(v, (tuple, list)) else [v] * n for v in (stride, dilation))
    if padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(r % 2 for r in reach):
            return graph.refuse("padding='same' with an even reach pads one side more: pad explicitly, with F.pad")
        padding = [r // 2 for r in reach]
    padding = list(padding) if isinstance(padding, (tuple, list)) else [padding] * n
    exact = (stride, padding, dilation, False, [0] * n, groups, None)
    conf = (*exact[:-1], graph.dtype)
    y = Convolve.apply(x, weight, bias, conf) if graph.dtype else convolve(x, weight, exact, bias)

    def transpose(g, w, shape):
        pull = ConvTranspose.apply if torch.is_grad_enabled() else transposed
        return pull(g.flatten(0, 1), w, (g.shape[0] * g.shape[1], *shape[1:]), conf).unflatten(0, g.shape[:2])

    layer = Layer(partial(convolve, conf=exact), transpose, weight, bias, conf if groups == 1 else None)
    return y, layer.node("conv", graph.node(x))


@rule("linear")
def linear(graph, x, weight, bias=None):
    """G_j = sum_k w_jk G_k."""
    y = F.linear(x, weight, bias)
    return y, Layer(F.linear, lambda g, w, shape: g @ w, weight, bias).node("linear", graph.node(x))


@rule("batch_norm")
def batch_norm(graph, x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """G * gamma / sigma, the statistics of the forward pass held constant; after a linear layer in its weights."""
    if training and x.numel() == x.shape[1]:
        raise ValueError(f"BatchNorm in train mode needs more than one value a channel, got size {tuple(x.shape)}")
    y, mean, invstd = torch.native_batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)
    if not training:
        mean, invstd = running_mean.clone(), (running_var + eps).rsqrt()
    mean, invstd = mean.detach(), invstd.detach()
    scale = invstd if weight is None else weight * invstd
    before, layer = graph.node(x), graph.node(x).layer
    # not into a linear layer over the last of more dimensions, nor, without derivatives, into more weights than outputs
    if layer is not None and layer.weight.ndim == x.ndim:
        if graph.is_first_layer(before) or torch.is_grad_enabled() or layer.weight.numel() < y.numel():
            return y, layer.fold(scale, mean, bias).node("conv + batch norm", before.parents[0])
    factor = scale.view(-1, *[1] * (x.ndim - 2))
    return y, Node("batch_norm", [before], lambda g: [g * factor], scale=factor)


# --- activations
@rule("relu")
def relu(graph, x):
    """G * y / (y + eps); right after the first layer eps = 0, because z^B divides by its own stabilised sum there."""
    before = graph.node(x)
    first, eps = graph.is_first_layer(before), graph.eps_after(before)
    fresh = before.name in ("conv", "conv + batch norm", "batch_norm", "add") and before.consumers == 0 and not first
    spare = graph.in_place and fresh  # nobody needs x any more
    y = x.relu_().view_as(x) if spare else torch.relu(x)
    before.relu = True
    gain, parent = (None, before) if before.scale is None else (Gain(before.scale), before.parents[0])

    def pull(g):
        if first and before.consumers == 1:
            return [g]  # z^B then shares out R = y G, which is 0 for dead units
        g = ReluGate.apply(g, y.to(g.dtype), eps) if eps else g * (y > 0)
        return [g * gain.factor if gain and not gain.above else g]

    return y, Node("relu", [parent], pull, gain=gain)


# --- pooling, dropout
@rule("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def max_pool(graph, x, *args, return_indices=False, **kwargs):
    """The winner takes all; a pixel that wins in several overlapping windows collects from each of them."""
    y, index = getattr(F, graph.name)(x, *args, return_indices=True, **kwargs)
    n, x_shape = int(graph.name[-2]), x.shape  # n: spatial dimensions; indices count within one channel's plane

    def pull(g):
        plane = g.new_zeros(*g.shape[:-n], x_shape[-n:].numel()).flatten(0, -2)
        winners = index.expand(g.shape).flatten(-n).flatten(0, -2)
        return [plane.scatter_add(-1, winners, g.flatten(-n).flatten(0, -2)).view(*g.shape[:-n], *x_shape[-n:])]

    return (y, index) if return_indices else y, Node("max_pool", [graph.node(x)], pull)


@rule("dropout", "dropout1d", "dropout2d", "dropout3d")
def dropout(graph, x, p=0.5, training=True):
    """The mask that was drawn, once: relevance passes where activation passed."""
    if not training or p == 0:
        return x, graph.node(x)
    mask = graph.function(torch.ones_like(x), p, True)
    return x * mask, Node("dropout", [graph.node(x)], lambda g: [g * mask])


# --- linear operations without weights
@rule(*MOVES, *LINEAR, several=True)
def linear_map(graph, *args, **kwargs):
    keeps_sign = graph.name not in ("rsub", "neg") and kwargs.get("mode") != "bicubic"  # its weights are all positive
    return graph.linear(graph.function, *args, keeps_sign=keeps_sign, **kwargs)


@rule("mul", several=True)
def multiply(graph, a, b):
    if graph.tracked(a) and graph.tracked(b):
        return graph.product(torch.mul, a, b, torch.mul, torch.mul)
    x, factor = (a, b) if graph.tracked(a) else (b, a)
    return graph.linear(torch.mul, x, factor, keeps_sign=_positive(graph, x, factor))


@rule("div", several=True)
def divide_by(graph, a, b, **kwargs):
    if graph.tracked(b) or kwargs.get("rounding_mode"):
        return graph.refuse("the divisor depends on the image, or the quotient is rounded")
    return graph.linear(torch.div, a, b, keeps_sign=_positive(graph, a, b))


@rule("sub", several=True)
def subtract(graph, a, b, *, alpha=1):
    """Taking away a constant leaves a box a box; taking away an activation does not."""
    return graph.linear(partial(torch.sub, alpha=alpha), a, b, keeps_sign=graph.tracked(a) and not graph.tracked(b))


def _positive(graph, x, factor) -> bool:
    return graph.node(x).image is not None and bool((torch.as_tensor(factor) > 0).all())


@rule("add", several=True)
def add(graph, a, b, *, alpha=1):
    """A sum hands the same G to each term."""
    y = torch.add(a, b, alpha=alpha)
    if graph.tracked(a) and graph.tracked(b) and alpha == 1 and a.shape == b.shape:
        return y, Node("add", [graph.node(a), graph.node(b)], lambda g: [g, g])
    return graph.linear(partial(torch.add, alpha=alpha), a, b, output=y, keeps_sign=True)


@rule("cat", several=True)
def concatenate(graph, tensors, dim=0, *, axis=None):
    dim = dim if axis is None else axis
    y, nodes = torch.cat(tensors, dim), graph.nodes_of(tensors)
    if len(nodes) < len(tensors):
        return graph.linear(torch.cat, list(tensors), dim, output=y, keeps_sign=True)
    sizes, of_g = [t.shape[dim] for t in tensors], dim % y.ndim + 1
    return y, Node("cat", nodes, lambda g: g.split(sizes, of_g), image=lambda images: torch.cat(images, dim))


@rule("flatten", "view", "reshape", "unsqueeze", "squeeze", "contiguous")
def reshape(graph, x, *args, **kwargs):
    y = getattr(x, graph.name)(*args, **kwargs)
    old, new = x.shape, y.shape
    image = lambda images: images[0].reshape(new)  # noqa: E731
    return y, Node("reshape", [graph.node(x)], lambda g: [g.reshape(len(g), *old)], image=image)


@rule(*SHAPED_LIKE, several=True)
def shape_like(graph, x, other):
    return graph.linear(partial(graph.function, other=other), x, keeps_sign=True)
