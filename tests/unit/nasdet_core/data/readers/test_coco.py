"""COCO on disk -> records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nasdet_core.data.read import read_dataset
from nasdet_core.errors import DatasetError
from tests.support.datasets import coco_annotation, write_coco, write_coco_split


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def with_categories(*categories: dict[str, Any]) -> str:
    return json.dumps({"images": [], "annotations": [], "categories": categories})


class TestSoundFiles:
    def test_splits_classes_and_boxes(self, tmp_path: Path) -> None:
        dataset = read_dataset(write_coco(tmp_path, {"train2017": 3, "val2017": 2}))
        assert {name: len(records) for name, records in dataset.splits.items()} == {"train": 3, "val": 2}
        assert (dataset.class_names, dataset.category_ids) == (("cup", "fork"), (3, 7))
        record = dataset.splits["train"][0]
        assert record.file == "train2017/0001.png"
        assert record.annotation.boxes_xyxy.tolist() == [[2.5, 3.25, 22.5, 33.25], [20, 8, 44.5, 20]]
        assert record.annotation.labels.tolist() == [0, 1]
        assert dataset.sources == ("annotations/instances_train2017.json", "annotations/instances_val2017.json")

    def test_area_crowd_and_empty_pictures_are_kept(self, tmp_path: Path) -> None:
        objects = [coco_annotation(1, 3, (1, 2, 10, 10), area=33.5), coco_annotation(1, 7, (0, 0, 60, 40), iscrowd=1)]
        write_coco_split(tmp_path, "train", objects, sizes=[(64, 48), (64, 48)])
        first, second = read_dataset(tmp_path).splits["train"]
        assert first.annotation.area.tolist() == [33.5, 2400]
        assert first.annotation.crowd.tolist() == [False, True]
        assert first.annotation.trainable.tolist() == [True, False]
        assert len(second.annotation) == 0

    def test_evaluation_gets_the_numbers_of_the_file_unrounded(self, tmp_path: Path) -> None:
        write_coco_split(tmp_path, "train", [coco_annotation(1, 3, (10.1, 20.3, 0.7, 5.9))], sizes=[(64, 48)])
        annotation = read_dataset(tmp_path).splits["train"][0].annotation
        assert annotation.exact_xywh.tolist() == [[10.1, 20.3, 0.7, 5.9]]

    def test_pictures_come_in_the_order_of_their_ids(self, tmp_path: Path) -> None:
        path = write_coco_split(tmp_path, "train", [coco_annotation(1, 3, (1, 1, 5, 5))], sizes=[(64, 48)] * 3)
        edit(path, images=list(reversed(json.loads(path.read_text())["images"])))
        assert [record.file[-8:-4] for record in read_dataset(tmp_path).splits["train"]] == ["0001", "0002", "0003"]

    def test_pictures_in_an_images_folder(self, tmp_path: Path) -> None:
        write_coco(tmp_path, {"train": 2, "val": 2})
        (tmp_path / "images").mkdir()
        for split in ("train", "val"):
            (tmp_path / split).rename(tmp_path / "images" / split)
        assert read_dataset(tmp_path).splits["val"][0].file == "images/val/0001.png"


class TestDefects:
    def test_each_is_one_sentence_and_costs_only_itself(self, tmp_path: Path) -> None:
        good = coco_annotation(1, 3, (1, 1, 5, 5))
        bad = [
            coco_annotation(99, 3, (1, 1, 5, 5)),
            coco_annotation(1, 4, (1, 1, 5, 5)),
            coco_annotation(1, 3, (1, 1, 0, 5)),
            {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3]},
            {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 10**400]},
            coco_annotation(2, 3, (1, 1, 5, 5)),  # its picture is missing: said once, by the picture
        ]
        write_coco_split(tmp_path, "train", [*bad, good], sizes=[(64, 48), (64, 48)])
        (tmp_path / "train" / "0002.png").unlink()
        dataset = read_dataset(tmp_path)
        assert {defect.kind: defect.message for defect in dataset.defects if defect.kind != "broken_box"} == {
            "missing_picture": "annotations/instances_train.json line 1: the picture train/0002.png is missing",
            "annotation_without_picture": "annotations/instances_train.json line 1: annotations[0] (id 1) belongs to "
            "image id 99, which is not in 'images'",
            "unknown_class": "annotations/instances_train.json line 1: annotations[1] (id 2) has category_id 4, which "
            "is not in 'categories'",
            "zero_area_box": "annotations/instances_train.json line 1: annotations[2] (id 3): the box (1, 1, 1, 6) has "
            "no area (0 x 5 pixels)",
            "category_ids_mapped": "the category ids 3 to 7 with gaps are mapped to the class numbers 0 to 1 "
            "(class_map in the report)",
        }
        assert sum(defect.kind == "broken_box" for defect in dataset.defects) == 2
        assert len(dataset.splits["train"]) == 1
        assert len(dataset.splits["train"][0].annotation) == 1

    def test_broken_image_entries(self, tmp_path: Path) -> None:
        path = write_coco_split(tmp_path, "train", [coco_annotation(1, 3, (1, 1, 5, 5))], sizes=[(64, 48)])
        image = json.loads(path.read_text())["images"][0]
        broken = [{**image, "id": "1"}, {**image, "file_name": ""}, "x", image]
        edit(path, images=[image, *broken])
        kinds = sorted(defect.kind for defect in read_dataset(tmp_path).defects)
        assert kinds == [*["broken_image_entry"] * 3, "category_ids_mapped", "repeated_image_id"]

    def test_image_ids_that_are_no_numbers(self, tmp_path: Path) -> None:
        path = write_coco_split(tmp_path, "train", [coco_annotation(1, 3, (1, 1, 5, 5))], sizes=[(64, 48)])
        good = json.loads(path.read_text())["annotations"][0]
        edit(path, annotations=[{**good, "image_id": [1]}, {**good, "category_id": "cup"}, good])
        kinds = [defect.kind for defect in read_dataset(tmp_path).defects]
        assert kinds[:2] == ["annotation_without_picture", "unknown_class"]

    @pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", "a\\..\\b.png", "x" * 5000, "nul\0.png"])
    def test_file_names_that_leave_the_dataset(self, tmp_path: Path, name: str) -> None:
        path = write_coco_split(tmp_path, "train", [coco_annotation(1, 3, (1, 1, 5, 5))], sizes=[(64, 48)])
        images = json.loads(path.read_text())["images"]
        edit(path, images=[*images, {**images[0], "id": 2, "file_name": name}])
        dataset = read_dataset(tmp_path)
        assert {defect.kind for defect in dataset.defects} == {"category_ids_mapped", "missing_picture"}
        assert len(dataset.splits["train"]) == 1


class TestClasses:
    def test_names_decide_where_ids_differ(self, tmp_path: Path) -> None:
        box = (1, 1, 5, 5)
        write_coco_split(
            tmp_path, "train", [coco_annotation(1, 10, box)], sizes=[(64, 48)], categories={10: "cup", 20: "fork"}
        )
        write_coco_split(
            tmp_path,
            "val",
            [coco_annotation(1, 1, box), coco_annotation(1, 2, box)],
            sizes=[(64, 48)],
            categories={1: "fork", 2: "cup"},
        )
        dataset = read_dataset(tmp_path)
        assert (dataset.class_names, dataset.category_ids) == (("cup", "fork"), (10, 20))
        assert dataset.splits["train"][0].annotation.labels.tolist() == [0]
        assert dataset.splits["val"][0].annotation.labels.tolist() == [1, 0]
        sentence = next(d.message for d in dataset.defects if d.kind == "category_ids_differ")
        assert sentence.startswith("annotations/instances_val.json: category 'fork' is 1 here and 20 elsewhere")

    @pytest.mark.parametrize(("used", "ids", "labels"), [((1, 2), (1, 2), [0, 1]), ((0, 1), (0, 2), [0, 0])])
    def test_two_categories_of_one_name(
        self, tmp_path: Path, used: tuple[int, ...], ids: tuple[int, ...], labels: list[int]
    ) -> None:
        """Exports have an unused superclass with the name of its only class."""
        body = write_coco_split(
            tmp_path, "train", [coco_annotation(1, category, (1, 1, 5, 5)) for category in used], sizes=[(64, 48)]
        )
        edit(body, categories=[{"id": 0, "name": "cat"}, {"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}])
        dataset = read_dataset(tmp_path)
        assert (dataset.class_names, dataset.category_ids) == (("cat", "dog"), ids)
        assert dataset.splits["train"][0].annotation.labels.tolist() == labels
        assert "repeated_category" in {d.kind for d in dataset.defects}


class TestNamesOfPictures:
    @pytest.mark.parametrize("name", ["https://example.org/up/0001.png", "/data/upload/1/0001.png", "C:\\up\\0001.png"])
    def test_places_on_another_computer(self, tmp_path: Path, name: str) -> None:
        path = write_coco_split(tmp_path, "train", [coco_annotation(1, 3, (1, 1, 5, 5))], sizes=[(64, 48)])
        image = json.loads(path.read_text())["images"][0]
        edit(path, images=[{**image, "file_name": name}])
        dataset = read_dataset(tmp_path)
        assert dataset.splits["train"][0].file == "train/0001.png"
        assert "picture_name_differs" in {d.kind for d in dataset.defects}

    def test_folders_in_other_letters(self, tmp_path: Path) -> None:
        write_coco(tmp_path, {"train": 2, "val": 2})
        (tmp_path / "annotations").rename(tmp_path / "Annotations")
        (tmp_path / "Images").mkdir()
        for split in ("train", "val"):
            (tmp_path / split).rename(tmp_path / "Images" / split.upper())
        assert [record.file for record in read_dataset(tmp_path).splits["val"]] == [
            "Images/VAL/0001.png",
            "Images/VAL/0002.png",
        ]


class TestNumbers:
    @pytest.mark.parametrize("area", [float("nan"), float("inf"), -5, 0, "12"])
    def test_an_area_that_is_none_is_that_of_the_box(self, tmp_path: Path, area: object) -> None:
        write_coco_split(tmp_path, "train", [coco_annotation(1, 3, (1, 1, 5, 6), area=area)], sizes=[(64, 48)])
        dataset = read_dataset(tmp_path)
        assert dataset.splits["train"][0].annotation.area.tolist() == [30]
        assert "broken_area" in {d.kind for d in dataset.defects}

    @pytest.mark.parametrize(("flag", "crowd"), [(1, True), ("0", False), ("1", True), (None, False), (True, True)])
    def test_flags_as_text(self, tmp_path: Path, flag: object, crowd: bool) -> None:
        write_coco_split(tmp_path, "train", [coco_annotation(1, 3, (1, 1, 5, 6), iscrowd=flag)], sizes=[(64, 48)])
        assert read_dataset(tmp_path).splits["train"][0].annotation.crowd.tolist() == [crowd]

    def test_numbers_that_no_picture_has(self, tmp_path: Path) -> None:
        bad = [coco_annotation(1, 3, (-1e200, 3, 2e200, 20)), coco_annotation(1, 3, (3, 3, 1e200, 1e200))]
        write_coco_split(tmp_path, "train", [*bad, coco_annotation(1, 3, (1, 1, 5, 6))], sizes=[(64, 48)])
        dataset = read_dataset(tmp_path)
        assert len(dataset.splits["train"][0].annotation) == 1
        assert [d.kind for d in dataset.defects].count("box_not_finite") == 2


class TestUnusableFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", r"expected a JSON object .* but the file is empty"),
            (b"\xff\xfe\x00\x01\x80", r"expected a JSON object .* but found"),
            ("[" * 100_000, r"expected a JSON object .* but found a list"),
            ('{"a": ' + "9" * 5000 + "}", r"expected a list 'images'.*found none; .*line 1 column 8: broken JSON"),
            ('{"images": ' + "[" * 100_000, r"nested too deeply"),
            ('{"images": [],\n "annotations": [,]}', r"line 2 column 21: annotations\[0\]: broken JSON"),
            ('{"images": [], "annotations": {}, "categories": []}', r"expected a list 'annotations'"),
            (with_categories(), r"'categories' names no class"),
            (with_categories({"id": "1", "name": "a"}), r"'categories' names no class"),
            (with_categories({"id": 1, "name": "a"}, {"id": 1, "name": "b"}), "category 1 is 'a' and 'b'"),
            (with_categories({"id": 1, "name": "a"}), "no usable picture with a box"),
        ],
    )  # fmt: skip
    def test_one_sentence(self, tmp_path: Path, text: str | bytes, message: str) -> None:
        folder = tmp_path / "annotations"
        folder.mkdir()
        (folder / "instances_train.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(DatasetError, match=message) as caught:
            read_dataset(tmp_path)
        assert "\n" not in str(caught.value)

    def test_no_folder_with_the_pictures(self, tmp_path: Path) -> None:
        write_coco(tmp_path, {"train": 2})
        (tmp_path / "train").rename(tmp_path / "elsewhere")
        with pytest.raises(DatasetError, match=r"no usable picture .* the picture 0001.png is missing"):
            read_dataset(tmp_path)

    def test_two_files_for_one_split(self, tmp_path: Path) -> None:
        write_coco(tmp_path, {"train2014": 1, "train2017": 1})
        with pytest.raises(DatasetError, match="both are the 'train' split"):
            read_dataset(tmp_path)


class TestLocate:
    def test_missing_directory(self, tmp_path: Path) -> None:
        with pytest.raises(
            DatasetError, match=r"expected a dataset directory at .*nowhere, but there is nothing there"
        ):
            read_dataset(tmp_path / "nowhere")

    def test_a_file_instead_of_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "data.zip").write_bytes(b"PK")
        with pytest.raises(DatasetError, match="it is a file"):
            read_dataset(tmp_path / "data.zip")

    def test_empty_directory(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="is empty; expected Pascal VOC"):
            read_dataset(tmp_path)

    def test_no_annotations(self, tmp_path: Path) -> None:
        (tmp_path / "pictures").mkdir()
        with pytest.raises(DatasetError, match="no annotations found in"):
            read_dataset(tmp_path)

    def test_several_datasets_below(self, tmp_path: Path) -> None:
        write_coco(tmp_path / "a", {"train": 1})
        write_coco(tmp_path / "b", {"train": 1})
        with pytest.raises(DatasetError, match=r"holds 2 datasets \(a, b\)"):
            read_dataset(tmp_path)


class TestRealSubset:
    def test_counts_are_those_of_its_documentation(self, shared_data_dir: Path) -> None:
        dataset = read_dataset(shared_data_dir / "coco_free_subset")
        assert len(dataset.class_names) == 80
        figures = {
            split: (len(r), sum(len(x.annotation) for x in r), sum(int(x.annotation.crowd.sum()) for x in r))
            for split, r in dataset.splits.items()
        }
        assert figures == {"train": (80, 770, 9), "val": (57, 517, 7)}
        assert {defect.kind for defect in dataset.defects} == {"category_ids_mapped", "picture_without_boxes"}
