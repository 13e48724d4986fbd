"""Sound datasets with planted defects: each plant damages a picture of its own and names the defects to be found.

A `Draft` describes a dataset without a format; `write` gives it the form of a layout. A plant edits the draft, or the
files that were written.
"""

from __future__ import annotations

import json
import struct
import unicodedata
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("cup", "fork")
SPLITS = {"train": 60, "val": 12, "test": 12}
SIZE = (64, 48)


@dataclass
class Object:
    name: str
    xywh: tuple[float, float, float, float]
    crowd: bool = False
    difficult: bool = False


@dataclass
class Picture:
    split: str
    stem: str
    seed: int
    suffix: str = ".jpg"
    size: tuple[int, int] = SIZE  # (width, height) as stored
    declared: tuple[int, int] | None = None  # as annotated, where it is another
    objects: list[Object] = field(default_factory=list)
    save: Callable[[Image.Image, Path], None] | None = None  # instead of an ordinary JPEG

    @property
    def name(self) -> str:
        return self.stem + self.suffix

    def image(self) -> Image.Image:
        rng = np.random.default_rng(self.seed)
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize(self.size, Image.Resampling.BILINEAR)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.save is not None:
            self.save(self.image(), path)
        else:
            self.image().save(path, "JPEG", quality=92)


@dataclass
class Draft:
    """A dataset before it is written."""

    pictures: list[Picture]
    layout: str
    category_ids: dict[str, int] = field(default_factory=lambda: {name: n for n, name in enumerate(CLASSES, start=1)})
    after: list[Callable[[Path], None]] = field(default_factory=list)
    _taken: int = 0

    def take(self) -> Picture:
        """A training picture that no other plant has touched."""
        self._taken += 1
        return self.split("train")[self._taken - 1]

    def split(self, name: str) -> list[Picture]:
        return [picture for picture in self.pictures if picture.split == name]

    def picture_path(self, root: Path, picture: Picture) -> Path:
        return root / PICTURES[self.layout].format(split=picture.split) / picture.name

    def annotation_path(self, root: Path, picture: Picture) -> Path:
        """The file that holds the annotation of a picture."""
        place = ANNOTATIONS[self.layout].format(split=picture.split, stem=picture.stem)
        return root / place


PICTURES = {"coco": "{split}", "coco_beside": "{split}", "voc": "JPEGImages", "voc_beside": "{split}",
            "yolo": "images/{split}"}  # fmt: skip
ANNOTATIONS = {
    "coco": "annotations/instances_{split}.json",
    "coco_beside": "{split}/_annotations.coco.json",
    "voc": "Annotations/{stem}.xml",
    "voc_beside": "{split}/{stem}.xml",
    "yolo": "labels/{split}/{stem}.txt",
}
LAYOUTS = tuple(PICTURES)


def sound_draft(layout: str, splits: Mapping[str, int] | None = None) -> Draft:
    """No defects; both classes in every split."""
    pictures: list[Picture] = []
    for split, count in (splits or SPLITS).items():
        for number in range(1, count + 1):
            rng = np.random.default_rng((len(pictures), 77))
            x, y = (int(value) for value in rng.integers(1, 16, 2))
            objects = [Object("cup", (x, y, 20, 24)), Object("fork", (x + 22, y + 3, 18, 16))]
            pictures.append(Picture(split, f"{split}{number:03d}", 1000 + len(pictures), objects=objects))
    return Draft(pictures, layout)


def write(draft: Draft, root: Path) -> Path:
    for picture in draft.pictures:
        picture.write(draft.picture_path(root, picture))
    _WRITERS[draft.layout](draft, root)
    for edit in draft.after:
        edit(root)
    return root


