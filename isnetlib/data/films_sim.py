"""Simulated chest films of several hospitals: `tuberculosis_sim` and `covid_sim`.

In training each class comes from its own hospital, so what a hospital leaves outside the lungs (contrast, collimation,
marker) tells the class; the external tests come from hospitals that training never saw. The findings lie inside the
lungs and hospitals differ outside them only, which is kinder than reality: real ones differ inside, too.
"""

import functools

import numpy as np
import pandas as pd
import torch

from isnetlib.data.drawing import to_bytes
from isnetlib.data.films import Look, add_findings, apply_look, draw_patients
from isnetlib.data.images import Experiment, Images

HOSPITALS = {
    "hospital_a": Look((0.82, 0.94), (0.06, 0.12), "lr", 0.02, (0.03, 0.08), "R", "tl", 0.97),
    "hospital_b": Look((1.02, 1.14), (-0.10, -0.02), "", 0.02, (0.0, 0.0), "L", "tr", 0.90),
    "hospital_c": Look((0.90, 1.06), (-0.04, 0.06), "tb", 0.03, (0.03, 0.08), "AP", "br", 0.97),
    "hospital_d": Look((0.90, 1.06), (-0.04, 0.06), "lrtb", 0.90, (0.02, 0.06), "PA", "bl", 0.05),
    "hospital_e": Look((0.90, 1.06), (-0.04, 0.06), "r", 0.50, (0.03, 0.10), "E17", "bl", 0.97),
}
SMALLEST = 64  # pixels: below it markers would reach the lungs and nodules would be no more than noise
CHUNK = 30  # films drawn at once, each chunk from its own seed; a multiple of every number of classes


def load_tuberculosis(
    size: int = 64,
    rho: float = 1.0,
    strength: float = 0.13,
    data_seed: int = 0,
    train_size: int = 1000,
    validation_size: int = 300,
    test_size: int = 400,
) -> Experiment:
    """Simulated films, normal against tuberculosis, in training from hospitals b and a.

    Test sets: `internal` (as in training), `deceiving` (the same films, each as the other class's hospital shows it),
    `hospital_c` and `hospital_d` (unseen, both classes in each).

    Parameters
    ----------
    size : side in pixels, 64 or more
    rho : share of the training, validation and internal films that come from their own class's hospital; the others
        come from another class's. rho = 0.5 is chance
    strength : brightness of the findings
    data_seed : anatomy, findings, hospitals and noise; the training seed changes none of them
    train_size, validation_size, test_size : films, classes taking turns; fewer are the first of more

    Returns
    -------
    Experiment with metric "auc", x (N, 3, size, size). Every film has its own patient.

    Raises
    ------
    ValueError : an option out of its range
    """
    homes = {"normal": "hospital_b", "tuberculosis": "hospital_a"}
    away = {name: dict.fromkeys(homes, name) for name in ("hospital_c", "hospital_d")}
    sizes = {"train": train_size, "validation": validation_size, "test": test_size}
    return _experiment(homes, away, "auc", size, rho, strength, data_seed, sizes)


def load_covid(
    size: int = 64,
    rho: float = 1.0,
    strength: float = 0.20,
    data_seed: int = 0,
    train_size: int = 1200,
    validation_size: int = 300,
    test_size: int = 450,
) -> Experiment:
    """Simulated films, normal, pneumonia and COVID-19; in training COVID-19 is from hospital a, the others from b.

    Test sets: `internal`, `deceiving` (hospitals a and b exchanged), `external` (each class from an unseen hospital of
    its own, as real collections often are). The metric is "macro_f1"; options and errors as in `load_tuberculosis`.
    """
    homes = {"normal": "hospital_b", "pneumonia": "hospital_b", "covid": "hospital_a"}
    away = {"external": {"normal": "hospital_d", "pneumonia": "hospital_e", "covid": "hospital_c"}}
    sizes = {"train": train_size, "validation": validation_size, "test": test_size}
    return _experiment(homes, away, "macro_f1", size, rho, strength, data_seed, sizes)


def _experiment(homes, away, metric, size, rho, strength, data_seed, sizes) -> Experiment:
    """homes: class -> hospital in training; away: test set -> class -> hospital."""
    _check_options(size, rho, strength, data_seed, sizes)
    classes, parts = list(homes), ["train", "validation", "internal", *away]

    @functools.cache
    def drawn(part):
        n = sizes.get(part, sizes["test"])
        return draw_films(classes, n, size, strength, [data_seed, parts.index(part)])

    def build(part, hospital, share=1.0):
        film, mask, u, rank = drawn(part)
        y, n = np.arange(len(film)) % len(classes), len(film)
        source = np.array([hospital[classes[k]] for k in y])
        exchanged = rank.argsort().argsort() >= round(share * n)
        source[exchanged] = [_exchange(name) for name in source[exchanged]]
        return as_images(film, mask, u, source, y, classes, part)

    train, validation, internal = (build(part, homes, rho) for part in parts[:3])
    deceiving = build("internal", {name: _exchange(hospital) for name, hospital in homes.items()})
    tests = {"internal": internal, "deceiving": deceiving} | {part: build(part, away[part]) for part in away}
    return Experiment(train, validation, tests, metric, hashes={}, publishable=True)


def _exchange(hospital):
    return {"hospital_a": "hospital_b", "hospital_b": "hospital_a"}[hospital]


def _check_options(size, rho, strength, data_seed, sizes):
    if size < SMALLEST:
        raise ValueError(f"size must be at least {SMALLEST} pixels, not {size}")
    if not 0 <= rho <= 1:
        raise ValueError(f"rho must lie in [0, 1], not {rho}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie in [0, 1], not {strength}")
    if data_seed < 0:
        raise ValueError(f"data_seed must be 0 or more, not {data_seed}")
    for part, n in sizes.items():
        if n < 1:
            raise ValueError(f"{part}_size must be at least 1, not {n}")


def draw_films(classes, n: int, size: int, strength: float, seed) -> tuple[np.ndarray, ...]:
    """`n` films with findings by class in turn, before any hospital's look: film (N, H, W) float32, mask (N, H, W)
    bool, and uniform numbers for the looks (N, 8) and for the choice of a hospital (N,). seed: sequence of int.
    """
    chunks, kinds = [], np.resize(classes, CHUNK)
    for start in range(0, n, CHUNK):
        rng = np.random.default_rng([*seed, start])
        patients = draw_patients(CHUNK, size, rng)
        film = add_findings(patients, kinds, strength, rng)
        chunks.append((film, patients.mask, rng.random((CHUNK, 8), dtype=np.float32), rng.random(CHUNK)))
    return tuple(np.concatenate(part)[:n] for part in zip(*chunks, strict=True))


def as_images(film, mask, u, source, y, classes, part) -> Images:
    """The films as the hospitals `source` (N,) show them; arguments as `draw_films` returns them."""
    x = np.empty(film.shape, dtype=np.uint8)
    for name in np.unique(source):
        rows = np.flatnonzero(source == name)
        x[rows] = to_bytes(apply_look(film[rows], mask[rows], HOSPITALS[name], u[rows]))
    names = [f"{part}-{row:05d}" for row in range(len(y))]
    frame = pd.DataFrame({"id": names, "patient": names, "source": source, "y": y})
    grey = torch.from_numpy(x)[:, None].expand(-1, 3, -1, -1)  # a view: three channels at the price of one
    return Images(grey, torch.from_numpy(y), torch.from_numpy(mask.astype(np.uint8))[:, None], frame, classes)
