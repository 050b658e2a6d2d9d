"""Data: `load(name, **options)` gives the data sets of an experiment; the docstring of its loader is its card."""

import inspect
from functools import partial

from isnetlib.data import digits, folder, real
from isnetlib.data.backgrounds import swap_backgrounds
from isnetlib.data.images import Experiment, Images
from isnetlib.data.simulated import faces, films

__all__ = ["EXPERIMENTS", "Experiment", "Images", "load", "swap_backgrounds"]

EXPERIMENTS = {
    "digits": digits.load,
    "folder": folder.load,
    "tuberculosis": partial(real.films, "tuberculosis"),
    "tuberculosis_planted": real.planted,
    "covid": partial(real.films, "covid"),
    "faces": partial(real.faces, real.INSIDE),
    "faces_planted": partial(real.faces, real.INSIDE, tied="Mouth_Open"),
    "faces_outside": partial(real.faces, real.OUTSIDE),
    "tuberculosis_sim": partial(films.load, "tuberculosis"),
    "tuberculosis_look_sim": partial(films.load, "tuberculosis", augment=True),
    "covid_sim": partial(films.load, "covid", train_size=1200, test_size=450),
    "faces_sim": faces.load,
}


def load(name: str, **options) -> Experiment:
    """Load one of `EXPERIMENTS` with the options of its loader. ValueError: an unknown name or option, an option out of
    its range, data that are wrong (as `folder.verify` tells); FileNotFoundError: no data.

    Common options: size, of a square image's side in pixels; data_seed and split_seed, of all that is drawn and of the
    split by patient (no training seed changes it); train_size, validation_size, test_size, the first of more;
    folder, of the sources that `isnet prepare` wrote, and masks (None: the variables ISNET_DATA, ISNET_MASKS);
    equalise, each channel's histogram, after resizing; augment, move and shade training images (`backgrounds.augment`).
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}; known: {', '.join(EXPERIMENTS)}")
    known = inspect.signature(EXPERIMENTS[name]).parameters
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"{name} has no option {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
    return EXPERIMENTS[name](**options)
