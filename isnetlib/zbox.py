"""The z^B rule, which takes the place of LRP-eps at the layers that read the pixels.

LRP-eps gives an input of 0 no relevance, whatever the network makes of it. z^B measures pixels from the ends of their
box [l, h] instead (Montavon et al. 2019), so that black ones can be relevant too. `isnetlib.lrp.LRP` applies it.
"""

import torch
from torch import Tensor

from isnetlib.functions import Scale, divide
from isnetlib.nodes import Layer


def z_box_floor(layer: Layer, low: Tensor, high: Tensor, size: torch.Size | None = None) -> Tensor:
    """What z^B takes from z: floor_k = sum_j (l_j w+_jk + h_j w-_jk) + b-_k, (1, ...), so that D = z - floor >= 0.

    low, high: images of the box as the layer sees them; or, where a convolution reads pixels of one box, its bounds
    (1, C, 1, 1), and `size` of the image. Zero padding pads x, l and h alike. The bias is one more input, fixed at 1 in
    a box [0, 1].
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


def z_box_share(G: Tensor, z: Tensor, floor: Tensor, relu: bool, eps: float) -> Tensor:
    """R / (D + eps), the relevance R = a * G (M, B, ...) of the first layer by its denominator; a = z or ReLU(z).

    z^B at the first layer for pixels in the box [l, h] is

        R_j = sum_k (x_j w_jk - l_j w+_jk - h_j w-_jk) / (D_k + eps) R_k
            = (x_j - l_j) c_j(w) - (h_j - l_j) c_j(w-),         c(w): the transposed layer applied to this share
        D_k = sum_j (x_j w_jk - l_j w+_jk - h_j w-_jk) + b+_k = z_k - floor_k >= 0
    """
    a, D = z.relu() if relu else z, (z - floor).clamp(min=0) + eps  # rounding may leave a tiny negative D
    return Scale.apply(G, a / D if eps else divide(a, D))
