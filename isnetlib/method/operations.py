"""Rules of further operations: activations and gates, normalisations, matrix products and attention.

An activation f with f(0) = 0 hands relevance back as G f(z) / (z + eps s(z)), which for ReLU is y / (y + eps)
(Bassi, Decherchi & Cavalli, arXiv 2401.08409; Montavon et al. 2019 for other activations). One with f(0) != 0, such as
the sigmoid, would make relevance out of nothing there. It is refused, except as a *gate*: a factor of a product
(squeeze-excitation, attention), which `Graph.product` holds constant or, with gates="shared", gives its half.

A normalisation by a sample's own statistics, y = gamma (x - mean) / sigma + beta, is linear in x, mean included, once
sigma is held constant: with h = gamma G / sigma, G_x = h - mean(h). (Of BatchNorm the mean is a constant, too.)

Attention y = A v with A = softmax(q k^T) is linear in v once A is fixed (Ali et al. 2022): A is a gate. torch's
composites run each of their operations through the graph, so that each finds its own rule.
"""

import inspect
from collections.abc import Callable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from isnetlib.method.kernels import divide, over_maps, ratio, stabilise
from isnetlib.method.rules import Node, rule

SIGNATURE = inspect.signature(F.multi_head_attention_forward)


# --- activations, f(0) = 0, and gates
class Activated(Function):
    """G * r with r = y / (z + eps s(z)), y = f(z), and dr/dz = (f'(z) - r) / (z + eps s(z)); 0 where they are 0/0."""

    @staticmethod
    def forward(ctx, g, z, y, f, eps):
        below = stabilise(z, eps)
        r = y / below if eps else divide(y, below)
        ctx.f, ctx.eps = f, eps
        ctx.save_for_backward(g, z, r)
        return g * r

    @staticmethod
    def backward(ctx, u):
        g, z, r = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return u * r, None, None, None, None
        product, leaf, below = over_maps(u, g), z.detach().requires_grad_(), stabilise(z, ctx.eps)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(ctx.f(leaf), leaf, product)
        grad_z = slope.addcmul_(product, r, value=-1)
        return u * r, grad_z.div_(below) if ctx.eps else divide(grad_z, below), None, None, None


def activate(graph, f: Callable, z: Tensor, rest: float = 0.0):
    """(output, Node) of an elementwise activation f with f(0) = 0: G * f(z) / (z + eps s(z)). With f(0) = rest it is a
    gate: where gates are "shared", its part of a product goes back as G (f(z) - rest) / (z + eps s(z)).
    """
    y, before = f(z), graph.node(z)
    eps, above = (graph.eps, lambda t: f(t) - rest) if rest else (graph.eps_after(before), f)

    def pull(g):
        risen = y.detach() - rest if rest else y.detach()
        return [Activated.apply(g, z.to(g.dtype), risen.to(g.dtype), above, eps)]

    if rest == 0:
        return y, Node(graph.name, [before], pull)
    why = "f(0) is not 0, so it may be a factor of a product but no value path"
    return y, graph.refuse(why, [before], pull, gate=True, rest=rest)[1]


@rule("prelu")
def prelu(graph, z, weight):
    """The ratio is differentiated by the slope too."""
    y, before = F.prelu(z, weight), graph.node(z)
    eps = graph.eps_after(before)
    return y, Node("prelu", [before], lambda g: [g * ratio(y, z, eps)])


@rule(*"relu6 leaky_relu silu gelu hardswish mish tanh elu selu celu softsign tanhshrink softshrink hardshrink".split())
@rule("hardtanh", "sigmoid", "hardsigmoid", "softplus", "exp")
def elementwise(graph, z, *args, **kwargs):
    function = graph.function
    f = lambda t: function(t, *args, **kwargs)  # noqa: E731
    return activate(graph, f, z, f(torch.zeros((), dtype=z.dtype)).item())


@rule("softmax")
def softmax(graph, z, dim=None, dtype=None, **kwargs):
    """With gates="shared" its gradient carries G (Achtibat et al., arXiv 2402.05602): G_z = y (G - sum y G)."""
    y, ndim = F.softmax(z, dim, dtype=dtype, **kwargs), z.ndim

    def pull(g):
        a, along = y.to(g.dtype), dim if dim is None or dim < 0 else dim - ndim
        return [a * (g - (a * g).sum(along, keepdim=True))]

    why = "a softmax may weigh values (attention) but is no value path"
    return y, graph.refuse(why, [graph.node(z)], pull, gate=True, rest=0.0)[1]


# --- normalisations
def centred(x, h, dims, eps):
    """h (M, B, ...) over the deviation of x, less its mean over the last dimensions `dims`."""
    h = h * (x.to(h.dtype).var(dims, correction=0, keepdim=True) + eps).rsqrt()
    return h - h.mean(dims, keepdim=True)


@rule("layer_norm")
def layer_norm(graph, x, normalized_shape, weight=None, bias=None, eps=1e-5, *_):
    y, dims = F.layer_norm(x, normalized_shape, weight, bias, eps), tuple(range(-len(normalized_shape), 0))
    pull = lambda g: [centred(x, g if weight is None else g * weight, dims, eps)]  # noqa: E731
    return y, Node("layer_norm", [graph.node(x)], pull)


