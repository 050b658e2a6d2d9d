"""Does a trained classifier depend on the background? What to ask of a model before it is trusted.

The verdict rests on performance when backgrounds are removed, blurred or swapped, and only then on relevance: a network
may have next to no relevance outside the object and still be decided by the background, where small marks in it move
the scores. Only images with a mask count, the same ones in every row.
"""

import base64
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from isnetlib import evaluate, findings, heatmaps, names
from isnetlib.baselines import build
from isnetlib.baselines.standard import Standard
from isnetlib.data import swap_backgrounds
from isnetlib.data.folder import encode, read_files, read_index, refuse
from isnetlib.data.images import Images
from isnetlib.data.swap import SCALE, fill_foreground
from isnetlib.models import build_model
from isnetlib.unet import known

DRAWS = 500  # bootstrap samples of patients
EQUALISED = ("tuberculosis", "tuberculosis_planted", "covid")  # experiments whose loader does so by default


class Classifier(NamedTuple):
    """A method with `predict`, its classes, and how its images are made."""

    method: nn.Module
    classes: list[str]
    size: int
    equalise: bool


# --- the model


def load_classifier(checkpoint: str | Path, backbone=None, classes=None, size=None, equalise=None) -> Classifier:
    """A classifier from a checkpoint of a run, whose manifest.json names backbone and method, or from a state_dict of
    the network `backbone` with `classes`. Tensors only are read: a file cannot run code.

    ValueError: not a checkpoint, backbone or classes unknown, weights of another network.
    """
    path = Path(checkpoint)
    state = read_weights(path)
    run = path.parent.parent
    manifest = run / "manifest.json"
    if "method" in state and manifest.is_file():
        p = json.loads(manifest.read_text(encoding="utf-8"))["parameters"]
        classes, state = classes or classes_of_run(run), state["method"]
        options = p.get("data_options", {})
        size = size or options.get("size") or options.get("canvas") or 112
        equalise = options.get("equalise", p["experiment"] in EQUALISED) if equalise is None else equalise
        name = p.get("base") or p["method"]
        _need(classes, path, "classes")
        method = build(name, backbone or p["backbone"], len(classes), size=size, **p.get("method_options", {}))
        if getattr(method, "needs_mask", False):
            raise ValueError(f"{path}: the method {name} is given the true mask and cannot be audited")
    else:
        _need(backbone, path, "backbone")
        _need(classes, path, "classes")
        size, state = size or 224, state.get("state_dict", state.get("method", state))
        method = Standard(build_model(backbone, len(classes), size=size))
        if not any(str(key).startswith("model.") for key in state):
            state = {f"model.{str(key).removeprefix('module.')}": value for key, value in state.items()}
    try:
        method.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} holds other weights than this network with {len(classes)} classes: {first}") from None
    return Classifier(method.eval(), list(classes), size, bool(equalise))


def read_weights(path: Path) -> dict:
    """The dict of a checkpoint file. ValueError where it is missing or holds anything but tensors and numbers."""
    if not path.is_file():
        raise ValueError(f"{path} is not a file: name a checkpoint, such as checkpoints/swapped.pt of a run")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises almost anything on foreign bytes
        message = "is not a checkpoint of tensors and numbers alone"
        raise ValueError(
            f"{path} {message} ({type(error).__name__}): save model.state_dict() with torch.save"
        ) from None
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a state_dict: save model.state_dict()")
    return state


def classes_of_run(run: Path) -> list[str]:
    """The classes that a run's predictions name; none where there are no predictions."""
    for path in sorted(run.glob("predictions/*.csv")):
        return [c[2:] for c in pd.read_csv(path, nrows=0) if c.startswith("p_")]
    return []


def _need(value, path, name):
    if not value:
        raise ValueError(f"{path}: nothing beside it tells its {name}; give --{name}")


# --- the data


def read_images(folder: str | Path, classes: list[str], size: int, equalise: bool, label: str = "label", patient=None):
    """The images of a dataset folder that have a mask, with boxes in pixels of the loaded image where there are any.
    ValueError: unreadable files, labels that are no class of the model, no masks.
    """
    table, problems = read_index(folder, label, (), None, patient, None, ())
    refuse(folder, problems)
    if foreign := sorted(set(table[label]) - set(classes)):
        raise ValueError(f"{folder}: the labels {foreign} are no classes of the model, which has {classes}")
    y, _ = encode(table, label, (), classes)
    x, mask, _, problems = read_files(folder, table, 32, size, equalise)
    refuse(folder, [problem for problem in problems if problem.level == "error"])
    frame = pd.DataFrame({"id": table["image"], "patient": table["patient"], "source": table["source"], "y": y.numpy()})
    if "boxes" in table:
        frame["boxes"] = [
            read_boxes(Path(folder), *pair, size) for pair in zip(table["image"], table["boxes"], strict=True)
        ]
    rows = torch.nonzero(known(mask.float()))[:, 0]
    if not len(rows):
        raise ValueError(f"{folder}: no image has a mask, and without masks nobody knows what the background is")
    return Images(x, y, mask, frame, classes).subset(rows)


def read_boxes(folder: Path, image: str, cell: str, size: int) -> list[list[float]]:
    """Boxes (left, top, right, bottom) of a cell, from pixels of the file to those of a square of `size`."""
    try:
        with Image.open(folder / image) as film:
            scale = [size / film.width, size / film.height] * 2
        return [np.multiply(box, scale).tolist() for _, *box in json.loads(cell or "[]")]
    except (ValueError, TypeError) as error:
        text = '[["kind", left, top, right, bottom], ...]'
        raise ValueError(f"{folder / image}: its boxes are not {text} ({error})") from None


# --- what is done to the background


def removed(x: Tensor, mask: Tensor) -> Tensor:
    """Background pixels of x (B, C, H, W) become the mean grey of all these images' channels; mask (B, 1, H, W)."""
    return torch.where(mask > 0.5, x, x.mean((0, 2, 3), keepdim=True))


def blurred(x: Tensor, mask: Tensor) -> Tensor:
    """Background of x (B, C, H, W) blurred by a Gaussian of `SCALE` of the side; the object does not bleed into it."""
    sigma = SCALE * max(x.shape[2:])
    kernel = 2 * int(2 * sigma) + 1
    kernel = min(kernel, 2 * ((min(x.shape[2:]) - 1) // 2) - 1)  # torch pads by reflection, which needs room
    return torch.where(mask > 0.5, x, gaussian_blur(fill_foreground(x, mask > 0.5), [kernel] * 2, [sigma] * 2))


def treated(images: Images, seed: int = 0) -> dict[str, Images]:
    """The images with their background as it is, removed, blurred, and swapped with other classes' images'."""
    x, y, mask, _ = images[list(range(len(images)))]
    swapped = swap_backgrounds(x, y, mask, torch.Generator().manual_seed(seed))
    sets = {"as_it_is": x, "removed": removed(x, mask), "blurred": blurred(x, mask), "swapped": swapped}
    return {name: Images(part, y, mask, images.frame, images.classes) for name, part in sets.items()}


# --- measures


def pointing_game(A: np.ndarray, inside: np.ndarray) -> bool:
    """Whether the maximum of |R|, A (H, W), lies inside a box, bool (H, W).

    Zhang et al., arXiv 1608.00507, without their margin of pixels.
    """
    return bool(inside.flat[int(np.argmax(A))])


def box_share(A: np.ndarray, inside: np.ndarray, mask: np.ndarray) -> float:
    """Share of the foreground's |R| (H, W) that lies inside boxes; NaN without foreground relevance."""
    total = A[mask].sum()
    return float(A[mask & inside].sum() / total) if total > 0 else np.nan


def box_area(boxes: list[list[float]], size: int) -> np.ndarray:
    """bool (size, size): pixels whose centre lies in one of the boxes (left, top, right, bottom)."""
    at = np.arange(size) + 0.5
    inside = np.zeros((size, size), bool)
    for left, top, right, bottom in boxes:
        inside |= ((at >= top) & (at < bottom))[:, None] & ((at >= left) & (at < right))[None]
    return inside


def score_boxes(R: Tensor, mask: Tensor, boxes: list) -> pd.DataFrame:
    """Pointing game and box_share with chance levels, one row an image with boxes; R (N, 1, C, H, W).

    A maximum anywhere in the image has the boxes' share of it as its chance; relevance spread over the foreground has
    the boxes' share of the foreground.
    """
    rows = []
    for A, region, own in zip(R.abs().sum((1, 2)).numpy(), mask[:, 0].numpy() > 0.5, boxes, strict=True):
        if own:
            inside = box_area(own, A.shape[-1])
            found = {"pointing_game": pointing_game(A, inside), "pointing_chance": inside.mean()}
            rows.append(found | {"box_share": box_share(A, inside, region), "box_chance": inside[region].mean()})
    return pd.DataFrame(rows, columns=["pointing_game", "pointing_chance", "box_share", "box_chance"])


def drops(y: np.ndarray, p: dict[str, np.ndarray], patient: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Metric (AUC of two classes, else macro F1) of each treatment, and its fall below as_it_is with a 95 % percentile
    interval over patients drawn anew. y (N,), p: treatment -> (N, K). ValueError where a class is absent.
    """
    if len(set(y)) < next(iter(p.values())).shape[1]:
        raise ValueError("the images with a mask do not hold every class: performance cannot be measured on them")
    metric = "auc" if next(iter(p.values())).shape[1] == 2 else "macro_f1"
    groups = [np.flatnonzero(patient == one) for one in pd.unique(patient)]
    samples = [np.concatenate([groups[k] for k in rng.integers(len(groups), size=len(groups))]) for _ in range(DRAWS)]
    samples = [rows for rows in samples if len(set(y[rows])) == len(set(y))]
    base = evaluate.measure(metric, y, p["as_it_is"])
    rows = []
    for name, own in p.items():
        falls = [
            evaluate.measure(metric, y[s], p["as_it_is"][s]) - evaluate.measure(metric, y[s], own[s]) for s in samples
        ]
        low, high = np.quantile(falls, [0.025, 0.975]) if falls else (np.nan, np.nan)
        value = evaluate.measure(metric, y, own)
        accuracy = evaluate.measure("accuracy", y, own)
        rows.append((name, metric, value, accuracy, base - value, low, high))
    return pd.DataFrame(rows, columns=["background", "metric", "value", "accuracy", "drop", "low", "high"])


def verdict(table: pd.DataFrame, share: float, chance: float) -> tuple[str, list[str]]:
    """One of "depends", "undecided", "look closer", "not shown", and the reasons, from thresholds of `names`."""
    base = table["value"].iloc[0]
    if base < names.AUDIT_USEFUL:
        return "undecided", [f"the model is too weak on these images ({base:.2f}) for a fall to show"]
    changed = table[table["background"].isin(["swapped", "removed"])]
    fell = changed[(changed["drop"] >= names.AUDIT_DROP) & (changed["low"] > 0)]
    if len(fell):
        return "depends", [f"background {r.background}: {r.metric} falls by {r.drop:.2f}" for r in fell.itertuples()]
    if not (changed["high"] < names.AUDIT_DROP).all():
        return "undecided", [f"a fall of {names.AUDIT_DROP:g} is neither shown nor ruled out: more patients are needed"]
    if share > names.AUDIT_SHARE * chance:
        return "look closer", [
            f"performance holds, but {share:.2f} of the relevance lies outside (chance {chance:.2f})"
        ]
    return "not shown", [f"no fall of {names.AUDIT_DROP:g} when backgrounds are swapped or removed"]


# --- all of it


def audit(classifier: Classifier, images: Images, cases: int = 4, seed: int = 0) -> dict:
    """Everything that the page shows: table, share, chance, logit_change, verdict, boxes, figure (PNG, base64)."""
    sets = treated(images, seed)
    p = {name: evaluate.scores(classifier.method, one)[1] for name, one in sets.items()}
    table = drops(images.y.numpy(), p, images.frame["patient"].to_numpy(), np.random.default_rng(seed))
    R, mask = relevance(classifier.method, sets["as_it_is"]), images.mask.float()
    share, chance = float(evaluate.background_share(R, mask).nanmean()), float(1 - mask.mean())
    boxes = score_boxes(R, mask, list(images.frame["boxes"])) if "boxes" in images.frame else pd.DataFrame()
    kind, reasons = verdict(table, share, chance)
    some = list(range(0, len(images), max(1, len(images) // cases)))[:cases]
    shown = {name: relevance(classifier.method, one.subset(some)) for name, one in sets.items()}
    return {
        "classes": classifier.classes, "images": len(images), "patients": images.frame["patient"].nunique(),
        "table": table.to_dict("records"), "share": share, "chance": chance, "kind": kind, "reasons": reasons,
        "logit_change": float(np.nanmean(evaluate.logit_change(classifier.method, images, p["as_it_is"]))),
        "boxes": boxes.mean().to_dict() | {"films": len(boxes)} if len(boxes) else None,
        "figure": figure({name: one.subset(some) for name, one in sets.items()}, shown),
    }  # fmt: skip


def relevance(method: nn.Module, images: Images, batch_size: int = 32) -> Tensor:
    """Relevance of the winning class (N, 1, C, H, W), in eval mode."""
    with evaluate.in_eval(method):
        batches = torch.arange(len(images)).split(batch_size)
        return torch.cat([evaluate.heatmap(method, images[rows][0]).detach() for rows in batches])


def figure(sets: dict[str, Images], R: dict[str, Tensor]) -> str:
    """A row a case: each treatment's image above its map, maps of a case on one scale. PNG in base64."""
    n, k = len(next(iter(sets.values()))), len(sets)
    fig = Figure(figsize=(1.6 * k, 3.3 * n), layout="constrained")
    axes = fig.subplots(2 * n, k, squeeze=False)
    for case in range(n):
        maps = {name: heatmaps.shares(part[case].sum((0, 1)).numpy()) for name, part in R.items()}
        limit = max(float(np.quantile(np.abs(list(maps.values())), heatmaps.LIMIT)), 1e-12)
        for column, (name, images) in enumerate(sets.items()):
            x, _, mask, _ = images[case]
            heatmaps.picture(255 * x.mean(0).numpy(), mask[0].numpy() > 0.5, axes[2 * case, column])
            heatmaps.heatmap(maps[name], mask[0].numpy() > 0.5, axes[2 * case + 1, column], limit)
            axes[2 * case, column].set_title(names.AUDIT_NAMES[name], fontsize=8)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=90)
    return base64.b64encode(buffer.getvalue()).decode()


def page(found: dict, model: str, data: str) -> str:
    """The HTML page of an `audit`; the names of files, classes and labels are escaped."""
    folder = Path(__file__).parent / "templates"
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"number": findings.number, "background": names.AUDIT_NAMES.get}
    thresholds = {"drop": names.AUDIT_DROP, "relative_share": names.AUDIT_SHARE, "useful": names.AUDIT_USEFUL}
    sentence = names.AUDIT_VERDICTS[found["kind"]]
    return environment.get_template("audit.html.j2").render(
        found | {"model": model, "data": data, "sentence": sentence, "thresholds": thresholds}
    )
