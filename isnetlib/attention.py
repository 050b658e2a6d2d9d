"""Rules of attention: matrix products of which the softmax side is held constant, and torch's composites written out.

y = A v with A = softmax(q k^T) is linear in v once A is fixed (Ali et al. 2022), and `Graph.product` does the rest. The
composites run each of their operations through the graph, so that each finds its own rule; fused attention has no
second derivative on the CPU besides.
"""

import torch
import torch.nn.functional as F

from isnetlib.rules import rule


# --- matrix products
@rule("matmul", "bmm", "mm")
def matrix_product(graph, a, b):
    """y = a b: G_a = G b^T, G_b = a^T G."""
    if not (graph.tracked(a) and graph.tracked(b)):
        return graph.linear(torch.matmul, a, b)
    if a.ndim < 2 or b.ndim < 2:
        return graph.refuse("a product of vectors of the image: write it with mul and sum")
    return graph.product(torch.matmul, a, b, lambda g, b: g @ b.mT, lambda g, a: a.mT @ g)


@rule("rmatmul")
def reversed_matrix_product(graph, b, a):
    return matrix_product(graph, a, b)


@rule("baddbmm")
def added_matrix_product(graph, c, a, b, *, beta=1, alpha=1):
    """beta c + alpha a b."""
    product = graph.run(torch.mul, (graph.run(torch.matmul, (a, b), {}), alpha), {})
    y = graph.run(torch.add, (product, c if beta == 1 else graph.run(torch.mul, (c, beta), {})), {})
    return y, graph.node(y)


@rule("einsum")
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
@rule("scaled_dot_product_attention")
def attention(graph, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """softmax(q k^T / sqrt(d) + mask) v."""
    if enable_gqa:
        return graph.refuse("grouped queries (enable_gqa) are not covered: repeat keys and values for each query head")
    y = attend(graph, query, key, value, attn_mask, dropout_p, is_causal, scale)[0]
    return y, graph.node(y)


def attend(graph, query, key, value, mask=None, dropout_p=0.0, is_causal=False, scale=None):
    """Output (..., L, E) and weights (..., L, S). mask: True = attend, or a float added to the scores."""

    def run(function, *args, **kwargs):
        return graph.run(function, args, kwargs)

    scale = query.shape[-1] ** -0.5 if scale is None else scale
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


@rule("multi_head_attention_forward")
def multi_head_attention(
    graph,
    query,
    key,
    value,
    embed_dim,
    heads,
    in_proj_weight,
    in_proj_bias,
    bias_k,
    bias_v,
    add_zero_attn,
    dropout_p,
    out_proj_weight,
    out_proj_bias,
    training=True,
    key_padding_mask=None,
    need_weights=True,
    attn_mask=None,
    use_separate_proj_weight=False,
    q_proj_weight=None,
    k_proj_weight=None,
    v_proj_weight=None,
    static_k=None,
    static_v=None,
    average_attn_weights=True,
    is_causal=False,
):
    """query (L, B, E), key and value (S, B, .): projected, split into heads, attended, joined, projected."""
    if query.ndim != 3 or add_zero_attn or any(t is not None for t in (bias_k, bias_v, static_k, static_v)):
        return graph.refuse(
            "multi-head attention without a batch, or with bias_k, bias_v, add_zero_attn or static keys"
        )

    def run(function, *args, **kwargs):
        return graph.run(function, args, kwargs)

    def split(x, weight, bias):
        x = run(F.linear, x, weight, bias)
        return run(torch.permute, run(torch.reshape, x, (*x.shape[:2], heads, -1)), (1, 2, 0, 3))

    weights = [q_proj_weight, k_proj_weight, v_proj_weight] if use_separate_proj_weight else in_proj_weight.chunk(3)
    biases = [None] * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (split(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
    mask = _mask(attn_mask, key_padding_mask, query, heads)
    y, weights = attend(graph, q, k, v, mask, dropout_p if training else 0.0)
    y = run(torch.reshape, run(torch.permute, y, (2, 0, 1, 3)), query.shape[:2] + (-1,))
    y = run(F.linear, y, out_proj_weight, out_proj_bias)
    if not need_weights:
        return (y, None), graph.node(y)
    weights = run(torch.mean, weights, 1) if average_attn_weights else weights
    return (y, weights), [graph.node(y), graph.node(weights)]


def _mask(attn_mask, key_padding_mask, query, heads):
    """What is added to the scores (B, heads, L, S); in the masks True = ignore, as nn.MultiheadAttention has it."""
    total = None
    for mask, shape in ((attn_mask, (-1, heads)), (key_padding_mask, None)):
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(mask, -torch.inf)
        if shape is None:
            mask = mask[:, None, None]
        elif mask.ndim == 3:
            mask = mask.unflatten(0, shape)
        total = mask if total is None else total + mask
    return total
