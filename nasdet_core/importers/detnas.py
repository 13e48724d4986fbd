"""Weights that DetNAS's authors publish -> our modules (Chen et al. 2019, arXiv:1903.10979; names: their public code).

The reference's own loader matches names by longest suffix and leaves what it does not find at random values without a
word. Here the tensors of a checkpoint are exactly those of the network that it is found to be, or it is refused with
a list of the differences. Only batch counters of norms and the buffers of anchors may be absent.

What a network needs besides its weights travels with them: the split method of its blocks (single networks even and
odd channels, supernets the shuffle) and its input (BGR 0..255, nothing subtracted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nasdet_core.backbones.classifier import DetNasClassifier
from nasdet_core.backbones.elastic_classifier import ElasticDetNasClassifier
from nasdet_core.backbones.shufflenet import DetNasBackboneNet, ElasticDetNasBackbone
from nasdet_core.data.input_format import InputFormat
from nasdet_core.detectors.detector import Detector, build_detector
from nasdet_core.errors import CheckpointError
from nasdet_core.importers.checkpoint_file import CheckpointFile, open_checkpoint
from nasdet_core.importers.coco_classes import COCO_CLASSES
from nasdet_core.importers.detnas_contents import DetNasContents, classifier_contents, read_contents
from nasdet_core.importers.detnas_detector import (
    NOTES,
    check_anchors,
    detector_space,
    split_off_anchors,
    unweighted_offsets,
)
from nasdet_core.importers.detnas_names import (
    ANCHORS,
    CLASSIFIER,
    LAST_CONV,
    body_names,
    classifier_names,
    detector_names,
)
from nasdet_core.importers.strict import Loaded, check_weights, fill
from nasdet_core.search_spaces.base import Cost
from nasdet_core.search_spaces.shufflenet_chain import CLASSIFIER_IMAGE_SIZE, DetNasBackbone
from nasdet_core.supernet.checkpoint import save_detector
from nasdet_core.training.backbone_file import Backbone, save_backbone

FAMILY = "detnas"
PIXEL_FORMAT = "bgr_255"
DETECTOR_IMAGE_SIZE = (800, 1344)  # shorter side 800, longer at most 1333, padded to multiples of 32

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Imported:
    """A published network in our modules, and where it comes from."""

    contents: DetNasContents
    model: Backbone | Detector
    input: InputFormat
    class_names: tuple[str, ...]  # of a detector
    source: Mapping[str, str]  # family, file, sha256
    file_format: str
    present: int  # tensors in the checkpoint
    consumed: tuple[str, ...]  # names of the tensors that were used
    not_used: tuple[str, ...]  # what the file holds beside its weights
    notes: tuple[str, ...]  # what our modules do otherwise

    @property
    def cost(self) -> Cost | None:
        """For one image of the input's size; None of a supernet, where it hangs on the path."""
        part, size = self.contents.part, self.input.image_size
        if part.genotype is None:
            return None
        if isinstance(self.model, Detector):
            return self.model.space.cost((), size).total
        if self.contents.form == "body":
            return part.cost((), size)
        return part.classifier_cost((), size, self.contents.last_channels, self.contents.num_classes or 0)


def import_checkpoint(
    path: Path,
    *,
    split: str | None = None,
    space: str | None = None,
    width: float | None = None,
    class_names: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
) -> Imported:
    """Read a published file: an ImageNet network or a COCO detector, single or supernet.

    `split`, `space` and `width` are found from the tensors where they are None (`read_contents`). `class_names`: those
    of a detector, COCO's when it has 80 classes. `image_size` (height, width): 224 x 224, or 800 x 1344 for a detector.
    Raises CheckpointError, or OSError when the file cannot be opened.
    """
    file = open_checkpoint(path)
    contents = read_contents(file.claims, split=split, space=space, width=width)
    if contents.form in ("body", "classifier"):
        return _import_backbone(file, contents, class_names, image_size)
    return _import_detector(file, contents, class_names, image_size)


def save_imported(imported: Imported, path: Path) -> str:
    """Write a detector file or a backbone file and return its SHA-256."""
    if isinstance(imported.model, Detector):
        return save_detector(
            path,
            imported.model,
            class_names=imported.class_names,
            input=imported.input,
            metadata={"source": dict(imported.source)},
        )
    return save_backbone(path, imported.model, input=imported.input, source=imported.source)


def load_backbone(part: DetNasBackbone, weights: Weights) -> Loaded[DetNasBackboneNet | ElasticDetNasBackbone]:
    """A backbone of `part` (elastic when it is searched) without the ImageNet head, which is left out and named."""
    head = tuple(name for name in weights if name.startswith((LAST_CONV, CLASSIFIER)))
    body = {name: tensor for name, tensor in weights.items() if name not in head}
    backbone = _empty_body(part)
    check_weights(backbone, body_names(part), body, what=_named(part, "backbone"))
    loaded = fill(backbone, body_names(part), body)
    return Loaded(loaded.module, loaded.consumed, left_out=head)


