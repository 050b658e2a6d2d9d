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
from isnetlib.loss import classification_loss, probabilities
from isnetlib.lrp import logits_of
from isnetlib.unet import pixel_loss


class Multitask(nn.Module):
    """The classifier `model` with a segmentation decoder on its stages; predictions are the classifier's alone.

    segmentation_weight: P in [0, 1]. width: channels of the decoder at the finest stage; they double at each step down.
    """

    def __init__(self, model: nn.Module, segmentation_weight: float = 0.5, width: int = 16, multilabel: bool = False):
        super().__init__()
        if not 0 <= segmentation_weight <= 1:
            raise ValueError(
                f"segmentation_weight is P in (1 - P) classification + P segmentation, in [0, 1]; got "
                f"{segmentation_weight}"
            )
        self.model, self.segmentation_weight, self.multilabel = model, segmentation_weight, multilabel
        found, _ = find_stages(model)
        self.names = [stage.name for stage in found]
        self.decoder = Decoder([stage.channels for stage in found], width)

    def loss(self, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """Both losses of a batch; samples without a mask (all zeros) count in the classification only."""
        maps, logits = stages(self.model, x, self.names)
        classification = classification_loss(logits, y)
        segmentation = pixel_loss(self.decoder(maps, x.shape[2:]), mask)
        total = (1 - self.segmentation_weight) * classification + self.segmentation_weight * segmentation
        return total, {"classification": classification.item(), "segmentation": segmentation.item()}

    def predict(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) by the bare classifier."""
        return probabilities(logits_of(self.model(x)), self.multilabel)

    def segment(self, x: Tensor) -> Tensor:
        """Predicted mask (B, 1, H, W) of 0 and 1."""
        return (self.attention(x) > 0.5).to(x.dtype)[:, None]

    @torch.no_grad()
    def attention(self, x: Tensor) -> Tensor:
        """The decoder's mask, (B, H, W) in [0, 1]."""
        maps, _ = stages(self.model, x, self.names)
        return self.decoder(maps, x.shape[2:]).sigmoid()[:, 0]


class Decoder(nn.Module):
    """Feature maps, finest first, to one logit map of the images' size.

    channels: of the maps. width: of the decoder at the finest; doubled at each step down.
    """

    def __init__(self, channels: list[int], width: int):
        super().__init__()
        widths = [width * 2**k for k in range(len(channels) - 1)] + [channels[-1]]
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
