"""What a network's constants carry when the background changes: the part of a decision that no heatmap of LRP shows.

Around an image x a network of convolutions, BatchNorm in eval mode, ReLUs, pools and sums is linear with constants.
With z_k what comes out of a layer and c_k the constant added there (a bias; of BatchNorm beta - gamma mean / sigma),

    f(x) = sum_j x_j df/dx_j + sum_k c_k df/dz_k        (Srinivas & Fleuret 2019, arXiv 1905.00780)

The first sum is the map of LRP with eps = 0 and no z^B. LRP hands the second one to no pixel: biases absorb relevance.
Yet c_k counts only where ReLUs let it pass, and those open or close with the pixels, the background's among them.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from isnetlib.baselines import build
from isnetlib.data import load
from isnetlib.method.lrp import logits_of
from isnetlib.report.names import PLANTED_LABEL
from isnetlib.training.evaluate import in_eval
from isnetlib.training.fit import load_chosen

PLACES = ("pixels_inside", "pixels_outside", "constants_inside", "constants_outside", "elsewhere")
PAIRS = (("biased", "deceiving"), ("internal", "deceiving"))  # (background for the class, against it), the same objects
COLUMNS = ["study", "experiment", "method", "seed", "from", "to", "label", "cases", "change", *PLACES]
BATCH = 100


def parts(model: nn.Module, x: Tensor, mask: Tensor, start: Tensor) -> dict[str, Tensor]:
    """The terms of sum_k start_k logit_k by where they arise, (B,) each: `pixels_inside` and `pixels_outside` the mask;
    `constants_outside`, of places of a feature map that hold none of the mask, `constants_inside` of the others;
    `elsewhere`, of constants without a place (the last layer's) and all that is no such sum, nothing but rounding in
    the networks above.

    x (B, C, H, W), mask (B, 1, H, W), start (B, K). The model is in eval mode inside and left as it was.
    """
    outputs: list[tuple[Tensor, Tensor]] = []

    def remember(module, given, output):
        if (constant := shift(module)) is not None and output.ndim == 4:
            outputs.append((output, constant.detach().view(1, -1, 1, 1)))
            return output.clone()  # a ReLU in place may follow
        return None

    x = x.detach().requires_grad_()
    hooks = [module.register_forward_hook(remember) for module in model.modules()]
    try:
        with in_eval(model), torch.enable_grad():
            logits = logits_of(model(x))
            if logits.shape != start.shape:
                raise ValueError(f"start must be {tuple(logits.shape)} as the logits, not {tuple(start.shape)}")
            value = (logits * start).sum(1)
            g, *u = torch.autograd.grad(value.sum(), [x, *(output for output, _ in outputs)])
    finally:
        for hook in hooks:
            hook.remove()
    terms = {"pixels": [x.detach() * g], "constants": [c * own for (_, c), own in zip(outputs, u, strict=True)]}
    found = {}
    for kind, of_kind in terms.items():
        placed = sum((by_place(term, mask) for term in of_kind), torch.zeros(2, len(x)))
        found |= {f"{kind}_inside": placed[0], f"{kind}_outside": placed[1]}
    return found | {"elsewhere": value.detach() - sum(found.values())}


def shift(module: nn.Module) -> Tensor | None:
    """The constants (channels,) that a layer adds: a bias; of BatchNorm in eval mode beta - gamma mean / sigma."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
        scaled = -module.running_mean * (module.running_var + module.eps).rsqrt()
        return scaled if module.weight is None else module.bias + module.weight * scaled
    return getattr(module, "bias", None) if isinstance(module, nn.Conv2d | nn.Linear) else None


def by_place(values: Tensor, mask: Tensor) -> Tensor:
    """Sums of values (B, C, h, w) over cells that hold some of the mask, and over those that hold none: (2, B)."""
    inside = adaptive_avg_pool2d(mask.float(), values.shape[-2:]) > 0
    return torch.stack([(values * part).sum((1, 2, 3)) for part in (inside, ~inside)])


def start_of(y: Tensor, classes: int, label: int | None) -> Tensor:
    """(B, K): the log-odds of the true answer: of `label`, with its sign; or the true class's logit less the mean of
    the others'.
    """
    if label is not None:
        return torch.nn.functional.one_hot(torch.tensor(label), classes) * (2 * y[:, [label]] - 1)
    true = torch.nn.functional.one_hot(y, classes).float()
    return true - (1 - true) / (classes - 1)


def change(model: nn.Module, before, after, label: int | None = None) -> dict[str, float]:
    """Mean over the cases of two test sets (the same objects on other backgrounds) of what the log-odds of the true
    answer lose from `before` to `after`: `change`, and the terms of `parts`, which add up to it. `cases`: how many.

    Cases without a mask are left out. ValueError where the sets hold other cases.
    """
    if list(before.frame["id"]) != list(after.frame["id"]):
        raise ValueError("the two test sets hold different cases: their backgrounds cannot be compared case by case")
    rows = np.flatnonzero((before.mask.flatten(1).float().amax(1) > 0).numpy())
    differences: list[dict[str, Tensor]] = []
    for own in torch.as_tensor(rows).split(BATCH):
        (x, y, mask, _), (other, *_) = before[own], after[own]
        start = start_of(y, len(before.classes), label)
        one, two = (parts(model, images, mask, start) for images in (x, other))
        differences.append({name: one[name] - two[name] for name in PLACES})
    means = {name: float(torch.cat([own[name] for own in differences]).mean()) for name in PLACES}
    return {"cases": len(rows), "change": sum(means.values()), **means}


def of_run(checkpoint: Path) -> dict:
    """The row of a finished run in tables/constants.csv, without its study, from its weights and manifest.

    ValueError where no two of its test sets hold the same objects, or it is not a bare classifier's run.
    """
    run = checkpoint.parents[1]
    p = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["settings"]
    images = load(p["experiment"], **p["data_options"])
    names = next((names for names in PAIRS if set(names) <= set(images.tests)), None)
    if names is None:
        raise ValueError(f"{p['experiment']} has no two test sets with the same objects on other backgrounds")
    name, network = p.get("base") or p["method"], (p["backbone"], len(images.train.classes), images.train.x.shape[-1])
    method = build(name, *network, **p.get("method_options", {}))
    if hasattr(method, "explain") or not hasattr(method, "model"):
        raise ValueError(f"{p['method']}: its prediction is more than that of one classifier")
    load_chosen(method, run)
    label = p["data_options"].get("tied") or PLANTED_LABEL.get(p["experiment"])  # the background tells it
    number = None if label is None else images.train.classes.index(label)
    found = change(method.model, *(images.tests[name] for name in names), number)
    key = {name: p[name] for name in ("experiment", "method", "seed")}
    return key | {"from": names[0], "to": names[1], "label": label or ""} | found


def table(study: Path, methods: Sequence[str]) -> pd.DataFrame:
    """`of_run` of the runs of results/<study> by these methods whose weights are on this machine. ValueError: none."""
    paths = sorted(Path(study).glob("runs/*/*/seed*/checkpoints/swapped.pt"))
    paths = [path for path in paths if path.parts[-4] in methods]
    if not paths:
        raise ValueError(
            f"{study}: no weights of {', '.join(methods)}; the repository keeps none, so run the study first"
        )
    return pd.DataFrame([{"study": Path(study).name} | of_run(path) for path in paths], columns=COLUMNS)
