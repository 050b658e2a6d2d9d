"""Simulated faces: two painted layers, the face and everything else, and a mask that says which one shows.

So attributes of the face (glasses, open mouth, smile, beard) change pixels of the mask alone, and those worn beside it
(hat, earrings), hair and background change pixels outside it alone. Nobody is portrayed. Lengths are shares of half
the image's side; x runs to the right, y down; colours are RGB in [0, 1].
"""

import numpy as np

from isnetlib.data.simulated.drawing import ellipse, grid, own_coordinates, smooth_noise, step, uniform

INSIDE = ("Eyeglasses", "Mouth_Open", "Smiling", "Beard")
OUTSIDE = ("Wearing_Hat", "Wearing_Earrings")
PREVALENCE = dict(zip(INSIDE + OUTSIDE, (0.3, 0.5, 0.5, 0.3, 0.3, 0.3), strict=True))
PATTERNS = ("none", "stripes", "dots")
SHAPES = 7  # in the clutter behind a head

# The range of each value. How the head is held (radians, shift of the features, shifts, scale); outline, whose exponent
# is "square" (2 = ellipse); from the nose to an eye, brow above it; nose; mouth, how far its corners rise at
# rest, and by a smile; places in palettes; hair; of the photograph; glasses and the opacity of their frame; from the
# nose's foot to a beard, and its density; gap of an open mouth; hat and earrings.
# fmt: off
FACE = {
    "turn": (-0.2, 0.2), "yaw": (-0.09, 0.09), "shift_x": (-0.12, 0.12), "shift_y": (-0.02, 0.14),
    "scale": (1.15, 1.45), "width": (0.36, 0.46), "height": (0.50, 0.60), "square": (2.0, 2.8),
    "hairline": (-0.42, -0.30), "eyes": (0.15, 0.20), "eye_y": (-0.10, -0.03), "eye_size": (0.055, 0.075),
    "brow": (0.10, 0.14), "nose": (0.13, 0.19), "mouth_y": (0.27, 0.33), "mouth": (0.11, 0.17),
    "curl": (-0.020, 0.010), "smile": (0.05, 0.10), "skin": (0.0, 1.0), "iris": (0.0, 1.0), "hair": (0.0, 1.0),
    "hair_red": (0.0, 1.0), "volume": (0.05, 0.16), "long": (0.0, 1.0), "light": (-0.35, 0.35), "gain": (0.85, 1.10),
    "glasses": (0.09, 0.125), "frame": (0.3, 0.9), "beard": (0.07, 0.13), "stubble": (0.2, 0.9), "gap": (0.025, 0.06),
    "hat": (0.30, 0.45), "brim": (0.0, 0.16), "ring": (0.05, 0.08),
}
# fmt: on


def draw_faces(attributes: np.ndarray, pattern: np.ndarray, size: int, rng: np.random.Generator):
    """Faces with the given attributes, each in front of clutter with the given pattern.

    attributes : (N, 6) of 0/1, columns as INSIDE + OUTSIDE
    pattern : (N,) index into PATTERNS

    Returns (N, 3, size, size) float32, not yet cut to [0, 1], and the mask (N, size, size) bool: skin, features and
    ears, without hair, neck and what is worn. What is drawn of `rng` does not depend on attributes and patterns.
    """
    n = len(attributes)
    a, colours = uniform(rng, n, FACE), 0.15 + 0.7 * rng.random((n, 5, 3), dtype=np.float32)
    shapes = rng.random((n, SHAPES, 8), dtype=np.float32)
    fine, coarse = smooth_noise(rng, n, size, 1.5 / size), smooth_noise(rng, n, size, 0.15)
    x, y = own_coordinates(size, a)
    has = {name: attributes[:, k, None, None].astype(np.float32) for k, name in enumerate(INSIDE + OUTSIDE)}
    inside = np.maximum(outline(x, y, a), ears(x, y, a))
    hair_colour = _hair_colour(a)
    behind = clutter(size, colours, shapes, coarse)
    behind = paint_pattern(behind, pattern, colours[:, 2], shapes[:, 0])
    behind = paint_surroundings(behind, x, y, a, has, colours, hair_colour, fine)
    front = paint_face(x, y, a, has, hair_colour, fine)
    mask = inside > 0
    light = a["gain"] * (1 + a["light"] * x) + 0.05 * coarse + 0.04 * fine
    return np.where(mask[:, None], front * light[:, None], behind), mask


