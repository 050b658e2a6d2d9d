"""Run folders with random predictions, laid out as a finished study: a fixture, no result of anything."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

DIGIT_SETS = ("biased", "unbiased", "random", "deceiving")
RIGHT = {  # made-up chance of being right on biased, unbiased, random and deceiving cases
    "standard": (0.99, 0.8, 0.4, 0.1),
    "multitask": (0.99, 0.85, 0.6, 0.4),
    "isnet_original": (0.96, 0.96, 0.95, 0.95),
    "isnet_selective": (0.97, 0.97, 0.96, 0.96),
    "isnet_stochastic": (0.95, 0.95, 0.94, 0.93),
}
CHANCE = 0.8


def scores(y: np.ndarray, classes: int, right: float, rng: np.random.Generator) -> np.ndarray:
    """Random probabilities whose highest is the label's in about `right` of the cases."""
    p = rng.dirichlet(np.full(classes, 0.5), len(y))
    said = np.where(rng.random(len(y)) < right, y, (y + rng.integers(1, classes, len(y))) % classes)
    best, rows = p.argmax(1), np.arange(len(y))
    p[rows, best], p[rows, said] = p[rows, said], p[rows, best].copy()
    return p


def predictions(path: Path, y, classes, right, rng, patients=None) -> None:
    frame = pd.DataFrame(
        {"id": [f"{k:04d}" for k in range(len(y))], "patient": "" if patients is None else patients, "y": y}
    )
    p = scores(y, len(classes), right, rng)
    frame = frame.assign(**{f"p_{name}": p[:, k] for k, name in enumerate(classes)})
    share = np.clip(rng.normal(1 - right, 0.05, len(y)), 0, 1) * CHANCE
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.assign(background_share=share, chance_share=CHANCE).to_csv(path, index=False)


def log(path: Path, right, rng, metric="accuracy", epochs=6) -> None:
    rise = 1 - np.exp(-np.arange(1, epochs + 1) / 2)
    val, swapped = (r * rise + rng.normal(0, 0.01, epochs) for r in (right[0], right[-1]))
    columns = {
        "epoch": np.arange(1, epochs + 1),
        "seconds": 1.5,
        "loss": 2.3 * np.exp(-np.arange(epochs) / 2) + rng.random(epochs) / 10,
    }
    columns |= {f"val_{metric}": val, "val_loss": 1 - val, f"swapped_{metric}": swapped, "swapped_loss": 1 - swapped}
    pd.DataFrame(columns).to_csv(path, index=False)


def heatmaps(path: Path, right, test_sets, classes, n=2, size=32) -> None:
    """The same disc with a square mark for every method; relevance on the mark in proportion to the errors."""
    rows, columns = np.mgrid[:size, :size]
    disc = np.hypot(rows - 14, columns - 18) < 8
    mark = (rows > size - 7) & (columns < 6)
    arrays = {}
    for name, chance in zip(test_sets, right, strict=True):
        rng = np.random.default_rng(len(name))
        relevance = (
            rng.normal(0, 0.2, (n, size, size)) + disc * rng.normal(0.5, 1, (n, size, size)) + 8 * (1 - chance) * mark
        )
        x = np.broadcast_to((disc * 200 + mark * 255).clip(0, 255), (n, size, size)).astype(np.uint8)
        y = np.arange(n) % len(classes)
        arrays |= {
            f"relevance_{name}": relevance.astype(np.float16),
            f"x_{name}": x,
            f"mask_{name}": np.broadcast_to(disc, x.shape),
        }
        arrays |= {f"y_{name}": y, f"p_{name}": scores(y, len(classes), chance, rng)}
    np.savez_compressed(path, **arrays)


