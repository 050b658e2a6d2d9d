"""Lung masks for films that have none, the parts of notebook 08_segment: a U-Net learns human masks, and one that never
saw its patient predicts the mask of every film, of those with a human mask, too: its style would tell the source.

Human masks follow one of two conventions, a source each: lungs without the heart (JSRT/SCR, Shenzhen), or with the area
behind it (V7). A second input plane tells the network which; every stored mask follows a single one.
"""

import math
from functools import partial

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes, label
from torch import Tensor

from isnetlib.data.backgrounds import STANDING, augment
from isnetlib.data.images import Images
from isnetlib.networks import UNet, pixel_loss
from isnetlib.training.fit import learn, seeded

CONVENTIONS = ("without_heart", "with_heart")  # the value of the second input plane is the position here
SPECK = 0.01  # share of the image: a smaller component is no lung
AREA = (0.10, 0.55)  # share of the image that two lungs take; 98 % of the human masks lie within


class Lungs(UNet):
    """A U-Net of two channels that is told which convention to follow."""

    def forward(self, x: Tensor, convention: Tensor) -> Tensor:
        """Images (B, 1, H, W) in [0, 1] and conventions (B,), positions in `CONVENTIONS`, to logits (B, 1, H, W)."""
        return super().forward(torch.cat([x, convention.to(x.dtype)[:, None, None, None].expand_as(x)], 1))

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Pixel cross-entropy plus 1 - soft Dice, 2 sum(p m) / sum(p + m), mean over images; y: conventions."""
        logits = self(x, y)
        p = logits.sigmoid()
        overlap = 2 * (p * mask).flatten(1).sum(1) / (p + mask).flatten(1).sum(1).clamp(min=1e-6)
        loss = pixel_loss(logits, mask) + (1 - overlap).mean()
        return loss, {"segmentation": loss.item()}


def fit(films: Images, *, epochs: int, depth: int, width: int, batch_size: int, learning_rate: float, seed: int):
    """`Lungs` in eval mode, trained on films with masks, as askew and as bright or dark as films can be."""
    films = Images(films.x, films.y, films.mask, films.frame, films.classes, partial(augment, **STANDING))
    recipe = {"train": films, "learning_rate": learning_rate, "weight_decay": 1e-2, "warm_up": 0.3, "clip": math.inf}
    with seeded(seed):
        network = Lungs(2, depth, width)
        learn(network, epochs, batch_size=batch_size, order=torch.default_generator, device="cpu", **recipe)
    return network.eval()


@torch.no_grad()
def predict(network: Lungs, films: Images, convention: str) -> np.ndarray:
    """(N, S, S) uint8 masks of the films, cleaned, in one of `CONVENTIONS`."""
    masks = []
    for rows in torch.arange(len(films)).split(64):
        logits = network(films[rows][0], torch.full((len(rows),), CONVENTIONS.index(convention)))
        masks += [clean(mask) for mask in (logits[:, 0] > 0).numpy()]
    return np.stack(masks).astype(np.uint8)


def clean(mask: np.ndarray) -> np.ndarray:
    """bool (H, W): holes filled, components smaller than `SPECK` of the image removed."""
    parts, _ = label(binary_fill_holes(mask))
    sizes = np.bincount(parts.ravel())
    return (parts > 0) & (sizes[parts] >= SPECK * mask.size)


def doubt(mask: np.ndarray) -> str:
    """Why a cleaned mask (H, W) is doubtful, "" where it is not: its area, or other than two components."""
    area, components = float(mask.mean()), label(mask)[1]
    if not AREA[0] <= area <= AREA[1]:
        return f"area {area:.2f} of the image, not {AREA[0]:.2f} to {AREA[1]:.2f}"
    return "" if components == 2 else f"{components} component{'s' * (components != 1)}, not 2"
