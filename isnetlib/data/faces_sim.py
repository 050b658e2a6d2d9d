"""`faces_sim`: simulated faces with several attributes, one of them told by the background in training."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from isnetlib.data.drawing import to_bytes
from isnetlib.data.faces import INSIDE, PATTERNS, PREVALENCE, draw_faces
from isnetlib.data.images import Experiment, Images
from isnetlib.data.swap import swap_backgrounds

SMALLEST = 32  # pixels: below it a mouth is a dot
CHUNK = 20  # faces drawn at once, each chunk from its own seed
PARTS = ("train", "validation", "test")


def load(
    size: int = 64,
    attributes: Sequence[str] = INSIDE,
    tied: str | None = "Smiling",
    rho: float = 1.0,
    data_seed: int = 0,
    train_size: int = 1200,
    validation_size: int = 300,
    test_size: int = 500,
) -> Experiment:
    """Simulated faces: attributes drawn independently, one of them tied to the pattern of the background in training.

    The test sets share faces and clutter: `biased` (stripes where the tied attribute is present, dots where not, as in
    training), `unbiased` (neither), `deceiving` (stripes and dots exchanged), `swapped` (the biased faces, each on
    another one's background with all that is not face: hair, hat, earrings).

    Parameters
    ----------
    size : side in pixels, 32 or more
    attributes : the labels, of Eyeglasses, Mouth_Open, Smiling, Beard (inside the mask) and Wearing_Hat,
        Wearing_Earrings (outside it: a method that looks at the mask alone cannot know them)
    tied : the attribute that the pattern tells, one of `attributes`; None = no pattern anywhere, and the test sets are
        `internal` and `swapped`
    rho : share of training, validation and `biased` images with their own pattern; the others have the other one.
        rho = 0.5 is chance
    data_seed : faces, attributes, backgrounds; the training seed changes none of them
    train_size, validation_size, test_size : images; fewer are the first of more, and at rho = 1 the same

    Returns
    -------
    Experiment with metric "auc", x (N, 3, size, size), y (N, K) float32. `frame` also has pattern and a column of 0/1
    for each of the six attributes; every face has its own patient.

    Raises
    ------
    ValueError : an option out of its range
    """
    sizes = dict(zip(PARTS, (train_size, validation_size, test_size), strict=True))
    _check_options(size, attributes, tied, rho, data_seed, sizes)

    def build(part, kind):
        drawn, rank = draw_attributes(sizes[part], [data_seed, PARTS.index(part)])
        pattern = choose_pattern(drawn, rank, tied, kind, rho)
        x, mask = draw_all(drawn, pattern, size, [data_seed, PARTS.index(part)])
        return as_images(x, mask, drawn, pattern, list(attributes), part)

    tests = {kind: build("test", kind) for kind in (("biased", "unbiased", "deceiving") if tied else ("internal",))}
    tests["swapped"] = swapped(next(iter(tests.values())), data_seed)
    train, validation = build("train", "biased"), build("validation", "biased")
    return Experiment(train, validation, tests, "auc", hashes={}, publishable=True)


def _check_options(size, attributes, tied, rho, data_seed, sizes):
    if isinstance(attributes, str) or not attributes or not set(attributes) <= set(PREVALENCE):
        raise ValueError(f"attributes must be a list of some of {', '.join(PREVALENCE)}, not {attributes!r}")
    if len(set(attributes)) < len(attributes):
        raise ValueError(f"attributes names one twice: {attributes!r}")
    if tied is not None and tied not in attributes:
        raise ValueError(f"tied must be None or one of the attributes {', '.join(attributes)}, not {tied!r}")
    if size < SMALLEST:
        raise ValueError(f"size must be at least {SMALLEST} pixels, not {size}")
    if not 0 <= rho <= 1:
        raise ValueError(f"rho must lie in [0, 1], not {rho}")
    if data_seed < 0:
        raise ValueError(f"data_seed must be 0 or more, not {data_seed}")
    for part, n in sizes.items():
        if n < 1:
            raise ValueError(f"{part}_size must be at least 1, not {n}")


def draw_attributes(n: int, seed) -> tuple[np.ndarray, np.ndarray]:
    """The six attributes (n, 6) of 0/1, each drawn on its own with its prevalence, and uniform numbers (n,) that say
    who gets the other pattern.
    """
    u = np.random.default_rng([*seed, 0]).random((n, len(PREVALENCE) + 1))
    return (u[:, :-1] < np.array(list(PREVALENCE.values()))).astype(np.int64), u[:, -1]


def choose_pattern(attributes, rank, tied, kind: str, rho: float) -> np.ndarray:
    """Index into PATTERNS for each row of attributes (n, 6); kind: "biased", "unbiased", "deceiving" or "internal"."""
    if tied is None or kind == "unbiased":
        return np.zeros(len(attributes), dtype=np.int64)
    value = attributes[:, list(PREVALENCE).index(tied)]
    share = 0 if kind == "deceiving" else rho
    own = rank.argsort().argsort() < round(share * len(rank))
    return np.where(value == own, PATTERNS.index("stripes"), PATTERNS.index("dots"))


def draw_all(attributes, pattern, size: int, seed) -> tuple[np.ndarray, np.ndarray]:
    """x (N, 3, size, size) uint8 and mask (N, size, size) bool, drawn chunk by chunk."""
    chunks, n = [], len(attributes)
    for start in range(0, n, CHUNK):
        rows = np.arange(start, start + CHUNK) % n  # the last chunk is filled up, so that a prefix stays a prefix
        x, mask = draw_faces(attributes[rows], pattern[rows], size, np.random.default_rng([*seed, 1, start]))
        chunks.append((to_bytes(x), mask))
    return tuple(np.concatenate(part)[:n] for part in zip(*chunks, strict=True))


def as_images(x, mask, drawn, pattern, attributes, part) -> Images:
    y = drawn[:, [list(PREVALENCE).index(name) for name in attributes]]
    names = [f"{part}-{row:05d}" for row in range(len(y))]
    shown = [" ".join(map(str, row)) for row in y]
    frame = pd.DataFrame({"id": names, "patient": names, "source": "simulated", "y": shown})
    frame = frame.assign(pattern=np.array(PATTERNS)[pattern], **dict(zip(PREVALENCE, drawn.T, strict=True)))
    look_here = torch.from_numpy(mask.astype(np.uint8))[:, None]
    return Images(torch.from_numpy(x), torch.from_numpy(y.astype(np.float32)), look_here, frame, attributes)


def swapped(images: Images, seed: int) -> Images:
    """The data set with each face on the background of another one; labels and attribute columns are the face's."""
    x, y, mask, _ = images[list(range(len(images)))]
    result = images.subset(range(len(images)))
    x = swap_backgrounds(x, y, mask, torch.Generator().manual_seed(seed))
    result.x = (255 * x.clamp(0, 1)).round().to(torch.uint8)
    result.frame["pattern"] = "another's"
    return result
