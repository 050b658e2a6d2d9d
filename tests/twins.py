"""Slow twins: what the library does, written again in a slower, less complicated way, straight from the equations."""

from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F

real = {name: getattr(F, name) for name in ("relu", "hardtanh", "batch_norm")}


# ------------------------------------------------------------------------------------- whole networks: autograd with a few functions replaced
def batch_norm_with_constant_statistics(x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    if not training:
        return real["batch_norm"](x, mean, var, weight, bias, False, momentum, eps)
    dims = [0, *range(2, x.ndim)]
    mean, var = x.detach().mean(dims, keepdim=True), x.detach().var(dims, correction=0, keepdim=True)
    shape = mean.shape
    return (x - mean) / (var + eps).sqrt() * weight.view(shape) + bias.view(shape)


class ModifiedGradient(torch.autograd.Function):
    """f(z), whose gradient is f(z) / (z + eps s(z))."""

    @staticmethod
    def forward(ctx, z, f, eps):
        y = f(z)
        ctx.ratio = torch.where(y == 0, 0.0, y / (z + torch.where(z < 0, -eps, eps)))
        return y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.ratio, None, None


@contextmanager
def modified_gradient(eps):
    """Back-propagation is LRP-eps in here. For eps = 0, ReLU keeps its own gradient: what is left is input x gradient."""

    def relu(z, inplace=False):
        return ModifiedGradient.apply(z, real["relu"], eps) if eps else real["relu"](z)

    def hardtanh(z, low=-1.0, high=1.0, inplace=False):
        return ModifiedGradient.apply(z, lambda t: real["hardtanh"](t, low, high), eps)

    def relu6(z, inplace=False):
        return hardtanh(z, 0.0, 6.0)

    with mock.patch.multiple(F, relu=relu, hardtanh=hardtanh, relu6=relu6, batch_norm=batch_norm_with_constant_statistics):
        yield


def explain(model, x, target, eps=0.0):
    """x times the (modified) gradient of logit `target`, (B, 1, C, H, W)."""
    x = x.clone().requires_grad_()
    with modified_gradient(eps):
        output = model(x)
    logits = getattr(output, "logits", output)
    (gradient,) = torch.autograd.grad(logits[:, target].sum(), x)
    return (x * gradient).detach()[:, None]
