"""Your own images: train on a data set folder, use what was trained, look at it.

A run folder holds run.json (how the classifier was made, and what images it takes), model.pt (weights of the network
alone, of the chosen epoch), checkpoints/ and log.csv (of the training), and standard/, the same of the standard one.
"""

import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from isnetlib.baselines import build
from isnetlib.baselines.standard import Pipeline
from isnetlib.data import folder as data_folder
from isnetlib.data.files import Refused, decode, read_file, read_index, read_table, refuse, resize, to_pixels
from isnetlib.data.images import Images, with_masks
from isnetlib.method.isnet import ISNet
from isnetlib.method.lrp import check
from isnetlib.report.show import answer, scores, show
from isnetlib.training import evaluate, fit
from isnetlib.training.checkpoints import differences, write_tensors
from isnetlib.training.files import write_atomically

STEERED = {"heatmap_weight": "auto", "range": "auto"}  # an ISNet's defaults, so that run.json names them
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of red, green, blue, as in files of grey images
BATCH = 32  # images at a time in use


def train(
    data: str | Path,
    run: str | Path,
    method: str = "isnet_selective",
    backbone: str = "resnet18",
    weights: str | None = None,
    size: int = 224,
    epochs: int = 30,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    seed: int = 0,
    device: str = "auto",
    equalise: bool = False,
    options: dict | None = None,
    standard: bool = True,
    tests: Iterable[str | Path] = (),
    report=print,
    **reading,
) -> dict[str, Images]:
    """Train `method` on a data set folder and, if `standard`, a standard classifier beside it, into the run folder. A
    training that was stopped goes on; a finished one stays as it is. Returns the test sets, held-out patients' first.

    weights: None (drawn at random), "default" (torchvision's of ImageNet) or a file; options: of the method, an ISNet's
    beside STEERED; tests: further data set folders; reading: of `isnetlib.data.folder.load`. ValueError: a folder with
    errors, options that cannot be, a run folder of another configuration.
    """
    device, images = pick(device), data_folder.load(data, size=size, equalise=equalise, **reading)
    seen, columns = images.train, {name: reading[name] for name in ("label", "patient") if name in reading}
    grey = _grey(seen)
    further = {str(name): masked_images(name, seen.classes, size, equalise, grey, **columns) for name in tests}
    if taken := images.tests.keys() & further:
        raise ValueError(f"{taken.pop()} is the name of a test set of {data}: name the other folder by its whole path")
    _tell_doubts(images.tests | further, seen, report)
    digest = hashlib.sha256(json.dumps(images.hashes, sort_keys=True).encode()).hexdigest()
    options = (STEERED if method.startswith("isnet") else {}) | (options or {})
    how = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    about = {"method": method, "options": options, "backbone": backbone, "weights": weights and str(weights)}
    about |= {"classes": seen.classes, "size": size, "multilabel": seen.multilabel, "grey": grey, "equalise": equalise}
    usual = inspect.signature(data_folder.load).parameters  # settings: but defaults, and where images are kept
    given = {k: v for k, v in reading.items() if k != "cache" and json.dumps(v) != json.dumps(usual[k].default)}
    given = {"label": "label", "patient": "patient", "external": []} | given
    about |= {"data": f"{Path(data).resolve().name} {digest[:12]}", **given, **how}
    asked = {Path(run): about}
    if standard and method != "standard":
        asked[Path(run) / "standard"] = about | {"method": "standard", "options": {}}
    made = {folder: draw(one) for folder, one in asked.items()}
    made = {folder: one for folder, one in made.items() if not begin(folder, asked[folder])}  # after all mistakes
    for k, (folder, one) in enumerate(made.items(), 1):
        title = f"{asked[folder]['method']} ({k} of {len(made)})"
        telling = {"report": lambda line, title=title: report(f"{title}  {line}")}
        telling["after"] = 1 + epochs / 2 * (len(made) - k)  # a step of the standard one takes about half the time
        fit.fit(one, seen, images.validation, folder, metric=images.metric, device=device, **how, **telling)
        fit.load_chosen(one, folder)
        write_tensors(folder / "model.pt", bare(one).state_dict())
    return images.tests | further


