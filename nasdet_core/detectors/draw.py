"""Detections drawn onto a picture. Needs Pillow and numpy only."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

GOLDEN_RATIO = 0.61803398875  # steps of it around the circle of hues keep neighbouring classes apart
SHADES = ((0.9, 0.95), (0.9, 0.6), (0.5, 0.9))  # saturation and value in turn, so that many classes still differ
SMALLEST_TEXT, TEXT_SHARE = 11, 0.022  # height in pixels; share of the picture's longer side
LINE_SHARE = 0.0025
DARK, BRIGHT = (0, 0, 0), (255, 255, 255)

# What Unicode does not take apart into a letter of the font and an accent.
_SPELLED = str.maketrans({"ß": "ss", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "đ": "d"})
_NO_CHARACTER = "\U0010ffff"  # drawn as the box that stands for every missing character
_MISSING = "?"


def draw_detections(
    image: Image.Image,
    boxes_xyxy: npt.ArrayLike,
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    class_names: Sequence[str],
) -> Image.Image:
    """A copy of an RGB picture with a frame, a class name and a score for every detection.

    `boxes_xyxy` [n, 4] are pixels of `image`, `scores` [n] are 0..1, `labels` [n] index `class_names`. A class has the
    same colour in every picture. Lines and text grow with the picture; better detections lie on top.
    """
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    side = max(image.size)
    line = max(1, round(LINE_SHARE * side))
    font = ImageFont.load_default(max(SMALLEST_TEXT, round(TEXT_SHARE * side)))
    last_pixel = np.array(image.size * 2) - 1  # a frame at the picture's very edge stays visible
    boxes = np.clip(np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4), 0, last_pixel)
    values, classes = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    for index in np.argsort(values, kind="stable"):
        label = int(classes[index])
        color = class_color(label)
        left, top, right, bottom = (float(edge) for edge in boxes[index])
        draw.rectangle((left, top, right, bottom), outline=color, width=line)
        text = f"{drawable_name(class_names[label], label)} {values[index]:.2f}"
        _draw_tag(draw, text, (left, top), color, font, line)
    return drawn


def class_color(label: int) -> Color:
    """A strong colour for a class index from 0."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN_RATIO % 1.0, *SHADES[label % len(SHADES)])
    return round(255 * red), round(255 * green), round(255 * blue)


def drawable_name(name: str, label: int) -> str:
    """The name in characters that Pillow's own font has: accents are left off, other characters become "?".

    Of a name in another script nothing would be left; it reads "class 3" with the class index.
    """
    plain = unicodedata.normalize("NFKD", name.translate(_SPELLED))
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    shown = "".join(character if _has_glyph(character) else _MISSING for character in plain)
    return shown if shown.strip(f"{_MISSING} ") or shown == name else f"class {label}"


@lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    font = ImageFont.load_default(16)
    glyph, missing = font.getmask(character), font.getmask(_NO_CHARACTER)
    return (glyph.size, bytes(glyph)) != (missing.size, bytes(missing))


def _draw_tag(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float],
    color: Color,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    padding: int,
) -> None:
    """Text on a filled background: above the box where there is room, else inside it, never outside the picture."""
    width, height = draw.im.size
    text_left, text_top, text_right, text_bottom = draw.textbbox((0, 0), text, font=font)
    tag_width, tag_height = text_right - text_left + 2 * padding, text_bottom - text_top + 2 * padding
    left, top = corner
    left = max(0.0, min(left, width - tag_width))
    top = top - tag_height if top >= tag_height else top
    top = max(0.0, min(top, height - tag_height))
    draw.rectangle((left, top, left + tag_width - 1, top + tag_height - 1), fill=color)
    draw.text((left + padding - text_left, top + padding - text_top), text, fill=text_color(color), font=font)


def text_color(background: Color) -> Color:
    """Black or white, whichever is easier to read (luma of ITU-R BT.601)."""
    red, green, blue = background
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else BRIGHT
