"""Slow twins: what the library does, written again in a slower, less complicated way, straight from the equations."""

from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from architectures import _batch_norm

real = {name: getattr(F, name) for name in ("relu", "leaky_relu", "hardtanh", "relu6", "batch_norm")}


def unlike(a, b):
    """Relative distance |a - b| / |b|; NaN, which no bound accepts, if b is zero."""
    return ((a - b).norm() / b.norm()).item()


# ------------------------------------------- whole networks: autograd, with the functions that are not linear replaced
class ModifiedGradient(torch.autograd.Function):
    """f(z), whose gradient is f(z) / (z + eps s(z))."""

    @staticmethod
    def forward(ctx, z, f, eps):
        y = f(z)
        ctx.ratio = torch.where(y == 0, 0.0, y / (z + eps * sign(z)))
        return y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.ratio, None, None


@contextmanager
def modified_gradient(eps):
    """Back-propagation is LRP-eps in here. For eps = 0 ReLU keeps its own gradient, which gives input x gradient."""

    def modified(f):
        def activation(z, *args, inplace=False):
            args = [a for a in args if not isinstance(a, bool)]  # never in place
            return ModifiedGradient.apply(z, lambda t: f(t, *args), eps)

        return activation

    activations = {name: modified(f) for name, f in real.items() if name != "batch_norm" and (eps or name != "relu")}
    with mock.patch.multiple(F, batch_norm=_batch_norm, **activations):  # which holds its statistics constant
        yield


def explain(model, x, target, eps=0.0):
    """x times the (modified) gradient of logit `target`, (B, 1, C, H, W)."""
    x = x.clone().requires_grad_()
    with modified_gradient(eps):
        output = model(x)
    logits = getattr(output, "logits", output)
    (gradient,) = torch.autograd.grad(logits[:, target].sum(), x)
    return (x * gradient).detach()[:, None]


# ---------------------------------------------------------------- single layers: dense matrices and explicit sums
def sign(z):
    return torch.where(z < 0, -1.0, 1.0).to(z.dtype)


def affine(f, *shapes):
    """Dense W (out, in), b (out,) of an affine f of samples in parts of these shapes: f of zero and of unit vectors."""
    sizes = [torch.Size(shape).numel() for shape in shapes]

    def flat(v):
        return f(*[part.view(-1, *shape) for part, shape in zip(v.split(sizes, 1), shapes, strict=True)]).flatten(1)

    (b,) = flat(torch.zeros(1, sum(sizes), dtype=torch.float64))
    return (flat(torch.eye(sum(sizes), dtype=torch.float64)) - b).T, b


def epsilon_rule(a, W, b, R, eps):
    """R_j = sum_k a_j w_jk / (z_k + eps s(z_k)) R_k."""
    z = W @ a + b
    return a * (W.T @ (R / (z + eps * sign(z))))


def z_box_rule(x, low, high, W, b, R, eps, A=None, t=0.0):
    """R_j = sum_k (x_j w_jk - l_j w+_jk - h_j w-_jk) / (D_k + eps s(D_k)) R_k, where the bias is an input 1 in [0, 1].

    A, t: an affine chain x' = A x + t, A >= 0, before the layer; pixel i takes its share A_ji of each term of x'_j.
    """
    A = torch.eye(len(x), dtype=x.dtype) if A is None else A
    relevance = torch.zeros_like(x)
    for w, bias, R_k in zip(W, b, R, strict=True):
        up, down = w.clamp(min=0), w.clamp(max=0)
        z = w @ (A @ x + t) + bias
        D = z - (up @ (A @ low + t) + 0 * bias.clamp(min=0)) - (down @ (A @ high + t) + 1 * bias.clamp(max=0))
        relevance += (x * (A.T @ w) - low * (A.T @ up) - high * (A.T @ down)) / (D + eps * sign(D)) * R_k
    return relevance


def max_pool_rule(a, R, kernel, stride, padding):
    """The first largest of each window takes the window's relevance; a, R (C, H, W)."""
    relevance = torch.zeros_like(a)
    for c, i, j in torch.cartesian_prod(*map(torch.arange, R.shape)).tolist():
        rows = range(max(0, i * stride - padding), min(a.shape[1], i * stride - padding + kernel))
        columns = range(max(0, j * stride - padding), min(a.shape[2], j * stride - padding + kernel))
        winner = max(((r, s) for r in rows for s in columns), key=lambda p: a[c, p[0], p[1]].item())
        relevance[c, winner[0], winner[1]] += R[c, i, j]
    return relevance
