"""`faces_sim`: simulated faces with several attributes, one of them told by the background in training.

Attributes of the face change pixels of the mask alone; what is worn beside it (hat, earrings), hair and background
pixels outside it alone. Nobody is portrayed. Lengths are shares of half the image's side; x runs to the right, y down.
"""

import numpy as np
import torch

from isnetlib.data import backgrounds
from isnetlib.data.images import Experiment, Images, check_range, named_rows
from isnetlib.data.simulated import drawing
from isnetlib.data.simulated.drawing import VALUES, ellipse, grid, step

INSIDE = {"Eyeglasses": 0.3, "Mouth_Open": 0.5, "Smiling": 0.5, "Beard": 0.3}  # how frequent; in the mask
PREVALENCE = INSIDE | {"Wearing_Hat": 0.3, "Wearing_Earrings": 0.3}
PATTERNS = ("none", "stripes", "dots")
SHAPES = 7  # in the clutter behind a head
SMALLEST = 32  # pixels: below it a mouth is a dot
CHUNK = 20  # faces drawn at once, each chunk from its own seed
TESTS = {"biased": ("stripes", "dots"), "unbiased": ("none", "none"), "deceiving": ("dots", "stripes")}  # smiling, not


def load(size=64, data_seed=0, train_size=1200, validation_size=300, test_size=500, augment=False) -> Experiment:
    """Simulated faces: attributes drawn independently, Smiling tied to the pattern of the background in training.

    The labels are INSIDE. The tests share faces and clutter: `biased` (stripes where Smiling is present, dots where
    not, as in training), `unbiased` (neither), `deceiving` (exchanged), `swapped` (the biased faces, each on another's
    background). Metric auc. size: 32 or more; augment: training faces. `frame` has pattern and all attributes, too.
    """
    sizes = {"train_size": train_size, "validation_size": validation_size, "test_size": test_size}
    check_range(SMALLEST, size=size)
    check_range(1, **sizes)

    def build(part, kind):
        n, seed = sizes[f"{part}_size"], [data_seed, ("train", "validation", "test").index(part)]
        drawn = draw_attributes(n, seed)
        pattern = np.where(drawn[:, list(INSIDE).index("Smiling")] == 1, *map(PATTERNS.index, TESTS[kind]))

        def draw(rng, start):
            rows = np.arange(start, start + CHUNK) % n  # the last is filled up, so that a prefix stays one
            x, mask = draw_faces(drawn[rows], pattern[rows], size, rng)
            return drawing.to_bytes(x), mask[:, None].astype(np.uint8)

        x, mask = map(torch.from_numpy, drawing.in_chunks(draw, n, CHUNK, [*seed, 1]))
        y = drawn[:, : len(INSIDE)]
        frame = named_rows(part, range(n)).assign(source="simulated", y=[" ".join(map(str, row)) for row in y])
        frame = frame.assign(pattern=np.array(PATTERNS)[pattern], **dict(zip(PREVALENCE, drawn.T, strict=True)))
        return Images(x, torch.from_numpy(y.astype(np.float32)), mask, frame, INSIDE)

    tests = {kind: build("test", kind) for kind in TESTS}
    tests["swapped"] = swapped(tests["biased"], data_seed)
    train, validation = build("train", "biased"), build("validation", "biased")
    train.augment = backgrounds.augment if augment else None
    return Experiment(train, validation, tests, "auc", {}, publishable=True)


def draw_attributes(n: int, seed) -> np.ndarray:
    """The six attributes (n, 6) of 0/1, each drawn on its own with its prevalence."""
    u = np.random.default_rng([*seed, 0]).random((n, len(PREVALENCE) + 1))  # one more was drawn when results were made
    return (u[:, :-1] < np.array(list(PREVALENCE.values()))).astype(np.int64)


def swapped(images: Images, seed: int) -> Images:
    """The data set with each face on the background of another one; labels and attribute columns are the face's."""
    x, y, mask, _ = images[list(range(len(images)))]
    x = backgrounds.swap_backgrounds(x, y, mask, torch.Generator().manual_seed(seed))
    x, frame = (255 * x.clamp(0, 1)).round().to(torch.uint8), images.frame.assign(pattern="another's")
    return Images(x, y, images.mask, frame, images.classes)


