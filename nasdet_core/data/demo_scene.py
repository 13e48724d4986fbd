"""Draws one scene of the demo dataset. Pure: everything comes from the generator that is handed in."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Scans = tuple[npt.NDArray[np.float32], ...]
"""For each class: [number of scans, 8, 8], ink 0..1."""

_Floats = npt.NDArray[np.float32]
_Box = tuple[int, int, int, int]  # x, y, width, height

SMALLEST, LARGEST = 18, 56  # longer side of a digit in pixels
OBJECTS = (2, 6)  # digits in a scene, both ends included
MAX_COVER = 0.35  # two digits share at most this part of the smaller box


def draw_scene(
    rng: np.random.Generator, scans: Scans, image_size: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], list[_Box], list[int]]:
    """(uint8 [H, W, 3], boxes as (x, y, width, height), class indices)."""
    canvas = _ground(rng, image_size)
    canvas = _shapes(rng, canvas, count=int(rng.integers(4, 9)), thin=False)
    boxes: list[_Box] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))):
        label = int(rng.integers(len(scans)))
        alpha = _digit(rng, scans[label][int(rng.integers(len(scans[label])))])
        box = _place(rng, alpha.shape, image_size, boxes)
        if box is not None:
            _paint(rng, canvas, alpha, box)
            boxes.append(box)
            labels.append(label)
    canvas = _shapes(rng, canvas, count=int(rng.integers(1, 4)), thin=True)
    canvas += rng.normal(0, 3, canvas.shape).astype(np.float32)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8), boxes, labels


def _ground(rng: np.random.Generator, image_size: tuple[int, int]) -> _Floats:
    """Float [H, W, 3]: smooth colour, with a texture of three grain sizes."""
    height, width = image_size
    tint = rng.uniform(0.6, 1.0, 3).astype(np.float32)
    light = np.full((height, width), rng.uniform(55, 85), dtype=np.float32)
    for cells, strength in ((3, 22.0), (10, 14.0), (40, 9.0)):
        noise = rng.normal(0, 1, (cells, math.ceil(cells * width / height))).astype(np.float32)
        grain = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        light += float(rng.uniform(0.4, 1.0)) * strength * np.asarray(grain, dtype=np.float32)
    return np.clip(light, 15, 120)[:, :, None] * tint


def _shapes(rng: np.random.Generator, canvas: _Floats, *, count: int, thin: bool) -> _Floats:
    """Clutter: discs, frames, strokes and arcs under the digits, a few thin strokes over them."""
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    height, width = canvas.shape[:2]
    for _ in range(count):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        w, h = int(rng.integers(8, 48)), int(rng.integers(8, 48))
        shade = rng.uniform(20, 130)
        colour = tuple(int(value) for value in shade * rng.uniform(0.6, 1.0, 3))
        line = 1 if thin else int(rng.integers(1, 4))
        kind = "stroke" if thin else ("disc", "frame", "stroke", "arc")[int(rng.integers(4))]
        if kind == "disc":
            draw.ellipse((x, y, x + w, y + h), fill=colour)
        elif kind == "frame":
            draw.rectangle((x, y, x + w, y + h), outline=colour, width=line)
        elif kind == "arc":
            start = int(rng.integers(360))
            draw.arc((x, y, x + w, y + h), start, start + int(rng.integers(90, 300)), fill=colour, width=line)
        else:
            angle = rng.uniform(0, 2 * math.pi)
            length = float(rng.uniform(20, 70))
            end = (x + length * math.cos(angle), y + length * math.sin(angle))
            draw.line(((x, y), end), fill=colour, width=line)
    return np.asarray(image, dtype=np.float32).copy()


def _digit(rng: np.random.Generator, scan: _Floats) -> _Floats:
    """Opacity 0..1 of a digit, cut to its ink, its longer side between SMALLEST and LARGEST pixels."""
    image = Image.fromarray(np.pad(scan, 2)).resize((144, 144), Image.Resampling.BICUBIC)
    image = image.rotate(float(rng.uniform(-12, 12)), Image.Resampling.BILINEAR)
    ink = _stroke(np.asarray(image))
    rows, columns = np.flatnonzero(ink.max(axis=1) > 0.5), np.flatnonzero(ink.max(axis=0) > 0.5)
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = math.exp(rng.uniform(math.log(SMALLEST), math.log(LARGEST + 0.999)))
    factor = math.floor(side) / max(ink.shape)
    height, width = (max(4, round(length * factor)) for length in ink.shape)
    small = Image.fromarray(ink).resize((width, height), Image.Resampling.BOX)
    opacity: _Floats = np.clip(np.asarray(small, dtype=np.float32), 0, 1)
    return opacity


def _stroke(ink: npt.NDArray[np.float32]) -> _Floats:
    """A soft threshold that turns the upsampled scan into a stroke with a clean edge."""
    ramp = np.clip((ink - 0.3) / 0.25, 0, 1)
    soft: _Floats = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
    return soft


def _place(
    rng: np.random.Generator, shape: tuple[int, ...], image_size: tuple[int, int], taken: list[_Box]
) -> _Box | None:
    """A box inside the picture that covers no earlier one too much; None when 30 tries find none."""
    height, width = shape
    for attempt in range(30):
        if taken and attempt < 6 and rng.random() < 0.35:  # beside an earlier one, so that some overlap
            x, y, w, h = taken[int(rng.integers(len(taken)))]
            left = x + int(rng.integers(-width, w + 1))
            top = y + int(rng.integers(-height, h + 1))
        else:
            left = int(rng.integers(image_size[1] - width + 1))
            top = int(rng.integers(image_size[0] - height + 1))
        inside = 0 <= left <= image_size[1] - width and 0 <= top <= image_size[0] - height
        box = (left, top, width, height)
        if inside and all(_cover(box, other) <= MAX_COVER for other in taken):
            return box
    return None


def _cover(a: _Box, b: _Box) -> float:
    """Shared area as a part of the smaller box."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(across, 0) * max(down, 0) / min(a[2] * a[3], b[2] * b[3])


def _paint(rng: np.random.Generator, canvas: _Floats, alpha: _Floats, box: _Box) -> None:
    """Put a digit on the canvas: bright, slightly coloured."""
    x, y, width, height = box
    colour = rng.uniform(185, 255) * rng.uniform(0.82, 1.0, 3)
    part = canvas[y : y + height, x : x + width]
    part += alpha[:, :, None] * (colour.astype(np.float32) - part)