def study(
    results: Path,
    name="fabricated",
    experiment="digits",
    right=None,
    seeds=(0, 1, 2),
    classes=None,
    cases=120,
    test_sets=DIGIT_SETS,
    repeats=1,
):
    """Write results/<name>/runs, return results/<name>. repeats: cases a patient (1: the column patient is empty)."""
    right, classes = right or RIGHT, classes or [str(k) for k in range(10)]
    y = np.arange(cases) % len(classes)
    patients = None if repeats == 1 else [f"patient {k // repeats}" for k in range(cases)]
    for method, chances in right.items():
        for seed in seeds:
            rng = np.random.default_rng([seed, *method.encode()])
            folder = results / name / "runs" / experiment / method / f"seed{seed}"
            folder.mkdir(parents=True)
            (folder / "manifest.json").write_text("{}", encoding="utf-8")
            for test_set, chance in zip(test_sets, chances, strict=True):
                jitter = float(np.clip(chance + rng.normal(0, 0.01), 0, 1))
                predictions(folder / "predictions" / f"{test_set}.csv", y, classes, jitter, rng, patients)
                predictions(
                    folder / "predictions_internal_selection" / f"{test_set}.csv",
                    y,
                    classes,
                    jitter * 0.9,
                    rng,
                    patients,
                )
            log(folder / "log.csv", chances, rng)
            heatmaps(folder / "heatmaps.npz", chances, test_sets, classes)
            facts = {
                "epoch": {"swapped": 5, "internal": 2},
                "seconds": 60.0 + seed,
                "peak_mib": 900.0,
                "parameters": 11_000_000,
            }
            (folder / "metrics.json").write_text(json.dumps(facts), encoding="utf-8")
    return results / name


LABELS = ("glasses", "open", "ears")
SHARES = (0.1, 0.5, 0.7)


def labelled(y: np.ndarray, skill: float, rng: np.random.Generator) -> np.ndarray:
    """Probabilities (n, K) that tell the labels (n, K) the better, the higher the skill."""
    return 1 / (1 + np.exp(-(skill * (2 * y - 1) + rng.normal(0, 1, y.shape))))


def by_folds(
    results: Path,
    folds: dict[str, tuple[int, ...]],
    name="fabricated",
    experiment="faces",
    cases=200,
    test_sets=("internal", "swapped"),
    labels=LABELS,
    skills=None,
    thresholds=0.4,
):
    """Write results/<name>/runs of an experiment by five folds and several labels, return results/<name>: of each
    method the folds that are named; case k is in fold k mod 5. skills: of a method, 1 where it is not named.
    """
    y = (np.random.default_rng(0).random((cases, len(labels))) < SHARES[: len(labels)]).astype(int)
    for method, own in folds.items():
        for fold in own:
            folder = results / name / "runs" / experiment / method / f"seed{fold}"
            options = {"parameters": {"data_options": {"fold": fold, "folds": 5}}}
            rng, rows = np.random.default_rng([fold, *method.encode()]), np.arange(fold, cases, 5)
            for test_set in test_sets:
                p = labelled(y[rows], (skills or {}).get(method, 1.0), rng)
                frame = pd.DataFrame({"id": [f"{k:04d}" for k in rows], "patient": [f"person {k}" for k in rows]})
                frame = frame.assign(**{f"y_{label}": y[rows, k] for k, label in enumerate(labels)})
                frame = frame.assign(**{f"p_{label}": p[:, k] for k, label in enumerate(labels)})
                frame = frame.assign(background_share=rng.random(len(rows)) / 5, chance_share=0.7)
                for rule in ("predictions", "predictions_internal_selection"):
                    (folder / rule).mkdir(parents=True, exist_ok=True)
                    frame.to_csv(folder / rule / f"{test_set}.csv", index=False)
            (folder / "manifest.json").write_text(json.dumps(options), encoding="utf-8")
            chosen = dict.fromkeys(("swapped", "internal"), [thresholds + fold / 20] * len(labels))
            facts = {"epoch": {"swapped": 3, "internal": 4}, "thresholds": chosen, "seconds": 9.0}
            (folder / "metrics.json").write_text(json.dumps(facts), encoding="utf-8")
    return results / name
