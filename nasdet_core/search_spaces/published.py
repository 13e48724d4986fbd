"""Published DetNAS architectures (Chen et al. 2019, arXiv:1903.10979).

The encodings are those of the authors' repository megvii-model/ShuffleNet-Series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nasdet_core.search_spaces.base import Genotype


@dataclass(frozen=True, slots=True)
class PublishedArchitecture:
    """A found network: the space it comes from, its genotype, and what it was found for."""

    name: str
    space: str
    genotype: Genotype
    found_for: str


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
        ),
        PublishedArchitecture(
            "detnas-coco-retinanet-300m",
            "detnas-300m",
            _genotype("2 3 1 1 / 3 2 1 3 / 3 1 1 1 3 3 2 0 / 3 3 3 3"),
            "RetinaNet on COCO",
        ),
        PublishedArchitecture(
            "detnas-voc-fpn-300m",
            "detnas-300m",
            _genotype("2 1 0 3 / 1 3 0 3 / 2 0 1 1 3 3 3 3 / 3 3 3 1"),
            "Faster R-CNN with FPN on Pascal VOC",
        ),
        PublishedArchitecture(
            "detnas-voc-retinanet-300m",
            "detnas-300m",
            _genotype("1 3 0 0 / 2 3 3 3 / 2 3 3 3 3 2 2 0 / 2 3 1 1"),
            "RetinaNet on Pascal VOC",
        ),
        PublishedArchitecture("detnas-coco-fpn-1.3g", "detnas-1.3g", _DETNASNET, "Faster R-CNN with FPN on COCO"),
        PublishedArchitecture(
            "detnas-coco-fpn-3.8g",
            "detnas-3.8g",
            _DETNASNET,
            "Faster R-CNN with FPN on COCO (the 1.3G network made wider)",
        ),
    )
}