def outline(x, y, a) -> np.ndarray:
    """About the distance inside the face's outline: cheeks and chin, cut off by the hairline."""
    u, v = np.abs(x) / a["width"], np.abs(y) / a["height"]
    power = a["square"]
    oval = 1 - (u**power + (v * (1 + 0.15 * u * (y > 0))) ** power + 1e-9) ** (1 / power)
    return np.minimum(a["width"] * oval, y - a["hairline"] - 0.25 * x * x)


def ears(x, y, a) -> np.ndarray:
    return ellipse(np.abs(x), y, a["width"] + 0.01, 0.02, 0.06, 0.11)


def paint(canvas: np.ndarray, alpha: np.ndarray, colour) -> np.ndarray:
    """`canvas` (N, 3, H, W) covered by a colour, (3,) or (N, 3) or (N, 3, H, W), with the opacity alpha (N, H, W)."""
    colour = np.asarray(colour, dtype=np.float32)
    colour = colour.reshape(*colour.shape, 1, 1) if colour.ndim < 3 else colour
    return canvas + alpha[:, None].astype(np.float32, copy=False) * (colour - canvas)


def _between(share, *colours):
    """Colours (N, 3) along a palette; share (N, 1, 1) in [0, 1]."""
    at = np.linspace(0, 1, len(colours))
    channels = [np.interp(share[:, 0, 0], at, channel) for channel in zip(*colours, strict=True)]
    return np.stack(channels, axis=1).astype(np.float32)


def _hair_colour(a):
    dark = _between(a["hair"], (0.06, 0.05, 0.05), (0.28, 0.17, 0.10), (0.62, 0.47, 0.28), (0.62, 0.60, 0.58))
    return np.clip(dark + 0.12 * a["hair_red"][:, 0] * np.array([1.0, 0.2, -0.3], dtype=np.float32), 0, 1)


# --- the face. Here and below, x and y (N, H, W) are the head's own coordinates (u: x from the middle of the turned
# features), `a` the values of FACE, name -> (N, 1, 1), `has` the attributes likewise, edge the breadth of a soft edge.


def paint_face(x, y, a, has, hair_colour, fine) -> np.ndarray:
    """Skin and features everywhere; the mask cuts the face out."""
    skin = _between(a["skin"], (0.95, 0.80, 0.70), (0.85, 0.65, 0.50), (0.62, 0.43, 0.30), (0.36, 0.24, 0.17))
    canvas = np.broadcast_to(skin[:, :, None, None], (len(skin), 3, *fine.shape[1:])).astype(np.float32)
    canvas = paint(canvas, 0.5 * step(0.02 - outline(x, y, a), 0.08), 0.6 * skin)  # the cheeks turn away
    canvas = paint(canvas, 0.35 * step(-ellipse(x, y, 0, 0, a["width"] - 0.01, 1.5), 0.04), 0.5 * skin)
    u, edge = x - a["yaw"], 3.0 / fine.shape[1]
    canvas = paint_beard(canvas, u, y, a, has["Beard"], hair_colour, fine)
    canvas = paint_mouth(canvas, u, y, a, has["Mouth_Open"], has["Smiling"], skin, edge)
    canvas = paint_eyes(canvas, u, y, a, hair_colour, edge)
    nose = np.exp(-(((u - 0.03) / 0.025) ** 2)) * step(a["nose"] - y, edge) * step(y - a["eye_y"], 0.1)
    foot = step(ellipse(u, y, 0, a["nose"], 0.06, 0.02), edge)
    canvas = paint(canvas, 0.25 * nose + 0.45 * foot, 0.55 * skin)
    return paint_glasses(canvas, u, y, a, has["Eyeglasses"], edge)