@rule("group_norm")
def group_norm(graph, x, num_groups, weight=None, bias=None, eps=1e-5, *_):
    def pull(g):
        h = g if weight is None else g * weight.view(-1, *[1] * (x.ndim - 2))
        flat = x.reshape(len(x), num_groups, -1)
        return [centred(flat, h.reshape(len(g), *flat.shape), -1, eps).reshape(g.shape)]

    return F.group_norm(x, num_groups, weight, bias, eps), Node("group_norm", [graph.node(x)], pull)


@rule("normalize")
def normalize(graph, x, p=2.0, dim=1, eps=1e-12, out=None):
    """y = x / max(norm, eps), the norm held constant."""
    pull = lambda g: [g / x.to(g.dtype).norm(p, dim, keepdim=True).clamp_min(eps)]  # noqa: E731
    return F.normalize(x, p, dim, eps, out), Node("normalize", [graph.node(x)], pull)


# --- matrix products
@rule("matmul", "bmm", "mm", several=True)
def matrix_product(graph, a, b):
    """y = a b: G_a = G b^T, G_b = a^T G."""
    if not (graph.tracked(a) and graph.tracked(b)):
        return graph.linear(torch.matmul, a, b)
    if a.ndim < 2 or b.ndim < 2:
        return graph.refuse("a product of vectors of the image: write it with mul and sum")
    return graph.product(torch.matmul, a, b, lambda g, b: g @ b.mT, lambda g, a: a.mT @ g)


@rule("einsum", several=True)
def einsum(graph, equation, *operands):
    """y = einsum("a,b->y"): G_a = einsum("y,b->a") of G and b."""
    operands = operands[0] if isinstance(operands[0], (list, tuple)) else operands
    if sum(map(graph.tracked, operands)) == 1:
        return graph.linear(torch.einsum, equation, *operands)
    terms, _, out = equation.replace(" ", "").partition("->")
    a, _, b = terms.partition(",")
    simple = len(operands) == 2 and "->" in equation and "." not in equation
    if not (simple and all(len(set(t)) == len(t) and set(t) <= set(other + out) for t, other in ((a, b), (b, a)))):
        return graph.refuse(f"einsum {equation!r} of several tensors of the image: write it with matmul and mul")
    m = next(letter for letter in "mnopqrstuvwxyz" if letter not in a + b)  # the maps' dimension
    to_a = lambda g, other: torch.einsum(f"{m}{out},{b}->{m}{a}", g, other)  # noqa: E731
    to_b = lambda g, other: torch.einsum(f"{m}{out},{a}->{m}{b}", g, other)  # noqa: E731
    return graph.product(lambda *pair: torch.einsum(equation, *pair), *operands, to_a, to_b)


# --- attention
@rule("scaled_dot_product_attention", several=True)
def attention(graph, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """softmax(q k^T / sqrt(d) + mask) v."""
    if enable_gqa:
        return graph.refuse("grouped queries (enable_gqa) are not covered: repeat keys and values for each query head")
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    y, _ = attend(graph, query, key, value, attn_mask, dropout_p, query.shape[-1] ** -0.5 if scale is None else scale)
    return y, graph.node(y)


def attend(graph, query, key, value, mask, dropout_p, scale):
    """Output (..., L, E) and weights (..., L, S). mask: None, True = attend, or a float added to the scores."""
    run = graph.run
    scores = run(torch.matmul, run(torch.mul, query, scale), run(torch.transpose, key, -2, -1))
    if mask is not None and mask.dtype == torch.bool:
        scores = run(torch.masked_fill, scores, ~mask, -torch.inf)
    elif mask is not None:
        scores = run(torch.add, scores, mask)
    weights = run(F.softmax, scores, dim=-1)
    if dropout_p:
        weights = run(F.dropout, weights, dropout_p, True)
    return run(torch.matmul, weights, value), weights


@rule("multi_head_attention_forward", several=True)
def multi_head_attention(graph, *args, **kwargs):
    """query (L, B, E), key and value (S, B, .): projected, split into heads, attended, joined, projected."""
    call = SIGNATURE.bind(*args, **kwargs)
    call.apply_defaults()
    a, run = SimpleNamespace(**call.arguments), graph.run
    others = (a.attn_mask, a.key_padding_mask, a.bias_k, a.bias_v, a.static_k, a.static_v)
    if a.query.ndim != 3 or a.add_zero_attn or any(t is not None for t in others):
        return graph.refuse("without a batch, or with masks, bias_k, bias_v, add_zero_attn or static keys")

    def split(x, weight, bias):
        x = run(F.linear, x, weight, bias)
        return run(torch.permute, run(torch.reshape, x, (*x.shape[:2], a.num_heads, -1)), (1, 2, 0, 3))

    own = (a.q_proj_weight, a.k_proj_weight, a.v_proj_weight)
    weights = own if a.use_separate_proj_weight else run(torch.chunk, a.in_proj_weight, 3)
    biases = [None] * 3 if a.in_proj_bias is None else run(torch.chunk, a.in_proj_bias, 3)
    q, k, v = (split(x, w, b) for x, w, b in zip((a.query, a.key, a.value), weights, biases, strict=True))
    y, weights = attend(graph, q, k, v, None, a.dropout_p if a.training else 0.0, q.shape[-1] ** -0.5)
    y = run(torch.reshape, run(torch.permute, y, (2, 0, 1, 3)), a.query.shape[:2] + (-1,))
    y = run(F.linear, y, a.out_proj_weight, a.out_proj_bias)
    if not a.need_weights:
        return (y, None), graph.node(y)
    weights = run(torch.mean, weights, 1) if a.average_attn_weights else weights
    return (y, weights), [graph.node(y), graph.node(weights)]
