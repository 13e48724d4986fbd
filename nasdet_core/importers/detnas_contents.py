"""What a DetNAS checkpoint is, found from the names and shapes of its tensors."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from nasdet_core.errors import CheckpointError, SettingError, UnknownNameError
from nasdet_core.importers.detnas_names import (
    CLASSIFIER,
    LAST_CONV,
    REFERENCE_CANDIDATES,
    SINGLE_BODY,
    SINGLE_FPN,
    SUPERNET_BODY,
    SUPERNET_FPN,
)
from nasdet_core.importers.named_weights import few
from nasdet_core.search_spaces.base import Genotype
from nasdet_core.search_spaces.heads_fixed import RETINANET_ANCHORS
from nasdet_core.search_spaces.shufflenet_chain import SHAPES, DetNasBackbone

Form = Literal["body", "classifier", "faster-rcnn", "retinanet"]
Widths = tuple[int, ...]  # channels of the stem and of the four stages

_OF_BLOCK = re.compile(
    rf"features\.(\d{{1,3}})\.(?:(\d)\.)?conv\.\d\..*?([1-4])[a-p]_({'|'.join(REFERENCE_CANDIDATES)})_branch2.*"
)
# The first 1x1 convolution of a main branch: its output is half of the stage's width, whatever the candidate.
_HALF_WIDTH = re.compile(r"features\..*\.conv\.0\.interstellar([1-4])[a-p]_\w+_branch2a\.weight")
_STEM = "first_conv.conv.weight"


@dataclass(frozen=True)
class DetNasContents:
    """A network of DetNAS and its sizes."""

    form: Form
    part: DetNasBackbone  # searched when the checkpoint is a supernet
    num_classes: int | None = None  # of the classifier, or object classes without background; None for a body
    last_channels: int | None = None  # of the classifier's last convolution
    neck_channels: int | None = None  # of a detector

    @property
    def supernet(self) -> bool:
        return self.part.genotype is None


@dataclass(frozen=True)
class _Body:
    """What the names of a body's blocks say."""

    stage_blocks: Widths
    widths: Widths
    genotype: Genotype | None  # None of a supernet


