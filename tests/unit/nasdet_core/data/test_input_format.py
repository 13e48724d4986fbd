"""The input format of a model: two values that are checked wherever they come from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nasdet_core.data.input_format import PIXEL_FORMATS, InputFormat
from nasdet_core.errors import SettingError

PLAIN = {"image_size": [192, 256], "pixel_format": "rgb_normalized"}


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_it_survives_json(pixel_format: str) -> None:
    given = InputFormat((192, 256), pixel_format)
    assert InputFormat.from_json(json.loads(json.dumps(given.to_json()))) == given


def test_a_list_from_json_becomes_a_hashable_pair() -> None:
    assert hash(InputFormat.from_json(PLAIN)) == hash(InputFormat((192, 256), "rgb_normalized"))


@pytest.mark.parametrize(
    "size", [[192], [192, 256, 3], [192, 31], [4097, 256], [192.0, 256], [True, 256], "ab", 192, None, [None, 3]]
)
def test_other_sizes_are_refused(size: object) -> None:
    with pytest.raises(SettingError, match=r"input\.image_size: \(height, width\) of 32 to 4096 pixels"):
        InputFormat.from_json({**PLAIN, "image_size": size})


@pytest.mark.parametrize("pixel_format", ["rgb", "", None, 3, ["bgr_255"]])
def test_other_pixel_formats_are_refused(pixel_format: Any) -> None:
    with pytest.raises(SettingError, match=r"input\.pixel_format: one of rgb_normalized, bgr_255"):
        InputFormat((192, 256), pixel_format)


@pytest.mark.parametrize("mapping", [None, [], {}, {"image_size": [192, 256]}, {**PLAIN, "mean": [0, 0, 0]}, {1: 2}])
def test_other_keys_are_refused(mapping: object) -> None:
    with pytest.raises(SettingError, match="the keys image_size and pixel_format"):
        InputFormat.from_json(mapping)


def test_it_needs_no_torch(repository: Path) -> None:
    code = "import sys, nasdet_core.data.input_format; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repository, check=False).returncode == 0
