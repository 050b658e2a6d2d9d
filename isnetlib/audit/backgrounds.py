"""What an audit does to the background of images: nothing, removed, blurred, swapped."""

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from isnetlib.data import swap_backgrounds
from isnetlib.data.images import Images
from isnetlib.data.swap import SCALE, fill_foreground


def removed(x: Tensor, mask: Tensor) -> Tensor:
    """Background pixels of x (B, C, H, W) become the mean grey of all these images' channels; mask (B, 1, H, W)."""
    return torch.where(mask > 0.5, x, x.mean((0, 2, 3), keepdim=True))


def blurred(x: Tensor, mask: Tensor) -> Tensor:
    """Background of x (B, C, H, W) blurred by a Gaussian of `SCALE` of the side; the object does not bleed into it."""
    sigma = SCALE * max(x.shape[2:])
    kernel = 2 * int(2 * sigma) + 1
    kernel = min(kernel, 2 * ((min(x.shape[2:]) - 1) // 2) - 1)  # torch pads by reflection, which needs room
    return torch.where(mask > 0.5, x, gaussian_blur(fill_foreground(x, mask > 0.5), [kernel] * 2, [sigma] * 2))


def treated(images: Images, seed: int = 0) -> dict[str, Images]:
    """The images with their background as it is, removed, blurred, and swapped with other classes' images'."""
    x, y, mask, _ = images[list(range(len(images)))]
    swapped = swap_backgrounds(x, y, mask, torch.Generator().manual_seed(seed))
    sets = {"as_it_is": x, "removed": removed(x, mask), "blurred": blurred(x, mask), "swapped": swapped}
    return {name: Images(part, y, mask, images.frame, images.classes) for name, part in sets.items()}
