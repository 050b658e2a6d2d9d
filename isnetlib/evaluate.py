"""What a trained method says on a test set: scores, metrics, and where its relevance lies."""

import contextlib
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score, f1_score, precision_recall_curve, roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from isnetlib.boxes import box_masks
from isnetlib.boxes import scores as box_scores
from isnetlib.data import swap_backgrounds
from isnetlib.files import write_atomically
from isnetlib.lrp import explain
from isnetlib.unet import dice, known

MAP_SIDE = 48  # pixels of the small relevance maps that are kept
MAPS = 5  # of them a test set; with the images about 60 KB a run


class Tested(NamedTuple):
    """Predictions of one test set, one row a case, and a few small maps."""

    predictions: pd.DataFrame
    maps: dict[str, np.ndarray]


@contextlib.contextmanager
def in_eval(method: nn.Module):
    """The method in eval mode inside, afterwards as it was."""
    was_training = method.training
    method.eval()
    try:
        yield
    finally:
        method.train(was_training)


def inputs(method: nn.Module, x: Tensor, mask: Tensor, device: str = "cpu") -> tuple[Tensor, ...]:
    """What `predict`, `explain` and `attention` of a method take: the images; also the true masks where it has
    `needs_mask` (the oracle). ValueError where it does and an image has none.
    """
    if not getattr(method, "needs_mask", False):
        return (x.to(device),)
    if not known(mask).all():
        raise ValueError(f"{type(method).__name__} needs the mask of every image, at test time too")
    return x.to(device), mask.to(device)


@torch.no_grad()
def scores(method: nn.Module, images, batch_size: int = 256, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """Labels y (N,) or (N, K) and probabilities p (N, K) of a data set, in eval mode; the method's mode is left as it
    was.
    """
    with in_eval(method):
        parts = [
            (y, method.predict(*inputs(method, x, mask, device)).cpu())
            for x, y, mask, _ in _batches(images, batch_size)
        ]
    return tuple(torch.cat(part).numpy() for part in zip(*parts, strict=True))


def measure(metric: str, y: np.ndarray, p: np.ndarray) -> float:
    """accuracy, macro_f1 (mean of the classes' F1), or auc (binary; several classes: mean over pairs, Hand & Till;
    several labels: mean over labels).
    """
    if metric == "auc":
        if p.shape[1] == 2 and y.ndim == 1:
            p = p[:, 1]
        return float(roc_auc_score(y, p, multi_class="ovo"))
    answer = p.argmax(1) if y.ndim == 1 else p > 0.5
    if metric == "accuracy":
        return float(accuracy_score(y, answer) if y.ndim == 1 else (answer == y).mean())
    if metric == "macro_f1":
        return float(f1_score(y, answer, average="macro", zero_division=0))
    raise ValueError(f"unknown metric {metric!r}: use accuracy, macro_f1 or auc")


def thresholds(y: np.ndarray, p: np.ndarray) -> list[float]:
    """With several labels an image, for each the score from which on it is called present: the highest F1 on these
    (validation) cases, 0.5 where they do not hold both answers. y (N, K), p (N, K). Empty with one label: its answer is
    the class with the highest score.
    """
    return [_best_threshold(*pair) for pair in zip(y.T, p.T, strict=True)] if y.ndim == 2 else []


def _best_threshold(y, p):
    if len(np.unique(y)) < 2:
        return 0.5
    precision, recall, at = precision_recall_curve(y, p)
    return float(at[(precision * recall / (precision + recall).clip(1e-12))[:-1].argmax()])


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean negative log-probability of the labels."""
    p = p.clip(1e-12, 1 - 1e-7 if y.ndim == 2 else 1)
    right = np.log(p[np.arange(len(y)), y]) if y.ndim == 1 else (y * np.log(p) + (1 - y) * np.log(1 - p)).mean(1)
    return float(-right.mean())


def background_share(R: Tensor, mask: Tensor) -> Tensor:
    """sum |R| outside the mask / sum |R|, absolute values summed over channels; (B,), NaN where no mask is known or no
    relevance is left.

    R (B, 1, C, H, W) relevance of the winning class, mask (B, 1, H, W). A map spread evenly has the background's share
    of the area: the chance level.
    """
    A = R.abs().sum((1, 2))
    share = (A * (1 - mask[:, 0])).sum((1, 2)) / A.sum((1, 2))
    return torch.where(mask.flatten(1).amax(1) > 0, share, torch.nan)


def heatmap(method: nn.Module, *given: Tensor) -> Tensor:
    """Relevance of the winning class (B, 1, C, H, W), by the method's own `explain` where its prediction is more than
    its classifier's. given: as `inputs` makes it.
    """
    return method.explain(*given) if hasattr(method, "explain") else explain(method.model, *given)


def test(method: nn.Module, images, batch_size: int = 128, device: str = "cpu", publishable: bool = False) -> Tested:
    """Predictions, background_share with its chance level, logit_change, dice (of a method that segments), scores
    against boxes (of a data set that has them), and small maps of the first cases, for a data set.

    logit_change: how much the scores move when the background is swapped with another class's image, mean over classes
    of |change of log p - its mean| (several labels: of |change of the logit|), in units of the standard deviation of
    the same quantity over the test set; 0 = the background does not matter. publishable: whether the images themselves
    may be kept beside the maps.
    """
    y, p = scores(method, images, batch_size, device)
    shares, chance, kept = [], [], []
    boxes = box_masks(images.frame["boxes"], *images.x.shape[-2:]) if "boxes" in images.frame else None
    pointed, overlap, segments, attends = [], [], hasattr(method, "segment"), hasattr(method, "attention")
    for x, _, mask, rows in _batches(images, batch_size):
        given, small = inputs(method, x, mask, device), sum(len(part[0]) for part in kept) < MAPS
        with in_eval(method):
            R = heatmap(method, *given).cpu()
            attention = [method.attention(*given).cpu()] if attends and small else []
            if segments:
                overlap.append(torch.where(known(mask), dice(method.segment(*given).cpu(), mask), torch.nan))
        shares.append(background_share(R, mask))
        if boxes is not None:
            pointed.append(pd.DataFrame(box_scores(R, boxes[rows])))
        chance.append(torch.where(mask.flatten(1).amax(1) > 0, 1 - mask.flatten(1).mean(1), torch.nan))
        if small:
            kept.append((R.sum((1, 2)), x[:, 0], mask[:, 0], *attention))
    frame = images.frame[["id", "patient"]].copy()
    labels = {"y": y} if y.ndim == 1 else {f"y_{name}": y[:, k].astype(int) for k, name in enumerate(images.classes)}
    names = images.classes if p.shape[1] == len(images.classes) else images.classes[-1:]
    frame = frame.assign(**labels, **{f"p_{name}": p[:, k] for k, name in enumerate(names)})
    frame["background_share"], frame["chance_share"] = torch.cat(shares).numpy(), torch.cat(chance).numpy()
    frame["logit_change"] = logit_change(method, images, p, batch_size, device)
    if segments:
        frame["dice"] = torch.cat(overlap).numpy()
    if pointed:
        frame = pd.concat([frame, pd.concat(pointed, ignore_index=True)], axis=1)
    return Tested(frame, _small_maps(kept, y, p, publishable))


def logit_change(method: nn.Module, images, p: np.ndarray, batch_size: int = 128, device: str = "cpu") -> np.ndarray:
    """(N,) change of the centred log-probabilities (several labels: of the logits) under swapped backgrounds, in units
    of their spread; NaN where no mask is known. See `test`.
    """
    x, y, mask, _ = images[list(range(len(images)))]
    swapped = images.subset(range(len(images)))
    swapped.x = swap_backgrounds(x, y, mask, torch.Generator().manual_seed(0))
    pair = p, scores(method, swapped, batch_size, device)[1]
    before, after = (_free_of_shifts(q, images.multilabel) for q in pair)
    known = mask.flatten(1).amax(1).numpy() > 0
    return np.where(known, np.abs(after - before).mean(1) / max(before.std(), 1e-12), np.nan)


def test_all(method: nn.Module, experiment, device: str = "cpu") -> dict[str, Tested]:
    """Every test set of an experiment, by name; for a method that needs masks only those that have them."""
    needs = getattr(method, "needs_mask", False)
    return {
        name: test(method, images, device=device, publishable=experiment.publishable)
        for name, images in experiment.tests.items()
        if not needs or bool(known(images.mask.float()).all())
    }


def summarise(predictions: pd.DataFrame) -> dict[str, float]:
    """Metrics of one test set from its predictions: accuracy, macro_f1, auc, and the means of the shares, of
    logit_change and, where there are some, of dice and the scores against boxes (NaN: not defined here).
    """
    y = predictions.filter(regex="^y(_|$)").to_numpy()
    p = predictions.filter(regex="^p_").to_numpy()
    y = y[:, 0] if "y" in predictions else y
    p = np.column_stack([1 - p[:, 0], p[:, 0]]) if p.shape[1] == 1 and y.ndim == 1 else p
    metrics = {name: measure(name, y, p) for name in ("accuracy", "macro_f1")}
    metrics["auc"] = measure("auc", y, p) if len(np.unique(y)) == p.shape[1] or y.ndim == 2 else np.nan
    return metrics | {
        name: float(predictions[name].mean())
        for name in ("background_share", "chance_share", "logit_change", "dice", "box_hit", "box_share", "box_chance")
        if name in predictions
    }


def write(folder: str | Path, tested: dict[str, dict[str, Tested]], facts: dict) -> dict:
    """Write predictions, heatmaps.npz and, last, metrics.json of a run; returns what metrics.json holds.

    tested: by selection rule, "swapped" (the named one) and "internal"; facts: what else metrics.json should tell
    (epochs, seconds, memory, ...).
    """
    folder = Path(folder)
    summary = {"selection.internal": {}, **facts}
    for rule, part in tested.items():
        where = "predictions" if rule == "swapped" else f"predictions_{rule}_selection"
        for name, one in part.items():
            write_atomically(folder / where / f"{name}.csv", one.predictions.to_csv(index=False, float_format="%.6g"))
        summary["metrics" if rule == "swapped" else f"selection.{rule}"] = {
            name: summarise(one.predictions) for name, one in part.items()
        }
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, **{f"{key}_{name}": array for name, one in tested["swapped"].items() for key, array in one.maps.items()}
    )
    write_atomically(folder / "heatmaps.npz", buffer.getvalue())
    text = json.dumps(summary, indent=1).replace("NaN", "null")
    write_atomically(folder / "metrics.json", text + "\n")
    return summary


def _free_of_shifts(p, multilabel):
    """Centred log-probabilities of a softmax, whose logits are known up to a shift; logits of several sigmoids."""
    if multilabel:
        return np.log(p.clip(1e-12, None)) - np.log((1 - p).clip(1e-12, None))
    logits = np.log(p.clip(1e-12, None))
    return logits - logits.mean(1, keepdims=True)


def _batches(images, batch_size):
    for rows in torch.arange(len(images)).split(batch_size):
        yield images[rows]


def _small_maps(kept, y, p, publishable) -> dict[str, np.ndarray]:
    R, x, mask, *attention = (torch.cat(part)[:MAPS] for part in zip(*kept, strict=True))
    side = [min(MAP_SIDE, s) for s in R.shape[-2:]]
    small = {
        "relevance": adaptive_avg_pool2d(R, side).numpy(),
        "mask": (adaptive_avg_pool2d(mask, side) >= 0.5).numpy(),
    }
    scale = np.abs(small["relevance"]).max((1, 2), keepdims=True).clip(1e-12)  # float16 would flush tiny maps to 0
    small["relevance"] = (small["relevance"] / scale).astype(np.float16)
    for A in attention:  # in [0, 1]
        small["attention"] = (255 * adaptive_avg_pool2d(A, side)).round().to(torch.uint8).numpy()
    if publishable:
        small["x"] = (255 * adaptive_avg_pool2d(x, side)).round().to(torch.uint8).numpy()
    return small | {"scale": scale[:, 0, 0], "y": y[:MAPS], "p": p[:MAPS].astype(np.float16)}
