"""Lung masks for films that have none: a U-Net learns human masks and predicts, for every film, by a network that never
saw its patient (out-of-fold). A film with a human mask is no exception: the style of a mask would tell its source.

Human masks follow two conventions: lungs without the heart (JSRT/SCR, Shenzhen), or with the area behind it (V7). Each
source has one, so the network is told which it is by a second input plane, and every stored mask follows a single one.
One network predicts a film's mask, never a mean of several, whose smoother outline would mark films of no fold.
"""

import hashlib
import io
import json
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import binary_fill_holes, label
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from isnetlib import unet
from isnetlib.data import augment
from isnetlib.data.checks import without_copies
from isnetlib.data.folder import read_files, read_index, refuse
from isnetlib.files import write_atomically
from isnetlib.provenance import difference, git_state
from isnetlib.train import check_finite, seeded, steps_an_epoch
from isnetlib.unet import UNet, dice, known, pixel_loss

CONVENTIONS = ("without_heart", "with_heart")  # the value of the second input plane is the position here
SPECK = 0.01  # share of the image: a smaller component is no lung
AREA = (0.10, 0.55)  # share of the image that two lungs take; 98 % of the human masks lie within


class Films(NamedTuple):
    """x (N, 1, S, S) uint8 grey, mask (N, 1, S, S) uint8 (zeros: none is known), frame of N rows: source, image,
    patient (with the source before it), and the source's other columns; sha256 by what was hashed.
    """

    x: Tensor
    mask: Tensor
    frame: pd.DataFrame
    hashes: dict[str, str]


def begin(folder: Path, parameters: dict, hashes: dict[str, str]) -> dict:
    """Write manifest.json of a folder of masks, or make sure that it is of these parameters, data and sources.

    Raises ValueError where it is not: the folds kept there would be another segmenter's.
    """
    sources = b"".join(Path(module).read_bytes() for module in (__file__, unet.__file__, augment.__file__))
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")}
    now = {"parameters": parameters, "made_by": hashlib.sha256(sources).hexdigest(), "data": hashes}
    now = json.loads(json.dumps(now | {"versions": versions, "git": git_state()}))
    path = Path(folder) / "manifest.json"
    if not path.exists():
        write_atomically(path, json.dumps(now, indent=1) + "\n")
        return now
    then = json.loads(path.read_text(encoding="utf-8"))
    if reason := difference(then, now):
        raise ValueError(f"{folder} holds masks of another segmenter ({reason}): remove it to train afresh")
    return then


# --- reading


def read_films(root: str | Path, sources: list[str], size: int) -> Films:
    """The films of dataset folders root/<source>, grey, stretched to size x size, histograms equalised. Byte copies of
    an earlier film are left out. ValueError where a folder is missing or wrong.
    """
    parts = [_read_source(Path(root) / source, size) for source in sources]
    x, mask = (torch.cat([part[k] for part in parts]) for k in (0, 1))
    frame = pd.concat([part[2] for part in parts], ignore_index=True).fillna("")
    return Films(x, mask, frame, {key: value for part in parts for key, value in part[3].items()})


def _read_source(folder, size):
    table, problems = read_index(folder, "label", (), None, "patient", None, ())
    refuse(folder, problems)
    table = without_copies(folder, table)
    x, mask, digest, problems = read_files(folder, table, 32, size, equalise=True)
    refuse(folder, [problem for problem in problems if problem.level == "error"])
    frame = table.drop(columns=["mask", "source"]).assign(patient=folder.name + "/" + table["patient"])
    index = hashlib.sha256((folder / "index.csv").read_bytes()).hexdigest()
    hashes = {f"{folder.name}/index.csv": index, f"{folder.name}/files": digest}
    return x.float().mean(1, keepdim=True).round().to(torch.uint8), mask, frame.assign(source=folder.name), hashes


