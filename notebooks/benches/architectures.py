"""Which networks relevance covers, and that it is right on them: the rows of architectures.csv.

Right means two things. Without eps and z^B, relevance equals input x gradient of a *slow twin*: the same network under
plain autograd, its gates, attention weights, normalising deviations and ratios f(z)/z of activations detached (ReLU's
and LeakyReLU's need not be). And on a copy without constants (biases, BatchNorm means, class tokens, position
embeddings at zero) the relevance of all pixels sums to the logit. The twin knows nothing of `isnetlib.method`: it puts
its own functions in torch.nn.functional for the time of a call.
"""

import copy
from contextlib import contextmanager
from unittest import mock

import pandas as pd
import torch
import torch.nn.functional as F
from cost import medians, training_step
from torch import Tensor, nn

from isnetlib import NotCovered, check, explain
from isnetlib.method.lrp import logits_of
from isnetlib.networks import build_model

COLUMNS = ["network", "supported", "reason", "identity_error", "conservation", "ratio_one_map"]
CONSTANTS = ("bias", "running_mean", "class_token", "pos_embedding")  # how torch and torchvision name them


# --- the slow twin
def _ratio_detached(f):
    def activation(z, *args, inplace=False, **kwargs):
        y = f(z, *(a for a in args if not isinstance(a, bool)), **kwargs)  # never in place
        return z * torch.where(z == 0, 0.0, y / z).detach()

    return activation


def _detached(f):
    return lambda z, *args, inplace=False, **kwargs: f(z, *args, **kwargs).detach()


def _layer_norm(x, shape, weight=None, bias=None, eps=1e-5):
    dims = tuple(range(-len(shape), 0))
    sigma = (x.var(dims, correction=0, keepdim=True) + eps).sqrt()
    y = (x - x.mean(dims, keepdim=True)) / sigma.detach()
    return y * (1 if weight is None else weight) + (0 if bias is None else bias)


def _batch_norm(x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    shape, dims = (-1, *[1] * (x.ndim - 2)), [0, *range(2, x.ndim)]
    if training:
        mean, var = x.mean(dims), x.var(dims, correction=0)
    y = (x - mean.detach().view(shape)) / (var.detach().view(shape) + eps).sqrt()
    return y * (1 if weight is None else weight.view(shape)) + (0 if bias is None else bias.view(shape))


def _attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return F.softmax(scores if attn_mask is None else scores + attn_mask, dim=-1) @ v


@contextmanager
def held_constant():
    """In here torch.nn.functional back-propagates as the slow twin does; values are the usual ones. Undone at the end.

    Covers modules, not tensor methods; of fused attention, float masks and no dropout.
    """
    ratios = {name: _ratio_detached(getattr(F, name)) for name in "silu gelu hardswish mish relu6 hardtanh".split()}
    gates = {name: _detached(getattr(F, name)) for name in ("hardsigmoid", "softmax")}
    linear = {"layer_norm": _layer_norm, "batch_norm": _batch_norm, "scaled_dot_product_attention": _attention}
    plain = {"sigmoid": _detached(torch.sigmoid), "tanh": _ratio_detached(torch.tanh)}
    with mock.patch.multiple(F, **ratios, **gates, **linear), mock.patch.multiple(torch, **plain):
        yield


def twin_relevance(model: nn.Module, x: Tensor, target: int) -> Tensor:
    """Input x gradient of logit `target` of the slow twin, (B, 1, C, H, W)."""
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad(), held_constant():
        (gradient,) = torch.autograd.grad(logits_of(model(x))[:, target].sum(), x)
    return (x * gradient).detach()[:, None]


# --- what is measured
@torch.no_grad()
def randomised(model: nn.Module, x: Tensor) -> nn.Module:
    """The model in eval mode, its running statistics near those of the images x, and what is constant at the start
    (zeros, ones, layer scales) drawn at random, so that nothing hides behind it.
    """
    for p in model.parameters():
        if p.numel() > 1 and p.std() == 0:
            p.add_(0.2 * torch.randn_like(p))
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.running_mean.add_(0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
    return model.eval()


def identity_error(model: nn.Module, x: Tensor, target: int = 0) -> float:
    """|R - twin| / |twin| at eps 0 without z^B."""
    twin = twin_relevance(model, x, target)
    return ((explain(model, x, target, eps=0.0, box=None) - twin).norm() / twin.norm()).item()


@torch.no_grad()
def conservation_error(model: nn.Module, x: Tensor, target: int = 0, box: tuple | None = None, **switches) -> float:
    """Largest |sum of R - logit| / |logit| over the images, at eps 0, on a copy without constants."""
    model = copy.deepcopy(model).eval()
    for name, value in model.state_dict().items():
        if name.endswith(CONSTANTS):
            value.zero_()
    logit = logits_of(model(x))[:, target]
    total = explain(model, x, target, eps=0.0, box=box, **switches).sum((1, 2, 3, 4))
    return ((total - logit) / logit).abs().max().item()


def ratio_one_map(name: str, size: int, batch: int, classes: int, rounds: int) -> float:
    """Median time of a training step of ISNet selective (one map) to a plain step's, in rounds that take turns."""
    variants = ("standard", "isnet_selective")
    seconds = medians({v: training_step(v, name, size, batch, classes) for v in variants}, rounds)
    return seconds["isnet_selective"] / seconds["standard"]


def row(name: str, size: int, batch: int = 8, classes: int = 3, rounds: int = 5, seed: int = 0) -> pd.DataFrame:
    """A network's row of architectures.csv: errors on two images of `size` pixels in float64, seeded; the ratio on
    `batch` images in float32.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model, x = build_model(name, classes).double(), torch.rand(2, 3, size, size, dtype=torch.float64)
        found = {"network": name, "supported": True, "reason": ""}
        try:
            check(model, (3, size, size))
            randomised(model, x)
            found |= {"identity_error": identity_error(model, x), "conservation": conservation_error(model, x)}
            found["ratio_one_map"] = ratio_one_map(name, size, batch, classes, rounds)
        except NotCovered as error:
            found |= {"supported": False, "reason": str(error)}
    return pd.DataFrame([found], columns=COLUMNS)
