"""One image beside its heatmap."""

import io

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import interpolate

from isnetlib.method.loss import probabilities
from isnetlib.method.lrp import explain, logits_of
from isnetlib.report.figures import LIMIT, STYLE, picture
from isnetlib.training.evaluate import background_share


class Picture(Figure):
    """A figure that notebooks draw, whether or not pyplot is imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


@matplotlib.rc_context(STYLE)
def show(model: nn.Module, x, mask=None) -> Figure:
    """An image beside its heatmap for the winning class, red for it and blue against it, on one scale about 0; with the
    mask's outline and the share of relevance outside the mask.

    model: of `isnetlib.load`, or any classifier of images in [0, 1]; x: an array or tensor, grey (H, W) or colour
    (H, W, 3) or (3, H, W), uint8 or floats in [0, 1]; mask (H, W) of 0 and 1. Both are resized where the model has a
    `size`. ValueError: they are no such image and mask.
    """
    x = _channels_first(x)
    mask = torch.zeros(x[:1].shape) if mask is None else _channels_first(np.asarray(mask) > 0)
    if mask.shape[1:] != x.shape[1:]:
        raise ValueError(f"the mask is {tuple(mask.shape[1:])}, its image {tuple(x.shape[1:])}")
    read = next((p.shape[1] for p in model.parameters() if p.ndim == 4), len(x))  # channels of the first convolution
    x = x.expand(read, -1, -1) if len(x) == 1 else x
    if size := getattr(model, "size", None):
        x = interpolate(x[None], (size, size), mode="bilinear", antialias=True)[0].clamp(0, 1)
    mask = interpolate(mask[None], x.shape[1:], mode="nearest-exact")[0]
    given = x[None].to(next(model.parameters(), x).device)
    R = (model.explain(given) if hasattr(model, "explain") else explain(model, given)).cpu()
    fig = Picture(figsize=(7, 3.4), layout="constrained")
    left, right = fig.subplots(1, 2)
    A, outline = R.sum((1, 2))[0].numpy(), mask[0].numpy() > 0
    picture((255 * x).round().byte().permute(1, 2, 0).numpy().squeeze(), outline, left)
    picture(A, outline, right, max(float(np.quantile(np.abs(A), LIMIT)), 1e-30))
    fig.colorbar(right.images[0], ax=right, shrink=0.8)
    if mask.any():
        share, area = background_share(R, mask[None]).item(), 1 - mask.mean().item()
        right.set_title(f"relevance outside the mask: {share:.0%}; area outside: {area:.0%}")
    if hasattr(model, "classes"):
        p = scores(model, given)[0]
        left.set_title(f"{answer(model, p)} ({p.max():.2f})")
    return fig


def scores(model: nn.Module, x: Tensor) -> Tensor:
    """Probabilities (B, K) of a classifier that `isnetlib.load` gave, on its device; on the CPU."""
    with torch.no_grad():
        return probabilities(logits_of(model(x.to(next(model.parameters()).device))), model.multilabel).cpu()


def answer(model: nn.Module, p: Tensor) -> str:
    """The likeliest class, or the labels that are likely; p (K,)."""
    if model.multilabel:
        return " ".join(name for name, one in zip(model.classes, p, strict=True) if one > 0.5)
    return model.classes[int(p.argmax())]


def _channels_first(x) -> Tensor:
    x = torch.as_tensor(x.detach().cpu() if isinstance(x, Tensor) else np.asarray(x))
    x = x[0] if x.ndim == 4 and len(x) == 1 else x[None] if x.ndim == 2 else x
    x = x.permute(2, 0, 1) if x.ndim == 3 and len(x) not in (1, 3) and x.shape[2] in (1, 3) else x
    pixels = x / 255 if x.dtype == torch.uint8 else x.float()
    if x.ndim != 3 or len(x) not in (1, 3) or not ((pixels >= 0) & (pixels <= 1)).all():
        told = f"{tuple(x.shape)} {x.dtype}" + f", {x.min():g} to {x.max():g}" * (x.numel() > 0)
        raise ValueError(f"an image has 1 or 3 channels of uint8 or of floats from 0 to 1; this is {told}")
    return pixels