def begin(folder: Path, about: dict) -> bool:
    """Write run.json; whether this training is finished, its checkpoints gone. ValueError: another one has begun."""
    path, about = folder / "run.json", json.loads(json.dumps(about))  # tuples are lists
    last = (folder / "checkpoints" / "last.pt").exists()
    if there := path.exists() and (last or (folder / "model.pt").exists()):
        begun = read(folder)
        if told := differences(begun, about | {"versions": begun.get("versions")}):
            raise ValueError(f"{folder} holds another training: {told}. Take another folder, or remove this one")
    else:
        versions = {name: metadata.version(name) for name in ("isnetlib", "torch", "torchvision")}
        write_atomically(path, json.dumps(about | {"versions": versions}, indent=1) + "\n")
    return there and not last


def make(about: dict) -> nn.Module:
    """The method that run.json tells of, with new weights."""
    network = about["backbone"], len(about["classes"]), about["size"], about["weights"]
    return build(about["method"], *network, multilabel=about["multilabel"], **about["options"])


def draw(about: dict) -> nn.Module:
    """`make`, weights drawn from the seed. ValueError, NotCovered: it cannot be trained on such images, or not used."""
    with fit.seeded(about["seed"]):
        method = make(about)
    x = torch.zeros(1, 3, about["size"], about["size"])
    try:
        with evaluate.in_eval(method), torch.no_grad():
            method.predict(*evaluate.inputs(method, x, x[:, :1]))
    except RuntimeError as error:
        raise ValueError(f"{about['backbone']} takes no images of {about['size']} pixels: {error}") from None
    if isinstance(method, ISNet):
        check(method.model, x.shape[1:])
    return method


def bare(method: nn.Module) -> nn.Module:
    """What of a method is needed in use: images (B, C, H, W) in [0, 1] to logits (B, K)."""
    return method if isinstance(method, Pipeline) else method.model


