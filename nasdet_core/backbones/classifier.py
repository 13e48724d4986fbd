"""The ImageNet form of a DetNAS backbone: last convolution, pooling, classifier (public reference code)."""

from torch import Tensor, nn
from torch.nn import functional as F

from nasdet_core.backbones.shufflenet import DetNasBackboneNet
from nasdet_core.layers.conv import ConvNorm

CHANNEL_DROPOUT = 0.2


class DetNasClassifier(nn.Module):
    """Standalone backbone with 1x1 conv, channel dropout, global average pooling and a linear classifier."""

    def __init__(self, body: DetNasBackboneNet, *, last_channels: int, num_classes: int = 1000) -> None:
        super().__init__()
        self.body = body
        self.last_level = body.part.feature_levels()[-1].name
        self.last_conv = ConvNorm(body.part.stage_channels[-1], last_channels, bias=True)
        self.classifier = nn.Linear(last_channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, num_classes)."""
        x = self.last_conv(self.body(images)[self.last_level])
        x = F.dropout2d(x, CHANNEL_DROPOUT, self.training)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits
