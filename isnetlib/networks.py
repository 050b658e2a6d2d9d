"""Backbones by name: torchvision's classifiers, and small networks of four families for small images; a U-Net."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlock, LayerNorm2d
from torchvision.models.resnet import BasicBlock
from torchvision.ops import SqueezeExcitation

from isnetlib.training.checkpoints import network_weights

SMALL = ("small_resnet", "small_se", "small_convnext", "small_vit")  # for images of some 28 to 130 pixels


def build_model(name: str, classes: int, width: int = 16, size: int | None = None, weights=None) -> nn.Module:
    """A classifier of pixels in [0, 1] with `classes` outputs: one of torchvision.models.list_models(), auxiliary heads
    left out, or of `SMALL` (width: of all but small_vit, which wants size: the side of the images in pixels).

    weights: None (drawn at random), "default" (torchvision's of ImageNet, downloaded once), or a file with a state_dict
    of the network; of another number of classes, its head is left out. A network of torchvision's with weights is
    `Standardised`; "random": it is, without the weights. ValueError: an unknown name, weights of another network;
    OSError: no file, no way to download.
    """
    if name not in SMALL + tuple(models.list_models(module=models)):
        raise ValueError(f"unknown backbone {name!r}: use {', '.join(SMALL)} or a classifier of torchvision's, by name")
    if name in SMALL and weights == "default":
        raise ValueError(f"{name} has no weights to be had: weights=None, or a file")
    model = _unloaded(name, classes, width, size, weights is not None)
    if weights is not None and name not in SMALL:
        preset = models.get_model_weights(name).DEFAULT.transforms()
        model = Standardised(model, preset.mean, preset.std)
    if weights not in (None, "random"):
        state = _of_imagenet(name) if weights == "default" else network_weights(weights)
        _load(model if "mean" in state else getattr(model, "network", model), state, weights)
    return model


def _unloaded(name, classes, width, size, standardised):
    if name in ("small_resnet", "small_se"):
        return small_resnet(classes, width, squeeze=name == "small_se")
    if name == "small_convnext":
        return small_convnext(classes, width)
    old = name in ("googlenet", "inception_v3")  # their weights want another range, which they make of the usual one
    extra = {"aux_logits": False, "init_weights": True, "transform_input": standardised} if old else {}
    model = small_vit(classes, size) if name == "small_vit" else models.get_model(name, num_classes=classes, **extra)
    if isinstance(model, models.VisionTransformer):  # torchvision's zeros would give no pixel any relevance
        nn.init.trunc_normal_(model.heads.head.weight, std=0.02)
    return model


def _of_imagenet(name: str) -> dict[str, Tensor]:
    try:
        return models.get_model(name, weights="DEFAULT").state_dict()
    except (OSError, RuntimeError) as error:
        told = f"copy the file to {torch.hub.get_dir()}/checkpoints, or name one"
        raise OSError(f"torchvision's weights of {name} cannot be had ({error}): {told}") from None


def _load(model: nn.Module, state: dict[str, Tensor], source) -> None:
    """But for auxiliary heads, and for a head (the last module) of another number of classes, which stays as it is."""
    own = model.state_dict()
    head = [*own][-1].rpartition(".")[0]
    fits = {name: value for name, value in state.items() if not name.lower().startswith("aux")}
    of_head = (name for name in own if name in fits and name.rpartition(".")[0] == head)
    fits |= {name: own[name] for name in of_head if fits[name].shape != own[name].shape}
    try:
        model.load_state_dict(fits)
    except RuntimeError as error:
        raise ValueError(f"{source} holds weights of another network: {' '.join(str(error).split())[:300]}") from None


class Standardised(nn.Module):
    """`network` on pixels in [0, 1], which it sees as (x - mean) / std, a mean and a std a channel."""

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x - self.mean) / self.std)


# --- small networks
def small_resnet(classes: int, width: int, squeeze: bool) -> nn.Module:
    """Ten layers: stem, four of torchvision's basic blocks, of width w, 2w, 4w, 8w, average, linear."""
    stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    blocks, widths = [], [width * 2**k for k in range(4)]
    for now, then in zip([width, *widths], widths, strict=False):
        change = None if now == then else nn.Sequential(nn.Conv2d(now, then, 1, 2, bias=False), nn.BatchNorm2d(then))
        blocks.append(BasicBlock(now, then, then // now, change))
        if squeeze:  # after bn2: the residual is rescaled before the sum (Hu et al., arXiv 1709.01507, figure 3)
            blocks[-1].bn2 = nn.Sequential(nn.BatchNorm2d(then), SqueezeExcitation(then, max(then // 8, 4)))
    model = nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def small_convnext(classes: int, width: int) -> nn.Module:
    """A ConvNeXt (Liu et al., arXiv 2201.03545): patches of 4 pixels, two of torchvision's blocks of width 3w, halving,
    two of width 6w. Layer scale starts at 0.1, not at 1e-6, which is for tens of blocks: it would switch these off.
    """
    a, b = 3 * width, 6 * width
    stem = nn.Sequential(nn.Conv2d(3, a, 4, 4), LayerNorm2d(a, eps=1e-6))
    halving = nn.Sequential(LayerNorm2d(a, eps=1e-6), nn.Conv2d(a, b, 2, 2))
    blocks = [[CNBlock(w, layer_scale=0.1, stochastic_depth_prob=0.0) for _ in range(2)] for w in (a, b)]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(b, classes)
    model = nn.Sequential(stem, *blocks[0], halving, *blocks[1], *head)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return model


def small_vit(classes: int, size: int | None) -> nn.Module:
    """Four layers of four heads (arXiv 2010.11929); patches of about an eighth of a side, some 80."""
    patches = [side for side in range(4, (size or 0) // 3 + 1) if size % side == 0]
    if not patches:
        raise ValueError(f"small_vit: size is {size}; it must be the images' side, tiled by patches of 4 pixels on")
    patch = min(patches, key=lambda side: abs(side - size / 8))
    return models.VisionTransformer(size, patch, 4, 4, hidden_dim=96, mlp_dim=192, num_classes=classes)


# --- the segmenter
class UNet(nn.Module):
    """Images (B, C, H, W) of any size to logits (B, 1, H, W) of the object (Ronneberger et al., arXiv 1505.04597).
    depth: resolutions, each half the one before; width: channels at the finest; they double at each step down. ISNet's
    paper has 5 and 64 for images of 224 pixels, 31.0 million weights; the default has 0.12 million.
    """

    def __init__(self, channels: int = 3, depth: int = 4, width: int = 8):
        super().__init__()
        widths = [width * 2**k for k in range(depth)]
        fine_and_coarse = list(zip(widths, widths[1:], strict=False))
        self.down = nn.ModuleList(_level(a, b) for a, b in zip([channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in fine_and_coarse)
        self.join = nn.ModuleList(_level(2 * fine, fine) for fine, _ in fine_and_coarse)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        step = 2 ** len(self.up)
        x = F.pad(x, (0, -width % step, 0, -height % step))  # black right and below, so that every halving is exact
        skips = []
        for down in self.down:
            x = down(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for up, join, skip in reversed(list(zip(self.up, self.join, skips, strict=False))):
            x = join(torch.cat([skip, up(x)], 1))
        return self.out(x)[..., :height, :width]

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        loss = pixel_loss(self(x), mask)
        return loss, {"segmentation": loss.item()}


def _level(channels, width):
    first, second = (nn.Conv2d(given, width, 3, padding=1) for given in (channels, width))
    return nn.Sequential(first, nn.ReLU(), nn.BatchNorm2d(width), second, nn.ReLU(), nn.BatchNorm2d(width))


def known(mask: Tensor) -> Tensor:
    """(B,) bool: whose mask is known, that is, not all zeros (or NaN)."""
    return torch.nan_to_num(mask).flatten(1).amax(1) > 0


def pixel_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits and mask (B, 1, H, W) over samples whose mask is known; 0 where none is."""
    rows = known(mask)
    if not rows.any():
        return 0.0 * logits.sum()
    return F.binary_cross_entropy_with_logits(logits[rows], mask[rows].to(logits.dtype))


def dice(a: Tensor, b: Tensor) -> Tensor:
    """2 |a and b| / (|a| + |b|) of masks of 0 and 1, (B, 1, H, W) each; (B,) in [0, 1], 1 where both are empty."""
    return 2 * iou(a, b) / (1 + iou(a, b))


def iou(a: Tensor, b: Tensor) -> Tensor:
    """|a and b| / |a or b|, as `dice`."""
    both, either = (torch.flatten(part, 1).sum(1) for part in (a * b, torch.maximum(a, b)))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)
