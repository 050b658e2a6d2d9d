"""Simulated chest films of several hospitals: `tuberculosis_sim`, `tuberculosis_augmented_sim` and `covid_sim`.

What a hospital leaves outside the lungs (contrast, collimation, marker) tells the class in training. Hospitals differ
outside the lungs only, which is kinder than reality: real ones differ inside, too.
"""

import functools

import numpy as np
import torch

from isnetlib.data.backgrounds import augment as move
from isnetlib.data.images import Experiment, Images
from isnetlib.data.simulated.chest import Look, add_findings, apply_look, draw_patients
from isnetlib.data.simulated.drawing import check_options, in_chunks, named_rows, to_bytes

HOSPITALS = {
    "hospital_a": Look((0.82, 0.94), (0.06, 0.12), "lr", 0.02, (0.03, 0.08), "R", "tl", 0.97),
    "hospital_b": Look((1.02, 1.14), (-0.10, -0.02), "", 0.02, (0.0, 0.0), "L", "tr", 0.90),
    "hospital_c": Look((0.90, 1.06), (-0.04, 0.06), "tb", 0.03, (0.03, 0.08), "AP", "br", 0.97),
    "hospital_d": Look((0.90, 1.06), (-0.04, 0.06), "lrtb", 0.90, (0.02, 0.06), "PA", "bl", 0.05),
    "hospital_e": Look((0.90, 1.06), (-0.04, 0.06), "r", 0.50, (0.03, 0.10), "E17", "bl", 0.97),
}
EXCHANGED = {"hospital_a": "hospital_b", "hospital_b": "hospital_a"}
SMALLEST = 64  # pixels: below it markers would reach the lungs and nodules would be no more than noise
CHUNK = 30  # films drawn at once, each chunk from its own seed; a multiple of every number of classes
# classes with their hospitals in training; test sets with theirs; brightness of the findings and metric
HOME = {"tuberculosis": {"normal": "hospital_b", "tuberculosis": "hospital_a"}}
HOME["covid"] = {"normal": "hospital_b", "pneumonia": "hospital_b", "covid": "hospital_a"}
AWAY = {"tuberculosis": {name: dict.fromkeys(HOME["tuberculosis"], name) for name in ("hospital_c", "hospital_d")}}
AWAY["covid"] = {"external": {"normal": "hospital_d", "pneumonia": "hospital_e", "covid": "hospital_c"}}
KINDS = {"tuberculosis": (0.13, "auc"), "covid": (0.20, "macro_f1")}


def load(
    kind: str,
    size: int = 64,
    data_seed: int = 0,
    train_size: int = 1000,
    validation_size: int = 300,
    test_size: int = 400,
    augment: bool = False,
) -> Experiment:
    """Simulated films, in training each class from its own hospital.

    kind : "tuberculosis": normal from hospital b against tuberculosis from a. Test sets: `internal` (as in training),
        `deceiving` (the same films, each as the other class's hospital shows it), `hospital_c` and `hospital_d`
        (unseen, both classes in each). Metric auc.
        "covid": normal and pneumonia from hospital b, COVID-19 from a. Test sets: `internal`, `deceiving`, `external`
        (each class from an unseen hospital of its own, as real collections often are). Metric macro_f1.
    size : side in pixels, 64 or more
    data_seed : anatomy, findings, looks and noise; the training seed changes none of them
    train_size, validation_size, test_size : films, classes taking turns; fewer are the first of more
    augment : move and shade training films a little, each time they are seen: without it not even the upper bound,
        which sees nothing but the lungs, learnt 1,000 films well (results/full/further_trials.csv), and with it it did

    Returns an Experiment, x (N, 3, size, size). Every film has its own patient. ValueError: an option out of its range.
    """
    sizes = {"train_size": train_size, "validation_size": validation_size, "test_size": test_size}
    check_options(size, SMALLEST, data_seed, **sizes)
    homes, away, (strength, metric) = HOME[kind], AWAY[kind], KINDS[kind]
    classes, parts = list(homes), ["train", "validation", "internal", *away]

    @functools.cache
    def drawn(part):
        n = sizes.get(f"{part}_size", test_size)
        return draw_films(classes, n, size, strength, [data_seed, parts.index(part)])

    def build(part, hospital):
        y = np.arange(len(drawn(part)[0])) % len(classes)
        return as_images(*drawn(part), np.array([hospital[classes[k]] for k in y]), y, classes, part)

    train, validation, internal = (build(part, homes) for part in parts[:3])
    train.augment = move if augment else None
    deceiving = build("internal", {name: EXCHANGED[hospital] for name, hospital in homes.items()})
    tests = {"internal": internal, "deceiving": deceiving} | {part: build(part, away[part]) for part in away}
    return Experiment(train, validation, tests, metric, hashes={}, publishable=True)


def draw_films(classes, n: int, size: int, strength: float, seed) -> tuple[np.ndarray, ...]:
    """`n` films with findings by class in turn, before any hospital's look: film (N, H, W) float32, mask (N, H, W)
    bool, and uniform numbers for the looks (N, 8). seed: sequence of int.
    """

    def draw(start):
        rng = np.random.default_rng([*seed, start])
        patients = draw_patients(CHUNK, size, rng)
        film = add_findings(patients, np.resize(classes, CHUNK), strength, rng)
        return film, patients.mask, rng.random((CHUNK, 8), dtype=np.float32)

    return in_chunks(draw, n, CHUNK)


def as_images(film, mask, u, source, y, classes, part) -> Images:
    """The films as the hospitals `source` (N,) show them; arguments as `draw_films` returns them."""
    x = np.empty(film.shape, dtype=np.uint8)
    for name in np.unique(source):
        rows = np.flatnonzero(source == name)
        x[rows] = to_bytes(apply_look(film[rows], mask[rows], HOSPITALS[name], u[rows]))
    frame = named_rows(part, len(y)).assign(source=source, y=y)
    grey = torch.from_numpy(x)[:, None].expand(-1, 3, -1, -1)  # a view: three channels at the price of one
    return Images(grey, torch.from_numpy(y), torch.from_numpy(mask.astype(np.uint8))[:, None], frame, classes)
