"""Rules that answer what-if questions about ISNet's relevance: the option `ablation` of `isnetlib.LRP`.

{"statistics": "live"}: in train mode G goes back through BatchNorm's batch mean and variance, too, as plain
back-propagation does. (The first layer keeps its statistics where z^B reads them, folded into its weights.)

{"biases": "detached"}: as in the seed paper's LRP Block (arXiv 2202.00232) the heatmap loss takes the constants in the
denominator z + eps for given: biases, BatchNorm shifts, means and deviations. Values do not change, and the activation
y in the numerator keeps its whole derivative, so the ratio of a ReLU becomes y / (z' + eps) with z' = z in value. Sums
pass z' on; after other operations, and in z^B, z' is z.

{"block": True}: the Block's eps at each of its layers: besides ReLU's also at logits, average pools, max pools, sums,
and BatchNorm outputs that enter a sum: G y / (y + eps s(y)). A ReLU behind a sum or pool then adds none.
"""

import torch

from isnetlib.method.kernels import ratio
from isnetlib.method.rules import RULES, Node

KNOWN = {"statistics": ("constant", "live"), "biases": ("live", "detached"), "block": (False, True)}
POOLS = ["mean", *(name for name in RULES if "_pool" in name)]


def rules_for(ablation: dict) -> dict:
    """The rules that an ablation puts in place of others; none for {}. ValueError for unknown names and values."""
    for name, value in ablation.items():
        if value not in KNOWN.get(name, ()):
            raise ValueError(f"unknown ablation {name}: {value!r}; known: {KNOWN}")
    live, block = ablation.get("statistics") == "live", ablation.get("block")
    detached = ablation.get("biases") == "detached"
    if detached and (live or block):
        raise ValueError('biases="detached" cannot be combined with statistics="live" or block=True')
    return ({"batch_norm": live_norm} if live else {}) | (DETACHED if detached else {}) | (BLOCK if block else {})


# --- statistics: live
def live_norm(graph, x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """With x^ the standardised x and h = gamma G: G_x = (h - mean(h) - x^ mean(h x^)) / sigma."""
    y, node = RULES["batch_norm"](graph, x, mean, var, weight, bias, training, momentum, eps)
    if not training or graph.is_first_layer(node):
        return y, node
    dims, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]

    def pull(g):
        z, over = x.to(g.dtype), [d + 1 for d in dims]
        inverse = (z.var(dims, correction=0, keepdim=True) + eps).rsqrt()
        h, standard = g if weight is None else g * weight.view(shape), (z - z.mean(dims, keepdim=True)) * inverse
        return [(h - h.mean(over, True) - standard * (h * standard).mean(over, True)) * inverse]

    return y, Node("batch_norm", [graph.node(x)], pull)


# --- biases: detached; graph.constants holds, by node, what gives z'
def constant(graph, t):
    return graph.constants.get(graph.node(t), lambda: t)


def detached_layer(graph, x, weight, bias=None, *args, **kwargs):
    y, node = RULES[graph.name](graph, x, weight, bias, *args, **kwargs)
    if bias is not None:
        shift = bias if graph.name == "linear" else bias.view(-1, *[1] * (weight.ndim - 2))
        graph.constants[node] = lambda: y - shift + shift.detach()
    return y, node


def detached_norm(graph, x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    before, dims, shape = constant(graph, x), [0, *range(2, x.ndim)], [-1, *[1] * (x.ndim - 2)]
    used, spread = (x.mean(dims), x.var(dims, correction=0)) if training else (mean, var)
    used, inverse = used.detach().clone(), (spread.detach() + eps).rsqrt()
    y, node = RULES["batch_norm"](graph, x, mean, var, weight, bias, training, momentum, eps)

    def shifted():
        scale = inverse if weight is None else weight * inverse
        z = (before() - used.view(shape)) * scale.view(shape)
        return z if bias is None else z + bias.detach().view(shape)

    graph.constants[node] = shifted
    return y, node


def detached_add(graph, a, b, *, alpha=1):
    y, node = RULES["add"](graph, a, b, alpha=alpha)
    one, two = constant(graph, a), constant(graph, b)
    graph.constants[node] = lambda: one() + alpha * two()
    return y, node


def detached_relu(graph, x):
    before, below, eps = graph.node(x), constant(graph, x), graph.eps
    if before not in graph.constants or graph.eps_after(before) == 0:
        return RULES["relu"](graph, x)
    y = torch.relu(x)
    return y, Node("relu", [before], lambda g: [g * torch.where(y > 0, y / (below() + eps), 0.0)])


DETACHED = dict.fromkeys(("conv1d", "conv2d", "conv3d", "linear"), detached_layer)
DETACHED |= {"batch_norm": detached_norm, "add": detached_add, "relu": detached_relu}


# --- block: True
def block_pool(graph, x, *args, **kwargs):
    output, node = RULES[graph.name](graph, x, *args, **kwargs)
    y, pull, eps = output[0] if isinstance(output, tuple) else output, node.pull, graph.eps
    if node.parents[0].image is None:
        node.pull = lambda g: pull(g * ratio(y, y, eps))
    return output, node


def block_add(graph, a, b, *, alpha=1):
    y, node = RULES["add"](graph, a, b, alpha=alpha)
    if not (graph.tracked(a) and graph.tracked(b)):
        return y, node
    eps, pull = graph.eps, node.pull
    terms = [(t, graph.node(t).name in ("conv + batch norm", "batch_norm")) for t in (a, b)]

    def both(g):
        parts = zip(pull(g * ratio(y, y, eps)), terms, strict=True)
        return [part * ratio(t, t, eps) if normed else part for part, (t, normed) in parts]

    node.pull = both
    return y, node


def block_relu(graph, x):
    before = graph.node(x)
    if before.name not in ("add", "max_pool", *POOLS):
        return RULES["relu"](graph, x)
    y = torch.relu(x)
    return y, Node("relu", [before], lambda g: [g * (y > 0)])


BLOCK = dict.fromkeys(POOLS, block_pool) | {"add": block_add, "relu": block_relu}
