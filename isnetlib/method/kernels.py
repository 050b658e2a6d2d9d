"""What the rules do to G, the modified gradient (M, B, ...), with derivatives that are cheap and exact."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


# --- convolutions; conf = what aten::convolution takes after the bias (stride, padding, dilation, False, output padding
# 0, groups), and the dtype of the arithmetic or None: that of the tensors
def convolve(x: Tensor, weight: Tensor, conf, bias: Tensor | None = None) -> Tensor:
    *plain, dtype = conf
    if dtype is None:
        return torch.ops.aten.convolution(x, weight, bias, *plain)
    return torch.ops.aten.convolution(x.to(dtype), weight.to(dtype), bias, *plain).to(x.dtype)


def transposed(g: Tensor, weight: Tensor, shape, conf) -> Tensor:
    """Input gradient of a convolution with inputs of `shape`."""
    *plain, dtype = conf
    a, w = g.to(dtype or g.dtype), weight.to(dtype or weight.dtype)
    x = a.new_empty(shape)  # only its shape is read; an expanded scalar would be copied out
    return torch.ops.aten.convolution_backward(a, x, w, None, *plain, [True, False, False])[0].to(g.dtype)


def transposed_to_pixels(g: Tensor, weight: Tensor, shape, conf) -> Tensor:
    """`transposed`; of few channels, at a stride s of 2 or 4, with a block's s x s pixels as channels: faster."""
    stride, padding, dilation, *_, groups, dtype = conf
    if stride not in ([2, 2], [4, 4]) or dilation != [1, 1] or groups != 1 or weight.shape[1] >= 8:
        return transposed(g, weight, shape, conf)
    s, (height, width) = stride[0], shape[2:]
    top, left = (-p % s for p in padding)  # kernel rows of zeros, so that the padding becomes whole blocks
    w = F.pad(weight, (left, -(weight.shape[3] + left) % s, top, -(weight.shape[2] + top) % s))
    w = F.pixel_unshuffle(w, s)
    rows, columns = g.shape[2] + w.shape[2] - 1, g.shape[3] + w.shape[3] - 1
    plain = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1, dtype)
    blocks = transposed(g, w, (len(g), w.shape[1], rows, columns), plain)
    top, left = padding[0] + top, padding[1] + left
    return F.pad(F.pixel_shuffle(blocks, s), (-left, left + width - s * columns, -top, top + height - s * rows))


def weight_gradient(g: Tensor, x: Tensor, weight: Tensor, conf) -> Tensor:
    *plain, dtype = conf
    dtype = g.dtype if dtype is None or torch.cpu._is_amx_tile_supported() else dtype  # there bf16 has no fast path
    a, b, w = g.to(dtype), x.to(dtype), weight.to(dtype)
    return torch.ops.aten.convolution_backward(a, b, w, None, *plain, [False, True, False])[1].to(weight.dtype)


class Convolve(Function):
    """Convolution in the tensors' own arithmetic, its derivative in conf's: rounded activations would switch ReLUs."""

    @staticmethod
    def forward(ctx, x, weight, bias, conf):
        ctx.save_for_backward(x, weight, bias)
        ctx.conf = conf
        return convolve(x, weight, (*conf[:-1], None), bias)

    @staticmethod
    def backward(ctx, u):
        x, weight, bias = ctx.saved_tensors
        grad_x = transposed(u, weight, x.shape, ctx.conf) if ctx.needs_input_grad[0] else None
        grad_weight = weight_gradient(u, x, weight, ctx.conf) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight, None if bias is None else u.sum([0, *range(2, u.ndim)]), None


class ConvTranspose(Function):
    """`transposed` with a fast derivative: torch's own convolves with kernels as large as the image for the weights."""

    @staticmethod
    def forward(ctx, g, weight, shape, conf):
        ctx.save_for_backward(g, weight)
        ctx.conf = conf
        return transposed(g, weight, shape, conf)

    @staticmethod
    def backward(ctx, u):
        g, weight = ctx.saved_tensors
        grad_g = convolve(u, weight, ctx.conf) if ctx.needs_input_grad[0] else None
        return grad_g, weight_gradient(g, u, weight, ctx.conf) if ctx.needs_input_grad[1] else None, None, None


def transpose(replay: Callable, shapes: list[torch.Size], g: Tensor) -> list[Tensor]:
    """Transpose of the linear map `replay` (list of (B, ...) -> (B, ...)) of g (M, B, ...), differentiable in g."""
    with torch.enable_grad():
        inputs = [g.new_empty(shape).requires_grad_() for shape in shapes]
        output = replay(inputs)
    options = {"retain_graph": True, "create_graph": torch.is_grad_enabled(), "materialize_grads": True}
    grad = partial(torch.autograd.grad, output, inputs, **options)
    if len(g) == 1:
        return [part[None] for part in grad(g[0])]
    return [torch.stack(parts) for parts in zip(*[grad(one) for one in g], strict=True)]


def over_maps(u: Tensor, g: Tensor) -> Tensor:
    """sum_m u_m g_m over the first dimension, without the products of all maps in memory."""
    total = u[0] * g[0]
    for one, other in zip(u[1:], g[1:], strict=True):
        total.addcmul_(one, other)
    return total


