"""Writes tiny VOC, COCO and YOLO datasets for tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def voc_xml(objects: Sequence[str], *, size: tuple[int, int] = (64, 48), filename: str = "elsewhere.png") -> str:
    width, height = size
    return (
        f"<annotation>\n<filename>{filename}</filename>\n"
        f"<size><width>{width}</width><height>{height}</height></size>\n" + "\n".join(objects) + "\n</annotation>\n"
    )


def write_voc_xml(root: Path, stem: str, objects: Sequence[str], *, size: tuple[int, int] = (64, 48)) -> Path:
    path = root / "Annotations" / f"{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(voc_xml(objects, size=size))
    return path


CAT_AND_DOG: tuple[tuple[str, Box], ...] = (("dog", (4, 6, 30, 40)), ("cat", (20, 10, 50, 36)))
"""Class and corners of the two objects in every picture of `write_voc` and of the writers that follow it."""


def _cat_and_dog_xml() -> str:
    return voc_xml([voc_object(name, box) for name, box in CAT_AND_DOG])


def _write_pictures(splits: Mapping[str, int], place: Callable[[str, str], Path]) -> Iterator[tuple[str, str]]:
    """(split, stem) of each picture once it is written to place(split, stem): the same ones for every layout."""
    seed = 0
    for split, count in splits.items():
        for number in range(count):
            seed += 1
            stem = f"{split}{number:02d}"
            write_picture(place(split, stem), seed=seed)
            yield split, stem


def write_voc(root: Path, splits: Mapping[str, int] | None = None) -> Path:
    """A sound devkit: pictures NAME-SPLIT with a cat and a dog each; without `splits` no ImageSets."""
    counts = {"all": 10} if splits is None else splits
    stems: dict[str, list[str]] = {split: [] for split in counts}
    for split, stem in _write_pictures(counts, lambda _split, stem: root / "JPEGImages" / f"{stem}.jpg"):
        write_voc_xml(root, stem, [voc_object(name, box) for name, box in CAT_AND_DOG])
        stems[split].append(stem)
    if splits is not None:
        for split, names in stems.items():
            path = root / "ImageSets" / "Main" / f"{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(names) + "\n")
    return root


def write_voc_beside(root: Path, splits: Mapping[str, int]) -> Path:
    """The data of `write_voc` as exports of labelling tools have it: SPLIT/NAME.jpg with SPLIT/NAME.xml."""
    for split, stem in _write_pictures(splits, lambda split, stem: root / split / f"{stem}.jpg"):
        (root / split / f"{stem}.xml").write_text(_cat_and_dog_xml())
    return root


def write_coco_beside(root: Path, splits: Mapping[str, int]) -> Path:
    """The data of `write_voc` as one COCO file beside the pictures of each split: SPLIT/_annotations.coco.json."""
    ids = {"cat": 1, "dog": 2}
    bodies: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for split, stem in _write_pictures(splits, lambda split, stem: root / split / f"{stem}.jpg"):
        body = bodies.setdefault(split, {"images": [], "annotations": []})
        image = len(body["images"])
        body["images"].append({"id": image, "file_name": f"{stem}.jpg", "width": 64, "height": 48})
        for name, (left, top, right, bottom) in CAT_AND_DOG:
            annotation = coco_annotation(image, ids[name], (left, top, right - left, bottom - top))
            body["annotations"].append({"id": len(body["annotations"]), **annotation})
    categories = [{"id": key, "name": name, "supercategory": "animals"} for name, key in ids.items()]
    for split, body in bodies.items():
        (root / split / "_annotations.coco.json").write_text(json.dumps({"categories": categories, **body}))
    return root


def yolo_line(label: int, box: Box, *, width: int = 64, height: int = 48) -> str:
    """A line of a label file for a box in corners."""
    left, top, right, bottom = box
    values = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
    return " ".join([str(label), *(f"{value:.8f}" for value in values)])


def write_yolo(root: Path, splits: Mapping[str, int], *, exported: bool = False) -> Path:
    """The data of `write_voc` with data.yaml: images/SPLIT/ and labels/SPLIT/, or as exports of labelling tools have
    it SPLIT/images/ and SPLIT/labels/ with paths that begin at the folder above."""

    def folder(kind: str, split: str) -> Path:
        return root / split / kind if exported else root / kind / split

    lines = [yolo_line(("cat", "dog").index(name), box) for name, box in CAT_AND_DOG]
    for split, stem in _write_pictures(splits, lambda split, stem: folder("images", split) / f"{stem}.jpg"):
        label = folder("labels", split) / f"{stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("\n".join(lines) + "\n")
    keys = {"valid": "val"}
    entries = [
        f"{keys.get(split, split)}: {f'../{split}/images' if exported else f'images/{split}'}\n" for split in splits
    ]
    (root / "data.yaml").write_text("".join([*entries, "nc: 2\nnames: [cat, dog]\n"]))
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
