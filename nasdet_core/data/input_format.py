"""What a detector expects as input. It travels with the weights, so that a model cannot be fed another form of
picture than it was trained on. This module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasdet_core.errors import SettingError

PIXEL_FORMATS = ("rgb_normalized", "bgr_255")
"""rgb_normalized: RGB, (value / 255 - mean) / std. bgr_255: BGR 0..255, nothing subtracted (the public DetNAS
code)."""

SMALLEST_SIDE, LARGEST_SIDE = 32, 4096  # of an input, in pixels
_KEYS = ("image_size", "pixel_format")


@dataclass(frozen=True, slots=True)
class InputFormat:
    """Size and pixel values of a detector's input.

    `image_size` is (height, width) in pixels of the bucket that a picture is fitted into; a picture of the other
    orientation is fitted into the bucket turned by 90 degrees. Each side is from 32 to 4096. `pixel_format` is one
    of PIXEL_FORMATS. Other values raise SettingError.
    """

    image_size: tuple[int, int]
    pixel_format: str

    def __post_init__(self) -> None:
        size: object = self.image_size
        if not isinstance(size, Sequence) or len(size) != 2 or not all(_is_side(side) for side in size):
            raise SettingError(
                f"input.image_size: (height, width) of {SMALLEST_SIDE} to {LARGEST_SIDE} pixels each was expected, but "
                f"{size!r:.80} came"
            )
        object.__setattr__(self, "image_size", (size[0], size[1]))
        if self.pixel_format not in PIXEL_FORMATS:
            known = ", ".join(PIXEL_FORMATS)
            raise SettingError(f"input.pixel_format: one of {known} was expected, but {self.pixel_format!r:.80} came")

    @classmethod
    def from_json(cls, mapping: object) -> InputFormat:
        """Read `{image_size: [height, width], pixel_format: NAME}`; both keys and no other are expected."""
        if not isinstance(mapping, Mapping) or sorted(map(str, mapping)) != sorted(_KEYS):
            raise SettingError(
                f"input: a mapping with the keys {' and '.join(_KEYS)} was expected, but {mapping!r} came"
            )
        return cls(mapping["image_size"], mapping["pixel_format"])

    def to_json(self) -> dict[str, Any]:
        return {"image_size": list(self.image_size), "pixel_format": self.pixel_format}


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and SMALLEST_SIDE <= value <= LARGEST_SIDE
