"""Boxes and pictures brought together: turned pictures, seen in their pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from nasdet_core.data.pictures import decode
from nasdet_core.data.read import read_dataset
from nasdet_core.data.readers.assemble import turn_box

STORED = (40, 24)  # width, height before the orientation is applied
BOX = (5, 3, 17, 9)  # xyxy in the stored picture
TURNED = [5, 6, 7, 8]


def stored_picture() -> Image.Image:
    """Black, and white inside of the box."""
    pixels = np.zeros((STORED[1], STORED[0], 3), dtype=np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    return Image.fromarray(pixels)


def white_box(image: Image.Image) -> list[int]:
    rows, columns = np.where(np.asarray(image.convert("L")) > 127)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_turns_with_its_picture(orientation: int) -> None:
    image = stored_picture()
    image.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(image)
    assert turn_box(np.array(BOX, dtype=float), orientation, upright.size).tolist() == white_box(upright)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("annotated", ["upright", "stored"])
def test_boxes_lie_on_their_objects_after_reading(
    tmp_path: Path, orientation: int, suffix: str, annotated: str
) -> None:
    """Made in either frame: the annotation's size says which."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "train").mkdir()
    file = tmp_path / "train" / f"a.{suffix}"
    stored_picture().save(file, exif=exif, lossless=True)  # for WebP; the other formats are
    upright = decode(file.read_bytes(), "a")
    assert upright.size == (STORED[1], STORED[0])
    size = upright.size if annotated == "upright" else STORED
    x1, y1, x2, y2 = white_box(upright) if annotated == "upright" else BOX
    body = {
        "images": [{"id": 1, "file_name": file.name, "width": size[0], "height": size[1]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "white"}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(body))
    dataset = read_dataset(tmp_path)
    (record,) = dataset.splits["train"]
    assert (record.width, record.height) == upright.size
    assert record.annotation.boxes_xyxy.tolist() == [white_box(upright)]
    kind = "exif_turned" if annotated == "upright" else "annotated_before_turning"
    assert kind in {defect.kind for defect in dataset.defects}
