"""Background swapping: the same objects in front of other images' backgrounds."""

import torch
from torch import Tensor

SCALE = 1 / 16  # sigma of the fill, as a share of the image's longer side: the object's near surroundings
FLOOR = 1e-9  # weight of pixels beyond any Gaussian's reach, so that the middle of a large object gets a mean, not 0/0


def swap_backgrounds(x: Tensor, y: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Paste each image's foreground on the background of another image of another class.

    A background mark or hospital style then no longer tells the class, so accuracy on swapped validation images falls
    for a classifier that read it. The donor's own foreground is filled in first (`fill_foreground`), so its object
    does not show; on a textured background its outline may, as a smooth patch.

    Parameters
    ----------
    x : Tensor (B, C, H, W)
    y : Tensor (B,) of classes, or (B, K) of attributes: then the donor is any other image
    mask : Tensor (B, 1, H, W), 1 = foreground
    generator : draws the donors; the result depends on nothing else

    Returns
    -------
    Tensor (B, C, H, W). Foreground pixels are those of `x`, bit for bit. An image without mask (all zeros), or for
    which the batch holds no donor, keeps its background; images without mask or without background are no donors.
    """
    foreground = mask > 0.5
    share = foreground.flatten(1).float().mean(1)
    donors = draw_donors(y, share > 0, (share > 0) & (share < 1), generator)
    used, inverse = donors.unique(return_inverse=True)
    background = fill_foreground(x[used], foreground[used])[inverse]
    keep = foreground | (donors == torch.arange(len(x), device=x.device))[:, None, None, None]
    return torch.where(keep, x, background)


def draw_donors(y: Tensor, takes: Tensor, gives: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """For each image the index of a random donor; its own index where it takes none or there is none.

    y (B,) or (B, K); takes, gives bool (B,): who wants a background, and who can give one. Returns int64 (B,).
    """
    rows = torch.arange(len(y), device=y.device)
    other = rows[:, None] != rows if y.ndim == 2 else y[:, None] != y
    allowed = other & takes[:, None] & gives
    allowed[rows, rows] |= ~allowed.any(1)
    device = generator.device if generator is not None else y.device
    return torch.multinomial(allowed.float().to(device), 1, generator=generator)[:, 0].to(y.device)


def fill_foreground(x: Tensor, foreground: Tensor, scale: float = SCALE) -> Tensor:
    """Replace the foreground by a normalised Gaussian blur of the background: blur(x b) / blur(b), b = background.

    x (B, C, H, W); foreground bool (B, 1, H, W); scale: sigma as a share of the longer side. Same shape as `x`, whose
    background pixels stay bit for bit. Only background pixels enter, and each fill lies within their range.
    """
    height, width = x.shape[2:]
    sigma = scale * max(height, width)
    rows, columns = _gaussian(height, sigma, x), _gaussian(width, sigma, x)
    background = (~foreground).to(x.dtype)
    blurred = rows @ (x * background) @ columns
    weight = rows @ background @ columns
    return torch.where(foreground, blurred / weight.clamp_min(FLOOR**2), x)


def _gaussian(n: int, sigma: float, like: Tensor) -> Tensor:
    """(n, n) weights between positions: blurring along an axis is a product with it, without edges to pad."""
    i = torch.arange(n, device=like.device, dtype=like.dtype)
    return torch.exp(-0.5 * ((i[:, None] - i) / sigma) ** 2) + FLOOR
