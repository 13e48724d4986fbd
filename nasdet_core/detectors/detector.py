"""A detector: backbone, neck and head put together, standalone or elastic, from one description."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast, overload

import torch
from torch import Tensor, nn

from nasdet_core.backbones.init_detnas import init_detnas
from nasdet_core.backbones.shufflenet import DetNasBackboneNet, ElasticDetNasBackbone
from nasdet_core.errors import GenotypeError, SettingError, UnknownNameError
from nasdet_core.heads.faster_rcnn import FasterRcnnHead
from nasdet_core.heads.fcos import FcosHead
from nasdet_core.heads.retinanet import RetinaNetHead
from nasdet_core.heads.types import DetectionHead, Detections, ImageSize, Losses, Target
from nasdet_core.necks.fpn import Fpn
from nasdet_core.search_spaces.base import BackbonePart, Genotype, HeadPart, LevelSpec, NeckPart
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.search_spaces.fpn_neck import FpnNeck
from nasdet_core.search_spaces.heads_fixed import FasterRcnnHeadSpec, FcosHeadSpec, RetinaNetHeadSpec
from nasdet_core.search_spaces.shufflenet_chain import DetNasBackbone

# Names of initialisations are part of the recipes. Both leave neck and head to their own initialisation (uniform
# Kaiming in the FPN, normal 0.01 in the towers, prior probability 0.01); they differ in the backbone.
BACKBONE_INITS: Mapping[str, Callable[[nn.Module], None]] = {
    "framework": lambda backbone: None,  # noqa: ARG005  # what torch's layers do by themselves
    "detnas": init_detnas,
}


class Detector(nn.Module):
    """Images in, losses or detections out. Nothing is stored between calls.

    Whether targets are given decides what comes out; `train()` and `eval()` decide about batch norm only. Faster R-CNN
    samples the boxes it trains on from torch's global generator: seed it before each step for repeatable training.
    """

    def __init__(self, space: DetectorSpace, *, elastic: bool) -> None:
        super().__init__()
        if space.num_classes is None:
            raise SettingError("a detector needs num_classes, but the space does not know it; give the number")
        if space.blocks and not elastic:
            raise GenotypeError(
                f"a standalone detector needs every choice made, but {len(space.blocks)} blocks are still searched; "
                "use space.fixed(genotype) or build it elastic"
            )
        self.space = space
        levels = space.levels
        self.backbone = _build_backbone(space.backbone)
        self.neck = _build_neck(space.neck, levels["backbone"])
        self.head = _build_head(space.head, levels["neck"], space.num_classes)

    @overload
    def forward(self, images: Tensor, targets: Sequence[Target], genotype: Genotype | None = None) -> Losses: ...
    @overload
    def forward(
        self,
        images: Tensor,
        targets: None = None,
        genotype: Genotype | None = None,
        *,
        image_sizes: Sequence[ImageSize] | None = None,
    ) -> list[Detections]: ...

    def forward(
        self,
        images: Tensor,
        targets: Sequence[Target] | None = None,
        genotype: Genotype | None = None,
        *,
        image_sizes: Sequence[ImageSize] | None = None,
    ) -> Losses | list[Detections]:
        """Images (N, 3, H, W) -> named scalar losses when targets are given, else detections per image.

        Boxes are xyxy in pixels of the (N, 3, H, W) frame. Detections are clipped to the frame, or to `image_sizes`
        [(height, width), ...] where the images fill only the upper left part of it. `genotype` is needed where the
        space has searched blocks.
        """
        frame = (images.shape[-2], images.shape[-1])
        _check_counts(len(images), targets, image_sizes)
        pyramid = self.features(images, genotype)
        head = cast(DetectionHead, self.head)
        if targets is not None:
            return head.losses(pyramid, targets, frame=frame)
        return head.detections(pyramid, image_sizes=image_sizes or [frame] * len(images))

    def features(self, images: Tensor, genotype: Genotype | None = None) -> dict[str, Tensor]:
        """The neck's levels, {"p3": (N, C, H/8, W/8), ...}; what statistics are re-estimated on."""
        genes = self.space.split(() if genotype is None else genotype)
        backbone = genes["backbone"]
        # A part without choices takes no genotype.
        levels = self.backbone(images, backbone) if backbone else self.backbone(images)
        pyramid: dict[str, Tensor] = self.neck(levels)
        return pyramid

    def subnet_state_dict(self, genotype: Genotype) -> dict[str, Tensor]:
        """The tensors that `genotype` uses, under the names of the standalone detector (not copied)."""
        self.space.validate(genotype)
        genes = self.space.split(genotype)
        state: dict[str, Tensor] = {}
        for role, part in (("backbone", self.backbone), ("neck", self.neck), ("head", self.head)):
            if isinstance(part, ElasticDetNasBackbone):
                own = part.subnet_state_dict(genes["backbone"])
            else:
                own = part.state_dict()
            state |= {f"{role}.{key}": value for key, value in own.items()}
        return state


def build_detector(space: DetectorSpace, *, elastic: bool, init: str = "framework", seed: int | None = 0) -> Detector:
    """A detector whose initial weights are a function of (space, elastic, init, seed); torch's generator is left alone.

    `init`: "framework" (our presets: torch's own initialisation of the backbone) or "detnas" (that of DetNAS's ImageNet
    training). `elastic`: hold every candidate of the searched blocks.
    """
    if init not in BACKBONE_INITS:
        raise UnknownNameError(f"initialisation '{init}' is unknown; use one of {', '.join(BACKBONE_INITS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = Detector(space, elastic=elastic)
        BACKBONE_INITS[init](detector.backbone)
    return detector


def _check_counts(images: int, targets: Sequence[Target] | None, image_sizes: Sequence[ImageSize] | None) -> None:
    for name, given in (("targets", targets), ("image_sizes", image_sizes)):
        if given is not None and len(given) != images:
            raise SettingError(f"{name}: one per image was expected, but {len(given)} came for {images} images")


def _build_backbone(part: BackbonePart) -> nn.Module:
    if isinstance(part, DetNasBackbone):
        return ElasticDetNasBackbone(part) if part.genotype is None else DetNasBackboneNet(part)
    raise UnknownNameError(f"no backbone module is known for '{part.name}'; known are the DetNAS spaces")


def _build_neck(part: NeckPart, levels: Sequence[LevelSpec]) -> nn.Module:
    if isinstance(part, FpnNeck):
        return Fpn(part, levels)
    raise UnknownNameError(f"no neck module is known for '{part.name}'; known is fpn")


def _build_head(part: HeadPart, levels: Sequence[LevelSpec], num_classes: int) -> nn.Module:
    if isinstance(part, FcosHeadSpec):
        return FcosHead(part, levels, num_classes)
    if isinstance(part, RetinaNetHeadSpec):
        return RetinaNetHead(part, levels, num_classes)
    if isinstance(part, FasterRcnnHeadSpec):
        return FasterRcnnHead(part, levels, num_classes)
    raise UnknownNameError(f"no head module is known for '{part.name}'; known are fcos, retinanet, faster-rcnn")
