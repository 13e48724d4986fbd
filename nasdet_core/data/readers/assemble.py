"""Annotation files and pictures brought together: sizes, turned pictures, and the shared rules for boxes.

* The picture's own size counts. Where the annotation says another one, the boxes are used if they fit the picture, and
  the picture is left out if they fit only the size that the annotation claims.
* Boxes that were made without regard to the EXIF orientation (the annotation has the stored size) are turned with the
  picture.
* A box of zero or negative width or height, or wholly outside its picture, cannot be found by any detector: it is left
  out of training and of evaluation. A box that reaches over the border is kept as written (training clips it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Annotation, Dataset, ImageRecord
from nasdet_core.data.pictures import PictureFacts
from nasdet_core.data.readers.raw import Bools, BoxForm, Floats, Ints, RawDataset, RawObjects, RawPicture, RawSplit
from nasdet_core.data.splits import drop_repeated, no_boxes_left
from nasdet_core.errors import DatasetError

LARGEST_COORDINATE = 1e7  # pixels; what is larger is a slip, and single precision would round it
SAME_SHAPE = 0.02  # how far the ratios of two sizes may differ
BORDER_TOLERANCE = 1.0  # pixels that a box may reach over the border without a word: rounding of annotation tools


@dataclass(frozen=True, slots=True)
class _Frame:
    """How the boxes of one picture are read."""

    width: int
    height: int
    orientation: int = 1  # other than 1: boxes are turned from the stored into the upright picture
    usable: bool = True


def assemble(raw: RawDataset, facts: Mapping[str, PictureFacts]) -> Dataset:
    """The dataset in its in-memory form; `facts` holds every picture of `raw`.

    Raises DatasetError when no usable picture with a box is left.
    """
    log = DefectLog()
    log.extend(raw.defects)
    splits = {split.name: _records(split, raw.box_form, facts, log) for split in raw.splits}
    splits = drop_repeated(splits, log)
    if no_boxes_left(splits):
        reason = log.first() or "the annotation files hold no boxes"
        raise DatasetError(f"no usable picture with a box is left in {raw.root}; first reason: {reason}")
    return Dataset(
        root=raw.root,
        class_names=raw.class_names,
        category_ids=raw.category_ids,
        splits=splits,
        source_format=raw.source_format,
        defects=log.defects(),
        sources=raw.sources,
    )


def _records(
    split: RawSplit, form: BoxForm, facts: Mapping[str, PictureFacts], log: DefectLog
) -> tuple[ImageRecord, ...]:
    objects = split.objects
    order = np.argsort(objects.picture, kind="stable")
    starts = np.searchsorted(objects.picture[order], np.arange(len(split.pictures) + 1))
    written = _in_pixels(split, form, facts)
    corners, extents = _corners_and_extents(written, form)
    frames = [
        _frame(picture, facts[picture.file], corners[order[starts[number] : starts[number + 1]]], log)
        for number, picture in enumerate(split.pictures)
    ]
    xyxy, xywh = _upright_boxes(objects, corners, extents, frames)
    kept = _usable_boxes(split, frames, xyxy, xywh, log)
    _report_repeated(split, xywh, kept, log)
    _report_without_boxes(split, frames, starts, log)
    records = []
    for number, (picture, frame) in enumerate(zip(split.pictures, frames, strict=True)):
        if frame.usable:
            rows = order[starts[number] : starts[number + 1]]
            rows = rows[kept[rows]]
            records.append(ImageRecord(picture.file, frame.width, frame.height, _annotation(objects, xyxy, xywh, rows)))
    return tuple(records)


def _annotation(objects: RawObjects, xyxy: Floats, xywh: Floats, rows: Ints) -> Annotation:
    area = objects.area[rows]
    own = xywh[rows, 2] * xywh[rows, 3]
    return Annotation(
        boxes_xyxy=xyxy[rows].astype(np.float32),
        labels=objects.labels[rows],
        crowd=objects.crowd[rows],
        difficult=objects.difficult[rows],
        area=np.where(np.isnan(area), own, area),
        boxes_xywh=xywh[rows],
    )


def _in_pixels(split: RawSplit, form: BoxForm, facts: Mapping[str, PictureFacts]) -> Floats:
    """[N, 4] boxes in pixels of the picture, in the form (xyxy or xywh) in which they were written."""
    boxes = split.objects.boxes
    if form != "cxcywh_fraction":
        return boxes
    sizes = np.array([(facts[p.file].width, facts[p.file].height) for p in split.pictures], dtype=np.float64)
    scale = sizes.reshape(-1, 2)[split.objects.picture]
    with np.errstate(over="ignore", invalid="ignore"):
        extent = boxes[:, 2:] * scale
        return np.concatenate([boxes[:, :2] * scale - extent / 2, extent], axis=1)


def _corners_and_extents(boxes: Floats, form: BoxForm) -> tuple[Floats, Floats]:
    """([N, 4] xyxy, [N, 4] xywh); what the file has in this form is left as it is."""
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found and said later
        if form == "xyxy":
            return boxes, np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), boxes


# --- pictures --------------------------------------------------------------------------------------------------------


def _frame(picture: RawPicture, facts: PictureFacts, boxes_xyxy: Floats, log: DefectLog) -> _Frame:
    """`boxes_xyxy`: those of the picture as written."""
    if facts.problem is not None:
        log.add(facts.problem.kind, f"{facts.problem}; left out")
        return _Frame(0, 0, usable=False)
    for kind, sentence in facts.traits:
        log.add(kind, sentence)
    upright = (facts.width, facts.height)
    if picture.no_size:
        log.add(
            "size_missing",
            f"{picture.source} gives no size for {picture.file}; the picture's own, {_shown(upright)}, is used",
        )
        if facts.orientation >= 5 and not _fit(boxes_xyxy, upright) and _fit(boxes_xyxy, facts.stored_size):
            return _turned(picture, facts, "has boxes that fit it only as it is stored", log)
    elif picture.size is not None and picture.size != upright:
        return _other_size(picture, picture.size, facts, boxes_xyxy, log)
    if facts.orientation != 1:
        log.add(
            "exif_turned",
            f"picture {picture.file} is turned by its EXIF orientation ({facts.orientation}); its boxes are taken to "
            "lie in the upright picture",
        )
    return _Frame(*upright)


def _turned(picture: RawPicture, facts: PictureFacts, what: str, log: DefectLog) -> _Frame:
    upright = (facts.width, facts.height)
    log.add(
        "annotated_before_turning",
        f"picture {picture.file} is {_shown(upright)} after its EXIF orientation ({facts.orientation}), but "
        f"{picture.source} {what}; its boxes are turned with it",
    )
    return _Frame(*upright, orientation=facts.orientation)


def _other_size(
    picture: RawPicture, size: tuple[int, int], facts: PictureFacts, boxes_xyxy: Floats, log: DefectLog
) -> _Frame:
    upright = (facts.width, facts.height)
    if facts.orientation != 1 and size == facts.stored_size:
        return _turned(picture, facts, f"was made for {_shown(size)}", log)
    sentence = (
        f"picture {picture.file} is {_shown(upright)}, but its annotation in {picture.source} was made for "
        f"{_shown(size)}"
    )
    if not _fit(boxes_xyxy, upright):
        log.add("wrong_size_and_boxes", f"{sentence}, and boxes lie outside the picture; left out")
        return _Frame(0, 0, usable=False)
    if _is_smaller_copy(size, upright) and _fit(boxes_xyxy, size):
        log.add("wrong_size_and_boxes", f"{sentence}, of which it may be an enlarged copy; left out")
        return _Frame(0, 0, usable=False)
    log.add("wrong_size", f"{sentence}; its boxes fit the picture, whose own size is used")
    return _Frame(*upright)


def _fit(boxes_xyxy: Floats, size: tuple[int, int]) -> bool:
    return bool((boxes_xyxy[:, 2:] <= np.array(size) + BORDER_TOLERANCE).all())


def _is_smaller_copy(size: tuple[int, int], upright: tuple[int, int]) -> bool:
    """Whether the annotation's size is the picture's, scaled down; boxes that fit both then prove nothing."""
    ratios = upright[0] / size[0], upright[1] / size[1]
    return min(ratios) > 1 and abs(ratios[0] / ratios[1] - 1) < SAME_SHAPE


def _report_without_boxes(split: RawSplit, frames: list[_Frame], starts: Ints, log: DefectLog) -> None:
    """Pictures that were annotated as empty, or forgotten: nobody can tell which."""
    annotated = np.diff(starts)
    for number, (picture, frame) in enumerate(zip(split.pictures, frames, strict=True)):
        if frame.usable and annotated[number] == 0 and number not in split.with_broken_objects:
            log.add("picture_without_boxes", f"picture {picture.file} ({split.name}) has no annotation")


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


# --- boxes -----------------------------------------------------------------------------------------------------------


def _upright_boxes(
    objects: RawObjects, corners: Floats, extents: Floats, frames: list[_Frame]
) -> tuple[Floats, Floats]:
    """([N, 4] xyxy, [N, 4] xywh) in pixels of the upright picture."""
    orientation = np.array([frame.orientation for frame in frames], dtype=np.int64)
    turned = np.flatnonzero(orientation[objects.picture] != 1) if len(frames) else np.zeros(0, dtype=np.int64)
    if len(turned):
        corners, extents = corners.copy(), extents.copy()
        for row in turned.tolist():
            frame = frames[int(objects.picture[row])]
            corners[row] = turn_box(corners[row], frame.orientation, (frame.width, frame.height))
            extents[row] = [*corners[row, :2], *(corners[row, 2:] - corners[row, :2])]
    return corners, extents


def turn_box(xyxy: Floats, orientation: int, upright: tuple[int, int]) -> Floats:
    """A box (4,) of the stored picture -> of the upright one of (width, height), for EXIF orientation 1 to 8."""
    width, height = upright
    x1, y1, x2, y2 = xyxy
    if orientation >= 5:  # the axes are exchanged
        x1, y1, x2, y2 = y1, x1, y2, x2
    if orientation in (2, 3, 6, 7):
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 7, 8):
        y1, y2 = height - y2, height - y1
    return np.array([x1, y1, x2, y2])


def _usable_boxes(split: RawSplit, frames: list[_Frame], xyxy: Floats, xywh: Floats, log: DefectLog) -> Bools:
    """[N] which objects are kept; the others, and those over the border, are said."""
    objects = split.objects
    sizes = np.array([(frame.width, frame.height) for frame in frames], dtype=np.float64).reshape(-1, 2)
    size = sizes[objects.picture]
    usable = np.array([frame.usable for frame in frames], dtype=bool)[objects.picture]
    with np.errstate(invalid="ignore"):
        finite = (np.abs(xyxy) < LARGEST_COORDINATE).all(axis=1) & (np.abs(xywh) < LARGEST_COORDINATE).all(axis=1)
    with np.errstate(invalid="ignore"):
        flat = (xywh[:, 2:] <= 0).any(axis=1)
        outside = (xyxy[:, :2] >= size).any(axis=1) | (xyxy[:, 2:] <= 0).any(axis=1)
        over = (xyxy[:, :2] < -BORDER_TOLERANCE).any(axis=1) | (xyxy[:, 2:] > size + BORDER_TOLERANCE).any(axis=1)
    rules = (
        ("box_not_finite", ~finite, f"has a coordinate that is not a number below {LARGEST_COORDINATE:,.0f}"),
        ("zero_area_box", finite & flat, "has no area ({w:g} x {h:g} pixels)"),
        ("box_outside", finite & ~flat & outside, "lies outside its {width:.0f}x{height:.0f} picture"),
        ("box_over_border", finite & ~flat & ~outside & over, "reaches over the border of its "
         "{width:.0f}x{height:.0f} picture; training clips it"),
    )  # fmt: skip
    for kind, rows, what in rules:
        for row in np.flatnonzero(rows & usable).tolist():
            values = ", ".join(f"{value:g}" for value in xyxy[row])
            said = what.format(w=xywh[row, 2], h=xywh[row, 3], width=size[row, 0], height=size[row, 1])
            log.add(kind, f"{split.place(row)}: the box ({values}) {said}")
    kept: Bools = usable & finite & ~flat & ~outside
    return kept


def _report_repeated(split: RawSplit, xywh: Floats, kept: Bools, log: DefectLog) -> None:
    rows = np.flatnonzero(kept)
    if len(rows) < 2:
        return
    objects = split.objects
    keys = np.column_stack([objects.picture[rows], objects.labels[rows], objects.crowd[rows], xywh[rows]])
    order = np.lexsort(keys.T[::-1])
    same = (keys[order][1:] == keys[order][:-1]).all(axis=1)
    for position in np.flatnonzero(same).tolist():
        row = int(rows[order[position + 1]])
        file = split.pictures[int(objects.picture[row])].file
        log.add("repeated_box", f"{split.place(row)}: the same object is there twice in {file}; both are used")
