"""Does a trained classifier depend on the background? `audit` answers with one HTML page and one word.

The verdict rests on performance when backgrounds are removed, blurred or swapped, and only then on relevance: a network
may have next to no relevance outside the object and still be decided by the background, where small marks in it move
the scores.
Only images with a mask count, the same ones in every row.
"""

import base64
import io
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jinja2 import Template
from matplotlib.figure import Figure
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from isnetlib import own, stats
from isnetlib.baselines import build
from isnetlib.data.backgrounds import SCALE, fill_foreground
from isnetlib.data.images import Images
from isnetlib.own import masked_images, with_masks
from isnetlib.report.figures import faults, picture, relevance_row
from isnetlib.study.runs import read_json
from isnetlib.training import evaluate
from isnetlib.training.checkpoints import network_weights, read_tensors
from isnetlib.training.files import write_atomically

# Thresholds, named before any model was looked at.
DROP = 0.05  # of AUC or macro F1: about what 500 cases can show; a smaller fall changes few decisions
SHARE = 0.5  # of the background's share of the area: relevance spread at random has all of it
USEFUL = 0.6  # AUC or macro F1: a model near chance has nothing to lose, so no fall clears it
DRAWS = 500  # bootstrap samples of patients
CASES, SHOWN = 6, ("as_it_is", "swapped")  # on the page
EQUALISED = ("tuberculosis", "tuberculosis_planted", "covid")  # experiments whose loader equalises by default


class Classifier(NamedTuple):
    """A method with `predict`, its classes, and how its images are made."""

    method: nn.Module
    classes: list[str]
    size: int
    equalise: bool
    grey: bool = False  # known: that it learnt from grey images alone


def audit(checkpoint, folder, page, label="label", patient="patient", **how) -> dict:
    """Audit a run folder or a checkpoint on a data set folder and write the HTML `page`. how: the options of
    `load_classifier`.

    Returns `measure`'s answer. ValueError: no checkpoint, unreadable images, no masks, labels foreign to the model.
    """
    model, folder = load_classifier(checkpoint, **how), Path(folder)
    images = masked_images(folder, model.classes, model.size, model.equalise, model.grey, label, patient)
    found = measure(model, images)
    test = {"name": folder.name, "found": {Path(checkpoint).resolve().name: found}}
    write_page(page, f"Background audit: {found['verdict']}", [test])
    return found


def compare(run, tests: dict[str, Images], device="cpu") -> dict[str, str]:
    """Measure a run's classifier, and the standard one beside it where there is one, on test sets, and write the run's
    report.html. Returns a word a test set: `choice`, or, of one classifier alone, `verdict`; or what went wrong.
    """
    run, words, shown = Path(run), {}, []
    folders = [folder for folder in (run, run / "standard") if (folder / "run.json").is_file()]
    models = {own.read(folder)["method"]: load_classifier(folder, device=device) for folder in folders}
    for name, images in tests.items():
        test = {"name": name}
        try:
            test["found"] = {method: measure(model, with_masks(images, name)) for method, model in models.items()}
            founds = list(test["found"].values())
            words[name] = choice(*founds) if len(founds) == 2 else founds[0]["verdict"]
        except ValueError as error:  # better told after a training than instead of its page
            words[name] = str(error)
        shown.append(test | {"word": words[name]})
    title = f"Use {next(iter(models))}?" if len(models) == 2 else "Background audit:"
    write_page(run / "report.html", f"{title} {shown[0]['word']}", shown)
    return words