def paint_eyes(canvas, u, y, a, hair_colour, edge):
    s, r = np.abs(u), a["eye_size"]
    iris = _between(a["iris"], (0.15, 0.09, 0.06), (0.35, 0.25, 0.12), (0.25, 0.42, 0.50))
    brow = np.exp(-(((y - a["eye_y"] + a["brow"] - 0.3 * (s - a["eyes"]) ** 2) / 0.022) ** 2))
    canvas = paint(canvas, 0.8 * brow * step(0.09 - np.abs(s - a["eyes"]), 0.03), 0.7 * hair_colour)
    canvas = paint(canvas, step(ellipse(s, y, a["eyes"], a["eye_y"], 1.35 * r, 0.75 * r), edge), (0.93, 0.92, 0.90))
    canvas = paint(canvas, step(ellipse(s, y, a["eyes"], a["eye_y"], 0.6 * r, 0.65 * r), edge), iris)
    lid = step(ellipse(s, y, a["eyes"], a["eye_y"], 1.4 * r, 0.8 * r), edge) * step(a["eye_y"] - 0.3 * r - y, edge)
    return paint(canvas, 0.6 * lid, (0.15, 0.1, 0.08))


def paint_mouth(canvas, u, y, a, is_open, smiles, skin, edge):
    """Lips along a curve that a smile bends up and widens; between them, if open, the dark of the mouth and teeth."""
    half = a["mouth"] * (1 + 0.3 * smiles)
    bend = (a["smile"] * smiles + a["curl"]) * (u / half) ** 2
    v = y - a["mouth_y"] + bend
    within = np.clip(1 - (u / half) ** 2, 0, 1)
    gap = a["gap"] * is_open * within
    lips = step(gap + 0.035 * np.sqrt(within) - np.abs(v), edge) * step(within - 0.05, 0.1)
    red = np.clip(0.75 * skin + np.array([0.10, -0.08, -0.05]), 0, 1)
    canvas = paint(canvas, 0.9 * lips, red)
    line = np.exp(-((v / 0.012) ** 2)) * step(within - 0.05, 0.1)
    canvas = paint(canvas, 0.6 * line * (1 - is_open), 0.4 * skin)
    dark = step(gap - np.abs(v), edge) * step(within - 0.05, 0.1) * is_open
    canvas = paint(canvas, dark, (0.22, 0.05, 0.06))
    canvas = paint(canvas, dark * step(-v - 0.2 * gap, edge), (0.92, 0.90, 0.85))
    crease = np.exp(-(((np.abs(u) - half - 0.05) / 0.015) ** 2)) * step(0.07 - np.abs(v + 0.04), 0.04)
    return paint(canvas, 0.35 * crease * smiles, 0.55 * skin)


def paint_beard(canvas, u, y, a, has_beard, hair_colour, fine):
    """Hair on chin and cheeks, below a line that rises from the nose to the ears."""
    start = a["nose"] + a["beard"] - 0.25 * (np.abs(u) - 0.1).clip(0)
    density = step(y - start, 0.05) * np.clip(a["stubble"] * (1 + 0.15 * fine), 0, 1)
    return paint(canvas, density * has_beard, 0.85 * hair_colour)


def paint_glasses(canvas, u, y, a, has_glasses, edge):
    s, r = np.abs(u), a["glasses"]
    lens = ellipse(s, y, a["eyes"] + 0.01, a["eye_y"] + 0.01, 1.15 * r, r)
    rim = step(0.022 - np.abs(lens), edge)
    bridge = step(0.018 - np.abs(y - a["eye_y"]), edge) * step(a["eyes"] - r - s, edge)
    temple = step(0.018 - np.abs(y - a["eye_y"] + 0.02), edge) * step(s - a["eyes"] - r, edge)
    tint = 0.18 * step(lens, edge)
    frame = np.maximum.reduce([rim, bridge, temple])
    canvas = paint(canvas, tint * has_glasses, (0.75, 0.82, 0.88))
    metal = _between(a["iris"], (0.08, 0.08, 0.1), (0.3, 0.2, 0.1), (0.5, 0.45, 0.4))
    return paint(canvas, a["frame"] * frame * has_glasses, metal)


# --- what surrounds it


