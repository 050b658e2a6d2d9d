"""Does a trained classifier depend on the background? `audit` answers with one HTML page and one word.

The verdict rests on performance when backgrounds are removed, blurred or swapped, and only then on relevance. Images
with a mask alone count, the same ones in every row.
"""

import base64
from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jinja2 import Template
from torchvision.transforms.functional import gaussian_blur

from isnetlib import own, stats
from isnetlib.baselines import build
from isnetlib.data.backgrounds import SCALE, fill_foreground
from isnetlib.data.images import Images, with_masks
from isnetlib.report.figures import faults, picture, relevance_row
from isnetlib.report.show import Picture
from isnetlib.training import evaluate
from isnetlib.training.checkpoints import network_weights
from isnetlib.training.files import write_atomically

# Thresholds, named before any model was looked at.
DROP = 0.05  # of AUC or macro F1: about what 500 cases can show; a smaller fall changes few decisions
SHARE = 0.5  # of the background's share of the area: relevance spread at random has all of it
USEFUL = 0.6  # AUC or macro F1: a model near chance has nothing to lose, so no fall clears it
DRAWS = 500  # bootstrap samples of patients
CASES, SHOWN = 6, ("as_it_is", "swapped")  # on the page

# A method with `predict`, its classes, and how its images are made; grey: it is known to have learnt from grey ones.
Classifier = namedtuple("Classifier", "method classes size equalise grey", defaults=[False])


def audit(checkpoint, folder, page, label="label", patient="patient", **how) -> dict:
    """Audit a run folder or a checkpoint on a data set folder and write the HTML `page`; `measure`'s answer. how: the
    options of `load_classifier`. ValueError: no checkpoint, unreadable images, no masks, labels foreign to the model.
    """
    write_atomically(page, None)
    model, folder = load_classifier(checkpoint, **how), Path(folder)
    images = own.masked_images(folder, model.classes, model.size, model.equalise, model.grey, label, patient)
    found = measure(model, images)
    tests = [{"name": folder.name, "found": {Path(checkpoint).resolve().name: found}}]
    write_page(page, f"Background audit: {found['verdict']}", tests)
    return found


def compare(run, tests: dict[str, Images], device="cpu") -> dict[str, str]:
    """Measure a run's classifier, and the standard one beside it where there is one, on test sets, and write the run's
    report.html. Returns a word a test set: `choice`, or, of one classifier alone, `verdict`; or what went wrong.
    """
    run, shown = Path(run), []
    folders = [run] + [run / "standard"] * (run / "standard" / "model.pt").is_file()  # its training may be unfinished
    models = {own.read(folder)["method"]: load_classifier(folder, device=device) for folder in folders}
    for name, images in tests.items():
        found = {}
        try:
            found = {method: measure(model, with_masks(images, name)) for method, model in models.items()}
            word = choice(*found.values()) if len(found) == 2 else next(iter(found.values()))["verdict"]
        except ValueError as error:  # better told after a training than instead of its page
            word = str(error)
        shown.append({"name": name, "found": found, "word": word})
    title = f"Use {next(iter(models))}?" if len(models) == 2 else "Background audit:"
    write_page(run / "report.html", f"{title} {shown[0]['word']}", shown)
    return {test["name"]: test["word"] for test in shown}


def load_classifier(checkpoint, backbone=None, classes=None, size=None, equalise=None, device="cpu") -> Classifier:
    """A classifier in eval mode from a run folder, or from weights of the network `backbone` with `classes`, however a
    training loop wrapped them, on images of `size` pixels (224). ValueError: no checkpoint, weights of another network.
    """
    path = Path(checkpoint)
    if path.is_dir():
        if any((backbone, classes, size, equalise is not None)):
            raise ValueError(f"{path}: run.json tells the network, classes, size and equalise: leave them out")
        about, method = own.read(path), own.load_method(path)
        if about["multilabel"]:
            raise ValueError(f"{path}: of a classifier of several labels there is no audit")
        return Classifier(method.to(device), *(about[name] for name in ("classes", "size", "equalise", "grey")))
    state = network_weights(path)
    for name, value in {"backbone": backbone, "classes": classes}.items():
        if not value:
            raise ValueError(f"{path} does not tell its {name}: give --{name}, or the folder of its run")
    size = size or 224
    with torch.random.fork_rng():
        method = build("standard", backbone, len(classes), size=size)
    try:
        method.model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        told = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} holds other weights than this network with {len(classes)} classes: {told}") from None
    return Classifier(method.to(device).eval(), list(classes), size, bool(equalise))


def treated(images: Images, seed: int = 0) -> dict[str, Images]:
    """Images with backgrounds as they are, removed (mean grey), blurred, swapped between classes; made when read."""
    batches = torch.arange(len(images)).split(256)
    mean = sum(images[rows][0].sum((0, 2, 3)) for rows in batches) / (len(images) * images.x.shape[2:].numel())
    sigma = SCALE * max(images.x.shape[2:])

    def removed(x, mask):
        return torch.where(mask > 0.5, x, mean[:, None, None]), mask

    def blurred(x, mask):
        background = gaussian_blur(fill_foreground(x, mask > 0.5), 2 * int(2 * sigma) + 1, sigma)
        return torch.where(mask > 0.5, x, background), mask

    same = images.x, images.y, images.mask, images.frame, images.classes
    painted = {paint.__name__: Images(*same, paint) for paint in (removed, blurred)}
    return {"as_it_is": images, **painted, "swapped": evaluate.Swapped(images, seed)}