def draw_faces(attributes: np.ndarray, pattern: np.ndarray, size: int, rng: np.random.Generator):
    """Faces (N, 3, size, size) float32, not cut to [0, 1], with attributes (N, 6) of 0/1 and a pattern (N,) of PATTERNS
    behind, and masks (N, size, size) bool, with ears. Attributes and patterns do not change what `rng` draws.
    """
    n = len(attributes)
    x, y, a = drawing.drawn_body(rng, n, size, "face")
    colours = 0.15 + 0.7 * rng.random((n, 5, 3), dtype=np.float32)
    shapes = rng.random((n, SHAPES, 8), dtype=np.float32)
    fine, coarse = (drawing.smooth_noise(rng, n, size, sigma) for sigma in (1.5 / size, 0.15))
    a |= {name: attributes[:, k, None, None].astype(np.float32) for k, name in enumerate(PREVALENCE)}
    hair = palette("hair", a["hair"]) + 0.12 * a["hair_red"][:, 0] * np.array([1.0, 0.2, -0.3], dtype=np.float32)
    hair, skin = np.clip(hair, 0, 1), palette("skin", a["skin"])
    behind = paint_pattern(clutter(size, colours, shapes, coarse), pattern, colours[:, 2], shapes[:, 0])
    behind = paint(behind, surroundings(x, y, a, colours, hair, fine))
    front = np.broadcast_to(skin[:, :, None, None], behind.shape).astype(np.float32)  # everywhere: the mask cuts it out
    front = paint(front, features(x, y, a, skin, hair, fine))
    mask = np.maximum(outline(x, y, a), ellipse(np.abs(x), y, a["width"] + 0.01, 0.02, 0.06, 0.11)) > 0  # with ears
    light = a["gain"] * (1 + a["light"] * x) + 0.05 * coarse + 0.04 * fine
    return np.where(mask[:, None], front * light[:, None], behind), mask


def paint(canvas: np.ndarray, layers: list[tuple]) -> np.ndarray:
    """`canvas` (N, 3, H, W) covered by layers: opacity (N, H, W), and a colour, (3,), (N, 3) or (N, 3, H, W)."""
    for alpha, colour in layers:
        colour = np.asarray(colour, dtype=np.float32)
        colour = colour.reshape(*colour.shape, 1, 1) if colour.ndim < 3 else colour
        canvas = canvas + alpha[:, None].astype(np.float32, copy=False) * (colour - canvas)
    return canvas


def palette(name: str, share: np.ndarray) -> np.ndarray:
    """Colours (N, 3) along a palette; share (N, 1, 1) in [0, 1]."""
    colours = np.array(VALUES["palettes"][name])
    at = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(share[:, 0, 0], at, channel) for channel in colours.T], axis=1).astype(np.float32)


# --- the face, as layers. Here and below, x and y (N, H, W) are the head's own coordinates (u: x from the middle of the
# turned features, s = |u|), `a` the values of a face and the attributes, name -> (N, 1, 1), edge that of a soft edge.
def outline(x, y, a) -> np.ndarray:
    """About the distance inside the face's outline: cheeks and chin, cut off by the hairline."""
    u, v, power = np.abs(x) / a["width"], np.abs(y) / a["height"], a["square"]
    oval = 1 - (u**power + (v * (1 + 0.15 * u * (y > 0))) ** power + 1e-9) ** (1 / power)
    return np.minimum(a["width"] * oval, y - a["hairline"] - 0.25 * x * x)


