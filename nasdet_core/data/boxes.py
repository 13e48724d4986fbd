"""Shared rule for boxes as they come out of an annotation file."""

from __future__ import annotations

import math

import numpy as np

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Annotation


class ObjectList:
    """Gathers the objects of one picture; a degenerate box becomes a defect and is left out.

    A box of zero or negative width or height, or wholly outside its picture, cannot be found by any
    detector, so it is left out of training and of evaluation. A box that reaches over the border is kept as
    written (training clips it).
    """

    def __init__(self, file: str, width: int, height: int, log: DefectLog) -> None:
        self._file, self._width, self._height, self._log = file, width, height, log
        self._xywh: list[tuple[float, float, float, float]] = []
        self._xyxy: list[tuple[float, float, float, float]] = []
        self._labels: list[int] = []
        self._flags: list[tuple[bool, bool]] = []
        self._area: list[float] = []

    def add(
        self,
        *,
        xyxy: tuple[float, float, float, float],
        xywh: tuple[float, float, float, float],
        label: int,
        shown: str,
        crowd: bool = False,
        difficult: bool = False,
        area: float | None = None,
    ) -> None:
        if not all(math.isfinite(value) for value in (*xyxy, *xywh)):
            self._log.add("box_not_finite", f"{shown}: the box {xyxy} has a coordinate that is not a finite number")
            return
        if xywh[2] <= 0 or xywh[3] <= 0:
            self._log.add(
                "zero_area_box",
                f"{shown}: the box {_shown(xyxy)} has no area ({xywh[2]:g} x {xywh[3]:g} pixels)",
            )
            return
        if xyxy[0] >= self._width or xyxy[1] >= self._height or xyxy[2] <= 0 or xyxy[3] <= 0:
            size = f"{self._width}x{self._height}"
            self._log.add("box_outside", f"{shown}: the box {_shown(xyxy)} lies outside its {size} picture")
            return
        self._xyxy.append(xyxy)
        self._xywh.append(xywh)
        self._labels.append(label)
        self._flags.append((crowd, difficult))
        self._area.append(xywh[2] * xywh[3] if area is None else area)

    def annotation(self) -> Annotation:
        flags = np.array(self._flags, dtype=bool).reshape(len(self._labels), 2)
        return Annotation(
            boxes_xyxy=np.array(self._xyxy, dtype=np.float32).reshape(-1, 4),
            labels=np.array(self._labels, dtype=np.int64),
            crowd=flags[:, 0],
            difficult=flags[:, 1],
            area=np.array(self._area, dtype=np.float64),
            boxes_xywh=np.array(self._xywh, dtype=np.float64).reshape(-1, 4),
        )


def _shown(xyxy: tuple[float, float, float, float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in xyxy) + ")"