def load_classifier(part: DetNasBackbone, weights: Weights) -> Loaded[DetNasClassifier | ElasticDetNasClassifier]:
    """The ImageNet form of `part`, elastic when it is searched; widths of the head are those of the tensors."""
    network = _empty_classifier(part, classifier_contents(weights, part))
    check_weights(network, classifier_names(part), weights, what=_named(part, "ImageNet network"))
    return fill(network, classifier_names(part), weights)


def _import_backbone(
    file: CheckpointFile,
    contents: DetNasContents,
    class_names: Sequence[str] | None,
    image_size: tuple[int, int] | None,
) -> Imported:
    if class_names is not None:
        raise CheckpointError("class names belong to a detector, but the checkpoint is an ImageNet network")
    part = contents.part
    network: Backbone
    if contents.form == "classifier":
        network, names = _empty_classifier(part, contents), classifier_names(part)
    else:
        network, names = _empty_body(part), body_names(part)
    check_weights(network, names, file.claims, what=_named(part, "ImageNet network"))
    loaded = fill(network, names, file.read())
    return Imported(
        contents=contents,
        model=loaded.module.eval(),
        input=InputFormat(image_size or CLASSIFIER_IMAGE_SIZE, PIXEL_FORMAT),
        class_names=(),
        source=_source(file),
        file_format=file.format.name,
        present=len(file.claims),
        consumed=loaded.consumed,
        not_used=file.not_used,
        notes=(),
    )


def _import_detector(
    file: CheckpointFile,
    contents: DetNasContents,
    class_names: Sequence[str] | None,
    image_size: tuple[int, int] | None,
) -> Imported:
    form = contents.form
    assert form in ("faster-rcnn", "retinanet")
    space = detector_space(contents)
    names = detector_names(form, contents.part)
    _, claims = split_off_anchors(file.claims)
    with torch.device("meta"):
        shapes = Detector(space, elastic=contents.supernet)
    check_weights(shapes, names, claims, what=_named(contents.part, form))
    classes = _class_names(contents, class_names)

    anchors, weights = split_off_anchors(file.read())
    check_anchors(anchors, form)
    if form == "retinanet":
        weights |= {
            name: unweighted_offsets(weights[name]) for name in ("rpn.head.bbox_pred.weight", "rpn.head.bbox_pred.bias")
        }
    detector = build_detector(space, elastic=contents.supernet)
    loaded = fill(detector, names, weights)
    return Imported(
        contents=contents,
        model=detector.eval(),
        input=InputFormat(image_size or DETECTOR_IMAGE_SIZE, PIXEL_FORMAT),
        class_names=classes,
        source=_source(file),
        file_format=file.format.name,
        present=len(file.claims),
        consumed=(*loaded.consumed, *(ANCHORS + level for level in anchors)),
        not_used=file.not_used,
        notes=NOTES[form],
    )


def _class_names(contents: DetNasContents, given: Sequence[str] | None) -> tuple[str, ...]:
    count = contents.num_classes
    if given is None and count == len(COCO_CLASSES):
        return COCO_CLASSES
    if given is None or len(given) != count:
        came = "none were given" if given is None else f"{len(given)} were given"
        raise CheckpointError(f"names of the detector's {count} classes were expected, in its order, but {came}")
    return tuple(given)


def _empty_body(part: DetNasBackbone) -> DetNasBackboneNet | ElasticDetNasBackbone:
    """Without memory for its tensors."""
    with torch.device("meta"):
        return ElasticDetNasBackbone(part) if part.genotype is None else DetNasBackboneNet(part)


def _empty_classifier(part: DetNasBackbone, contents: DetNasContents) -> DetNasClassifier | ElasticDetNasClassifier:
    body = _empty_body(part)
    sizes = {"last_channels": contents.last_channels or 0, "num_classes": contents.num_classes or 0}
    with torch.device("meta"):
        if isinstance(body, ElasticDetNasBackbone):
            return ElasticDetNasClassifier(body, **sizes)
        return DetNasClassifier(body, **sizes)


def _named(part: DetNasBackbone, form: str) -> str:
    width = "" if part.width == 1 else f" of width {part.width:g}"
    return f"a {part.name} {'supernet' if part.genotype is None else 'network'}{width} ({form})"


def _source(file: CheckpointFile) -> Mapping[str, str]:
    return {"family": FAMILY, "file": file.path.name, "sha256": file.digest()}
