"""What a trained method says on a test set: scores, metrics, and where its relevance lies."""

import contextlib
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from isnetlib.data.backgrounds import draw_donors, paint_backgrounds
from isnetlib.data.images import Images
from isnetlib.method.lrp import explain
from isnetlib.networks import dice, known
from isnetlib.training.files import write_atomically

MAP_SIDE = 48  # pixels of the small relevance maps that are kept
MAPS = 5  # of them a test set; with the images about 60 KB a run


class Tested(NamedTuple):
    """Predictions of one test set, a row a case, and its first cases' small maps."""

    predictions: pd.DataFrame
    maps: dict[str, np.ndarray]


# --- scores
@contextlib.contextmanager
def in_eval(method: nn.Module):
    """The method in eval mode inside, afterwards each module in its own."""
    before = {module: module.training for module in method.modules()}
    try:
        yield method.eval()
    finally:
        method.train(before[method])  # which may do more than set what follows
        for module, training in before.items():
            module.training = training


def inputs(method: nn.Module, x: Tensor, mask: Tensor, device: str = "cpu") -> tuple[Tensor, ...]:
    """What `predict`, `explain` and `segment` take: images, and for a method that `needs_mask` (oracle) true masks."""
    if not getattr(method, "needs_mask", False):
        return (x.to(device),)
    if not known(mask).all():
        raise ValueError(f"{type(method).__name__} needs the mask of every image, at test time too")
    return x.to(device), mask.to(device)