def clutter(size, colours, shapes, coarse) -> np.ndarray:
    """A wall of two colours with boxes and discs of others."""
    x, y = grid(size)
    share = step(x * np.cos(6.28 * shapes[:, 0, 0, None, None]) + y * np.sin(6.28 * shapes[:, 0, 0, None, None]), 1.5)
    canvas = np.zeros((len(colours), 3, size, size), dtype=np.float32)
    canvas = paint(paint(canvas, np.ones_like(coarse), colours[:, 0]), share, colours[:, 1])
    for k in range(1, SHAPES):
        cx, cy, rx, ry, kind, opacity, tone, angle = (shapes[:, k, j, None, None] for j in range(8))
        u, v = x - 2 * cx + 1, y - 2 * cy + 1
        u, v = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
        rx, ry = 0.1 + 0.4 * rx, 0.1 + 0.4 * ry
        box = np.minimum(rx - np.abs(u), ry - np.abs(v))
        inside = np.where(kind < 0.5, box, ellipse(u, v, 0, 0, rx, ry))
        colour = colours[:, k % 5] * (0.4 + 0.6 * tone[:, 0])
        canvas = paint(canvas, (0.4 + 0.6 * opacity) * step(inside, 3 / size), colour)
    return canvas + 0.04 * coarse[:, None]


def paint_pattern(canvas, pattern, colours, u) -> np.ndarray:
    """The wallpaper that can be tied to an attribute: slanting stripes, or dots, at a period and phase of its own."""
    x, y = grid(canvas.shape[-1])
    period, phase, slant = 0.22 + 0.08 * u[:, 1, None, None], u[:, 2, None, None], 0.6 + 0.8 * u[:, 3, None, None]
    stripes = step(np.sin(2 * np.pi * ((x + slant * y) / period / np.sqrt(1 + slant**2) + phase)), 0.8)
    column, row = ((t / period + phase) % 1 - 0.5 for t in (x, y))
    dots = step(0.28 - np.hypot(column, row), 0.2)
    alpha = np.select([pattern[:, None, None] == 1, pattern[:, None, None] == 2], [stripes, dots], 0.0)
    light = canvas.mean((1, 2, 3))[:, None] > 0.5  # the wallpaper stands out from its wall
    return paint(canvas, 0.6 * alpha, np.where(light, 0.3 * colours, 0.7 + 0.3 * colours))


def paint_surroundings(canvas, x, y, a, has, colours, hair_colour, fine) -> np.ndarray:
    """Hair behind, neck, shirt, hair above, then hat and earrings, over the clutter."""
    s, edge = np.abs(x), 3.0 / fine.shape[1]
    strands = hair_colour[:, :, None, None] * (1 + 0.10 * fine[:, None])
    volume = a["volume"]
    long = step(np.minimum(a["width"] + volume - s, 0.75 - y), 0.06) * step(y + 0.1, 0.05) * (a["long"] > 0.5)
    canvas = paint(canvas, long, strands)
    skin = _between(a["skin"], (0.85, 0.70, 0.60), (0.75, 0.55, 0.42), (0.52, 0.35, 0.24), (0.30, 0.19, 0.13))
    canvas = paint(canvas, step(0.22 - s, edge) * step(y - 0.2, edge), 0.85 * skin)
    canvas = paint(canvas, step(y - a["height"] - 0.12 - 0.5 * np.clip(s - 0.2, 0, None) ** 1.5, 0.04), colours[:, 3])
    cap = ellipse(x, y, 0, -0.08, a["width"] + volume, a["height"] - 0.06 + volume)
    canvas = paint(canvas, step(cap, edge) * step(0.05 - y, 0.1), strands)
    hat_colour = colours[:, 4]
    top = np.minimum(a["width"] + 0.04 + 0.1 * (y - a["hairline"]) - s, y - a["hairline"] + a["hat"] + 0.02)
    crown = step(np.minimum(top, a["hairline"] + 0.04 + 0.25 * x * x - y), edge)
    brim = step(np.minimum(a["width"] + a["brim"] + 0.04 - s, 0.05 - np.abs(y - a["hairline"] - 0.2 * x * x)), edge)
    canvas = paint(canvas, crown * has["Wearing_Hat"], hat_colour)
    canvas = paint(canvas, brim * has["Wearing_Hat"], 0.6 * hat_colour)
    distance = np.hypot(s - a["width"] - 0.02, y - 0.13 - a["ring"]) - 0.6 * a["ring"]
    drop = step(np.where(a["long"] % 0.5 < 0.25, 0.025 - np.abs(distance), 0.3 * a["ring"] - distance), edge)
    metal = _between(a["hair_red"], (0.95, 0.80, 0.30), (0.92, 0.92, 0.95))
    return paint(canvas, drop * has["Wearing_Earrings"], metal)