def pick(device: str) -> str:
    """The device itself, or, of "auto", the fastest that is there. ValueError: it is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return str(torch.empty(1, device=device).device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device} is not there: {str(error).splitlines()[0]}") from None


def _tell_doubts(tests: dict[str, Images], train: Images, report) -> None:
    for name, test in tests.items():
        one, other = (part.frame[["source", "patient"]].drop_duplicates() for part in (test, train))
        if seen := len(one.merge(other)):
            report(f"{name}: {seen} of its patients are in training, too, so its scores are too good")
        masked = set(test.y[test.area() > 0].tolist()) if test.y.ndim == 1 else range(len(test.classes))
        if lacking := [label for k, label in enumerate(test.classes) if k not in masked]:
            report(f"{name}: no {' or '.join(lacking)} with a mask: it cannot tell whether the background counts")


def _grey(images: Images) -> bool:
    parts = (images.x[rows] for rows in torch.arange(len(images)).split(BATCH))
    return all(bool((x == x[:, :1]).all()) for x in parts)


def masked_images(folder, classes, size, equalise=False, grey=False, label="label", patient="patient") -> Images:
    """All images with a mask. ValueError: unreadable files, foreign labels, no masks, colour where `grey` is wanted."""
    table, problems = read_index(folder, label, classes=classes, patient=patient)
    refuse(folder, problems)
    y, _ = data_folder.encode(table, label, (), classes)
    cache = data_folder.cache_of(folder, size, len(table))
    images, _, found = data_folder.read_images(Path(folder).resolve(), table, y, classes, size, equalise, cache=cache)
    refuse(folder, found)
    if grey and not _grey(images):
        raise ValueError(f"{folder}: some images have colour, and this model learnt from grey ones: save them as grey")
    return with_masks(images, folder)


def read(run: str | Path) -> dict:
    """What run.json holds. FileNotFoundError, ValueError: it is no run folder, or is damaged."""
    path = Path(run) / "run.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{run} is no run folder: it has no run.json; `isnet train` makes one") from None
    except ValueError:
        raise ValueError(f"{path} is damaged: train the run again") from None


def load_method(run: str | Path) -> nn.Module:
    """The method of a run folder in eval mode, with `predict`. Errors as of `load`."""
    about, path = read(run), Path(run) / "model.pt"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: the training is not finished; the same `isnet train` goes on")
    with torch.random.fork_rng():
        method = make(about | {"weights": about["weights"] and "random"}).eval()
    try:
        bare(method).load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # foreign bytes raise almost anything
        raise ValueError(f"{path} does not hold the weights that run.json tells of: {error!s:.200}") from None
    return method


def load(run: str | Path) -> nn.Module:
    """The classifier of a run folder alone, in eval mode: images (B, 3, size, size) in [0, 1] to logits (B, K).

    It has run.json's entries `classes`, `size`, `grey` (trained on grey images alone), `equalise` (their histograms, as
    `read_image` does) and `multilabel`. FileNotFoundError, ValueError: no run folder, or a damaged one.
    """
    model, about = bare(load_method(run)).eval(), read(run)
    for name in ("classes", "size", "grey", "equalise", "multilabel"):
        setattr(model, name, about[name])
    return model


def read_image(data: bytes, model: nn.Module) -> Tensor:
    """An image file as the `load`ed model takes it, (3, size, size) in [0, 1]. Refused: what cannot be read."""
    pixels = to_pixels(decode(data, turn=True))
    if model.grey and (pixels != pixels[..., :1]).any():
        pixels = np.repeat((pixels @ LUMA)[..., None], 3, axis=2)
    return resize(pixels, model.size, model.equalise).float() / 255


def find_images(places: Iterable[str | Path], report=print) -> Iterator[tuple[Path, str]]:
    """Folder and name of every image of files, folders, and folders with an index.csv. ValueError: none is there."""
    for place in map(Path, places):
        place = place.parent if place.name == "index.csv" else place
        if (place / "index.csv").is_file():
            table, problems = read_table(place, ["image"])
            refuse(place, problems)
            names = list(table["image"])
        elif place.is_dir():
            files = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
            names = [name for name in files if name.lower().endswith(SUFFIXES)]
            if len(names) < len(files):
                report(f"{place}: {len(files) - len(names)} other files left out ({', '.join(SUFFIXES)} are read)")
        else:
            place, names = place.parent, [place.name]
        if not names:
            raise ValueError(f"{place}: no image is there, nor an index.csv that lists any")
        yield from ((place, name) for name in names)


def predict(run, places, out="predictions.csv", heatmaps=None, device="auto", report=print) -> int:
    """Write the answers of a run's classifier on images to the table `out`: image (of several places its path), answer,
    p_<class>, ...; into the folder `heatmaps`, if one is given, a picture of each (`show`). Returns how many could not
    be read, each told to `report`; without any, no table. Errors and places as of `load` and `find_images`.
    """
    write_atomically(out, None)
    if heatmaps:
        Path(heatmaps).mkdir(parents=True, exist_ok=True)
    model, rows = load(run).to(pick(device)), []
    found = list({folder / name: (folder, name) for folder, name in find_images(places, report)}.values())
    several = len({folder for folder, _ in found}) > 1
    for start in range(0, len(found), BATCH):
        batch = {}
        for folder, name in found[start : start + BATCH]:
            try:
                x = read_image(read_file(folder, name), model)
            except Refused as error:
                report(f"{folder / name}: {'; '.join(error.args)}")
                continue
            batch[(folder / name).as_posix() if several else name] = x
            if x.max() < data_folder.DARK / 255:
                report(f"{folder / name}: is almost black; 12 bits stored as 16 must be multiplied by 16")
        answers = scores(model, torch.stack([*batch.values()])) if batch else ()
        for (name, x), p in zip(batch.items(), answers, strict=True):
            rows.append((name, answer(model, p), *p.tolist()))
            if heatmaps:
                path = Path(heatmaps) / f"{name.replace('..', 'up').strip('/')}.png"  # inside, and x/a is not ../x/a
                path.parent.mkdir(parents=True, exist_ok=True)
                show(model, x).savefig(path, dpi=100)
    if not rows:
        raise ValueError(f"none of {len(found)} images could be read: {out} is not written")
    table = pd.DataFrame(rows, columns=["image", "answer", *(f"p_{name}" for name in model.classes)])
    write_atomically(out, table.to_csv(index=False, float_format="%.6g"))
    return len(found) - len(rows)
