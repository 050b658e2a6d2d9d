"""Backbones by name: torchvision's classifiers from scratch, and a small residual network for small images."""

import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock


def build_model(name: str, classes: int, width: int = 16, stem_stride: int = 2) -> nn.Module:
    """A classifier with `classes` outputs and random weights: any of torchvision.models.list_models(), or
    "small_resnet" (width and stem_stride are its).

    Auxiliary heads (GoogLeNet, Inception) are left out: they are training aids of their own papers. Raises ValueError
    for an unknown name.
    """
    if name == "small_resnet":
        return small_resnet(classes, width, stem_stride)
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(
            f"unknown backbone {name!r}: use 'small_resnet' or one of torchvision's classifiers, such as resnet18 or "
            f"densenet121"
        )
    extra = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, num_classes=classes, **extra)


def small_resnet(classes: int, width: int = 16, stem_stride: int = 2) -> nn.Module:
    """A ten-layer ResNet of torchvision's basic blocks for images of some 30 to 130 pixels: stem, four blocks of width
    w, 2w, 4w, 8w, average, linear.
    """
    stem = nn.Sequential(
        nn.Conv2d(3, width, 3, stem_stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )
    blocks, now = [], width
    for k in range(4):
        then, stride = width * 2**k, 1 if k == 0 else 2
        shortcut = None if k == 0 else nn.Sequential(nn.Conv2d(now, then, 1, stride, bias=False), nn.BatchNorm2d(then))
        blocks.append(BasicBlock(now, then, stride, shortcut))
        now = then
    model = nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(now, classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
