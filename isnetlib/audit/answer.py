"""The answer of an audit: falls of performance with other backgrounds, relevance, and the verdict on both."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from isnetlib import evaluate, names
from isnetlib.audit.backgrounds import treated
from isnetlib.audit.boxes import score_boxes
from isnetlib.audit.model import Classifier
from isnetlib.data.images import Images

DRAWS = 500  # bootstrap samples of patients


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


def audit(classifier: Classifier, images: Images, cases: int = 4, seed: int = 0) -> dict:
    """Everything that the page shows: table, share, chance, logit_change, verdict, boxes, and a few cases with each
    background (images and relevance by its name).
    """
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
        "cases": ({name: one.subset(some) for name, one in sets.items()}, shown),
    }  # fmt: skip


def relevance(method: nn.Module, images: Images, batch_size: int = 32) -> Tensor:
    """Relevance of the winning class (N, 1, C, H, W), in eval mode."""
    with evaluate.in_eval(method):
        batches = torch.arange(len(images)).split(batch_size)
        return torch.cat([evaluate.heatmap(method, images[rows][0]).detach() for rows in batches])
