"""Does a trained classifier depend on the background? `audit` answers with one HTML page and one word.

The verdict rests on performance when backgrounds are removed or swapped, and only then on relevance: a network may have
next to no relevance outside the object and still be decided by the background, where small marks in it move the scores.
Only images with a mask count, the same ones in every row.
"""

import base64
import html
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from isnetlib import stats
from isnetlib.baselines import build
from isnetlib.data import swap_backgrounds
from isnetlib.data.folder import encode, read_files, read_index, refuse
from isnetlib.data.images import Images
from isnetlib.networks import known
from isnetlib.report.figures import picture
from isnetlib.training import evaluate
from isnetlib.training.files import write_atomically

# Thresholds, named before any model was looked at.
DROP = 0.05  # of AUC or macro F1: about what 500 cases can show; a smaller fall changes few decisions
SHARE = 0.5  # of the background's share of the area: relevance spread at random has all of it
USEFUL = 0.6  # AUC or macro F1: a model near chance has nothing to lose, so no fall clears it
DRAWS = 500  # bootstrap samples of patients
CASES = 4  # shown on the page
EQUALISED = ("tuberculosis", "tuberculosis_planted", "covid")  # experiments whose loader equalises by default


class Classifier(NamedTuple):
    """A method with `predict`, its classes, and how its images are made."""

    method: nn.Module
    classes: list[str]
    size: int
    equalise: bool


def audit(checkpoint, folder, page, label="label", patient="patient", **how) -> dict:
    """Audit a checkpoint on a data set folder and write the HTML `page`. how: the options of `load_classifier`.

    Returns `measure`'s answer. ValueError: no checkpoint, unreadable images, no masks, labels foreign to the model.
    """
    model, folder = load_classifier(checkpoint, **how), Path(folder)
    found = measure(model, read_images(folder, model, label, patient))
    write_atomically(Path(page), render(found, Path(checkpoint).name, folder.name))
    return found


def load_classifier(checkpoint, backbone=None, classes=None, size=None, equalise=None) -> Classifier:
    """A classifier in eval mode from a run's checkpoint, whose manifest names the method, or from a state_dict of the
    network `backbone` with `classes`, bare or in an ISNet, on images of `size` pixels (224). Tensors only are read.

    ValueError: not a checkpoint, backbone or classes unknown, weights of another network.
    """
    path, p = Path(checkpoint), {"method": "standard", "experiment": None}
    try:
        state, run = dict(torch.load(path, map_location="cpu", weights_only=True)), path.parent.parent
    except Exception:  # the reader raises almost anything on foreign bytes
        raise ValueError(f"{path} is no file of tensors and numbers: save model.state_dict()") from None
    if own := "method" in state and (run / "manifest.json").is_file():
        p = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["settings"]
        columns = (name for test in run.glob("predictions/*.csv") for name in pd.read_csv(test, nrows=0))
        classes = classes or list(dict.fromkeys(name[2:] for name in columns if name.startswith("p_")))
    options, backbone = p.get("data_options", {}), backbone or p.get("backbone")
    for name, value in {"backbone": backbone, "classes": classes}.items():
        if not value:
            raise ValueError(f"{path}: nothing beside it tells its {name}; give --{name}")
    size = size or options.get("size") or options.get("canvas") or (112 if own else 224)
    equalise = options.get("equalise", p["experiment"] in EQUALISED) if equalise is None else equalise
    name = p.get("base") or p["method"]
    method = build(name, backbone, len(classes), size=size, **p.get("method_options", {}))
    if getattr(method, "needs_mask", False):
        raise ValueError(f"{path}: the method {name} is given the true mask and cannot be audited")
    try:
        method.load_state_dict(state["method"]) if own else method.model.load_state_dict(_bare(state))
    except (RuntimeError, TypeError, AttributeError) as error:
        told = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} holds other weights than this network with {len(classes)} classes: {told}") from None
    return Classifier(method.eval(), list(classes), size, bool(equalise))


def _bare(state: dict) -> dict:
    """The network's own entries of a state_dict: bare, of a method around it, or of a network on several devices."""
    state = state.get("method", state.get("state_dict", state))
    inner = {key[6:]: value for key, value in state.items() if str(key).startswith("model.")}
    return {str(key).removeprefix("module."): value for key, value in (inner or state).items()}


def read_images(folder: Path, model: Classifier, label: str = "label", patient: str | None = "patient") -> Images:
    """All images of a data set folder that have a mask. ValueError: unreadable files, foreign labels, no masks."""
    table, problems = read_index(folder, label, classes=model.classes, patient=patient)
    refuse(folder, problems)
    y, _ = encode(table, label, (), model.classes)
    x, mask, _, problems = read_files(folder, table, size=model.size, equalise=model.equalise)
    refuse(folder, [problem for problem in problems if problem.level == "error"])
    rows = torch.nonzero(known(mask.float()))[:, 0]
    if not len(rows):
        raise ValueError(f"{folder}: no image has a mask, and without masks nobody knows what the background is")
    frame = table[["patient", "source"]].assign(id=table["image"], y=y.numpy())
    return Images(x, y, mask, frame, model.classes).subset(rows)