def features(x, y, a, skin, hair, fine) -> list[tuple]:
    """Shade of the cheeks, beard, mouth, eyes, nose, glasses. The beard begins below a line that rises to the ears."""
    u, edge = x - a["yaw"], 3.0 / fine.shape[1]
    start = a["nose"] + a["beard"] - 0.25 * (np.abs(u) - 0.1).clip(0)
    beard = step(y - start, 0.05) * np.clip(a["stubble"] * (1 + 0.15 * fine), 0, 1)
    nose = np.exp(-(((u - 0.03) / 0.025) ** 2)) * step(a["nose"] - y, edge) * step(y - a["eye_y"], 0.1)
    foot = step(ellipse(u, y, 0, a["nose"], 0.06, 0.02), edge)
    return [
        (0.5 * step(0.02 - outline(x, y, a), 0.08), 0.6 * skin),  # the cheeks turn away
        (0.35 * step(-ellipse(x, y, 0, 0, a["width"] - 0.01, 1.5), 0.04), 0.5 * skin),
        (beard * a["Beard"], 0.85 * hair),
        *mouth(u, y, a, skin, edge),
        *eyes(np.abs(u), y, a, hair, edge),
        (0.25 * nose + 0.45 * foot, 0.55 * skin),
        *glasses(np.abs(u), y, a, edge),
    ]


def mouth(u, y, a, skin, edge) -> list[tuple]:
    """Lips along a curve that a smile bends up and widens; between them, if open, the dark of the mouth and teeth."""
    half = a["mouth"] * (1 + 0.3 * a["Smiling"])
    v = y - a["mouth_y"] + (a["smile"] * a["Smiling"] + a["curl"]) * (u / half) ** 2
    within = np.clip(1 - (u / half) ** 2, 0, 1)
    gap = a["gap"] * a["Mouth_Open"] * within
    middle = step(within - 0.05, 0.1)
    lips = step(gap + 0.035 * np.sqrt(within) - np.abs(v), edge) * middle
    line = np.exp(-((v / 0.012) ** 2)) * middle
    dark = step(gap - np.abs(v), edge) * middle * a["Mouth_Open"]
    crease = np.exp(-(((np.abs(u) - half - 0.05) / 0.015) ** 2)) * step(0.07 - np.abs(v + 0.04), 0.04)
    return [
        (0.9 * lips, np.clip(0.75 * skin + np.array([0.10, -0.08, -0.05]), 0, 1)),
        (0.6 * line * (1 - a["Mouth_Open"]), 0.4 * skin),
        (dark, (0.22, 0.05, 0.06)),
        (dark * step(-v - 0.2 * gap, edge), (0.92, 0.90, 0.85)),
        (0.35 * crease * a["Smiling"], 0.55 * skin),
    ]


def eyes(s, y, a, hair, edge) -> list[tuple]:
    """Brow, white, iris and lid of both eyes."""
    at, r = (s, y, a["eyes"], a["eye_y"]), a["eye_size"]
    brow = np.exp(-(((y - a["eye_y"] + a["brow"] - 0.3 * (s - a["eyes"]) ** 2) / 0.022) ** 2))
    lid = step(ellipse(*at, 1.4 * r, 0.8 * r), edge) * step(a["eye_y"] - 0.3 * r - y, edge)
    return [
        (0.8 * brow * step(0.09 - np.abs(s - a["eyes"]), 0.03), 0.7 * hair),
        (step(ellipse(*at, 1.35 * r, 0.75 * r), edge), (0.93, 0.92, 0.90)),
        (step(ellipse(*at, 0.6 * r, 0.65 * r), edge), palette("iris", a["iris"])),
        (0.6 * lid, (0.15, 0.1, 0.08)),
    ]


def glasses(s, y, a, edge) -> list[tuple]:
    """Tint of the lenses, then rims, bridge and temples."""
    r, on = a["glasses"], a["Eyeglasses"]
    lens = ellipse(s, y, a["eyes"] + 0.01, a["eye_y"] + 0.01, 1.15 * r, r)
    bridge = step(0.018 - np.abs(y - a["eye_y"]), edge) * step(a["eyes"] - r - s, edge)
    temple = step(0.018 - np.abs(y - a["eye_y"] + 0.02), edge) * step(s - a["eyes"] - r, edge)
    frame = np.maximum.reduce([step(0.022 - np.abs(lens), edge), bridge, temple])
    return [(0.18 * step(lens, edge) * on, (0.75, 0.82, 0.88)), (a["frame"] * frame * on, palette("frame", a["iris"]))]


