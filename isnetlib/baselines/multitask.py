"""The multi-task network: one encoder that classifies and segments, hoping that what it learns for the mask keeps the
classifier on the object.

    L = (1 - P) L_classification + P L_segmentation,    L_segmentation = mean pixel cross-entropy against the mask

The comparison method of the ISNet paper (arXiv 2202.00232), a U-Net with a classification head on its bottleneck. Ours,
so that it works with any classifier: the encoder is that classifier, whose own head classifies, and a light decoder
goes up its stages (upsampling, concatenation with the stage, 3 x 3 convolution, BatchNorm, ReLU). The head of the
paper's code has 4096 units twice, most of its 253 million weights; its training loss is not published, and the weighted
sum is ours, in the form of ISNet's.
"""

import torch
from torch import Tensor, nn

from isnetlib.baselines.features import find_stages, stages, upsampled
from isnetlib.baselines.standard import Standard
from isnetlib.method.course import Weight
from isnetlib.networks import pixel_loss

WIDTH = 16  # channels of the decoder at the finest stage; they double at each step down


class Multitask(Standard):
    """The classifier `model` with a segmentation decoder on its stages; predictions are the classifier's alone.

    segmentation_weight: P in [0, 1], or (start, end), falling (`isnetlib.method.course`).
    """

    reads_masks = True

    def __init__(self, model: nn.Module, segmentation_weight: float | tuple = 0.5, multilabel: bool = False):
        super().__init__(model, multilabel)
        self.segmentation_weight = Weight("segmentation_weight", segmentation_weight, 1)
        found, _ = find_stages(model)
        self.names, self.decoder = list(found), Decoder(list(found.values()))

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        maps, logits = stages(self.model, x, self.names)
        classification = self.classify(logits, y)
        segmentation = pixel_loss(self.decoder(maps, x.shape[2:]), mask)
        P = self.segmentation_weight.now()
        total = (1 - P) * classification + P * segmentation
        return total, {"classification": classification.item(), "segmentation": segmentation.item()}

    @torch.no_grad()
    def segment(self, x: Tensor) -> Tensor:
        """Predicted mask (B, 1, H, W) of 0 and 1."""
        maps, _ = stages(self.model, x, self.names)
        return (self.decoder(maps, x.shape[2:]).sigmoid() > 0.5).to(x.dtype)


class Decoder(nn.Module):
    """Feature maps of these `channels`, finest first, to one logit map of the images' size."""

    def __init__(self, channels: list[int]):
        super().__init__()
        widths = [WIDTH * 2**k for k in range(len(channels) - 1)] + [channels[-1]]
        self.join = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c + below, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU())
            for c, w, below in zip(channels, widths, widths[1:], strict=False)
        )
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, maps: list[Tensor], size: torch.Size) -> Tensor:
        y = maps[-1]
        for join, skip in reversed(list(zip(self.join, maps, strict=False))):
            y = join(torch.cat([skip, upsampled(y, skip.shape[2:])], 1))
        return upsampled(self.out(y), size)
