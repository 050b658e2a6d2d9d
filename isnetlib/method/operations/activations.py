"""Rules of elementwise activations, and of gates: activations that may stand as a factor in a product.

An activation f with f(0) = 0 hands relevance back as G f(z) / (z + eps s(z)), which for ReLU is y / (y + eps)
(Bassi, Decherchi & Cavalli, arXiv 2401.08409; Montavon et al. 2019 for other activations). One with f(0) != 0, such as
the sigmoid, would make relevance out of nothing there. It is refused, except as a *gate*: a factor of a product
(squeeze-excitation, attention), which `Graph.product` holds constant or, with gates="shared", gives its half.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from isnetlib.method.kernels import divide, over_maps, stabilise
from isnetlib.method.rules import Node, rule


class Activated(Function):
    """G * r with r = y / (z + eps s(z)), y = f(z), and dr/dz = (f'(z) - r) / (z + eps s(z)); 0 where they are 0/0."""

    @staticmethod
    def forward(ctx, g, z, y, f, eps):
        below = stabilise(z, eps)
        ratio = y / below if eps else divide(y, below)
        ctx.f, ctx.eps = f, eps
        ctx.save_for_backward(g, z, ratio)
        return g * ratio

    @staticmethod
    def backward(ctx, u):
        g, z, ratio = ctx.saved_tensors
        grad_z = None
        if ctx.needs_input_grad[1]:
            grad_z = over_maps(u, g)
            with torch.enable_grad():
                leaf = z.detach().requires_grad_()
                (slope,) = torch.autograd.grad(ctx.f(leaf), leaf, grad_z)
            below = stabilise(z, ctx.eps)
            grad_z = slope.addcmul_(grad_z, ratio, value=-1)
            grad_z = grad_z.div_(below) if ctx.eps else divide(grad_z, below)
        return u * ratio, grad_z, None, None, None


# --- value paths: f(0) = 0
def activate(graph, f: Callable, z: Tensor, inplace: bool = False):
    """(output, Node) of an elementwise activation f with f(0) = 0: G * f(z) / (z + eps s(z))."""
    y, before = f(z), graph.node(z)
    eps = graph.eps_after(before)
    if inplace:
        graph.overwrite(z, y)
    pull = lambda g: [Activated.apply(g, z.to(g.dtype), y.detach().to(g.dtype), f, eps)]  # noqa: E731
    return y, Node(graph.name, [before], y.shape, pull)


@rule(*"relu6 leaky_relu silu gelu hardswish mish tanh elu selu celu softsign tanhshrink softshrink hardshrink".split())
def elementwise(graph, z, *args, inplace=False, **kwargs):
    function = getattr(F, graph.name, None) or getattr(torch, graph.name)
    return activate(graph, lambda t: function(t, *args, **kwargs), z, inplace)


@rule("hardtanh")
def hardtanh(graph, z, min_val=-1.0, max_val=1.0, inplace=False):
    """ReLU6 is hardtanh between 0 and 6."""
    if min_val > 0 or max_val < 0:
        return graph.refuse(f"f(0) is not 0 for the interval [{min_val}, {max_val}]")
    return activate(graph, lambda t: F.hardtanh(t, min_val, max_val), z, inplace)


@rule("prelu")
def prelu(graph, z, weight):
    """The ratio is differentiated by the slope too."""
    y, before = F.prelu(z, weight), graph.node(z)
    eps = graph.eps_after(before)
    return y, Node("prelu", [before], y.shape, lambda g: [g * divide(y, stabilise(z, eps))])


# --- gates: f(0) != 0
@rule("sigmoid", "hardsigmoid", "softplus", "exp")
def gate(graph, z, *args, inplace=False, **kwargs):
    """With gates="shared" its part g - f(0) of a product goes back as an activation's: G (g - f(0)) / (z + eps s(z)).

    The part f(0) is a constant, and the product gives it to its other factor.
    """
    function, eps = getattr(F, graph.name, None) or getattr(torch, graph.name), graph.eps
    y, rest = function(z, *args, **kwargs), function(torch.zeros((), dtype=z.dtype), *args, **kwargs).item()
    if inplace:
        graph.overwrite(z, y)
    f = lambda t: function(t, *args, **kwargs) - rest  # noqa: E731
    pull = lambda g: [Activated.apply(g, z.to(g.dtype), (y.detach() - rest).to(g.dtype), f, eps)]  # noqa: E731
    return y, graph.gate(z, y, pull, rest, "f(0) is not 0, so it may be a factor of a product but no value path")


@rule("softmax")
def softmax(graph, z, dim=None, dtype=None, **kwargs):
    """With gates="shared" its gradient carries G (Achtibat et al., arXiv 2402.05602): G_z = y (G - sum y G)."""
    y, ndim = F.softmax(z, dim, dtype=dtype, **kwargs), z.ndim

    def pull(g):
        a, along = y.to(g.dtype), dim if dim is None or dim < 0 else dim - ndim
        return [a * (g - (a * g).sum(along, keepdim=True))]

    return y, graph.gate(z, y, pull, 0.0, "a softmax may weigh values (attention) but is no value path")
