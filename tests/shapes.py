"""A data set folder of coloured shapes on textures that tell the class."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

SIDE = 64
CLASSES = ("cold", "warm")  # the colour of the shape


def draw(k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) and mask (H, W), uint8, of a shape of class k on its texture."""
    row, column = np.indices((SIDE, SIDE))
    wave = np.sin((column if k else row) * rng.uniform(0.7, 1.0) + rng.uniform(0, 6))
    background = 0.5 + 0.3 * np.sign(wave)[..., None] * rng.uniform(0.5, 1, 3)
    r, (y, x) = rng.uniform(11, 16), rng.uniform(18, SIDE - 18, 2)
    dy, dx = np.abs(row - y), np.abs(column - x)
    inside = rng.choice([np.hypot(dy, dx) < r, np.maximum(dy, dx) < r * 0.85, dy + dx < r * 1.2])
    warmth = (1 if k else -1) * rng.uniform(0.1, 0.3)
    colour = np.array([0.5 + warmth, rng.uniform(0.3, 0.7), 0.5 - warmth])
    image = np.where(inside[..., None], colour, background) + rng.normal(0, 0.06, (SIDE, SIDE, 3))
    return (255 * image.clip(0, 1)).astype(np.uint8), 255 * inside.astype(np.uint8)


def write(folder, images: int = 60, patients: int = 60, seed: int = 0) -> Path:
    """Images and masks with their index.csv; a patient's images are of one class."""
    folder, rng, rows = Path(folder), np.random.default_rng(seed), []
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(images):
        patient = i % patients
        parts = draw(patient % 2, rng)
        names = [f"images/{i:03d}.png", f"masks/{i:03d}.png"]
        for name, pixels in zip(names, parts, strict=True):
            Image.fromarray(pixels).save(folder / name)
        rows.append((*names, CLASSES[patient % 2], "script", f"{seed}-{patient}"))
    table = pd.DataFrame(rows, columns=["image", "mask", "label", "source", "patient"])
    table.to_csv(folder / "index.csv", index=False)
    return folder