def load_classifier(checkpoint, backbone=None, classes=None, size=None, equalise=None, device="cpu") -> Classifier:
    """A classifier in eval mode from a run folder (its chosen epoch), from a study's checkpoint, whose manifest names
    the method, or from weights of the network `backbone` with `classes`, however a training loop wrapped them, on
    images of `size` pixels (224).

    ValueError: not a checkpoint, backbone or classes unknown, weights of another network.
    """
    path, settings = Path(checkpoint), {}
    for run in (path, *path.parents[:2]):
        kept = (run, run / "model.pt", run / "checkpoints" / "swapped.pt")
        if path.is_dir() or ((run / "run.json").is_file() and path in kept):
            about = own.read(run)
            if about["multilabel"]:
                raise ValueError(f"{run}: of a classifier of several labels there is no audit")
            if any((backbone, classes, size, equalise is not None)):
                raise ValueError(f"{run}: run.json tells the network, classes, size and equalise: leave them out")
            of_images = (about["classes"], about["size"], about["equalise"], about["grey"])
            return Classifier(own.load_method(run).to(device), *of_images)
    state, run = read_tensors(path), path.parent.parent
    if whole := "method" in state and (run / "manifest.json").is_file():
        settings = read_json(run / "manifest.json").get("settings", {})
        columns = (name for test in run.glob("predictions/*.csv") for name in pd.read_csv(test, nrows=0))
        classes = classes or list(dict.fromkeys(name[2:] for name in columns if name.startswith("p_")))
    options, backbone = settings.get("data_options", {}), backbone or settings.get("backbone")
    for name, value in {"backbone": backbone, "classes": classes}.items():
        if not value:
            raise ValueError(f"{path}: nothing beside it tells its {name}; give --{name}")
    size = size or options.get("size") or options.get("canvas") or (112 if whole else 224)
    equalise = options.get("equalise", settings.get("experiment") in EQUALISED) if equalise is None else equalise
    name = settings.get("base") or settings.get("method", "standard")
    method = build(name, backbone, len(classes), size=size, **settings.get("method_options", {}))
    if getattr(method, "needs_mask", False):
        raise ValueError(f"{path}: the method {name} is given the true mask and cannot be audited")
    try:
        method.load_state_dict(state["method"]) if whole else method.model.load_state_dict(network_weights(path, state))
    except (RuntimeError, TypeError, AttributeError) as error:
        told = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} holds other weights than this network with {len(classes)} classes: {told}") from None
    return Classifier(method.eval(), list(classes), size, bool(equalise))


def treated(images: Images, seed: int = 0) -> dict[str, Images]:
    """The images with their background as it is, removed (the mean grey of all of them), blurred, and swapped with
    other classes' images'; made as they are read. Objects stay bit for bit.
    """
    batches = torch.arange(len(images)).split(256)
    mean = sum(images[rows][0].sum((0, 2, 3)) for rows in batches) / (len(images) * images.x.shape[2:].numel())
    sigma = SCALE * max(images.x.shape[2:])

    backgrounds = {
        "removed": lambda x, mask: mean[:, None, None],
        "blurred": lambda x, mask: gaussian_blur(fill_foreground(x, mask > 0.5), 2 * int(2 * sigma) + 1, sigma),
    }
    sets = {"as_it_is": images}
    for name, paint in backgrounds.items():
        sets[name] = Images(images.x, images.y, images.mask, images.frame, images.classes, partial(_painted, paint))
    return sets | {"swapped": evaluate.swapped_set(images, seed)}


def _painted(paint, x, mask):
    return torch.where(mask > 0.5, x, paint(x, mask)), mask