def _write_coco(draft: Draft, root: Path) -> None:
    for split in dict.fromkeys(picture.split for picture in draft.pictures):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, picture in enumerate(draft.split(split), start=1):
            width, height = picture.declared or picture.size
            images.append({"id": number, "file_name": picture.name, "width": width, "height": height})
            for item in picture.objects:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": draft.category_ids.get(item.name, 999),
                        "bbox": list(item.xywh),
                        "area": max(0.0, item.xywh[2] * item.xywh[3]),
                        "iscrowd": int(item.crowd),
                        "difficult": int(item.difficult),
                    }
                )
        categories = [{"id": identity, "name": name} for name, identity in draft.category_ids.items()]
        path = root / ANNOTATIONS[draft.layout].format(split=split, stem="")
        path.parent.mkdir(parents=True, exist_ok=True)
        body = {"images": images, "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(body, ensure_ascii=False, indent=1))


def _write_voc(draft: Draft, root: Path) -> None:
    for picture in draft.pictures:
        path = draft.annotation_path(root, picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = picture.declared if picture.declared is not None else picture.size
        objects = "\n".join(_voc_object(item) for item in picture.objects)
        path.write_text(
            f"<annotation>\n<filename>{picture.name}</filename>\n"
            f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n{objects}\n</annotation>\n"
        )
    if draft.layout == "voc":
        lists = root / "ImageSets" / "Main"
        lists.mkdir(parents=True)
        for split in dict.fromkeys(picture.split for picture in draft.pictures):
            lines = [picture.stem for picture in draft.split(split)]
            (lists / f"{split}.txt").write_text("\n".join(lines) + "\n")


def _voc_object(item: Object) -> str:
    x, y, width, height = item.xywh
    corners = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + width, y + height), strict=True)
    box = "".join(f"<{key}>{value:g}</{key}>" for key, value in corners)
    flags = f"<difficult>{int(item.difficult)}</difficult>"
    return f"<object>\n<name>{item.name}</name>{flags}<bndbox>{box}</bndbox>\n</object>"