def treated(images: Images, seed: int = 0) -> dict[str, Images]:
    """The images with their background as it is, removed (the mean grey of all of them), and swapped with other
    classes' images'. Objects stay bit for bit.
    """
    x, y, mask, _ = images[list(range(len(images)))]
    swapped = swap_backgrounds(x, y, mask, torch.Generator().manual_seed(seed))
    backgrounds = {"as_it_is": x, "removed": x.mean((0, 2, 3), keepdim=True), "swapped": swapped}
    parts = {name: torch.where(mask > 0.5, x, background) for name, background in backgrounds.items()}
    return {name: Images(part, y, mask, images.frame, images.classes) for name, part in parts.items()}


def drops(y: np.ndarray, p: dict[str, np.ndarray], patient: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Metric (AUC of two classes, else macro F1) of each treatment, and its fall below as_it_is with a 95 % percentile
    interval over patients drawn anew. y (N,), p: treatment -> (N, K). ValueError where a class is absent.
    """
    base, classes = p["as_it_is"], p["as_it_is"].shape[1]
    if len(set(y)) < classes:
        raise ValueError("the images with a mask do not hold every class: performance cannot be measured on them")
    metric = "auc" if classes == 2 else "macro_f1"
    score, weights, rows = getattr(stats, metric), stats.case_weights(patient, rng, DRAWS), []
    for name, own in p.items():
        low, high = np.nanquantile(score(y, base, weights) - score(y, own, weights), [0.025, 0.975])
        value = score(y, own)
        rows.append((name, metric, value, stats.accuracy(y, own), score(y, base) - value, low, high))
    return pd.DataFrame(rows, columns=["background", "metric", "value", "accuracy", "drop", "low", "high"])


def verdict(table: pd.DataFrame, share: float, chance: float) -> str:
    """depends | undecided | look closer | not shown, as the page explains. share: of relevance outside the mask;
    chance: the background's share of the area.
    """
    base, changed = table.iloc[0], table.iloc[1:]
    if base["value"] < USEFUL:
        return "undecided"
    if ((changed["drop"] >= DROP) & (changed["low"] > 0)).any():
        return "depends"
    if not (changed["high"] < DROP).all():
        return "undecided"
    return "look closer" if share > SHARE * chance else "not shown"


def measure(classifier: Classifier, images: Images, seed: int = 0) -> dict:
    """verdict, table (`drops`), share and chance (`verdict`), classes, images, patients, figure (PNG)."""
    method, sets, mask = classifier.method, treated(images, seed), images.mask.float()
    p = {name: evaluate.scores(method, one)[1] for name, one in sets.items()}
    table = drops(images.y.numpy(), p, images.frame["patient"].to_numpy(), np.random.default_rng(seed))
    share = float(evaluate.background_share(_relevance(method, images), mask).nanmean())
    chance, cases = float(1 - mask.mean()), range(0, len(images), max(1, len(images) // CASES))[:CASES]
    figure = _figure(method, {name: one.subset(cases) for name, one in sets.items()})
    found = {"verdict": verdict(table, share, chance), "table": table, "share": share, "chance": chance}
    counts = {"images": len(images), "patients": images.frame["patient"].nunique()}
    return found | counts | {"classes": classifier.classes, "figure": figure}


def _relevance(method: nn.Module, images: Images) -> Tensor:
    """Relevance of the winning class (N, 1, C, H, W), in eval mode."""
    with evaluate.in_eval(method):
        parts = [evaluate.heatmap(method, images[rows][0]).detach() for rows in torch.arange(len(images)).split(32)]
    return torch.cat(parts)


def _figure(method: nn.Module, sets: dict[str, Images]) -> bytes:
    """A row a case: each treatment's image above its map in shares of its total; a case's maps have one scale. PNG."""
    n, R = len(sets["as_it_is"]), np.stack([_relevance(method, one).sum((1, 2)).numpy() for one in sets.values()])
    R /= np.abs(R).sum((2, 3), keepdims=True).clip(1e-30)
    fig = Figure(figsize=(1.6 * len(sets), 3.3 * n), layout="constrained")
    axes = fig.subplots(2 * n, len(sets), squeeze=False)
    for case in range(n):
        limit = max(float(np.quantile(np.abs(R[:, case]), 0.995)), 1e-12)
        for k, (name, images) in enumerate(sets.items()):
            x, _, mask, _ = images[case]
            picture(255 * x.mean(0).numpy(), mask[0].numpy() > 0.5, axes[2 * case, k]).set_title(name, fontsize=8)
            picture(R[k, case], mask[0].numpy() > 0.5, axes[2 * case + 1, k], limit)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def render(found: dict, model: str, data: str) -> str:
    """The HTML page of `measure`'s answer; names of files and classes are escaped."""
    names = {"model": model, "data": data, "classes": ", ".join(found["classes"])}
    parts = found | {name: html.escape(text) for name, text in names.items()}
    parts["table"] = found["table"].to_html(index=False, border=0, float_format="%.3f")
    parts["figure"] = base64.b64encode(found["figure"]).decode()
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    return template.format(**parts, DROP=DROP, USEFUL=USEFUL, SHARE=SHARE)
