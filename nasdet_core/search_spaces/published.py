"""Published DetNAS architectures (Chen et al. 2019, arXiv:1903.10979) and what their authors report of them.

The encodings are those of the authors' repository megvii-model/ShuffleNet-Series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nasdet_core.search_spaces.base import Genotype

# The authors ran the paper's experiments in a framework of their own; the PyTorch code is a later
# re-implementation. So two sets of COCO figures exist.
PAPER = "megvii-model/ShuffleNet-Series, folder DetNAS (the paper's models)"
REIMPLEMENTATION = "megvii-model/DetNAS (re-implementation in PyTorch)"

COCO = "COCO minival (5000 pictures)"
VOC = "Pascal VOC 2007 test"


@dataclass(frozen=True, slots=True)
class PublishedAp:
    """A reported AP, 0..1. `metric` is box_map (IoU .50:.95) or box_ap50 (IoU .50)."""

    metric: str
    value: float
    data: str
    source: str


@dataclass(frozen=True, slots=True)
class PublishedFigures:
    """What the authors state of one network: nominal figures, rounded by them.

    `macs` is what they call FLOPs. MACs, parameters and errors are those of the ImageNet form (with last convolution
    and classifier); the error rates are in percent.
    """

    macs: float
    params: float
    top1_error_percent: float
    top5_error_percent: float
    source: str
    ap: tuple[PublishedAp, ...]


@dataclass(frozen=True, slots=True)
class PublishedArchitecture:
    """A found network: the space it comes from, its genotype, what it was found for, and its reported figures."""

    name: str
    space: str
    genotype: Genotype
    found_for: str
    figures: PublishedFigures
    remark: str | None = None

    def figures_json(self) -> dict[str, Any]:
        """The figures with their sources, in JSON types."""
        figures = self.figures
        return {
            "macs": figures.macs,
            "params": figures.params,
            "top1_error_percent": figures.top1_error_percent,
            "top5_error_percent": figures.top5_error_percent,
            "source": figures.source,
            "ap": [{"metric": ap.metric, "value": ap.value, "data": ap.data, "source": ap.source} for ap in figures.ap],
            "remark": self.remark,
        }


def _coco(paper: float, reimplementation: float) -> tuple[PublishedAp, ...]:
    return (
        PublishedAp("box_map", paper, COCO, PAPER),
        PublishedAp("box_map", reimplementation, COCO, REIMPLEMENTATION),
    )


def _voc(paper: float) -> tuple[PublishedAp, ...]:
    return (PublishedAp("box_ap50", paper, VOC, PAPER),)


def _genotype(text: str) -> Genotype:
    return tuple(int(choice) for choice in text.split() if choice != "/")


_DETNASNET = _genotype("0 0 3 1 2 1 0 2 / 0 3 1 2 3 3 2 0 / 2 1 1 3 2 0 2 2 2 1 3 1 0 3 3 3 / 1 3 3 3 3 3 3 3")

PUBLISHED: Mapping[str, PublishedArchitecture] = {
    found.name: found
    for found in (
        PublishedArchitecture(
            "detnas-coco-fpn-300m",
            "detnas-300m",
            _genotype("2 1 2 0 / 2 1 1 2 / 3 3 1 3 0 0 3 1 / 3 1 3 2"),
            "Faster R-CNN with FPN on COCO",
            PublishedFigures(300e6, 3.5e6, 26.2, 8.4, PAPER, _coco(0.364, 0.366)),
        ),
        PublishedArchitecture(
            "detnas-coco-retinanet-300m",
            "detnas-300m",
            _genotype("2 3 1 1 / 3 2 1 3 / 3 1 1 1 3 3 2 0 / 3 3 3 3"),
            "RetinaNet on COCO",
            PublishedFigures(300e6, 3.7e6, 26.0, 8.4, PAPER, _coco(0.333, 0.341)),
        ),
        PublishedArchitecture(
            "detnas-voc-fpn-300m",
            "detnas-300m",
            _genotype("2 1 0 3 / 1 3 0 3 / 2 0 1 1 3 3 3 3 / 3 3 3 1"),
            "Faster R-CNN with FPN on Pascal VOC",
            PublishedFigures(300e6, 3.7e6, 25.9, 8.3, PAPER, _voc(0.815)),
        ),
        PublishedArchitecture(
            "detnas-voc-retinanet-300m",
            "detnas-300m",
            _genotype("1 3 0 0 / 2 3 3 3 / 2 3 3 3 3 2 2 0 / 2 3 1 1"),
            "RetinaNet on Pascal VOC",
            PublishedFigures(300e6, 3.5e6, 25.4, 8.1, PAPER, _voc(0.801)),
        ),
        PublishedArchitecture(
            "detnas-coco-fpn-1.3g",
            "detnas-1.3g",
            _DETNASNET,
            "Faster R-CNN with FPN on COCO",
            PublishedFigures(1.3e9, 10.4e6, 22.8, 6.5, PAPER, _coco(0.400, 0.403)),
        ),
        PublishedArchitecture(
            "detnas-coco-fpn-3.8g",
            "detnas-3.8g",
            _DETNASNET,
            "Faster R-CNN with FPN on COCO (the 1.3G network made wider)",
            PublishedFigures(3.8e9, 29.5e6, 21.6, 6.3, PAPER, _coco(0.420, 0.420)),
            "the published parameters fit a last convolution of 1024 channels, while both public codes say 1728",
        ),
    )
}
