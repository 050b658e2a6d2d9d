"""The differentiable pieces of the relevance pass: what its rules do to G, with derivatives that are cheap and exact.

G is the modified gradient of `isnetlib.rules`, (M, B, ...): M maps that share the activations of a batch of B.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.autograd import Function


class ConvTranspose(Function):
    """Input gradient of a convolution as an operation of its own, so that its derivative uses the fast convolution
    kernels.

    torch's double backward computes the weight part as a convolution with a kernel as large as the image.
    """

    @staticmethod
    def forward(ctx, g, weight, shape, conf):
        ctx.save_for_backward(g, weight)
        ctx.conf = conf
        stride, padding, dilation, groups = conf
        x = g.new_empty(shape)  # only its shape is read; an expanded scalar would be copied out
        zeros = [0] * len(stride)
        return torch.ops.aten.convolution_backward(
            g, x, weight, None, stride, padding, dilation, False, zeros, groups, [True, False, False]
        )[0]

    @staticmethod
    def backward(ctx, u):
        g, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.conf
        zeros, grad_g, grad_w = [0] * len(stride), None, None
        if ctx.needs_input_grad[0]:
            grad_g = torch.ops.aten.convolution(u, weight, None, stride, padding, dilation, False, zeros, groups)
        if ctx.needs_input_grad[1]:
            mask = [False, True, False]
            grad_w = torch.ops.aten.convolution_backward(
                g, u, weight, None, stride, padding, dilation, False, zeros, groups, mask
            )[1]
        return grad_g, grad_w, None, None


def transpose(replay: Callable, shapes: list[torch.Size], g: Tensor) -> list[Tensor]:
    """Transpose of the linear map `replay` (list of (B, ...) -> (B, ...)) applied to g (M, B, ...), differentiable in
    g.
    """
    with torch.enable_grad():
        inputs = [g.new_empty(shape).requires_grad_() for shape in shapes]
        output = replay(inputs)
    grad = partial(
        torch.autograd.grad,
        output,
        inputs,
        retain_graph=True,
        create_graph=torch.is_grad_enabled(),
        materialize_grads=True,
    )
    if len(g) == 1:
        return [part[None] for part in grad(g[0])]
    return [torch.stack(parts) for parts in zip(*[grad(one) for one in g], strict=True)]


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
        slope = (
            torch.rsub(ratio, 1).square_().mul_(1 / ctx.eps)
        )  # d/dy y / (y + eps) = eps / (y + eps)^2 = (1 - ratio)^2 / eps
        return u * (ratio if scale is None else ratio * scale), product.mul_(slope), None, grad_scale


def stabilise(z: Tensor, eps: float) -> Tensor:
    """z + eps s(z), with s(z) = 1 for z >= 0, else -1 (zero counts as positive)."""
    return torch.where(z < 0, z - eps, z + eps)


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, with 0 where the denominator is 0 (a dead unit has no relevance)."""
    dead = denominator == 0
    return torch.where(dead, 0.0, numerator / torch.where(dead, 1.0, denominator))
