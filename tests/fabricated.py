"""Run folders with random predictions, laid out as a finished study: a fixture, no result of anything."""

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from isnetlib.study.pack import pack

RIGHT = {  # made-up chance of being right on biased and deceiving cases
    "standard": (0.99, 0.1),
    "multitask": (0.99, 0.4),
    "isnet_original": (0.96, 0.95),
    "isnet_selective": (0.97, 0.96),
}
CHANCE = 0.8
LABELS = ("glasses", "open", "ears")
SHARES = (0.1, 0.5, 0.7)


def scores(y: np.ndarray, classes: int, right: float, rng: np.random.Generator) -> np.ndarray:
    """Random probabilities whose highest is the label's in about `right` of the cases."""
    p = rng.dirichlet(np.full(classes, 0.5), len(y))
    said = np.where(rng.random(len(y)) < right, y, (y + rng.integers(1, classes, len(y))) % classes)
    best, rows = p.argmax(1), np.arange(len(y))
    p[rows, best], p[rows, said] = p[rows, said], p[rows, best].copy()
    return p


def finished(folder: Path, frames: dict[str, pd.DataFrame], settings: dict, facts: dict) -> None:
    """A run: predictions by test set, and the two files that tell of it, the last of which says it is finished."""
    (folder / "predictions").mkdir(parents=True)
    for test_set, frame in frames.items():
        frame.to_csv(folder / "predictions" / f"{test_set}.csv", index=False, float_format="%.6g")
    (folder / "manifest.json").write_text(json.dumps({"settings": settings}), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(facts), encoding="utf-8")


def packed(study: Path) -> Path:
    """results/<study>, packed anew from its folders alone."""
    for path in study.glob("*/runs.csv"):
        shutil.rmtree(path.parent)
    assert pack(study) == []
    return study


def spoil(study: Path, change, pattern="*/*") -> None:
    """Write predictions anew as `change` makes them of a frame; pattern: of which methods and seeds."""
    for path in study.glob(f"runs/*/{pattern}/predictions/*.csv"):
        change(pd.read_csv(path, dtype={"id": str, "patient": str})).to_csv(path, index=False, float_format="%.6g")
    packed(study)


def study(
    results: Path, right=RIGHT, experiment="digits", seeds=(0, 1, 2), classes="0123456789", cases=120,
    test_sets=("biased", "deceiving"), settings=None,
):  # fmt: skip
    """Write results/fabricated/runs, of every method of `right`; returns results/fabricated."""
    y = np.arange(cases) % len(classes)
    about = pd.DataFrame({"id": [f"{k:04d}" for k in range(cases)], "patient": "", "y": y})
    for method, seed in product(right, seeds):
        rng, frames = np.random.default_rng([seed, *method.encode()]), {}
        for test_set, chance in zip(test_sets, right[method], strict=True):
            jitter = float(np.clip(chance + rng.normal(0, 0.01), 0, 1))
            p = scores(y, len(classes), jitter, rng)
            share = np.clip(rng.normal(1 - jitter, 0.05, cases), 0, 1) * CHANCE
            frame = about.assign(**{f"p_{label}": p[:, k] for k, label in enumerate(classes)})
            frames[test_set] = frame.assign(background_share=share, chance_share=CHANCE)
        folder = results / "fabricated" / "runs" / experiment / method / f"seed{seed}"
        finished(folder, frames, settings or {}, {"epoch": 5})
    return packed(results / "fabricated")


def by_folds(results: Path, folds: dict, experiment="faces", cases=200, test_sets=("internal", "swapped")):
    """As `study`, of several labels and by five folds, of which case k is in k mod 5; folds: of each method its own."""
    y = (np.random.default_rng(0).random((cases, len(LABELS))) < SHARES).astype(int)
    for method, fold in ((method, fold) for method, own in folds.items() for fold in own):
        rng, rows, frames = np.random.default_rng([fold, *method.encode()]), np.arange(fold, cases, 5), {}
        for test_set in test_sets:
            p = 1 / (1 + np.exp(1 - 2 * y[rows] + rng.normal(0, 1, y[rows].shape)))
            frame = pd.DataFrame({"id": [f"{k:04d}" for k in rows], "patient": [f"person {k}" for k in rows]})
            frame = frame.assign(**{f"y_{label}": y[rows, k] for k, label in enumerate(LABELS)})
            frame = frame.assign(**{f"p_{label}": p[:, k] for k, label in enumerate(LABELS)})
            frames[test_set] = frame.assign(background_share=rng.random(len(rows)) / 5, chance_share=0.7)
        facts = {"epoch": 3, "thresholds": [0.4 + fold / 20] * len(LABELS)}
        folder = results / "fabricated" / "runs" / experiment / method / f"seed{fold}"
        finished(folder, frames, {"data_options": {"fold": fold, "folds": 5}}, facts)
    return packed(results / "fabricated")
