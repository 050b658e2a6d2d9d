"""What the simulated pictures are drawn with: values, coordinates, soft shapes, smooth noise. All work on a batch."""

from pathlib import Path

import numpy as np
import yaml
from scipy.ndimage import gaussian_filter

VALUES = yaml.safe_load(Path(__file__).with_name("values.yaml").read_text(encoding="utf-8"))


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x (1, 1, size), right, and y (1, size, 1), down, of pixel centres, float32 in (-1, 1)."""
    at = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    return at[None, None], at[None, :, None]


def drawn_body(rng: np.random.Generator, n: int, size: int, kind: str) -> tuple[np.ndarray, np.ndarray, dict]:
    """Coordinates x, y (n, size, size) and values, name -> (n, 1, 1), of bodies: "anatomy" or "face" of values.yaml."""
    columns = rng.random((n, len(VALUES[kind]))).astype(np.float32).T[..., None, None]
    a = {name: low + (high - low) * u for (name, (low, high)), u in zip(VALUES[kind].items(), columns, strict=True)}
    (x, y), c, s = grid(size), np.cos(a["turn"]), np.sin(a["turn"])
    x, y = x - a["shift_x"], y - a["shift_y"]
    return (c * x + s * y) / a["scale"], (c * y - s * x) / a["scale"], a


def step(distance: np.ndarray, width: float) -> np.ndarray:
    """0 below -width / 2, 1 above width / 2, linear between: the edge of a shape, given the distance inside it."""
    return np.clip(distance / width + 0.5, 0, 1)


def ellipse(x, y, cx, cy, rx, ry) -> np.ndarray:
    """About the distance inside an ellipse, to first order (f / |grad f|): positive within, negative outside."""
    u, v = (x - cx) / rx, (y - cy) / ry
    radius = np.sqrt(u * u + v * v) + 1e-6
    return (1 - radius) * radius / (np.sqrt((u / rx) ** 2 + (v / ry) ** 2) + 1e-6)


def smooth_noise(rng: np.random.Generator, n: int, size: int, sigma: float) -> np.ndarray:
    """White noise blurred with a Gaussian of `sigma` (the image's half side = 1), each image scaled to deviation 1."""
    pixels, noise = sigma * size / 2, rng.standard_normal((n, size, size), dtype=np.float32)
    noise = gaussian_filter(noise, (0, pixels, pixels), mode="nearest", truncate=3)
    return noise / noise.std((1, 2), keepdims=True)


def text(word: str, scale: int = 1) -> np.ndarray:
    """A word as (5 scale, (5 letters - 1) scale) bool, one pixel between its letters."""
    rows = (".".join(row) for row in zip(*(VALUES["letters"][letter].split() for letter in word), strict=True))
    return np.kron([[pixel == "#" for pixel in row] for row in rows], np.ones((scale, scale), dtype=bool))


def to_bytes(values: np.ndarray) -> np.ndarray:
    """uint8 of values in [0, 1]; what lies outside is cut off."""
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def in_chunks(draw, n: int, chunk: int, seed: list[int]) -> tuple[np.ndarray, ...]:
    """draw(rng, start) -> arrays of `chunk` rows, for start = 0, chunk, ...: joined, the first n rows."""
    parts = [draw(np.random.default_rng([*seed, start]), start) for start in range(0, n, chunk)]
    return tuple(np.concatenate(part)[:n] for part in zip(*parts, strict=True))