def assign_folds(frame: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """(N,) fold of each film, 0 .. folds - 1: a patient in one fold, each source spread over all of them."""
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(frame, frame["source"], frame["patient"])
    fold = np.empty(len(frame), int)
    for k, (_, rows) in enumerate(split):
        fold[rows] = k
    return fold


# --- learning


def with_plane(x: Tensor, heart: Tensor) -> Tensor:
    """Images (B, 1, H, W) in [0, 1] and their masks' convention (B,), a position in `CONVENTIONS`: (B, 2, H, W)."""
    return torch.cat([x, heart.to(x.dtype)[:, None, None, None].expand_as(x)], 1)


def segmentation_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Pixel cross-entropy plus 1 - soft Dice, 2 sum(p m) / sum(p + m), mean over images; logits, mask (B, 1, H, W)."""
    p = logits.sigmoid()
    overlap = 2 * (p * mask).flatten(1).sum(1) / (p + mask).flatten(1).sum(1).clamp(min=1e-6)
    return pixel_loss(logits, mask) + (1 - overlap).mean()


def fit(
    x: Tensor,
    mask: Tensor,
    heart: Tensor,
    *,
    epochs: int,
    depth: int = 4,
    width: int = 16,
    batch_size: int = 16,
    learning_rate: float = 4e-3,
    seed: int = 0,
    report=print,
) -> UNet:
    """A U-Net trained on films x (N, 1, S, S) uint8 with masks (N, 1, S, S) of the conventions heart (N,); AdamW,
    one-cycle learning rate. In eval mode. ValueError where a mask is not known.
    """
    if not known(mask.float()).all():
        raise ValueError("every film to learn from needs a mask")
    with seeded(seed):
        net, steps = UNet(2, depth, width).train(), steps_an_epoch(len(x), batch_size)
        optimizer = torch.optim.AdamW(net.parameters(), learning_rate, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
        for epoch in range(epochs):
            mean = 0.0
            for rows in torch.randperm(len(x)).split(batch_size)[:steps]:
                seen, wanted = augment.augment(x[rows].float() / 255, mask[rows].float(), reach=augment.STANDING)
                loss = segmentation_loss(net(with_plane(seen, heart[rows])), wanted)
                check_finite({"segmentation": loss.item()}, f"epoch {epoch}")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                mean += loss.item() / steps
            report(f"epoch {epoch + 1}/{epochs}  loss {mean:.4f}")
    return net.eval()


@torch.no_grad()
def predict(net: UNet, x: Tensor, convention: str, batch_size: int = 64) -> Tensor:
    """(N, 1, S, S) uint8 masks of films x (N, 1, S, S) uint8, cleaned, in one of `CONVENTIONS`."""
    heart = CONVENTIONS.index(convention)
    raw = [
        net(with_plane(part.float() / 255, torch.full((len(part),), float(heart)))) > 0 for part in x.split(batch_size)
    ]
    return torch.stack([torch.from_numpy(clean(mask[0].numpy())) for mask in torch.cat(raw)])[:, None].to(torch.uint8)


# --- quality


def clean(mask: np.ndarray) -> np.ndarray:
    """bool (H, W): holes filled, components smaller than `SPECK` of the image removed."""
    parts, _ = label(binary_fill_holes(mask))
    large = np.bincount(parts.ravel()) >= SPECK * mask.size
    large[0] = False
    return large[parts]


def doubt(mask: np.ndarray) -> str:
    """Why a cleaned mask (H, W) is doubtful, "" where it is not: its area, or other than two components."""
    area, components = float(mask.mean()), label(mask)[1]
    if not AREA[0] <= area <= AREA[1]:
        return f"area {area:.2f} of the image, not {AREA[0]:.2f} to {AREA[1]:.2f}"
    return "" if components == 2 else f"{components} component{'s' * (components != 1)}, not 2"


def overlap(predicted: Tensor, true: Tensor) -> pd.DataFrame:
    """dice, precision (share of the predicted pixels that are true) and recall of masks (N, 1, S, S) of 0 and 1; a
    predicted area behind the heart that the truth leaves out lowers precision, and the reverse recall.
    """
    a, b = predicted.float(), true.float()
    both, own, truth = ((part.flatten(1).sum(1)) for part in (a * b, a, b))
    parts = {"dice": dice(a, b), "precision": both / own.clamp(min=1), "recall": both / truth.clamp(min=1)}
    return pd.DataFrame({name: part.numpy().astype(float) for name, part in parts.items()})


# --- out of fold


def learns(films: Films, own: list[str], without: dict[str, str]) -> np.ndarray:
    """(N,) bool: films to learn from: of the sources `own`, with a human mask, none of whose columns has a value of
    `without` (column -> value). ValueError where a source of `own` gives none.
    """
    rows = films.frame["source"].isin(own).to_numpy() & known(films.mask.float()).numpy()
    for column, value in without.items():
        rows &= (films.frame.get(column, pd.Series("", films.frame.index)) != value).to_numpy()
    if missing := sorted(set(own) - set(films.frame["source"][rows])):
        raise ValueError(f"no film of {missing} has a human mask: prepare the source with its masks, or leave it out")
    return rows


def predict_fold(films: Films, fold: np.ndarray, k: int, rows: np.ndarray, heart: Tensor, cache: Path, **training):
    """The masks of fold k by a network that learnt from `rows` of the other folds: convention -> (n, 1, S, S) uint8.
    Kept in `cache`/fold<k>.npz, and read from there where it exists.
    """
    path, mine = Path(cache) / f"fold{k}.npz", torch.from_numpy(np.flatnonzero(fold == k))
    if not path.exists():
        seen = torch.from_numpy(np.flatnonzero(rows & (fold != k)))
        net = fit(films.x[seen], films.mask[seen], heart[seen], seed=k, **training)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: predict(net, films.x[mine], name).numpy() for name in CONVENTIONS})
        write_atomically(path, buffer.getvalue())
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in CONVENTIONS}


def out_of_fold(films: Films, fold: np.ndarray, rows: np.ndarray, heart: Tensor, cache: Path, **training):
    """Masks of every film, each by the network that left its patient out: convention -> (N, 1, S, S) uint8. rows (N,)
    bool: to learn from; heart (N,): position in `CONVENTIONS`, -1 where the source has no human masks. Resumes by fold.
    """
    masks = {name: torch.zeros_like(films.mask) for name in CONVENTIONS}
    for k in range(int(fold.max()) + 1):
        for name, part in predict_fold(films, fold, k, rows, heart, cache, **training).items():
            masks[name][torch.from_numpy(np.flatnonzero(fold == k))] = part
    return masks


def score(films: Films, masks: dict[str, Tensor], fold: np.ndarray, conventions: dict[str, str]) -> pd.DataFrame:
    """One row a film with a human mask and a predicted convention: dice, precision, recall. `own_convention` tells
    whether the two masks follow the same.
    """
    mine = np.flatnonzero(known(films.mask.float()).numpy() & films.frame["source"].isin(list(conventions)).to_numpy())
    frame = films.frame.iloc[mine][["source", "image", "patient"]].reset_index(drop=True).assign(fold=fold[mine])
    human = frame["source"].map(conventions)
    parts = [
        frame.assign(convention=name, own_convention=human == name).join(overlap(masks[name][mine], films.mask[mine]))
        for name in CONVENTIONS
    ]
    return pd.concat(parts, ignore_index=True)


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean, 5 % quantile, films and patients by source and convention."""
    groups = scores.groupby(["source", "convention", "own_convention"])
    return groups.agg(
        films=("dice", "size"), patients=("patient", "nunique"), dice=("dice", "mean"),
        dice_low=("dice", lambda values: values.quantile(0.05)), precision=("precision", "mean"),
        recall=("recall", "mean"),
    ).reset_index()  # fmt: skip


# --- the folder of masks


def store(films: Films, masks: Tensor, fold: np.ndarray, root: str | Path, out: str | Path) -> pd.DataFrame:
    """Write `out`/<source>/index.csv (image, mask, mask_source, quality, fold) and its masks, each of its image's size;
    films whose mask is doubtful stand in doubtful.csv, with the reason as quality, and have no mask. Returns both.
    """
    tables = []
    for source, rows in films.frame.groupby("source", sort=False).groups.items():
        table = films.frame.loc[rows, ["image"]].assign(mask_source="predicted", fold=fold[rows])
        table["quality"] = [doubt(mask) for mask in masks[rows.tolist(), 0].numpy()]
        good = table["quality"] == ""
        table["mask"] = np.where(good, "masks/" + table["image"].str.replace("/", "_").str.rsplit(".", n=1).str[0], "")
        table["mask"] += np.where(good, ".png", "")
        if table["mask"][good].duplicated().any():
            raise ValueError(f"{source}: two images would have a mask of one name; rename one of them")
        for i in rows[good]:
            _write_mask(
                masks[i, 0].numpy(),
                Path(root) / source / table.at[i, "image"],
                Path(out) / source / table.at[i, "mask"],
            )
        table.loc[good, "quality"] = "ok"
        table = table[["image", "mask", "mask_source", "quality", "fold"]]
        write_atomically(Path(out) / source / "doubtful.csv", table[~good].to_csv(index=False, lineterminator="\n"))
        write_atomically(Path(out) / source / "index.csv", table[good].to_csv(index=False, lineterminator="\n"))
        tables.append(table.assign(source=source))
    return pd.concat(tables, ignore_index=True)


def _write_mask(mask, image, path):
    with Image.open(image) as film:
        picture = Image.fromarray(255 * mask).resize(film.size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
