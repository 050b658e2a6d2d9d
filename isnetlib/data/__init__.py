"""Data: `load(name, **options)` gives the data sets of an experiment; the docstring of its loader is its card."""

import inspect
from functools import partial

from isnetlib.data import digits, folder, photographs, xray
from isnetlib.data.backgrounds import swap_backgrounds
from isnetlib.data.images import Experiment, Images
from isnetlib.data.simulated import faces, films

__all__ = ["EXPERIMENTS", "Experiment", "Images", "load", "swap_backgrounds"]

EXPERIMENTS = {
    "digits": digits.load,
    "folder": folder.load,
    "tuberculosis": partial(xray.load, "tuberculosis"),
    "tuberculosis_planted": xray.planted,
    "covid": partial(xray.load, "covid"),
    "faces": partial(photographs.load, photographs.INSIDE),
    "faces_planted": partial(photographs.load, photographs.INSIDE, tied="Mouth_Open"),
    "faces_outside": partial(photographs.load, photographs.OUTSIDE),
    "tuberculosis_sim": partial(films.load, "tuberculosis"),
    "tuberculosis_look_sim": partial(films.load, "tuberculosis", augment=True),
    "covid_sim": partial(films.load, "covid", train_size=1200, test_size=450),
    "faces_sim": faces.load,
}


def load(name: str, **options) -> Experiment:
    """Load an experiment by name (a key of `EXPERIMENTS`) with the options of its loader; ValueError: an unknown name
    or option (the message lists the known ones), or what the loader refuses.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}; known: {', '.join(EXPERIMENTS)}")
    parameters = inspect.signature(EXPERIMENTS[name]).parameters
    if unknown := [option for option in options if option not in parameters]:
        raise ValueError(f"{name} has no option {', '.join(map(repr, unknown))}; known: {', '.join(parameters)}")
    if missing := [option for option, p in parameters.items() if p.default is p.empty and option not in options]:
        raise ValueError(f"{name} needs the option {', '.join(map(repr, missing))}")
    return EXPERIMENTS[name](**options)
