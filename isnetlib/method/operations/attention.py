"""Rules of attention: matrix products of which the softmax side is held constant, and torch's composites written out.

y = A v with A = softmax(q k^T) is linear in v once A is fixed (Ali et al. 2022), and `Graph.product` does the rest. The
composites run each of their operations through the graph, so that each finds its own rule; fused attention has no
second derivative on the CPU besides.
"""

import inspect
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from isnetlib.method.rules import rule

SIGNATURE = inspect.signature(F.multi_head_attention_forward)


# --- matrix products
@rule("matmul", "bmm", "mm", several=True)
def matrix_product(graph, a, b):
    """y = a b: G_a = G b^T, G_b = a^T G."""
    if not (graph.tracked(a) and graph.tracked(b)):
        return graph.linear(torch.matmul, a, b)
    if a.ndim < 2 or b.ndim < 2:
        return graph.refuse("a product of vectors of the image: write it with mul and sum")
    return graph.product(torch.matmul, a, b, lambda g, b: g @ b.mT, lambda g, a: a.mT @ g)


@rule("rmatmul", several=True)
def reversed_matrix_product(graph, b, a):
    return matrix_product(graph, a, b)


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


# --- composites
@rule("scaled_dot_product_attention", several=True)
def attention(graph, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """softmax(q k^T / sqrt(d) + mask) v."""
    if enable_gqa:
        return graph.refuse("grouped queries (enable_gqa) are not covered: repeat keys and values for each query head")
    y = attend(graph, query, key, value, attn_mask, dropout_p, is_causal, scale)[0]
    return y, graph.node(y)


def attend(graph, query, key, value, mask=None, dropout_p=0.0, is_causal=False, scale=None):
    """Output (..., L, E) and weights (..., L, S). mask: True = attend, or a float added to the scores."""
    run, scale = graph.call, query.shape[-1] ** -0.5 if scale is None else scale
    scores = run(torch.matmul, run(torch.mul, query, scale), run(torch.transpose, key, -2, -1))
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
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
    a, run = SimpleNamespace(**call.arguments), graph.call
    others = (a.bias_k, a.bias_v, a.static_k, a.static_v)
    if a.query.ndim != 3 or a.add_zero_attn or any(t is not None for t in others):
        return graph.refuse("without a batch, or with bias_k, bias_v, add_zero_attn or static keys")
    if graph.tracked(a.attn_mask) or graph.tracked(a.key_padding_mask):
        return graph.refuse("its mask depends on the image")

    def split(x, weight, bias):
        x = run(F.linear, x, weight, bias)
        return run(torch.permute, run(torch.reshape, x, (*x.shape[:2], a.num_heads, -1)), (1, 2, 0, 3))

    own = (a.q_proj_weight, a.k_proj_weight, a.v_proj_weight)
    weights = own if a.use_separate_proj_weight else run(torch.chunk, a.in_proj_weight, 3)
    biases = [None] * 3 if a.in_proj_bias is None else run(torch.chunk, a.in_proj_bias, 3)
    q, k, v = (split(x, w, b) for x, w, b in zip((a.query, a.key, a.value), weights, biases, strict=True))
    mask = _mask(a.attn_mask, a.key_padding_mask, a.query, a.num_heads)
    if mask is not None:
        graph.seen[mask] = True
    y, weights = attend(graph, q, k, v, mask, a.dropout_p if a.training else 0.0)
    y = run(torch.reshape, run(torch.permute, y, (2, 0, 1, 3)), a.query.shape[:2] + (-1,))
    y = run(F.linear, y, a.out_proj_weight, a.out_proj_bias)
    if not a.need_weights:
        return (y, None), graph.node(y)
    weights = run(torch.mean, weights, 1) if a.average_attn_weights else weights
    return (y, weights), [graph.node(y), graph.node(weights)]


def _mask(attn_mask, key_padding_mask, query, heads):
    """What is added to the scores (B, heads, L, S); in the masks True = ignore, as nn.MultiheadAttention has it."""
    masks = [] if attn_mask is None else [attn_mask if attn_mask.ndim == 2 else attn_mask.unflatten(0, (-1, heads))]
    masks += [] if key_padding_mask is None else [key_padding_mask[:, None, None]]
    zero = torch.zeros((), dtype=query.dtype, device=query.device)
    masks = [torch.where(m, -torch.inf, zero) if m.dtype == torch.bool else m for m in masks]
    return sum(masks[1:], masks[0]) if masks else None