def drops(y: np.ndarray, p: dict[str, np.ndarray], patient: np.ndarray, seed: int = 0) -> tuple:
    """A table of the metric (AUC of two classes, else macro F1) of each treatment and its fall below the first with a
    95 % interval over patients drawn anew; the metric in each draw (treatments, DRAWS). p: treatment -> (N, K).
    """
    classes = next(iter(p.values())).shape[1]
    if min(len(set(patient[y == k])) for k in range(classes)) < 2:  # of one patient all draws would be the same
        raise ValueError("the images with a mask do not hold every class of two patients or more: too few to judge by")
    metric = "auc" if classes == 2 else "macro_f1"
    score, weights = getattr(stats, metric), stats.case_weights(patient, np.random.default_rng(seed), DRAWS)
    rows = [(name, metric, score(y, one), stats.accuracy(y, one)) for name, one in p.items()]
    table = pd.DataFrame(rows, columns=["background", "metric", "value", "accuracy"])
    draws = np.stack([score(y, one, weights) for one in p.values()])
    low, high = np.nanquantile(draws[0] - draws, [0.025, 0.975], axis=1)
    return table.assign(drop=table["value"][0] - table["value"], low=low, high=high), draws


def verdict(table: pd.DataFrame, share: float, chance: float) -> str:
    """depends | undecided | look closer | not shown. share, chance: the background's, of relevance and of the area."""
    changed = table.iloc[1:]
    if table["value"].iloc[0] < USEFUL:
        return "undecided"
    if ((changed["drop"] >= DROP) & (changed["low"] > 0)).any():
        return "depends"
    if not (changed["high"] < DROP).all():
        return "undecided"
    return "look closer" if share > SHARE * chance else "not shown"


def choice(method: dict, standard: dict) -> str:
    """Use the method? yes | no | neither | undecided, by the score on the worst background. Of `measure`'s answers."""
    if max(found["table"]["value"].min() for found in (method, standard)) < USEFUL:
        return "neither"
    low, high = np.nanquantile(method["draws"].min(0) - standard["draws"].min(0), [0.025, 0.975])
    return "yes" if low > 0 else "no" if high < 0 else "undecided"


def measure(classifier: Classifier, images: Images, seed: int = 0) -> dict:
    """verdict, table and draws (`drops`), share and chance (`verdict`), counts; of some cases masks (n, H, W), and by
    treatment x (n, H, W, 3) and maps (n, H, W); faults (`figures.faults`) of those as they are.
    """
    method, sets = classifier.method, treated(images, seed)
    device, patient = str(next(method.parameters()).device), images.frame["patient"].to_numpy()
    p = {name: evaluate.scores(method, one, device=device)[1] for name, one in sets.items()}
    table, draws = drops(images.y.numpy(), p, patient, seed)
    relevance = evaluate.test(method, images, 32, device).predictions
    share, chance = relevance[["background_share", "chance_share"]].mean()
    cases, x, maps = np.linspace(0, len(images) - 1, min(CASES, len(images))).round().astype(int), {}, {}
    with evaluate.in_eval(method):
        for name in SHOWN:
            shown, _, mask, _ = sets[name][cases]
            x[name] = (255 * shown).round().byte().permute(0, 2, 3, 1).numpy()
            maps[name] = evaluate.heatmap(method, shown.to(device)).sum((1, 2)).cpu().numpy()
    masks = (mask[:, 0] > 0.5).numpy()
    found = {"verdict": verdict(table, share, chance), "table": table, "draws": draws, "share": share, "chance": chance}
    found |= {"images": len(images), "patients": len(set(patient)), "classes": classifier.classes}
    return found | {"masks": masks, "x": x, "maps": maps, "faults": faults(maps["as_it_is"], masks)}


def write_page(path: str | Path, title: str, tests: list[dict]) -> None:
    """One HTML page. tests: name; found: by the name of a model, what `measure` found; word: what is said of it."""
    template = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"), autoescape=True)
    told = template.render(title=title, tests=tests, figure=_figure, DROP=DROP, USEFUL=USEFUL, SHARE=SHARE)
    write_atomically(path, told)


def _figure(found: dict[str, dict]) -> str:
    """PNG in base 64, a row a case: as it is and swapped, its image and a map a model in shares of its total."""
    first = next(iter(found.values()))
    columns = [(treatment, model) for treatment in SHOWN for model in (None, *found)]
    fig = Picture(figsize=(1.5 * len(columns), 1.55 * len(first["masks"])), layout="constrained")
    axes = fig.subplots(len(first["masks"]), len(columns), squeeze=False)
    for case, (mask, row) in enumerate(zip(first["masks"], axes, strict=True)):
        places = dict(zip(columns, row, strict=True))
        maps = {ax: found[model]["maps"][name][case] for (name, model), ax in places.items() if model}
        relevance_row(list(maps.values()), mask, list(maps))
        for name in SHOWN:
            picture(first["x"][name][case], mask, places[name, None])
    for ax, (name, model) in zip(axes[0], columns, strict=True):
        ax.set_title(model or name.replace("_", " "), fontsize=8)
    return base64.b64encode(fig._repr_png_()).decode()
