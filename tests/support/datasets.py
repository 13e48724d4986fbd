"""Writes tiny VOC and COCO datasets for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]


def write_picture(path: Path, width: int = 64, height: int = 48, *, seed: int = 0) -> None:
    """A picture of smooth colours, so that JPEG keeps it small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR).save(path)


def voc_object(name: str, box: Box, *, difficult: int = 0) -> str:
    corners = "".join(
        f"<{key}>{value:g}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


def write_voc_xml(root: Path, stem: str, objects: Sequence[str], *, size: tuple[int, int] = (64, 48)) -> Path:
    path = root / "Annotations" / f"{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    path.write_text(
        f"<annotation>\n<filename>elsewhere.png</filename>\n"
        f"<size><width>{width}</width><height>{height}</height></size>\n" + "\n".join(objects) + "\n</annotation>\n"
    )
    return path


def write_voc(root: Path, splits: Mapping[str, int] | None = None) -> Path:
    """A sound devkit: pictures NAME-SPLIT with a cat and a dog each; without `splits` no ImageSets."""
    counts = {"all": 10} if splits is None else splits
    seed = 0
    for split, count in counts.items():
        stems = [f"{split}{number:02d}" for number in range(count)]
        for stem in stems:
            seed += 1
            write_picture(root / "JPEGImages" / f"{stem}.jpg", seed=seed)
            write_voc_xml(root, stem, [voc_object("dog", (4, 6, 30, 40)), voc_object("cat", (20, 10, 50, 36))])
        if splits is not None:
            path = root / "ImageSets" / "Main" / f"{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(stems) + "\n")
    return root


def coco_annotation(image: int, category: int, box: Box, **more: Any) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": box[2] * box[3],
        "iscrowd": 0,
        **more,
    }


def write_coco_split(
    root: Path,
    name: str,
    annotations: Sequence[Mapping[str, Any]],
    *,
    sizes: Sequence[tuple[int, int]],
    categories: Mapping[int, str] | None = None,
) -> Path:
    """`instances_NAME.json` with pictures 1..n of the given (width, height)."""
    images = []
    for number, (width, height) in enumerate(sizes, start=1):
        file = f"{number:04d}.png"
        write_picture(root / name / file, width, height, seed=number + 1000 * len(name))
        images.append({"id": number, "file_name": file, "width": width, "height": height})
    body = {
        "images": images,
        "annotations": [{"id": number, **item} for number, item in enumerate(annotations, start=1)],
        "categories": [{"id": key, "name": value} for key, value in (categories or {3: "cup", 7: "fork"}).items()],
    }
    path = root / "annotations" / f"instances_{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body))
    return path


def write_coco(root: Path, splits: Mapping[str, int]) -> Path:
    """A sound dataset: one cup and one fork per picture, every third picture upright."""
    for name, count in splits.items():
        sizes = [(48, 64) if number % 3 == 2 else (64, 48) for number in range(count)]
        annotations = []
        for image in range(1, count + 1):
            annotations += [
                coco_annotation(image, 3, (2.5, 3.25, 20, 30)),
                coco_annotation(image, 7, (20, 8, 24.5, 12)),
            ]
        write_coco_split(root, name, annotations, sizes=sizes)
    return root