def drops(y: np.ndarray, p: dict[str, np.ndarray], patient: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Metric (AUC of two classes, else macro F1) of each treatment, and its fall below as_it_is with a 95 % percentile
    interval over patients drawn anew. y (N,), p: treatment -> (N, K). ValueError where a class is absent.
    """
    base, classes = p["as_it_is"], p["as_it_is"].shape[1]
    if len(set(y)) < classes:
        raise ValueError("the images with a mask do not hold every class: performance cannot be measured on them")
    metric = "auc" if classes == 2 else "macro_f1"
    score, weights, rows = getattr(stats, metric), stats.case_weights(patient, rng, DRAWS), []
    for name, changed in p.items():
        low, high = np.nanquantile(score(y, base, weights) - score(y, changed, weights), [0.025, 0.975])
        value = score(y, changed)
        rows.append((name, metric, value, stats.accuracy(y, changed), score(y, base) - value, low, high))
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


def choice(method: dict, standard: dict, seed: int = 0) -> str:
    """yes | no | neither | undecided: whether to use the method, as the page explains, by the score on the worst of the
    backgrounds. Both: `measure`'s answers on the same images.
    """
    score, rng = getattr(stats, method["table"]["metric"].iloc[0]), np.random.default_rng(seed)
    weights = stats.case_weights(method["patient"], rng, DRAWS)

    def worst(found, *weights):
        return np.min([score(found["y"], p, *weights) for p in found["p"].values()], axis=0)

    if max(worst(method), worst(standard)) < USEFUL:
        return "neither"
    low, high = np.nanquantile(worst(method, weights) - worst(standard, weights), [0.025, 0.975])
    return "yes" if low > 0 else "no" if high < 0 else "undecided"


def shares(method: nn.Module, images: Images, device: str = "cpu") -> tuple[float, float]:
    """The background's share of the relevance and of the area, means over images that all have a mask."""
    found = []
    with evaluate.in_eval(method):
        for rows in torch.arange(len(images)).split(32):
            x, _, mask, _ = images[rows]
            R = evaluate.heatmap(method, x.to(device)).cpu()
            found.append(torch.stack([evaluate.background_share(R, mask), 1 - mask.flatten(1).mean(1)]))
    return tuple(torch.cat(found, 1).nanmean(1).tolist())


def measure(classifier: Classifier, images: Images, seed: int = 0) -> dict:
    """verdict, table (`drops`), share and chance (`verdict`), classes, images, patients; y (N,), patient (N,) and, by
    treatment, p (N, K); of some cases the masks (n, H, W), and by treatment x (n, H, W, 3) and maps (n, H, W); faults
    (`figures.faults`) of the maps as they are.
    """
    method, sets = classifier.method, treated(images, seed)
    device = str(next(method.parameters()).device)
    y, patient = images.y.numpy(), images.frame["patient"].to_numpy()
    p = {name: evaluate.scores(method, one, device=device)[1] for name, one in sets.items()}
    table = drops(y, p, patient, np.random.default_rng(seed))
    share, chance = shares(method, images, device)
    found = {"verdict": verdict(table, share, chance), "table": table, "share": share, "chance": chance}
    found |= {"images": len(images), "patients": len(set(patient)), "classes": classifier.classes}
    cases = np.linspace(0, len(images) - 1, min(CASES, len(images))).round().astype(int)
    x = {name: sets[name][cases][0] for name in SHOWN}
    with evaluate.in_eval(method):
        maps = {name: evaluate.heatmap(method, one.to(device)).sum((1, 2)).cpu().numpy() for name, one in x.items()}
    x = {name: (255 * one).round().byte().permute(0, 2, 3, 1).numpy() for name, one in x.items()}
    masks = images[cases][2][:, 0] > 0.5
    found |= {"masks": masks, "x": x, "maps": maps, "faults": faults(maps["as_it_is"], masks.numpy())}
    return found | {"y": y, "patient": patient, "p": p}


# --- the page
def write_page(path: str | Path, title: str, tests: list[dict]) -> None:
    """One HTML page. tests: name and, by the name of a model, what `measure` found on it; word: of `choice`."""
    for test in (test for test in tests if "found" in test):
        found = test["found"]
        table = pd.concat({name: one["table"] for name, one in found.items()}, names=["model"]).reset_index(level=0)
        test["scores"] = table.to_html(index=False, border=0, float_format="%.3f")
        test["first"], test["figure"] = next(iter(found.values())), _figure(found)
    template = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"), autoescape=True)
    limits = {"DROP": DROP, "USEFUL": USEFUL, "SHARE": SHARE}
    write_atomically(Path(path), template.render(title=title, tests=tests, **limits))


def _figure(found: dict[str, dict]) -> str:
    """A row a case: its image as it is, a map a model in shares of its total, and the same with the background swapped.
    PNG in base 64.
    """
    first = next(iter(found.values()))
    columns = [(treatment, model) for treatment in SHOWN for model in (None, *found)]
    fig = Figure(figsize=(1.5 * len(columns), 1.55 * len(first["masks"])), layout="constrained")
    axes = fig.subplots(len(first["masks"]), len(columns), squeeze=False)
    for case, (mask, row) in enumerate(zip(first["masks"].numpy(), axes, strict=True)):
        maps = [(ax, found[model]["maps"][name][case]) for ax, (name, model) in zip(row, columns, strict=True) if model]
        relevance_row([R for _, R in maps], mask, [ax for ax, _ in maps])
        for ax, (name, model) in zip(row, columns, strict=True):
            if model is None:
                picture(first["x"][name][case], mask, ax)
    for ax, (name, model) in zip(axes[0], columns, strict=True):
        ax.set_title(model or name.replace("_", " "), fontsize=8)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=90)
    return base64.b64encode(buffer.getvalue()).decode()