def _write_yolo(draft: Draft, root: Path) -> None:
    names = list(draft.category_ids)
    for picture in draft.pictures:
        path = draft.annotation_path(root, picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = picture.declared or picture.size  # fractions are of the picture as it is shown
        lines = []
        for item in picture.objects:
            x, y, w, h = item.xywh
            number = names.index(item.name) if item.name in names else 999
            values = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
            lines.append(f"{number} " + " ".join(f"{value:.8f}" for value in values))
        path.write_text("".join(line + "\n" for line in lines))
    body = "".join(f"{split}: images/{split}\n" for split in dict.fromkeys(p.split for p in draft.pictures))
    (root / "data.yaml").write_text(f"{body}nc: {len(names)}\nnames: {json.dumps(names)}\n")


_WRITERS = {"coco": _write_coco, "coco_beside": _write_coco, "voc": _write_voc, "voc_beside": _write_voc,
            "yolo": _write_yolo}  # fmt: skip


# --- plants ----------------------------------------------------------------------------------------------------------

COCO, VOC, YOLO = ("coco", "coco_beside"), ("voc", "voc_beside"), ("yolo",)
ANY = LAYOUTS


@dataclass(frozen=True)
class Plant:
    """One way to damage a dataset."""

    name: str
    layouts: Sequence[str]
    kinds: frozenset[str]  # what a check has to find, and nothing else
    damage: Callable[[Draft], None]


PLANTS: dict[str, Plant] = {}


def plant(*kinds: str, layouts: Sequence[str] = ANY) -> Callable[[Callable[[Draft], None]], Callable[[Draft], None]]:
    def enter(damage: Callable[[Draft], None]) -> Callable[[Draft], None]:
        PLANTS[damage.__name__] = Plant(damage.__name__, layouts, frozenset(kinds), damage)
        return damage

    return enter


# boxes


@plant("zero_area_box")
def zero_area(draft: Draft) -> None:
    draft.take().objects.append(Object("cup", (10, 10, 0, 0)))


@plant("zero_area_box", layouts=(*COCO, *VOC))
def negative_extent(draft: Draft) -> None:
    draft.take().objects.append(Object("cup", (30, 30, -5, 10)))


@plant("box_outside", layouts=(*COCO, *VOC))
def outside(draft: Draft) -> None:
    draft.take().objects.append(Object("fork", (500, 10, 20, 20)))


@plant("box_over_border", layouts=(*COCO, *VOC))
def over_the_border(draft: Draft) -> None:
    draft.take().objects.append(Object("fork", (50, 10, 40, 20)))


@plant("box_not_finite", layouts=(*COCO, *VOC))
def not_finite(draft: Draft) -> None:
    draft.take().objects.append(Object("cup", (float("nan"), 4, 5, 6)))


@plant("repeated_box")
def the_same_object_twice(draft: Draft) -> None:
    picture = draft.take()
    picture.objects.append(picture.objects[0])


@plant("unknown_class", layouts=(*COCO, *YOLO))
def unknown_class(draft: Draft) -> None:
    draft.take().objects.append(Object("horse", (3, 3, 10, 10)))


@plant()
def crowd_and_difficult(draft: Draft) -> None:
    draft.take().objects.append(Object("cup", (2, 2, 30, 30), crowd=True))
    draft.take().objects.append(Object("cup", (2, 2, 30, 30), difficult=True))


@plant("picture_without_boxes")
def without_annotation(draft: Draft) -> None:
    draft.take().objects.clear()


@plant("broken_box", layouts=COCO)
def broken_coco_box(draft: Draft) -> None:
    stem = draft.take().stem
    _edit_coco(draft, lambda body: _annotations_of(body, stem)[0].update(bbox=[1, 2, "x"]))


@plant("broken_box", layouts=VOC)
def broken_voc_box(draft: Draft) -> None:
    picture = draft.take()
    _edit_text(draft, picture, lambda text: text.replace("<xmin>", "<xmin>a", 1))


@plant("broken_box", layouts=YOLO)
def broken_yolo_line(draft: Draft) -> None:
    _edit_text(draft, draft.take(), lambda text: text + "0 0.5 0.5\n")


@plant("broken_box", layouts=YOLO)
def pixels_in_yolo(draft: Draft) -> None:
    _edit_text(draft, draft.take(), lambda text: text + "0 32 24 10 10\n")


# entries


@plant("category_ids_mapped", layouts=COCO)
def category_ids_with_gaps(draft: Draft) -> None:
    draft.category_ids = {"cup": 3, "fork": 7}


@plant("category_ids_mapped", layouts=COCO)
def category_ids_from_zero(draft: Draft) -> None:
    draft.category_ids = {"cup": 0, "fork": 1}


@plant("unused_class", layouts=(*COCO, *YOLO))
def class_listed_and_unused(draft: Draft) -> None:
    draft.category_ids = {**draft.category_ids, "spoon": max(draft.category_ids.values()) + 1}


@plant("repeated_image_id", layouts=COCO)
def image_id_twice(draft: Draft) -> None:
    stem = draft.take().stem
    _edit_coco(draft, lambda body: body["images"].append({**_image_of(body, stem), "file_name": "other.jpg"}))


@plant("repeated_annotation_id", layouts=COCO)
def annotation_id_twice(draft: Draft) -> None:
    stem = draft.take().stem

    def edit(body: dict[str, Any]) -> None:
        first, second = _annotations_of(body, stem)
        second["id"] = first["id"]

    _edit_coco(draft, edit)


@plant("picture_listed_twice", layouts=COCO)
def picture_listed_twice(draft: Draft) -> None:
    stem = draft.take().stem
    _edit_coco(draft, lambda body: body["images"].append({**_image_of(body, stem), "id": 9_000}))


@plant("annotation_without_picture", layouts=COCO)
def annotation_without_picture(draft: Draft) -> None:
    draft.take()
    _edit_coco(
        draft, lambda body: body["annotations"].append({**body["annotations"][0], "id": 8_000, "image_id": 77_777})
    )


@plant("broken_image_entry", layouts=COCO)
def image_entry_without_name(draft: Draft) -> None:
    _edit_coco(draft, lambda body: body["images"].append({"id": 9_500, "width": 5, "height": 5}))


@plant("broken_json", layouts=COCO)
def bad_line(draft: Draft) -> None:
    """A comma lost in the middle of the images of val."""

    def edit(root: Path) -> None:
        path = draft.annotation_path(root, draft.split("val")[0])
        text = path.read_text()
        path.write_text(text.replace('"id": 3,\n', '"id": 3\n', 1))

    draft.split("val")[2].objects.clear()  # the entry is lost, so nothing may refer to it
    draft.after.append(edit)


@plant("broken_json", layouts=COCO)
def truncated_json(draft: Draft) -> None:
    def edit(root: Path) -> None:
        path = draft.annotation_path(root, draft.split("test")[0])
        text = path.read_text()
        path.write_text(text[: text.rindex('"id": 2') + 5])  # in the middle of the categories

    draft.after.append(edit)


@plant("broken_annotation", layouts=VOC)
def broken_xml(draft: Draft) -> None:
    _edit_text(draft, draft.take(), lambda text: text.replace("</size>", "", 1))


@plant("broken_annotation", layouts=VOC)
def empty_xml(draft: Draft) -> None:
    _edit_text(draft, draft.take(), lambda _text: "")


@plant("broken_annotation", layouts=VOC)
def xml_with_entities(draft: Draft) -> None:
    _edit_text(draft, draft.take(), lambda text: '<!DOCTYPE a [<!ENTITY b "c">]>' + text)


@plant("missing_annotation", layouts=VOC)
def missing_xml(draft: Draft) -> None:
    picture = draft.take()
    draft.after.append(lambda root: draft.annotation_path(root, picture).unlink())


@plant("broken_split_line", layouts=("voc",))
def broken_split_line(draft: Draft) -> None:
    draft.after.append(lambda root: _append(root / "ImageSets" / "Main" / "train.txt", "../../secret\n"))


@plant("size_missing", layouts=(*COCO, *VOC))
def size_of_zero(draft: Draft) -> None:
    draft.take().declared = (0, 0)


@plant("wrong_size", layouts=(*COCO, *VOC))
def wrong_size(draft: Draft) -> None:
    draft.take().declared = (640, 480)


@plant("wrong_size_and_boxes", layouts=(*COCO, *VOC))
def made_for_a_larger_picture(draft: Draft) -> None:
    picture = draft.take()
    picture.declared = (640, 480)
    picture.objects.append(Object("cup", (300, 200, 100, 100)))


@plant("wrong_size_and_boxes", layouts=(*COCO, *VOC))
def enlarged_after_annotation(draft: Draft) -> None:
    """Boxes fit both sizes, so nobody can tell for which they were made."""
    picture = draft.take()
    picture.declared, picture.objects = (32, 24), [Object("cup", (4, 4, 10, 12)), Object("fork", (16, 8, 12, 10))]


@plant("wrong_size", layouts=(*COCO, *VOC))
def smaller_size_with_boxes_outside_of_it(draft: Draft) -> None:
    picture = draft.take()
    picture.declared, picture.objects = (32, 24), [Object("cup", (4, 4, 50, 40)), Object("fork", (30, 8, 12, 10))]


@plant("size_missing", "annotated_before_turning", layouts=(*COCO, *VOC))
def no_size_and_exif_ignored(draft: Draft) -> None:
    picture = draft.take()
    picture.declared, picture.objects = (0, 0), [Object("cup", (2, 2, 60, 20)), Object("fork", (20, 20, 20, 20))]
    picture.save = _with_orientation(6)


@plant("broken_area", layouts=COCO)
def area_that_is_none(draft: Draft) -> None:
    stem = draft.take().stem
    _edit_coco(draft, lambda body: _annotations_of(body, stem)[0].update(area=-3))


@plant("repeated_category", layouts=COCO)
def unused_category_of_the_same_name(draft: Draft) -> None:
    draft.take()
    _edit_coco(draft, lambda body: body["categories"].append({"id": 50, "name": "cup"}))


@plant("shared_label", layouts=YOLO)
def two_pictures_of_one_label(draft: Draft) -> None:
    picture = draft.take()
    other = Picture("train", picture.stem, 9999, ".png", save=lambda image, path: image.save(path, "PNG"))
    draft.after.append(lambda root: other.write(draft.picture_path(root, other)))


@plant("broken_json", layouts=COCO)
def comma_at_the_end_of_a_list(draft: Draft) -> None:
    def edit(root: Path) -> None:
        path = root / ANNOTATIONS[draft.layout].format(split="val", stem="")
        text = path.read_text()
        place = text.index("],", text.index('"file_name"'))
        path.write_text(text[:place].rstrip() + ",\n" + text[place:])

    draft.after.append(edit)


# picture files


@plant("missing_picture")
def missing_picture(draft: Draft) -> None:
    picture = draft.take()
    draft.after.append(lambda root: draft.picture_path(root, picture).unlink())


@plant("empty_picture")
def empty_picture(draft: Draft) -> None:
    draft.take().save = lambda _image, path: _write_bytes(path, b"")


@plant("truncated_picture")
def truncated_picture(draft: Draft) -> None:
    def save(image: Image.Image, path: Path) -> None:
        image.save(path, "JPEG", quality=92)
        _write_bytes(path, path.read_bytes()[:-400])

    draft.take().save = save


@plant("undecodable_picture")
def text_as_picture(draft: Draft) -> None:
    draft.take().save = lambda _image, path: _write_bytes(path, b"<html>404 not found</html>")


@plant("format_differs_from_name")
def png_named_jpg(draft: Draft) -> None:
    draft.take().save = lambda image, path: image.save(path, "PNG")


@plant("palette_picture")
def palette(draft: Draft) -> None:
    _as_png(draft, lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE))


