"""`faces_sim`: simulated faces with several attributes, one of them told by the background in training."""

import numpy as np
import torch

from isnetlib.data.backgrounds import swap_backgrounds
from isnetlib.data.images import Experiment, Images
from isnetlib.data.simulated.drawing import check_options, in_chunks, named_rows, to_bytes
from isnetlib.data.simulated.portraits import INSIDE, PATTERNS, PREVALENCE, draw_faces

TIED = "Smiling"  # the attribute that the pattern of the background tells
SMALLEST = 32  # pixels: below it a mouth is a dot
CHUNK = 20  # faces drawn at once, each chunk from its own seed
PARTS = ("train", "validation", "test")


def load(
    size: int = 64, data_seed: int = 0, train_size: int = 1200, validation_size: int = 300, test_size: int = 500
) -> Experiment:
    """Simulated faces: attributes drawn independently, Smiling tied to the pattern of the background in training.

    The labels are Eyeglasses, Mouth_Open, Smiling and Beard, all inside the mask. The test sets share faces and
    clutter: `biased` (stripes where Smiling is present, dots where not, as in training), `unbiased` (neither),
    `deceiving` (stripes and dots exchanged), `swapped` (the biased faces, each on another one's background with all
    that is not face: hair, hat, earrings). Metric auc.

    size : side in pixels, 32 or more
    data_seed : faces, attributes, backgrounds; the training seed changes none of them
    train_size, validation_size, test_size : images; fewer are the first of more

    Returns an Experiment, x (N, 3, size, size), y (N, 4) float32. `frame` also has pattern and a column of 0/1 for each
    of six attributes; every face has its own patient. ValueError: an option out of its range.
    """
    sizes = {"train_size": train_size, "validation_size": validation_size, "test_size": test_size}
    check_options(size, SMALLEST, data_seed, **sizes)

    def build(part, kind):
        seed = [data_seed, PARTS.index(part)]
        drawn = draw_attributes(sizes[f"{part}_size"], seed)
        present = drawn[:, list(PREVALENCE).index(TIED)] == 1
        pattern = np.where(present == (kind == "biased"), PATTERNS.index("stripes"), PATTERNS.index("dots"))
        pattern = np.zeros_like(pattern) if kind == "unbiased" else pattern
        return as_images(*draw_all(drawn, pattern, size, seed), drawn, pattern, part)

    tests = {kind: build("test", kind) for kind in ("biased", "unbiased", "deceiving")}
    tests["swapped"] = swapped(tests["biased"], data_seed)
    train, validation = build("train", "biased"), build("validation", "biased")
    return Experiment(train, validation, tests, "auc", hashes={}, publishable=True)


def draw_attributes(n: int, seed) -> np.ndarray:
    """The six attributes (n, 6) of 0/1, each drawn on its own with its prevalence."""
    u = np.random.default_rng([*seed, 0]).random((n, len(PREVALENCE) + 1))  # one more was drawn when results were made
    return (u[:, :-1] < np.array(list(PREVALENCE.values()))).astype(np.int64)


def draw_all(attributes, pattern, size: int, seed) -> tuple[np.ndarray, np.ndarray]:
    """x (N, 3, size, size) uint8 and mask (N, size, size) bool, drawn chunk by chunk."""

    def draw(start):
        rows = np.arange(start, start + CHUNK) % len(pattern)  # the last is filled up, so that a prefix stays one
        x, mask = draw_faces(attributes[rows], pattern[rows], size, np.random.default_rng([*seed, 1, start]))
        return to_bytes(x), mask

    return in_chunks(draw, len(pattern), CHUNK)


def as_images(x, mask, drawn, pattern, part) -> Images:
    y = drawn[:, [list(PREVALENCE).index(name) for name in INSIDE]]
    frame = named_rows(part, len(y)).assign(source="simulated", y=[" ".join(map(str, row)) for row in y])
    frame = frame.assign(pattern=np.array(PATTERNS)[pattern], **dict(zip(PREVALENCE, drawn.T, strict=True)))
    look_here = torch.from_numpy(mask.astype(np.uint8))[:, None]
    return Images(torch.from_numpy(x), torch.from_numpy(y.astype(np.float32)), look_here, frame, list(INSIDE))


def swapped(images: Images, seed: int) -> Images:
    """The data set with each face on the background of another one; labels and attribute columns are the face's."""
    x, y, mask, _ = images[list(range(len(images)))]
    x = swap_backgrounds(x, y, mask, torch.Generator().manual_seed(seed))
    x, frame = (255 * x.clamp(0, 1)).round().to(torch.uint8), images.frame.assign(pattern="another's")
    return Images(x, y, images.mask, frame, images.classes)
