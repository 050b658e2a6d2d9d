"""How relevance crosses each operation: one short rule an operation.

A network is a graph of operations. During the forward pass `isnetlib.lrp.LRP` asks the rule of each operation for its output and for a `Node`,
which knows how to pull relevance back. What is pulled back is not the relevance R itself but the *modified gradient* G with R = a * G (a: the
activation): in this form the LRP-eps rule is back-propagation in which every activation function f multiplies by f(z) / (z + eps s(z)) instead of
f'(z), and everything linear is left as it is (Bassi, Decherchi & Cavalli, arXiv 2401.08409). G has shape (M, B, ...): M maps share the activations.

`RULES[name]` is the rule of the operation called `name` (relu, F.relu, Tensor.relu_ and nn.ReLU are all "relu"). A rule takes the LRP context and the
operation's own arguments and returns (output, Node). `LINEAR` lists operations that are linear in their inputs and hold no weights: their transpose is
found by autograd and they need no rule of their own. To teach a new operation:

    @isnetlib.rule("my_activation")
    def my_activation(lrp, z): return isnetlib.rules.activate(lrp, my_activation_function, z)

    @isnetlib.rule("my_linear_operation")
    def my_linear_operation(lrp, x): return lrp.linear(torch.my_linear_operation, x)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

RULES: dict[str, Callable] = {}

LINEAR = set(
    "flatten unflatten view view_as reshape reshape_as ravel permute transpose swapaxes swapdims movedim t contiguous clone unsqueeze squeeze expand"
    " expand_as repeat getitem narrow select index_select chunk tensor_split split unbind cat stack flip roll rot90 pad pixel_shuffle pixel_unshuffle"
    " channel_shuffle mean sum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d interpolate upsample"
    " to float double type_as add sub rsub neg".split()
)
KEEPS_SIGN = LINEAR - {"sub", "rsub", "neg"}  # no negative weight: z^B sees through them to the pixels
CONSTANT = set("detach zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full new_tensor".split())
SAME_AS = {"iadd": "add", "radd": "add", "isub": "sub", "subtract": "sub", "imul": "mul", "rmul": "mul", "multiply": "mul", "itruediv": "div"}
SAME_AS |= {"truediv": "div", "divide": "div", "true_divide": "div", "concat": "cat", "concatenate": "cat"}


@dataclass(eq=False, slots=True)
class Node:
    """One operation of the forward pass; `pull` maps G at its output, (M, B, ...), to one G (or None) a parent."""

    name: str
    parents: list["Node"]
    shape: torch.Size
    pull: Callable[[Tensor], list[Tensor | None]] | None = None  # None: not covered, `why` tells the place and the reason
    layer: "Layer | None" = None  # weights, where the operation is a linear layer
    scale: Tensor | None = None  # per-channel factor, where it is a BatchNorm that no linear layer precedes
    image: Callable | None = None  # where it only rearranges pixels: parents' images -> its image
    z: Tensor | None = None  # its output, kept where z^B applies
    y: Tensor | None = None  # ReLU of it, where that follows
    consumers: int = 0  # operations that read its output
    views: "Node | None" = None  # the node whose memory it shares
    spoiled: bool = False  # its memory was overwritten through a view
    why: str = ""

    def memory(self) -> "Node":
        """The node that owns the memory of this one: itself, unless it is a view."""
        return self if self.views is None else self.views.memory()


class Layer(NamedTuple):
    """A linear layer: z = forward(x, weight) + bias; transpose(G, weight, input shape) is its transposed operator on (M, B, ...)."""

    forward: Callable
    transpose: Callable
    weight: Tensor
    bias: Tensor | None
    inputs: int | None  # dimension of (M, B, ...) that `weight`'s second dimension runs over; None where groups split it

    def transpose_both(self, g: Tensor, a: Tensor, b: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """transpose(g, a) and transpose(g, b) in one operation where possible: a kernel for three colours costs as much as one for six."""
        if self.inputs is None:
            return self.transpose(g, a, shape), self.transpose(g, b, shape)
        wide = list(shape)
        wide[self.inputs - 1 if self.inputs > 0 else self.inputs] *= 2
        return self.transpose(g, torch.cat([a, b], 1), wide).chunk(2, self.inputs)

    def fold(self, scale: Tensor, mean: Tensor, shift: Tensor | None) -> "Layer":
        """The same layer followed by BatchNorm: w^ = w s, b^ = s (b - mean) + beta, with s = gamma / sigma held constant but for gamma."""
        bias = scale * ((0 if self.bias is None else self.bias) - mean) + (0 if shift is None else shift)
        return self._replace(weight=self.weight * scale.view(-1, *[1] * (self.weight.ndim - 1)), bias=bias)

    def node(self, name: str, x: Node, shape: torch.Size) -> Node:
        return Node(name, [x], shape, lambda g: [self.transpose(g, self.weight, x.shape)], layer=self)


def rule(*names: str):
    """Register the decorated function as the rule of the operations called `names`."""

    def register(function):
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def transpose(replay: Callable, shapes: list[torch.Size], g: Tensor) -> list[Tensor]:
    """Transpose of the linear map `replay` (list of (B, ...) -> (B, ...)) applied to g (M, B, ...), differentiable in g."""
    with torch.enable_grad():
        inputs = [g.new_empty(shape).requires_grad_() for shape in shapes]
        output = replay(inputs)
    grad = partial(torch.autograd.grad, output, inputs, retain_graph=True, create_graph=torch.is_grad_enabled(), materialize_grads=True)
    if len(g) == 1:
        return [part[None] for part in grad(g[0])]
    return [torch.stack(parts) for parts in zip(*[grad(one) for one in g], strict=True)]


# ------------------------------------------------------------------------------------------------------------------------------ linear layers
class ConvTranspose(Function):
    """Input gradient of a convolution as an operation of its own, so that its derivative uses the fast convolution kernels.

    torch's double backward computes the weight part as a convolution with a kernel as large as the image.
    """

    @staticmethod
    def forward(ctx, g, weight, shape, conf):
        ctx.save_for_backward(g, weight)
        ctx.conf = conf
        stride, padding, dilation, groups = conf
        x = g.new_empty(1).expand(shape)  # only its shape is read
        zeros = [0] * len(stride)
        return torch.ops.aten.convolution_backward(g, x, weight, None, stride, padding, dilation, False, zeros, groups, [True, False, False])[0]

    @staticmethod
    def backward(ctx, u):
        g, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.conf
        zeros, grad_g, grad_w = [0] * len(stride), None, None
        if ctx.needs_input_grad[0]:
            grad_g = torch.ops.aten.convolution(u, weight, None, stride, padding, dilation, False, zeros, groups)
        if ctx.needs_input_grad[1]:
            mask = [False, True, False]
            grad_w = torch.ops.aten.convolution_backward(g, u, weight, None, stride, padding, dilation, False, zeros, groups, mask)[1]
        return grad_g, grad_w, None, None


@rule("conv1d", "conv2d", "conv3d")
def convolution(lrp, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """G_j = sum_k w_jk G_k: the transposed convolution."""
    n = weight.ndim - 2
    every = lambda v: list(v) if isinstance(v, (tuple, list)) else [v] * n  # noqa: E731
    stride, dilation = every(stride), every(dilation)
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if padding == "same" and any(r % 2 for r in reach):
            return lrp.refuse("padding='same' with an even reach pads one side more: pad explicitly, with F.pad")
        padding = [r // 2 for r in reach] if padding == "same" else 0
    conf = (stride, every(padding), dilation, groups)
    y = torch.ops.aten.convolution(x, weight, bias, *conf[:3], False, [0] * n, groups)

    def transpose(g, w, shape):
        return ConvTranspose.apply(g.flatten(0, 1), w, (g.shape[0] * g.shape[1], *shape[1:]), conf).unflatten(0, g.shape[:2])

    def forward(v, w):
        return torch.ops.aten.convolution(v, w, None, *conf[:3], False, [0] * n, groups)

    return y, Layer(forward, transpose, weight, bias, 2 if groups == 1 else None).node("conv", lrp.node(x), y.shape)


@rule("linear")
def linear(lrp, x, weight, bias=None):
    """G_j = sum_k w_jk G_k."""
    y = F.linear(x, weight, bias)
    return y, Layer(F.linear, lambda g, w, shape: g @ w, weight, bias, -1).node("linear", lrp.node(x), y.shape)


@rule("batch_norm")
def batch_norm(lrp, x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """BatchNorm with its statistics held constant is G * gamma / sigma; after a linear layer the factor joins that layer's weights.

    The statistics are those the forward pass used: the batch's (biased variance) in train mode, the running ones in eval mode.
    """
    if training and x.numel() == x.shape[1]:
        raise ValueError(f"BatchNorm in train mode needs more than one value a channel, got input size {tuple(x.shape)}")
    y, mean, invstd = torch.native_batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)
    if not training:
        mean, invstd = running_mean.clone(), (running_var + eps).rsqrt()
    mean, invstd = mean.detach(), invstd.detach()
    scale = invstd if weight is None else weight * invstd
    before = lrp.node(x)
    if before.layer is not None and before.layer.weight.ndim == x.ndim:  # not a linear layer over the last of more dimensions
        return y, before.layer.fold(scale, mean, bias).node("conv + batch norm", before.parents[0], y.shape)
    factor = scale.view(-1, *[1] * (x.ndim - 2))
    return y, Node("batch_norm", [before], y.shape, lambda g: [g * factor], scale=factor)


# ---------------------------------------------------------------------------------------------------------------------------- activations
def over_maps(u: Tensor, g: Tensor) -> Tensor:
    """sum_m u_m g_m over the first dimension, without the products of all maps in memory."""
    total = u[0] * g[0]
    for one, other in zip(u[1:], g[1:], strict=True):
        total.addcmul_(one, other)
    return total


class Scale(Function):
    """G * ratio: M maps (M, B, ...) times one factor (B, ...)."""

    @staticmethod
    def forward(ctx, g, ratio):
        ctx.save_for_backward(g, ratio)
        return g * ratio

    @staticmethod
    def backward(ctx, u):
        g, ratio = ctx.saved_tensors
        return u * ratio, over_maps(u, g) if ctx.needs_input_grad[1] else None


class ReluGate(Function):
    """G * y / (y + eps) * scale for y = ReLU(z) >= 0 (eps > 0), with its derivative, in few passes over memory."""

    @staticmethod
    def forward(ctx, g, y, eps, scale):
        ctx.eps = eps
        ratio = y / (y + eps)
        ctx.save_for_backward(g, ratio, scale)
        return g * (ratio if scale is None else ratio * scale)

    @staticmethod
    def backward(ctx, u):
        g, ratio, scale = ctx.saved_tensors
        grad_scale, product = None, over_maps(u, g)
        if scale is not None:
            if ctx.needs_input_grad[3]:
                grad_scale = (product * ratio).sum([0, *range(2, product.ndim)]).view(scale.shape)
            product.mul_(scale)
        slope = torch.rsub(ratio, 1).square_().mul_(1 / ctx.eps)  # d/dy y / (y + eps) = eps / (y + eps)^2 = (1 - ratio)^2 / eps
        return u * (ratio if scale is None else ratio * scale), product.mul_(slope), None, grad_scale


class Ratio(Function):
    """r = f(z) / (z + eps s(z)), with dr/dz = (f'(z) - r) / (z + eps s(z)); both 0 where they are 0/0."""

    @staticmethod
    def forward(ctx, z, f, eps):
        with torch.enable_grad():
            leaf = z.detach().clone().requires_grad_()  # clone: z may be an inference tensor
            y = f(leaf)
            (derivative,) = torch.autograd.grad(y.sum(), leaf)
        below = stabilise(z, eps)
        ratio = divide(y.detach(), below)
        ctx.save_for_backward(divide(derivative - ratio, below))
        return ratio

    @staticmethod
    def backward(ctx, u):
        return u * ctx.saved_tensors[0], None, None


def stabilise(z: Tensor, eps: float) -> Tensor:
    """z + eps s(z), with s(z) = 1 for z >= 0, else -1 (zero counts as positive)."""
    return torch.where(z < 0, z - eps, z + eps)


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, with 0 where the denominator is 0 (a dead unit has no relevance)."""
    dead = denominator == 0
    return torch.where(dead, 0.0, numerator / torch.where(dead, 1.0, denominator))


@rule("relu")
def relu(lrp, x, inplace=False):
    """G * y / (y + eps); right after the first layer eps = 0, because z^B divides by its own stabilised sum there."""
    y, before = torch.relu(x), lrp.node(x)
    first = lrp.is_first_layer(before)
    eps = 0.0 if first else lrp.eps
    if first:
        before.y = y
    scale, parent = (before.scale, before.parents[0]) if before.scale is not None else (None, before)
    if inplace:
        lrp.overwrite(x, y)

    def pull(g):
        if first and before.consumers == 1:
            return [g]  # z^B then shares out R = y G, which is 0 for dead units
        if eps:
            return [ReluGate.apply(g, y.to(g.dtype), eps, scale)]
        return [g * (y > 0) if scale is None else g * (y > 0) * scale]

    return y, Node("relu", [parent], y.shape, pull)


def activate(lrp, f: Callable, z: Tensor, inplace: bool = False):
    """(output, Node) of an elementwise activation f with f(0) = 0: G * f(z) / (z + eps s(z))."""
    y, before = f(z), lrp.node(z)
    eps = 0.0 if lrp.is_first_layer(before) else lrp.eps
    if inplace:
        lrp.overwrite(z, y)
    return y, Node(lrp.name, [before], y.shape, lambda g: [Scale.apply(g, Ratio.apply(z.to(g.dtype), f, eps))])


@rule("relu6")
def relu6(lrp, z, inplace=False):
    return activate(lrp, F.relu6, z, inplace)


@rule("leaky_relu")
def leaky_relu(lrp, z, negative_slope=0.01, inplace=False):
    return activate(lrp, lambda t: F.leaky_relu(t, negative_slope), z, inplace)


@rule("hardtanh")
def hardtanh(lrp, z, min_val=-1.0, max_val=1.0, inplace=False):
    """ReLU6 is hardtanh between 0 and 6."""
    if min_val > 0 or max_val < 0:
        return lrp.refuse(f"f(0) is not 0 for the interval [{min_val}, {max_val}]")
    return activate(lrp, lambda t: F.hardtanh(t, min_val, max_val), z, inplace)


# ------------------------------------------------------------------------------------------------------------------------ pooling, dropout
@rule("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def max_pool(lrp, x, *args, return_indices=False, **kwargs):
    """The winner takes all; a pixel that wins in several overlapping windows collects from each of them."""
    y, index = getattr(F, lrp.name)(x, *args, return_indices=True, **kwargs)
    n = int(lrp.name[-2])  # spatial dimensions: indices count within one channel's plane

    def pull(g):
        plane = g.new_zeros(*g.shape[:-n], x_shape[-n:].numel()).flatten(0, -2)
        winners = index.expand(g.shape).flatten(-n).flatten(0, -2)
        return [plane.scatter_add(-1, winners, g.flatten(-n).flatten(0, -2)).view(*g.shape[:-n], *x_shape[-n:])]

    x_shape = x.shape
    node = Node("max_pool", [lrp.node(x)], y.shape, pull)
    return ((y, index) if return_indices else y), node


@rule("dropout", "dropout1d", "dropout2d", "dropout3d")
def dropout(lrp, x, p=0.5, training=True, inplace=False):
    """The mask that was drawn, once: relevance passes where activation passed."""
    if not training or p == 0:
        return x, lrp.node(x)
    mask = getattr(F, lrp.name)(torch.ones_like(x), p, True)
    y = x * mask
    if inplace:
        lrp.overwrite(x, y)
    return y, Node("dropout", [lrp.node(x)], y.shape, lambda g: [g * mask])


# ------------------------------------------------------------------------------------------------------------- frequent linear operations
@rule("mul")
def multiply(lrp, a, b):
    """A product with a constant is linear; a product of two activations is not."""
    if lrp.tracked(a) and lrp.tracked(b):
        return lrp.refuse("both factors depend on the image, so the product is not linear in it")
    x, factor = (a, b) if lrp.tracked(a) else (b, a)
    return lrp.linear(torch.mul, x, factor, keeps_sign=_positive(lrp, x, factor))


@rule("div")
def divide_by(lrp, a, b, **kwargs):
    if lrp.tracked(b) or kwargs.get("rounding_mode"):
        return lrp.refuse("the divisor depends on the image, or the quotient is rounded")
    return lrp.linear(torch.div, a, b, keeps_sign=_positive(lrp, a, b))


@rule("sub")
def subtract(lrp, a, b, *, alpha=1):
    """Taking away a constant leaves a box a box; taking away an activation does not."""
    return lrp.linear(partial(torch.sub, alpha=alpha), a, b, keeps_sign=lrp.tracked(a) and not lrp.tracked(b))


def _positive(lrp, x, factor) -> bool:
    return lrp.node(x).image is not None and bool((torch.as_tensor(factor) > 0).all())


@rule("add")
def add(lrp, a, b, *, alpha=1):
    """A sum hands the same G to each term."""
    y = torch.add(a, b, alpha=alpha)
    if lrp.tracked(a) and lrp.tracked(b) and alpha == 1 and a.shape == b.shape:
        return y, Node("add", [lrp.node(a), lrp.node(b)], y.shape, lambda g: [g, g])
    return lrp.linear(partial(torch.add, alpha=alpha), a, b, output=y, keeps_sign=True)


@rule("cat")
def concatenate(lrp, tensors, dim=0, *, axis=None):
    """Each part receives its slice."""
    dim = dim if axis is None else axis
    y = torch.cat(tensors, dim)
    if not all(lrp.tracked(t) for t in tensors):
        return lrp.linear(torch.cat, list(tensors), dim, output=y, keeps_sign=True)
    sizes = [t.shape[dim] for t in tensors]
    node = Node("cat", [lrp.node(t) for t in tensors], y.shape, lambda g: g.split(sizes, dim % y_ndim + 1))
    node.image, y_ndim = (lambda images: torch.cat(images, dim)), y.ndim
    return y, node


@rule("flatten", "view", "reshape", "unsqueeze", "squeeze", "contiguous")
def reshape(lrp, x, *args, **kwargs):
    """The same numbers in another shape: G is given back the old one."""
    y = getattr(x, lrp.name)(*args, **kwargs)
    node = Node("reshape", [lrp.node(x)], y.shape, lambda g: [g.reshape(g.shape[0], *shape)])
    node.image = lambda images: images[0].reshape(y_shape)
    shape, y_shape = x.shape, y.shape
    return y, node