@plant("grey_picture")
def grey(draft: Draft) -> None:
    _as_png(draft, lambda image: image.convert("L"))


@plant("alpha_picture")
def rgba(draft: Draft) -> None:
    _as_png(draft, lambda image: image.convert("RGBA"))


@plant("deep_picture")
def sixteen_bit(draft: Draft) -> None:
    def deep(image: Image.Image) -> Image.Image:
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)

    _as_png(draft, deep)


@plant("exif_turned")
def exif_turned(draft: Draft) -> None:
    """Annotated as it is shown: upright."""
    picture = draft.take()
    picture.declared, picture.objects = (48, 64), [Object("cup", (2, 30, 20, 30)), Object("fork", (24, 4, 20, 20))]
    picture.save = _with_orientation(6)


@plant("annotated_before_turning", layouts=(*COCO, *VOC))
def exif_ignored(draft: Draft) -> None:
    draft.take().save = _with_orientation(8)


@plant("picture_too_large")
def huge(draft: Draft) -> None:
    picture = draft.take()
    picture.suffix, picture.declared = ".png", (60_000, 60_000)
    picture.save = lambda _image, path: _write_bytes(path, _png_header(60_000, 60_000))


@plant("extreme_shape")
def ragged(draft: Draft) -> None:
    picture = draft.take()
    picture.size, picture.objects = (900, 12), [Object("cup", (10, 1, 400, 10)), Object("fork", (500, 1, 300, 9))]


