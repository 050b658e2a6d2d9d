"""What is done to backgrounds: swapped between images, moved by augmentation, marked on purpose."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isnetlib.data.images import Images
from isnetlib.data.simulated.drawing import VALUES

CHUNK = 4096  # images whose donors are drawn at once
SCALE = 1 / 16  # sigma of the fill, as a share of the image's longer side: the object's near surroundings
FLOOR = 1e-9  # weight of pixels beyond any Gaussian's reach, so that the middle of a large object gets a mean, not 0/0


def swap_backgrounds(x: Tensor, y: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Images (B, C, H, W), foreground pixels bit for bit, on the background of another one of another class (y (B,))
    or, of attributes (B, K), of any other. The donor's foreground is filled in first (`fill_foreground`), so its object
    does not show; on a textured background its outline may, as a smooth patch. mask (B, 1, H, W): 1 = foreground. An
    image without mask, or donor in the batch, keeps its background; images without mask or background are no donors.
    """
    donors = draw_donors(y, (mask > 0.5).flatten(1).float().mean(1), generator)
    return paint_backgrounds(x, mask, donors, torch.arange(len(x), device=x.device), lambda rows: (x[rows], mask[rows]))


def paint_backgrounds(x: Tensor, mask: Tensor, donors: Tensor, rows: Tensor, read) -> Tensor:
    """Images x (B, C, H, W), `rows` of a data set, on the backgrounds of its images `donors`, given by read(rows)."""
    used, inverse = donors.unique(return_inverse=True)
    given, masks = read(used)
    keep = (mask > 0.5) | (donors == rows)[:, None, None, None]
    return torch.where(keep, x, fill_foreground(given, masks > 0.5)[inverse])


def draw_donors(y: Tensor, area: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The index (B,) of a random donor; its own for an image without mask or donor. area (B,): share of the mask."""
    everyone, gives, found = torch.arange(len(y), device=y.device), (area > 0) & (area < 1), []
    device = generator.device if generator is not None else y.device
    for rows in everyone.split(CHUNK):  # all at once would be as many numbers as pairs of images
        other = rows[:, None] != everyone if y.ndim == 2 else y[rows, None] != y
        allowed = other & (area[rows] > 0)[:, None] & gives
        allowed[torch.arange(len(rows)), rows] |= ~allowed.any(1)
        found.append(torch.multinomial(allowed.to(device).float(), 1, generator=generator)[:, 0])
    return torch.cat(found).to(y.device) if found else everyone


def fill_foreground(x: Tensor, foreground: Tensor, scale: float = SCALE) -> Tensor:
    """x (B, C, H, W), its foreground (B, 1, H, W) bool filled by Gaussian blurs: blur(x b) / blur(b), b: background."""
    down, across = (torch.arange(n, device=x.device, dtype=x.dtype) for n in x.shape[2:])
    sigma = scale * max(x.shape[2:])  # to blur along an axis is a product with the weights between its positions
    rows, columns = (torch.exp(-0.5 * ((i[:, None] - i) / sigma) ** 2) + FLOOR for i in (down, across))
    background = (~foreground).to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):  # in half precision FLOOR is 0
        blurred, weight = rows @ (x * background) @ columns, rows @ background @ columns
    return torch.where(foreground, blurred / weight.clamp_min(FLOOR**2), x)


STANDING = {"turn": 0.15, "scale": 0.10, "shift": 0.06}  # as askew as patients stand: for a segmenter


def augment(x, mask, generator=None, turn=0.10, scale=0.06, shift=0.04, contrast=0.25, brightness=0.10):
    """Images (B, C, H, W) in [0, 1] and their masks (B, 1, H, W), turned, scaled and shifted together (images bilinear,
    masks nearest; black, and background, comes in), then images in another contrast and brightness. No flips: the heart
    lies on one side. Each draws its own change, evenly up to turn (radians), scale (relative), shift (of half the
    side), contrast (relative, about mid-grey), brightness (of the range). generator: None is torch's global one.
    """
    reach = torch.tensor([turn, scale, shift, shift, contrast, brightness])[:, None]
    angle, size, right, down, contrast, brightness = reach * (2 * torch.rand(6, len(x), generator=generator) - 1)
    cos, sin = angle.cos() * (1 + size), angle.sin() * (1 + size)
    theta = torch.stack([cos, -sin, right, sin, cos, down], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta.to(x), [len(x), 1, *x.shape[2:]], align_corners=False)
    moved = F.grid_sample(x, grid, mode="bilinear", align_corners=False)
    mask = F.grid_sample(mask, grid, mode="nearest", align_corners=False)
    steeper, lighter = (one.to(x)[:, None, None, None] for one in (1 + contrast, brightness))
    return (0.5 + steeper * (moved - 0.5) + lighter).clamp(0, 1), mask


MARKS = (1, 3, 2, 6)  # glyphs planted on films: frame, cross, plus, triangle, for up to four classes
SHARE = REACH = 0.1  # a mark's side, and how far from its corner's edges it may stand, of the image's side
GAP = 1  # free pixels between mark and mask


def glyphs() -> np.ndarray:
    """The ten marks of values.yaml, (10, 6, 6) bool."""
    return np.array([[list(row) for row in glyph.split()] for glyph in VALUES["glyphs"].values()]) == "#"


def any_in_window(mask: np.ndarray, side: int, padding: int) -> np.ndarray:
    """Whether any pixel of (N, H, W) bool is set in the side x side windows that start at each pixel, after padding."""
    return F.max_pool2d(torch.from_numpy(mask).float(), side, 1, padding).numpy() > 0


def mark_side(size: int) -> int:
    """Pixels of a mark's side: a multiple of a glyph's six, about SHARE of the image."""
    return 6 * max(1, round(size * SHARE / 6))


def choose_places(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random free place (N, 2: top, left) for each mask (N, H, H) bool: in any corner, at least GAP off the lungs."""
    size, side = mask.shape[1], mark_side(mask.shape[1])
    near = np.arange(size - side + 1) <= REACH * size
    edge = near | near[::-1]
    free = ~any_in_window(mask, side + 2 * GAP, GAP) & edge[:, None] & edge
    if not free.any((1, 2)).all():
        raise ValueError("lungs reach into all four corners of an image: no mark fits beside them; use a larger size")
    flat = np.where(free, rng.random(free.shape), -1).reshape(len(mask), -1).argmax(1)
    return np.stack(np.divmod(flat, free.shape[2]), axis=1)


def plant(images: Images, marks: np.ndarray, places: np.ndarray, shapes: np.ndarray | None = None) -> Images:
    """The images with white shapes (K, side, side), by default of films, on dark squares. marks: -1 = none."""
    if shapes is None:
        n = mark_side(images.x.shape[-1]) // 6
        shapes = np.kron(glyphs()[list(MARKS)], np.ones((1, n, n), dtype=bool))
    x, (_, height, width) = images.x.clone(), shapes.shape
    for image, mark, (top, left) in zip(x, marks, places, strict=True):
        if mark >= 0:
            image[:, top : top + height, left : left + width] = torch.from_numpy(255 * shapes[mark].astype(np.uint8))
    top, left = np.where(np.asarray(marks)[:, None] < 0, -1, places).T
    frame = images.frame.assign(mark=marks, mark_top=top, mark_left=left)
    return Images(x, images.y, images.mask, frame, images.classes)
