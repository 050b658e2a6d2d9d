"""Rules of normalisations by a sample's own statistics: the deviation is held constant, the rest is linear.

y = gamma (x - mean) / sigma + beta with sigma fixed is linear in x, mean included, so G goes back through its
transpose: with h = gamma G / sigma, G_x = h - mean(h). (BatchNorm's rule is in `isnetlib.method.rules`: there the mean
is a constant, too.)
"""

import torch.nn.functional as F

from isnetlib.method.rules import Node, batch_norm, rule


@rule("layer_norm")
def layer_norm(graph, x, normalized_shape, weight=None, bias=None, eps=1e-5, *_):
    y, dims = F.layer_norm(x, normalized_shape, weight, bias, eps), tuple(range(-len(normalized_shape), 0))

    def pull(g):
        inverse = (x.to(g.dtype).var(dims, correction=0, keepdim=True) + eps).rsqrt()
        h = (g if weight is None else g * weight) * inverse
        return [h - h.mean(dims, keepdim=True)]

    return y, Node("layer_norm", [graph.node(x)], y.shape, pull)


@rule("group_norm")
def group_norm(graph, x, num_groups, weight=None, bias=None, eps=1e-5, *_):
    y = F.group_norm(x, num_groups, weight, bias, eps)
    return y, Node("group_norm", [graph.node(x)], y.shape, _by_groups(x, num_groups, weight, eps))


@rule("instance_norm")
def instance_norm(
    graph, x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, **others
):
    """A group a channel; with running statistics it is BatchNorm in eval mode."""
    if not use_input_stats:
        return batch_norm(graph, x, running_mean, running_var, weight, bias, False, **others)
    y = F.instance_norm(x, running_mean, running_var, weight, bias, True, **others)
    pull = _by_groups(x, x.shape[1], weight, others.get("eps", 1e-5))
    return y, Node("instance_norm", [graph.node(x)], y.shape, pull)


def _by_groups(x, groups, weight, eps):
    def pull(g):
        flat = x.to(g.dtype).reshape(len(x), groups, -1)
        inverse = (flat.var(2, correction=0, keepdim=True) + eps).rsqrt()
        h = g if weight is None else g * weight.view(-1, *[1] * (x.ndim - 2))
        h = h.reshape(len(g), *flat.shape) * inverse
        return [(h - h.mean(3, keepdim=True)).reshape(g.shape)]

    return pull


@rule("normalize")
def normalize(graph, x, p=2.0, dim=1, eps=1e-12, out=None):
    """y = x / max(norm, eps), the norm held constant."""
    if out is not None:
        return graph.refuse("out= is not covered: use the returned tensor")
    y = F.normalize(x, p, dim, eps)
    pull = lambda g: [g / x.to(g.dtype).norm(p, dim, keepdim=True).clamp_min(eps)]  # noqa: E731
    return y, Node("normalize", [graph.node(x)], y.shape, pull)