@torch.no_grad()
def scores(method: nn.Module, images, batch_size: int = 256, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """Labels y (N,) or (N, K) and probabilities p (N, K) of a data set, in eval mode."""
    parts = []
    with in_eval(method):
        for rows in torch.arange(len(images)).split(batch_size):
            x, y, mask, _ = images[rows]
            parts.append((y, method.predict(*inputs(method, x, mask, device)).cpu()))
    return tuple(torch.cat(part).numpy() for part in zip(*parts, strict=True))


def measure(metric: str, y: np.ndarray, p: np.ndarray) -> float:
    """accuracy, macro_f1, or auc (several classes: mean over pairs, Hand & Till; several labels: mean over labels)."""
    answer = p.argmax(1) if y.ndim == 1 else p > 0.5
    if metric == "accuracy":
        return float((answer == y).mean())
    if metric == "macro_f1":
        return float(f1_score(y, answer, average="macro", zero_division=0))
    if metric == "auc":
        return float(roc_auc_score(y, p[:, 1] if p.shape[1] == 2 and y.ndim == 1 else p, multi_class="ovo"))
    raise ValueError(f"unknown metric {metric!r}: use accuracy, macro_f1 or auc")


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean negative log-probability of the labels."""
    p = p.clip(1e-12, 1 - 1e-7 if y.ndim == 2 else 1)
    right = np.log(p[np.arange(len(y)), y]) if y.ndim == 1 else (y * np.log(p) + (1 - y) * np.log(1 - p)).mean(1)
    return float(-right.mean())


def thresholds(y: np.ndarray, p: np.ndarray) -> list[float]:
    """For each label of y (N, K) the score p (N, K) of highest F1, 0.5 without both answers; none for classes (N,)."""
    found = [0.5] * (y.shape[1] if y.ndim == 2 else 0)
    for k in range(len(found)):
        if len(np.unique(y[:, k])) == 2:
            precision, recall, at = precision_recall_curve(y[:, k], p[:, k])
            found[k] = float(at[(precision * recall / (precision + recall).clip(1e-12))[:-1].argmax()])
    return found


class Swapped(Images):
    """The data set with backgrounds swapped across classes by its masks as they are read, the same for every method."""

    def __init__(self, images: Images, seed: int = 0):
        super().__init__(images.x, images.y, images.mask, images.frame, images.classes)
        self.donors = draw_donors(images.y, self.area(), torch.Generator().manual_seed(seed))

    def _batch(self, rows):
        x, y, mask, _ = super()._batch(rows)
        read = super()._batch
        return paint_backgrounds(x, mask, self.donors[rows], rows, lambda donors: read(donors)[::2]), y, mask, rows

    def subset(self, rows):
        raise NotImplementedError("donors are rows of the whole set: take the subset first, then swap")


def logit_change(method: nn.Module, images, p: np.ndarray, batch_size: int = 128, device: str = "cpu") -> np.ndarray:
    """(N,) how much scores p (N, K) move when backgrounds are swapped: mean over classes of |change of log p, centred|
    (several labels: of the logit), by the standard deviation of the same over the set. NaN: no mask is known.
    """

    def logits(p):  # of a softmax they are known up to a shift: centred
        z = np.log(p.clip(1e-12, None))
        return z - (np.log((1 - p).clip(1e-12, None)) if images.multilabel else z.mean(1, keepdims=True))

    before, after = logits(p), logits(scores(method, Swapped(images), batch_size, device)[1])
    change = np.abs(after - before).mean(1) / max(before.std(), 1e-12)
    return np.where(images.area().numpy() > 0, change, np.nan)


# --- relevance
def heatmap(method: nn.Module, *given: Tensor) -> Tensor:
    """Relevance of the winning class (B, 1, C, H, W), by the method's own `explain` if it has one."""
    return method.explain(*given) if hasattr(method, "explain") else explain(method.model, *given)


def background_share(R: Tensor, mask: Tensor) -> Tensor:
    """sum |R| outside the mask / sum |R|, (B,), of R (B, 1, C, H, W), mask (B, 1, H, W); NaN: no mask, no relevance."""
    A = R.abs().sum((1, 2))
    share = (A * (1 - mask[:, 0])).sum((1, 2)) / A.sum((1, 2))
    return torch.where(known(mask), share, torch.nan)


def box_scores(R: Tensor, cells: pd.Series) -> dict[str, Tensor]:
    """Does relevance R (B, 1, C, H, W) point at boxes of radiologists? (B,) each, NaN without one: box_hit: 1 where the
    pixel of most |R| lies in a box (arXiv 1608.00507); box_share: of |R| inside; box_chance: of the area. cells (B,):
    JSON lists of [kind, left, top, right, bottom] in pixels, or "". A box covers at least the pixel it starts in.
    """
    height, width = R.shape[-2:]
    boxes = torch.zeros(len(R), height, width)
    for inside, cell in zip(boxes, cells, strict=True):
        for _, left, top, right, bottom in json.loads(cell or "[]"):
            x, y = min(int(left), width - 1), min(int(top), height - 1)
            inside[y : max(round(bottom), y + 1), x : max(round(right), x + 1)] = 1
    A, inside = R.abs().sum((1, 2)).flatten(1), boxes.flatten(1)
    hit = inside.gather(1, A.argmax(1, keepdim=True))[:, 0]
    found = {"box_hit": hit, "box_share": (A * inside).sum(1) / A.sum(1), "box_chance": inside.mean(1)}
    return {name: torch.where(inside.any(1), value, torch.nan) for name, value in found.items()}


# --- a test set, a run
def test(method: nn.Module, images, batch_size: int = 128, device: str = "cpu", publishable: bool = False) -> Tested:
    """Predictions, background_share with its chance level, logit_change, dice (of a method that segments), `box_scores`
    (of a data set with boxes), and small maps of the first cases, with their images where they are `publishable`.
    """
    y, p = scores(method, images, batch_size, device)
    change, parts, maps = logit_change(method, images, p, batch_size, device), [], {}
    for rows in torch.arange(len(images)).split(batch_size):
        x, _, mask, _ = images[rows]
        given, seen = inputs(method, x, mask, device), known(mask)
        with in_eval(method):
            R = heatmap(method, *given).cpu()
            found = {"background_share": background_share(R, mask)}
            found["chance_share"] = torch.where(seen, 1 - mask.flatten(1).mean(1), torch.nan)
            found["logit_change"] = change[rows]
            if hasattr(method, "segment"):
                found["dice"] = torch.where(seen, dice(method.segment(*given).cpu(), mask), torch.nan)
        if "boxes" in images.frame:
            found |= box_scores(R, images.frame["boxes"].iloc[rows.numpy()])
        parts.append(pd.DataFrame({name: np.asarray(value) for name, value in found.items()}))
        maps = maps or _small_maps(R, x, mask, y, p, publishable)
    labels = {"y": y} if y.ndim == 1 else {f"y_{name}": y[:, k].astype(int) for k, name in enumerate(images.classes)}
    labels |= {f"p_{name}": p[:, k] for k, name in enumerate(images.classes)}
    cases = images.frame[["id", "patient"]].assign(**labels)
    return Tested(pd.concat([cases, pd.concat(parts, ignore_index=True)], axis=1), maps)


def _small_maps(R, x, mask, y, p, publishable) -> dict[str, np.ndarray]:
    side = [min(MAP_SIDE, s) for s in R.shape[-2:]]
    R, x, mask = (adaptive_avg_pool2d(part[:MAPS], side) for part in (R.sum((1, 2)), x[:, 0], mask[:, 0]))
    scale = R.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)  # float16 would flush tiny maps to 0
    small = {"relevance": (R / scale).numpy().astype(np.float16), "mask": (mask >= 0.5).numpy()}
    if publishable:
        small["x"] = (255 * x).round().to(torch.uint8).numpy()
    return small | {"scale": scale[:, 0, 0].numpy(), "y": y[:MAPS], "p": p[:MAPS].astype(np.float16)}


def test_all(method: nn.Module, experiment, device: str = "cpu") -> dict[str, Tested]:
    """`test` on every test set of an experiment, by name; for a method that needs masks only those that have them."""
    return {
        name: test(method, images, device=device, publishable=experiment.publishable)
        for name, images in experiment.tests.items()
        if not getattr(method, "needs_mask", False) or (images.area() > 0).all()
    }


def write(folder: str | Path, tested: dict[str, Tested], facts: dict) -> None:
    """Write a run's predictions, heatmaps.npz and, last, metrics.json, which holds `facts`."""
    folder, buffer, maps = Path(folder), io.BytesIO(), {}
    for name, one in tested.items():
        write_atomically(folder / f"predictions/{name}.csv", one.predictions.to_csv(index=False, float_format="%.6g"))
        maps |= {f"{key}_{name}": array for key, array in one.maps.items()}
    np.savez_compressed(buffer, **maps)
    write_atomically(folder / "heatmaps.npz", buffer.getvalue())
    write_atomically(folder / "metrics.json", json.dumps(facts, indent=1) + "\n")