def read_contents(
    weights: Mapping[str, Tensor],
    *,
    split: str | None = None,
    space: str | None = None,
    width: float | None = None,
) -> DetNasContents:
    """Recognise a checkpoint by its tensors (values are not looked at).

    `split` None: "even_odd" for single networks, as all published ones, "shuffle" for supernets. Space and width are
    found from numbers of blocks and channels where they are not given. Raises CheckpointError when it is nothing of
    DetNAS.
    """
    prefix = next((body for body in (SINGLE_BODY, SUPERNET_BODY) if any(name.startswith(body) for name in weights)), "")
    body = _read_body(
        {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    )
    try:
        part = _find_part(body, split=split, space=space, width=width)
    except SettingError as error:
        raise CheckpointError(f"the checkpoint fits no DetNAS backbone: {error}") from error
    if prefix:
        return _detector(weights, part)
    if not any(name.startswith((LAST_CONV, CLASSIFIER)) for name in weights):
        return DetNasContents("body", part)
    return classifier_contents(weights, part)


def classifier_contents(weights: Mapping[str, Tensor], part: DetNasBackbone) -> DetNasContents:
    """`part` with an ImageNet head as wide as its tensors: published are last convolutions of 1024 and of 1728."""
    return DetNasContents(
        "classifier",
        part,
        num_classes=_channels(weights, f"{CLASSIFIER}fc.weight"),
        last_channels=_channels(weights, f"{LAST_CONV}conv.weight"),
    )


def _detector(weights: Mapping[str, Tensor], part: DetNasBackbone) -> DetNasContents:
    fpn = SUPERNET_FPN if part.genotype is None else SINGLE_FPN
    if any(name.startswith("roi_heads.") for name in weights):
        return DetNasContents(
            "faster-rcnn",
            part,
            num_classes=_channels(weights, "roi_heads.box.predictor.cls_score.weight") - 1,  # background comes first
            neck_channels=_channels(weights, f"{fpn}fpn_inner4.0.weight"),
        )
    if any(name.startswith("rpn.head.cls_tower.") for name in weights):
        return DetNasContents(
            "retinanet",
            part,
            num_classes=_channels(weights, "rpn.head.cls_logits.weight") // RETINANET_ANCHORS,
            neck_channels=_channels(weights, f"{fpn}fpn_inner4.weight"),
        )
    raise CheckpointError(
        "a Faster R-CNN (roi_heads...) or a RetinaNet (rpn.head.cls_tower...) was expected behind the backbone, but "
        "neither is in the checkpoint"
    )


def _channels(weights: Mapping[str, Tensor], name: str) -> int:
    """Outputs of a layer."""
    if name not in weights or weights[name].dim() == 0:
        raise CheckpointError(f"the checkpoint must hold {name}, but it is missing; is the file cut down?")
    return weights[name].shape[0]


def _read_body(weights: Mapping[str, Tensor]) -> _Body:
    """From all tensors together, so that a single one that is missing or mis-shaped does not hide the network."""
    candidates: dict[int, dict[int | None, int]] = {}  # block -> index within a supernet's block -> candidate
    stages: dict[int, int] = {}  # block -> stage
    for name in weights:
        match = _OF_BLOCK.fullmatch(name)
        if match:
            block, index = int(match[1]), None if match[2] is None else int(match[2])
            candidates.setdefault(block, {})[index] = REFERENCE_CANDIDATES.index(match[4])
            stages[block] = int(match[3])
    supernet = any(index is not None for block in candidates.values() for index in block)
    count = len(candidates)
    if not candidates or sorted(candidates) != list(range(count)) or set(stages.values()) != {1, 2, 3, 4}:
        raise CheckpointError(
            "the blocks of a DetNAS backbone were expected, features.0.conv... (a single network) or "
            f"features.0.0.conv... (a supernet) and on without a gap, but {count} blocks were found among "
            f"{few(list(weights)) or 'no tensors'}"
        )
    return _Body(
        stage_blocks=tuple(sum(stage == number for stage in stages.values()) for number in (1, 2, 3, 4)),
        widths=(_channels(weights, _STEM), *_stage_widths(weights)),
        genotype=None if supernet else tuple(candidates[block][None] for block in range(count)),
    )


def _stage_widths(weights: Mapping[str, Tensor]) -> Widths:
    """What most blocks of a stage say."""
    found: dict[int, Counter[int]] = {number: Counter() for number in (1, 2, 3, 4)}
    for name, tensor in weights.items():
        match = _HALF_WIDTH.fullmatch(name)
        if match and tensor.dim() == 4:
            found[int(match[1])][2 * tensor.shape[0]] += 1
    return tuple(widths.most_common(1)[0][0] if widths else 0 for widths in found.values())


def _find_part(body: _Body, *, split: str | None, space: str | None, width: float | None) -> DetNasBackbone:
    split = split or ("shuffle" if body.genotype is None else "even_odd")
    if space is not None:
        _check_depth(space, body)
        # A width that fits no channel leaves it to the comparison of all tensors to say which differ.
        likely = (width, _fitting_width(space, body.widths), 1.0)
        chosen = next(factor for factor in likely if factor is not None)
        return DetNasBackbone(space, width=chosen, split=split, genotype=body.genotype)
    for name, shape in SHAPES.items():
        factor = _fitting_width(name, body.widths) if width is None else width
        if factor is not None and shape.stage_blocks == body.stage_blocks:
            part = DetNasBackbone(name, width=factor, split=split, genotype=body.genotype)
            if (part.stem_channels, *part.stage_channels) == body.widths:
                return part
    raise CheckpointError(
        f"no DetNAS space{'' if width is None else f' of width {width:g}'} has {sum(body.stage_blocks)} blocks and "
        f"{', '.join(map(str, body.widths))} channels in stem and stages; known spaces are {', '.join(SHAPES)}; name "
        "space and width to see which tensors differ"
    )


def _check_depth(space: str, body: _Body) -> None:
    if space not in SHAPES:
        raise UnknownNameError(f"unknown DetNAS space {space!r}; known spaces are {', '.join(SHAPES)}")
    if SHAPES[space].stage_blocks != body.stage_blocks:
        raise CheckpointError(
            f"{' + '.join(map(str, SHAPES[space].stage_blocks))} blocks were expected for the space {space}, but the "
            f"checkpoint has {' + '.join(map(str, body.stage_blocks))}"
        )


def _fitting_width(space: str, widths: Widths) -> float | None:
    """The roundest factor that gives these channels, which are rounded to multiples of 4; None when there is none."""
    shape = SHAPES[space]
    base = (shape.stem_channels, *shape.stage_channels)
    low = max((channels - 2) / of_one for channels, of_one in zip(widths, base, strict=True))
    high = min((channels + 2) / of_one for channels, of_one in zip(widths, base, strict=True))
    for scale in (1, 10, 100, 1000, 10_000):
        factor = math.ceil(low * scale) / scale
        if 0 < factor < high:
            return factor
    return None
