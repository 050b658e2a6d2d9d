"""Backbones by name: torchvision's classifiers from scratch, and small networks of four families for small images."""

import torchvision
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.convnext import CNBlock, LayerNorm2d
from torchvision.models.resnet import BasicBlock
from torchvision.ops import SqueezeExcitation

SMALL = ("small_resnet", "small_se", "small_convnext", "small_vit")  # for images of some 28 to 130 pixels


def build_model(name: str, classes: int, width: int = 16, stem_stride: int = 2, size: int | None = None) -> nn.Module:
    """A classifier with `classes` outputs and random weights: any of torchvision.models.list_models(), or one of
    `SMALL` (width: of small_resnet, small_se and small_convnext; stem_stride: of the first two).

    size: side of the images in pixels; small_vit alone needs it, whose position embedding has a vector a patch.
    Auxiliary heads (GoogLeNet, Inception) are left out: they are training aids of their own papers. Raises ValueError
    for an unknown name.
    """
    if name in ("small_resnet", "small_se"):
        return small_resnet(classes, width, stem_stride, squeeze=name == "small_se")
    if name == "small_convnext":
        return small_convnext(classes, width)
    if name == "small_vit":
        return small_vit(classes, size)
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(
            f"unknown backbone {name!r}: use one of {', '.join(map(repr, SMALL))} or one of torchvision's classifiers, "
            f"such as resnet18 or densenet121"
        )
    extra = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, num_classes=classes, **extra)


def small_resnet(classes: int, width: int = 16, stem_stride: int = 2, squeeze: bool = False) -> nn.Module:
    """A ten-layer ResNet of torchvision's basic blocks for images of some 30 to 130 pixels: stem, four blocks of width
    w, 2w, 4w, 8w, average, linear. squeeze: squeeze-and-excitation at each block's end, as in SENet.
    """
    stem = nn.Sequential(
        nn.Conv2d(3, width, 3, stem_stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )
    blocks, now = [], width
    for k in range(4):
        then, stride = width * 2**k, 1 if k == 0 else 2
        shortcut = None if k == 0 else nn.Sequential(nn.Conv2d(now, then, 1, stride, bias=False), nn.BatchNorm2d(then))
        blocks.append(BasicBlock(now, then, stride, shortcut))
        if squeeze:  # after bn2: the residual is rescaled before the sum (Hu et al., arXiv 1709.01507, figure 3)
            blocks[-1].bn2 = nn.Sequential(nn.BatchNorm2d(then), SqueezeExcitation(then, max(then // 8, 4)))
        now = then
    model = nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(now, classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def small_convnext(classes: int, width: int = 16) -> nn.Module:
    """A ConvNeXt (Liu et al., arXiv 2201.03545) of torchvision's blocks: patches of 4 pixels, two blocks of width
    3w, a halving, two blocks of width 6w, mean over pixels, linear; at each change of size a LayerNorm over channels.

    Layer scale starts at 0.1, not at 1e-6, which is meant for tens of blocks: here it would switch them off.
    """
    a, b = 3 * width, 6 * width
    stem = nn.Sequential(nn.Conv2d(3, a, 4, 4), LayerNorm2d(a, eps=1e-6))
    halving = nn.Sequential(LayerNorm2d(a, eps=1e-6), nn.Conv2d(a, b, 2, 2))
    blocks = [[CNBlock(w, layer_scale=0.1, stochastic_depth_prob=0.0) for _ in range(2)] for w in (a, b)]
    model = nn.Sequential(
        stem, *blocks[0], halving, *blocks[1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(b, classes)
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return model


def small_vit(classes: int, size: int | None, layers: int = 4, heads: int = 4, hidden: int = 96) -> nn.Module:
    """torchvision's vision transformer (Dosovitskiy et al., arXiv 2010.11929), small: images of size x size pixels in
    patches of about an eighth of a side, so that there are at most some 80 of them.

    Raises ValueError where no size is given, or where no patch of 4 pixels or more tiles it.
    """
    if size is None:
        raise ValueError("small_vit needs size, the side of its square images in pixels")
    patches = [side for side in range(4, size // 3 + 1) if size % side == 0]
    if not patches:
        raise ValueError(f"no patch of 4 pixels or more tiles an image of {size}: resize the images, for example to 40")
    patch = min(patches, key=lambda side: abs(side - size / 8))
    model = VisionTransformer(size, patch, layers, heads, hidden, 2 * hidden, num_classes=classes)
    nn.init.trunc_normal_(model.heads.head.weight, std=0.02)  # torchvision's zeros would give every class one relevance
    return model
