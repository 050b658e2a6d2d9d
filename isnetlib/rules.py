"""How relevance crosses each operation: one short rule an operation.

A network is a graph of operations. During the forward pass `isnetlib.lrp.LRP` asks the rule of each operation for its
output and for a `Node` (see `isnetlib.nodes`), which knows how to pull relevance back. What is pulled back is not the
relevance R itself but the *modified gradient* G with R = a * G (a: the activation): in this form the LRP-eps rule is
back-propagation in which every activation function f multiplies by f(z) / (z + eps s(z)) instead of f'(z), and
everything linear is left as it is (Bassi, Decherchi & Cavalli, arXiv 2401.08409). G has shape (M, B, ...): M maps share
the activations.

`RULES[name]` is the rule of the operation called `name` (relu, F.relu, Tensor.relu_ and nn.ReLU are all "relu"). A rule
takes the LRP context and the operation's own arguments and returns (output, Node). `LINEAR` lists operations that are
linear in their inputs and hold no weights: their transpose is found by autograd and they need no rule of their own. To
teach a new operation:

    @isnetlib.rule("my_activation")
    def my_activation(graph, z): return isnetlib.activations.activate(graph, my_activation_function, z)

    @isnetlib.rule("my_linear_operation")
    def my_linear_operation(graph, x): return graph.linear(torch.my_linear_operation, x)
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from isnetlib.functions import Convolve, ConvTranspose, ReluGate, relu_gate_alone, transposed
from isnetlib.nodes import Layer, Node

RULES: dict[str, Callable] = {}

LINEAR = set(
    "flatten unflatten view reshape ravel permute transpose swapaxes swapdims movedim t contiguous "
    "clone unsqueeze squeeze expand"
    " repeat getitem narrow select index_select chunk tensor_split split unbind cat stack flip roll rot90 "
    "pad pixel_shuffle pixel_unshuffle"
    " channel_shuffle mean sum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d interpolate upsample"
    " to float double add sub rsub neg masked_fill T mT".split()
)
KEEPS_SIGN = LINEAR - {"sub", "rsub", "neg"}  # no negative weight: z^B sees through them to the pixels
CONSTANT = set(
    "detach zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full "
    "new_tensor".split()
)
SHAPED_LIKE = ("expand_as", "view_as", "reshape_as", "type_as")
# questions about a tensor, no operations on it
ASKS = set("dim size numel stride is_contiguous is_floating_point shape ndim dtype device layout requires_grad".split())
SAME_AS = {
    "iadd": "add",
    "radd": "add",
    "isub": "sub",
    "subtract": "sub",
    "imul": "mul",
    "rmul": "mul",
    "multiply": "mul",
    "itruediv": "div",
}
REARRANGES = set(
    "reshape unflatten ravel permute transpose swapaxes swapdims movedim t clone expand "
    "repeat getitem narrow select index_select chunk tensor_split split unbind flip roll rot90 to T mT".split()
) | set(SHAPED_LIKE)  # each number that comes out is one that went in
SAME_AS |= {"truediv": "div", "divide": "div", "true_divide": "div", "concat": "cat", "concatenate": "cat"}


def rule(*names: str):
    """Register the decorated function as the rule of the operations called `names`."""

    def register(function):
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


# --- linear layers
@rule("conv1d", "conv2d", "conv3d")
def convolution(graph, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """G_j = sum_k w_jk G_k: the transposed convolution."""
    n = weight.ndim - 2
    every = lambda v: list(v) if isinstance(v, (tuple, list)) else [v] * n  # noqa: E731
    stride, dilation = every(stride), every(dilation)
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if padding == "same" and any(r % 2 for r in reach):
            return graph.refuse("padding='same' with an even reach pads one side more: pad explicitly, with F.pad")
        padding = [r // 2 for r in reach] if padding == "same" else 0
    conf = (stride, every(padding), dilation, groups, graph.dtype)
    if graph.dtype is None:
        y = torch.ops.aten.convolution(x, weight, bias, *conf[:3], False, [0] * n, groups)
    else:
        y = Convolve.apply(x, weight, bias, conf)

    def transpose(g, w, shape):
        pull = ConvTranspose.apply if torch.is_grad_enabled() else transposed
        return pull(g.flatten(0, 1), w, (g.shape[0] * g.shape[1], *shape[1:]), conf).unflatten(0, g.shape[:2])

    def forward(v, w):
        return torch.ops.aten.convolution(v, w, None, *conf[:3], False, [0] * n, groups)  # of z^B's box: always exact

    layer = Layer(forward, transpose, weight, bias, *((2, conf) if groups == 1 else (None, None)))
    return y, layer.node("conv", graph.node(x), y.shape)


@rule("linear")
def linear(graph, x, weight, bias=None):
    """G_j = sum_k w_jk G_k."""
    y = F.linear(x, weight, bias)
    return y, Layer(F.linear, lambda g, w, shape: g @ w, weight, bias, -1).node("linear", graph.node(x), y.shape)


@rule("batch_norm")
def batch_norm(graph, x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """BatchNorm with its statistics held constant is G * gamma / sigma; after a linear layer the factor joins that
    layer's weights.

    The statistics are those the forward pass used: the batch's (biased variance) in train mode, the running ones in
    eval mode.
    """
    if training and x.numel() == x.shape[1]:
        raise ValueError(
            f"BatchNorm in train mode needs more than one value a channel, got input size {tuple(x.shape)}"
        )
    y, mean, invstd = torch.native_batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)
    if not training:
        mean, invstd = running_mean.clone(), (running_var + eps).rsqrt()
    mean, invstd = mean.detach(), invstd.detach()
    scale = invstd if weight is None else weight * invstd
    before = graph.node(x)
    # not into a linear layer over the last of more dimensions, nor, without derivatives, into more weights than outputs
    if (
        before.layer is not None
        and before.layer.weight.ndim == x.ndim
        and (graph.is_first_layer(before) or torch.is_grad_enabled() or before.layer.weight.numel() < y.numel())
    ):
        return y, before.layer.fold(scale, mean, bias).node("conv + batch norm", before.parents[0], y.shape)
    factor = scale.view(-1, *[1] * (x.ndim - 2))
    return y, Node("batch_norm", [before], y.shape, lambda g: [g * factor], scale=factor)


# --- activations
@rule("relu")
def relu(graph, x, inplace=False):
    """G * y / (y + eps); right after the first layer eps = 0, because z^B divides by its own stabilised sum there."""
    before = graph.node(x)
    first = graph.is_first_layer(before)
    fresh = before.name in ("conv", "conv + batch norm", "batch_norm", "add") and before.consumers == 0 and not first
    if inplace and fresh and not torch.is_grad_enabled():
        y = x.relu_().view_as(x)  # nobody needs x any more
    else:
        y = torch.relu(x)
    eps, compile = graph.eps_after(before), graph.compile  # a node that held the graph would keep it alive
    if first:
        before.relu = True
    scale, parent = (before.scale, before.parents[0]) if before.scale is not None else (None, before)
    if inplace:
        graph.overwrite(x, y)

    def pull(g):
        if first and before.consumers == 1:
            return [g]  # z^B then shares out R = y G, which is 0 for dead units
        if eps and not torch.is_grad_enabled():
            return [relu_gate_alone(g, y.to(g.dtype), eps, scale)]
        if eps:
            return [ReluGate.apply(g, y.to(g.dtype), eps, scale, compile)]
        return [g * (y > 0) if scale is None else g * (y > 0) * scale]

    return y, Node("relu", [parent], y.shape, pull)


# --- pooling, dropout
@rule("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def max_pool(graph, x, *args, return_indices=False, **kwargs):
    """The winner takes all; a pixel that wins in several overlapping windows collects from each of them."""
    y, index = getattr(F, graph.name)(x, *args, return_indices=True, **kwargs)
    n = int(graph.name[-2])  # spatial dimensions: indices count within one channel's plane

    def pull(g):
        plane = g.new_zeros(*g.shape[:-n], x_shape[-n:].numel()).flatten(0, -2)
        winners = index.expand(g.shape).flatten(-n).flatten(0, -2)
        return [plane.scatter_add(-1, winners, g.flatten(-n).flatten(0, -2)).view(*g.shape[:-n], *x_shape[-n:])]

    x_shape = x.shape
    node = Node("max_pool", [graph.node(x)], y.shape, pull)
    return ((y, index) if return_indices else y), node


@rule("dropout", "dropout1d", "dropout2d", "dropout3d")
def dropout(graph, x, p=0.5, training=True, inplace=False):
    """The mask that was drawn, once: relevance passes where activation passed."""
    if not training or p == 0:
        return x, graph.node(x)
    mask = getattr(F, graph.name)(torch.ones_like(x), p, True)
    y = x * mask
    if inplace:
        graph.overwrite(x, y)
    return y, Node("dropout", [graph.node(x)], y.shape, lambda g: [g * mask])


# --- frequent linear operations
@rule("mul")
def multiply(graph, a, b):
    """A product with a constant is linear; a product of two activations is not, unless one is a gate."""
    if graph.tracked(a) and graph.tracked(b):
        return graph.product(torch.mul, a, b, torch.mul, torch.mul)
    x, factor = (a, b) if graph.tracked(a) else (b, a)
    return graph.linear(torch.mul, x, factor, keeps_sign=_positive(graph, x, factor))


@rule("div")
def divide_by(graph, a, b, **kwargs):
    if graph.tracked(b) or kwargs.get("rounding_mode"):
        return graph.refuse("the divisor depends on the image, or the quotient is rounded")
    return graph.linear(torch.div, a, b, keeps_sign=_positive(graph, a, b))


@rule("sub")
def subtract(graph, a, b, *, alpha=1):
    """Taking away a constant leaves a box a box; taking away an activation does not."""
    return graph.linear(partial(torch.sub, alpha=alpha), a, b, keeps_sign=graph.tracked(a) and not graph.tracked(b))


def _positive(graph, x, factor) -> bool:
    return graph.node(x).image is not None and bool((torch.as_tensor(factor) > 0).all())


@rule("add")
def add(graph, a, b, *, alpha=1):
    """A sum hands the same G to each term."""
    y = torch.add(a, b, alpha=alpha)
    if graph.tracked(a) and graph.tracked(b) and alpha == 1 and a.shape == b.shape:
        return y, Node("add", [graph.node(a), graph.node(b)], y.shape, lambda g: [g, g])
    return graph.linear(partial(torch.add, alpha=alpha), a, b, output=y, keeps_sign=True)


@rule("cat")
def concatenate(graph, tensors, dim=0, *, axis=None):
    """Each part receives its slice."""
    dim = dim if axis is None else axis
    y, nodes = torch.cat(tensors, dim), graph.nodes.of(tensors)
    if len(nodes) < len(tensors):
        return graph.linear(torch.cat, list(tensors), dim, output=y, keeps_sign=True)
    sizes = [t.shape[dim] for t in tensors]
    node = Node("cat", nodes, y.shape, lambda g: g.split(sizes, dim % y_ndim + 1))
    node.image, y_ndim = (lambda images: torch.cat(images, dim)), y.ndim
    return y, node


@rule("flatten", "view", "reshape", "unsqueeze", "squeeze", "contiguous")
def reshape(graph, x, *args, **kwargs):
    """The same numbers in another shape: G is given back the old one."""
    y = getattr(x, graph.name)(*args, **kwargs)
    node = Node("reshape", [graph.node(x)], y.shape, lambda g: [g.reshape(g.shape[0], *shape)])
    node.image = lambda images: images[0].reshape(y_shape)
    shape, y_shape = x.shape, y.shape
    return y, node


@rule(*SHAPED_LIKE)
def shape_like(graph, x, other):
    """The second tensor lends its shape or type, no values."""
    name = graph.name
    return graph.linear(lambda t: getattr(t, name)(other), x, keeps_sign=True)
