"""`tuberculosis_augmented_sim`: the simulated films of `tuberculosis_sim`, moved and shaded a little in training.

1,000 films are soon known by heart: on validation images of `tuberculosis_sim` not even the upper bound, which sees
nothing but the lungs, learnt them well (results/full/further_trials.csv). With augmentation it did. The films are drawn
from another seed, so that no test image of theirs had been looked at when this was settled.
"""

import functools

from isnetlib.data.augment import augment
from isnetlib.data.films_sim import load_tuberculosis as load_films
from isnetlib.data.images import Experiment


@functools.wraps(load_films, assigned=())  # for its options
def load_tuberculosis(data_seed: int = 1, **options) -> Experiment:
    """`films_sim.load_tuberculosis`, with `augment` for the training films."""
    experiment = load_films(data_seed=data_seed, **options)
    experiment.train.augment = augment
    return experiment
