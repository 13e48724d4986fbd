"""The ImageNet form of a DetNAS supernet: last convolution, pooling and classifier are shared by all paths."""

from torch import Tensor, nn
from torch.nn import functional as F

from nasdet_core.backbones.classifier import CHANNEL_DROPOUT
from nasdet_core.backbones.shufflenet import ElasticDetNasBackbone
from nasdet_core.layers.conv import ConvNorm
from nasdet_core.search_spaces.base import Genotype


class ElasticDetNasClassifier(nn.Module):
    """Elastic backbone with the head of `DetNasClassifier`, under the same names."""

    def __init__(self, body: ElasticDetNasBackbone, *, last_channels: int, num_classes: int = 1000) -> None:
        super().__init__()
        self.body = body
        self.last_level = body.part.feature_levels()[-1].name
        self.last_conv = ConvNorm(body.part.stage_channels[-1], last_channels, bias=True)
        self.classifier = nn.Linear(last_channels, num_classes)

    def forward(self, images: Tensor, genotype: Genotype) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, num_classes) of the path."""
        x = self.last_conv(self.body(images, genotype)[self.last_level])
        x = F.dropout2d(x, CHANNEL_DROPOUT, self.training)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits
