"""Data: `load(name, **options)` gives the data sets of an experiment."""

import inspect

from isnetlib.data import digits, faces_real, faces_sim, films_augmented, films_sim, folder, xray
from isnetlib.data.images import Experiment, Images
from isnetlib.data.swap import swap_backgrounds

__all__ = ["EXPERIMENTS", "Experiment", "Images", "load", "swap_backgrounds"]

EXPERIMENTS = {
    "digits": digits.load,
    "folder": folder.load,
    "tuberculosis": xray.tuberculosis,
    "tuberculosis_planted": xray.tuberculosis_planted,
    "covid": xray.covid,
    "faces": faces_real.faces,
    "faces_planted": faces_real.faces_planted,
    "faces_outside": faces_real.faces_outside,
    "tuberculosis_sim": films_sim.load_tuberculosis,
    "tuberculosis_augmented_sim": films_augmented.load_tuberculosis,
    "covid_sim": films_sim.load_covid,
    "faces_sim": faces_sim.load,
}


def load(name: str, **options) -> Experiment:
    """Load an experiment by name (a key of `EXPERIMENTS`) with the options of its loader.

    Raises
    ------
    ValueError : an unknown name or option (the message lists the known ones), or what the loader refuses
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}; known: {', '.join(EXPERIMENTS)}")
    parameters = inspect.signature(EXPERIMENTS[name]).parameters
    if unknown := [option for option in options if option not in parameters]:
        raise ValueError(f"{name} has no option {', '.join(map(repr, unknown))}; known: {', '.join(parameters)}")
    required = [option for option, p in parameters.items() if p.default is p.empty]
    if missing := [option for option in required if option not in options]:
        raise ValueError(f"{name} needs the option {', '.join(map(repr, missing))}")
    return EXPERIMENTS[name](**options)