def stabilise(z: Tensor, eps: float) -> Tensor:
    """z + eps s(z), with s(z) = 1 for z >= 0, else -1 (zero counts as positive)."""
    return torch.where(z < 0, z - eps, z + eps)


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, with 0 where the denominator is 0 (a dead unit has no relevance)."""
    dead = denominator == 0
    return torch.where(dead, 0.0, numerator / torch.where(dead, 1.0, denominator))


def ratio(y: Tensor, z: Tensor, eps: float) -> Tensor:
    return divide(y, stabilise(z, eps))


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
    """G * r with r = y / (y + eps), y = ReLU(z) >= 0, eps > 0; dr/dy = eps / (y + eps)^2 = (1 - r)^2 / eps."""

    @staticmethod
    def forward(ctx, g, y, eps):
        ratio = y + eps
        torch.div(y, ratio, out=ratio)
        ctx.eps = eps
        ctx.save_for_backward(g, ratio)
        return g * ratio

    @staticmethod
    def backward(ctx, u):
        g, ratio = ctx.saved_tensors
        product = over_maps(u, g)
        product.addcmul_(product, ratio, value=-1).addcmul_(product, ratio, value=-1)  # times (1 - r)^2
        return u * ratio, product.mul_(1 / ctx.eps), None


# --- z^B, which takes the place of LRP-eps at the layers that read the pixels
def z_box_floor(layer, low: Tensor, high: Tensor, size: torch.Size | None = None) -> Tensor:
    """What z^B takes from z: floor_k = sum_j (l_j w+_jk + h_j w-_jk) + b-_k, (1, ...), so that D = z - floor >= 0.

    low, high: images of the box as the layer sees them; or, where a convolution reads pixels, its bounds (1, C, 1, 1),
    and `size` of the image. Zero padding pads x, l and h alike. The bias is one more input, 1 in a box [0, 1].
    """
    weight, negative = layer.weight, layer.weight.clamp(max=0)
    if size is None:
        floor = layer.forward(low, weight) + layer.forward(high - low, negative)
    else:  # one channel of ones carries every channel's bounds
        weight = (low * weight + (high - low) * negative).sum(1, keepdim=True)
        floor = layer.forward(weight.new_ones(1, 1, *size), weight)
    if layer.bias is not None:
        floor = floor + layer.bias.clamp(max=0).view(-1, *[1] * (weight.ndim - 2))
    return floor


def z_box_ratio(z: Tensor, floor: Tensor, relu: bool, eps: float) -> tuple[Tensor, Tensor]:
    """a / (D + eps) and D + eps of the first layer, (B, ...); a = z or ReLU(z), D = z - floor >= 0."""
    D = (z - (floor - eps)).clamp(min=eps)  # rounding may leave a tiny negative D
    a = z.relu() if relu else z
    return a / D if eps else divide(a, D), D


def z_box_share(G: Tensor, z: Tensor, floor: Tensor, relu: bool, eps: float) -> Tensor:
    """R / (D + eps), the relevance R = a * G (M, B, ...) of the first layer by its denominator.

    R_j = sum_k (x_j w_jk - l_j w+_jk - h_j w-_jk) / (D_k + eps) R_k
        = (x_j - l_j) c_j(w) - (h_j - l_j) c_j(w-),         c(w): the transposed layer applied to this share
    D_k = sum_j (x_j w_jk - l_j w+_jk - h_j w-_jk) + b+_k = z_k - floor_k >= 0
    """
    return Scale.apply(G, z_box_ratio(z, floor, relu, eps)[0])


class ZBoxPixels(Function):
    """R_j of `z_box_share` at a convolution that reads the pixels, (M, B, ...): a few images at a time, so that c(w)
    and c(w-) stay in the processor's cache; the share is computed again for the derivative.
    """

    @staticmethod
    def forward(ctx, g, z, floor, weight, above, width, relu, eps, conf):
        ctx.save_for_backward(g, z, floor, weight, above, width)
        ctx.relu, ctx.eps, ctx.conf = relu, eps, conf
        both = torch.cat([weight, weight.clamp(max=0)], 1)
        R = g.new_empty(len(g), *above.shape)
        for rows in _few_images(g):
            part = g[:, rows] * z_box_ratio(z[rows], floor, relu, eps)[0]
            shape = (part.shape[0] * part.shape[1], both.shape[1], *above.shape[2:])
            c = transposed_to_pixels(part.flatten(0, 1), both, shape, conf).unflatten(0, part.shape[:2])
            a, b = c.chunk(2, 2)
            R[:, rows] = a.mul_(above[rows]).addcmul_(b, width, value=-1)
        return R

    @staticmethod
    def backward(ctx, u):
        g, z, floor, weight, above, width = ctx.saved_tensors
        negative, grad_weight = weight.clamp(max=0), 0
        grad_g, grad_z, grad_floor = torch.empty_like(g), torch.empty_like(z), torch.zeros_like(floor)
        for rows in _few_images(g):
            ratio, D = z_box_ratio(z[rows], floor, ctx.relu, ctx.eps)
            part = (g[:, rows] * ratio).flatten(0, 1)
            a, b = ((u[:, rows] * k).flatten(0, 1) for k in (above[rows], -width))
            pulled = convolve(a, weight, ctx.conf).add_(convolve(b, negative, ctx.conf)).view_as(g[:, rows])
            grad_weight = grad_weight + weight_gradient(part, a, weight, ctx.conf)  # not with b: six channels are slow
            grad_weight += weight_gradient(part, b, negative, ctx.conf) * (weight < 0)
            torch.mul(pulled, ratio, out=grad_g[:, rows])
            grad_a = (torch.div if ctx.eps else divide)(over_maps(pulled, g[:, rows]), D)
            less = ratio.mul_(grad_a)  # a / D falls as D = z - floor grows
            grad_floor += less.sum(0)
            passed = torch.ops.aten.threshold_backward(grad_a, z[rows], 0) if ctx.relu else grad_a
            torch.sub(passed, less, out=grad_z[rows])
        return grad_g, grad_z, grad_floor, grad_weight, None, None, None, None, None


def _few_images(g: Tensor, numbers: int = 2**21):  # 8 MB in fp32
    step = max(1, numbers // max(1, g[:, :1].numel()))
    return (slice(k, k + step) for k in range(0, g.shape[1], step))
