"""The methods under comparison, by name. Each differs from the standard classifier only where its own paper does."""

import inspect
from functools import partial

from torch import nn

from isnetlib.baselines import features, standard
from isnetlib.method.isnet import ISNet
from isnetlib.networks import build_model

METHODS = {
    "standard": standard.Standard,
    "gain": features.Gain,
    "gain_ext": partial(features.Gain, mask_weight=10.0),
    "rrr": standard.RightReasons,
    "grad_input": standard.GradInput,
    "background_random": standard.BackgroundRandom,
    "pipeline": standard.Pipeline,
    "multitask": features.Multitask,
    "attention_gate": features.AttentionGate,
    "vit": standard.Standard,  # on a backbone of its own; every other one is given the study's
    "oracle": standard.Oracle,
    "isnet_original": partial(ISNet, variant="original"),
    "isnet_selective": partial(ISNet, variant="selective"),
    "isnet_stochastic": partial(ISNet, variant="stochastic"),
    "isnet_background": standard.IsnetBackground,
}


def build(name: str, backbone: str, classes: int, size: int | None = None, pretrained=None, **options) -> nn.Module:
    """The method `name` (a key of `METHODS`) around a new `backbone` with `classes` outputs, its weights drawn from
    torch's global generator or `pretrained`: the `weights` of `build_model` (of an ISNet, `weights` are its loss's).
    size: side of the images in pixels. ValueError: an unknown method, backbone or option, what `build_model` refuses.
    """
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    known = [option for option in inspect.signature(METHODS[name]).parameters if option not in ("model", "variant")]
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"method {name} has no option {', '.join(map(repr, unknown))}; it has: {', '.join(known)}")
    backbone = "small_vit" if name == "vit" else backbone
    return METHODS[name](build_model(backbone, classes, size=size, weights=pretrained), **options)