@plant()
def non_ascii_name(draft: Draft) -> None:
    draft.take().stem = "über Straße 名前"


@plant("picture_name_differs", layouts=COCO)
def unicode_form_differs(draft: Draft) -> None:
    picture = draft.take()
    picture.stem = "café"

    def rename(root: Path) -> None:
        path = draft.picture_path(root, picture)
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))

    draft.after.append(rename)


@plant("picture_name_differs", layouts=COCO)
def letter_case_differs(draft: Draft) -> None:
    picture = draft.take()

    def rename(root: Path) -> None:
        path = draft.picture_path(root, picture)
        path.rename(path.with_name(path.name.upper()))

    draft.after.append(rename)


@plant("repeated_picture")
def same_bytes_in_a_split(draft: Draft) -> None:
    first, second = draft.take(), draft.take()
    second.seed, second.objects = first.seed, list(first.objects)


@plant("same_picture_in_two_splits")
def same_bytes_in_two_splits(draft: Draft) -> None:
    draft.split("test")[5].seed = draft.take().seed


@plant("similar_picture_in_two_splits")
def resaved_in_another_split(draft: Draft) -> None:
    copy = draft.split("test")[6]
    copy.seed = draft.take().seed
    copy.save = lambda image, path: image.save(path, "JPEG", quality=70)


# --- means -----------------------------------------------------------------------------------------------------------


def _edit_coco(draft: Draft, edit: Callable[[dict[str, Any]], Any]) -> None:
    def change(root: Path) -> None:
        path = root / ANNOTATIONS[draft.layout].format(split="train", stem="")
        body = json.loads(path.read_text())
        edit(body)
        path.write_text(json.dumps(body, ensure_ascii=False, indent=1))

    draft.after.append(change)


def _image_of(body: dict[str, Any], stem: str) -> dict[str, Any]:
    return next(image for image in body["images"] if image["file_name"].startswith(stem))


def _annotations_of(body: dict[str, Any], stem: str) -> list[dict[str, Any]]:
    identity = _image_of(body, stem)["id"]
    return [item for item in body["annotations"] if item["image_id"] == identity]


def _edit_text(draft: Draft, picture: Picture, edit: Callable[[str], str]) -> None:
    def change(root: Path) -> None:
        path = draft.annotation_path(root, picture)
        path.write_text(edit(path.read_text()))

    draft.after.append(change)


def _as_png(draft: Draft, convert: Callable[[Image.Image], Image.Image]) -> None:
    picture = draft.take()
    picture.suffix = ".png"
    picture.save = lambda image, path: convert(image).save(path, "PNG")


def _with_orientation(orientation: int) -> Callable[[Image.Image, Path], None]:
    def save(image: Image.Image, path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, "JPEG", quality=92, exif=exif)

    return save


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)