def clutter(size, colours, shapes, coarse) -> np.ndarray:
    """A wall of two colours with boxes and discs of others."""
    x, y = grid(size)
    angle = 6.28 * shapes[:, 0, 0, None, None]
    layers = [(np.ones_like(coarse), colours[:, 0]), (step(x * np.cos(angle) + y * np.sin(angle), 1.5), colours[:, 1])]
    for k in range(1, SHAPES):
        cx, cy, rx, ry, kind, opacity, tone, angle = (shapes[:, k, j, None, None] for j in range(8))
        u, v = x - 2 * cx + 1, y - 2 * cy + 1
        u, v = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
        rx, ry = 0.1 + 0.4 * rx, 0.1 + 0.4 * ry
        inside = np.where(kind < 0.5, np.minimum(rx - np.abs(u), ry - np.abs(v)), ellipse(u, v, 0, 0, rx, ry))
        layers.append(((0.4 + 0.6 * opacity) * step(inside, 3 / size), colours[:, k % 5] * (0.4 + 0.6 * tone[:, 0])))
    return paint(np.zeros((len(colours), 3, size, size), dtype=np.float32), layers) + 0.04 * coarse[:, None]


def paint_pattern(canvas, pattern, colours, u) -> np.ndarray:
    """The wallpaper that can be tied to an attribute: slanting stripes, or dots, at a period and phase of its own."""
    x, y = grid(canvas.shape[-1])
    period, phase, slant = 0.22 + 0.08 * u[:, 1, None, None], u[:, 2, None, None], 0.6 + 0.8 * u[:, 3, None, None]
    stripes = step(np.sin(2 * np.pi * ((x + slant * y) / period / np.sqrt(1 + slant**2) + phase)), 0.8)
    dots = step(0.28 - np.hypot(*((along / period + phase) % 1 - 0.5 for along in (x, y))), 0.2)
    alpha = np.select([pattern[:, None, None] == 1, pattern[:, None, None] == 2], [stripes, dots], 0.0)
    light = canvas.mean((1, 2, 3))[:, None] > 0.5  # the wallpaper stands out from its wall
    return paint(canvas, [(0.6 * alpha, np.where(light, 0.3 * colours, 0.7 + 0.3 * colours))])


def surroundings(x, y, a, colours, hair, fine) -> list[tuple]:
    """Hair behind, neck, shirt, hair above, then hat and earrings, over the clutter."""
    s, edge = np.abs(x), 3.0 / fine.shape[1]
    strands = hair[:, :, None, None] * (1 + 0.10 * fine[:, None])
    volume, width, line = a["volume"], a["width"], a["hairline"]
    long = step(np.minimum(width + volume - s, 0.75 - y), 0.06) * step(y + 0.1, 0.05) * (a["long"] > 0.5)
    cap = ellipse(x, y, 0, -0.08, width + volume, a["height"] - 0.06 + volume)
    top = np.minimum(width + 0.04 + 0.1 * (y - line) - s, y - line + a["hat"] + 0.02)
    crown = step(np.minimum(top, line + 0.04 + 0.25 * x * x - y), edge)
    brim = step(np.minimum(width + a["brim"] + 0.04 - s, 0.05 - np.abs(y - line - 0.2 * x * x)), edge)
    distance = np.hypot(s - width - 0.02, y - 0.13 - a["ring"]) - 0.6 * a["ring"]
    drop = step(np.where(a["long"] % 0.5 < 0.25, 0.025 - np.abs(distance), 0.3 * a["ring"] - distance), edge)
    return [
        (long, strands),
        (step(0.22 - s, edge) * step(y - 0.2, edge), 0.85 * palette("neck", a["skin"])),
        (step(y - a["height"] - 0.12 - 0.5 * np.clip(s - 0.2, 0, None) ** 1.5, 0.04), colours[:, 3]),
        (step(cap, edge) * step(0.05 - y, 0.1), strands),
        (crown * a["Wearing_Hat"], colours[:, 4]),
        (brim * a["Wearing_Hat"], 0.6 * colours[:, 4]),
        (drop * a["Wearing_Earrings"], palette("ring", a["hair_red"])),
    ]
