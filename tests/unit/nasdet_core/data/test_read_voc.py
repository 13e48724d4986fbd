"""Pascal VOC on disk -> records; every defect is one sentence and costs only what it concerns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nasdet_core.data.read import read_dataset
from nasdet_core.errors import DatasetError
from tests.support.datasets import voc_object, write_picture, write_voc, write_voc_xml


def kinds(root: Path) -> list[str]:
    return [defect.kind for defect in read_dataset(root).defects]


class TestSoundDevkit:
    def test_splits_classes_and_boxes_as_written(self, tmp_path: Path) -> None:
        dataset = read_dataset(write_voc(tmp_path, {"train": 3, "val": 2, "test": 1}))
        assert {name: len(records) for name, records in dataset.splits.items()} == {"train": 3, "val": 2, "test": 1}
        assert dataset.class_names == ("cat", "dog")
        assert dataset.category_ids == (1, 2)
        assert dataset.source_format == "voc"
        assert dataset.defects == ()
        first = dataset.splits["train"][0]
        assert (first.file, first.width, first.height) == ("JPEGImages/train00.jpg", 64, 48)
        # as written: nothing subtracted from the corners, nothing added to width and height
        assert first.annotation.boxes_xyxy.tolist() == [[4, 6, 30, 40], [20, 10, 50, 36]]
        assert first.annotation.exact_xywh.tolist() == [[4, 6, 26, 34], [20, 10, 30, 26]]
        assert first.annotation.area.tolist() == [26 * 34, 30 * 26]
        assert first.annotation.labels.tolist() == [1, 0]

    def test_devkit_one_folder_down(self, tmp_path: Path) -> None:
        write_voc(tmp_path / "VOC2007", {"train": 2, "val": 2})
        (tmp_path / "LICENSE").write_text("free")
        assert read_dataset(tmp_path).root == tmp_path / "VOC2007"

    def test_without_lists_everything_is_one_set(self, tmp_path: Path) -> None:
        assert list(read_dataset(write_voc(tmp_path)).splits) == ["all"]

    def test_trainval_counts_only_where_train_is_absent(self, tmp_path: Path) -> None:
        write_voc(tmp_path, {"train": 2, "val": 2, "test": 1})
        lists = tmp_path / "ImageSets" / "Main"
        (lists / "trainval.txt").write_text("train00\ntrain01\nval00\nval01\n")
        (lists / "dog_train.txt").write_text("train00 1\ntrain01 -1\n")
        assert {k: len(v) for k, v in read_dataset(tmp_path).splits.items()} == {"train": 2, "val": 2, "test": 1}
        (lists / "train.txt").unlink()
        assert {k: len(v) for k, v in read_dataset(tmp_path).splits.items()} == {"train": 4, "test": 1}

    def test_difficult_is_kept_but_not_trainable(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        write_voc_xml(
            tmp_path, "all00", [voc_object("dog", (1, 1, 9, 9), difficult=1), voc_object("cat", (1, 1, 9, 9))]
        )
        annotation = read_dataset(tmp_path).splits["all"][0].annotation
        assert annotation.difficult.tolist() == [True, False]
        assert annotation.trainable.tolist() == [False, True]

    def test_size_from_the_picture_where_the_annotation_has_none(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        write_voc_xml(tmp_path, "all00", [voc_object("dog", (1, 1, 9, 9))], size=(0, 0))
        record = read_dataset(tmp_path).splits["all"][0]
        assert (record.width, record.height) == (64, 48)

    def test_parts_of_an_object_are_not_objects(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        with_part = voc_object("dog", (1, 1, 30, 30)).replace(
            "</object>",
            "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></part></object>",
        )
        write_voc_xml(tmp_path, "all00", [with_part])
        annotation = read_dataset(tmp_path).splits["all"][0].annotation
        assert annotation.boxes_xyxy.tolist() == [[1, 1, 30, 30]]

    def test_records_cannot_be_changed(self, tmp_path: Path) -> None:
        annotation = read_dataset(write_voc(tmp_path)).splits["all"][0].annotation
        with pytest.raises(ValueError, match="read-only"):
            annotation.boxes_xyxy[0, 0] = 5


class TestDefects:
    def test_zero_area_and_outside_boxes_are_left_out(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        bad = [(5, 5, 5, 9), (5, 5, 9, 5), (9, 9, 5, 5), (70, 5, 90, 20), (float("nan"), 1, 5, 5)]
        write_voc_xml(tmp_path, "all00", [voc_object("dog", box) for box in [*bad, (1, 1, 100, 9)]])
        dataset = read_dataset(tmp_path)
        assert [defect.kind for defect in dataset.defects] == [*["zero_area_box"] * 3, "box_outside", "box_not_finite"]
        assert "Annotations/all00.xml object 1 (dog): the box (5, 5, 5, 9) has no area" in dataset.defects[0].message
        # over the border is no defect: kept as written
        assert dataset.splits["all"][0].annotation.boxes_xyxy.tolist() == [[1, 1, 100, 9]]

    def test_missing_picture(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        (tmp_path / "JPEGImages" / "all03.jpg").unlink()
        dataset = read_dataset(tmp_path)
        assert [d.message for d in dataset.defects] == [
            "Annotations/all03.xml: there is no picture JPEGImages/all03.jpg"
        ]
        assert len(dataset.splits["all"]) == 9

    def test_missing_annotation(self, tmp_path: Path) -> None:
        write_voc(tmp_path, {"train": 3, "val": 2})
        (tmp_path / "Annotations" / "val01.xml").unlink()
        assert kinds(tmp_path) == ["missing_annotation"]

    def test_broken_xml_names_file_and_line(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        (tmp_path / "Annotations" / "all02.xml").write_text("<annotation>\n<object>\n</annotation>\n")
        dataset = read_dataset(tmp_path)
        assert [defect.kind for defect in dataset.defects] == ["broken_annotation"]
        assert dataset.defects[0].message == "Annotations/all02.xml line 3: broken XML (mismatched tag)"

    @pytest.mark.parametrize(
        "text", ["", "<html></html>", "<annotation>\0</annotation>", "<?xml version='1.0' encoding='nonsense'?><a/>"]
    )
    def test_other_broken_files_cost_one_picture(self, tmp_path: Path, text: str) -> None:
        write_voc(tmp_path)
        (tmp_path / "Annotations" / "all02.xml").write_text(text)
        assert kinds(tmp_path) == ["broken_annotation"]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_entity_bomb_is_refused_before_it_expands(self, tmp_path: Path, encoding: str) -> None:
        write_voc(tmp_path)
        layers = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 30))
        head = f'<?xml version="1.0" encoding="{encoding}"?>\n<!DOCTYPE a [<!ENTITY e0 "ha">{layers}]>\n'
        bomb = f"{head}<annotation>&e29;</annotation>"
        (tmp_path / "Annotations" / "all02.xml").write_bytes(bomb.encode(encoding))
        defect = read_dataset(tmp_path).defects[0]
        assert "all02.xml line 2: a document type declaration is not accepted" in defect.message

    def test_external_entity_is_not_read(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        secret = tmp_path / "secret"
        secret.write_text("dog")
        (tmp_path / "Annotations" / "all02.xml").write_text(
            f'<!DOCTYPE a [<!ENTITY s SYSTEM "file://{secret}">]><annotation><object><name>&s;</name></object></annotation>'
        )
        assert kinds(tmp_path) == ["broken_annotation"]

    @pytest.mark.parametrize("box", ["<bndbox><xmin>a</xmin></bndbox>", ""])
    def test_object_without_numbers(self, tmp_path: Path, box: str) -> None:
        write_voc(tmp_path)
        write_voc_xml(tmp_path, "all00", [f"<object><name>dog</name>{box}</object>", voc_object("cat", (1, 1, 9, 9))])
        dataset = read_dataset(tmp_path)
        assert [defect.kind for defect in dataset.defects] == ["broken_box"]
        assert len(dataset.splits["all"][0].annotation) == 1

    def test_class_outside_the_given_ones(self, tmp_path: Path) -> None:
        dataset = read_dataset(write_voc(tmp_path), class_names=("dog",))
        assert dataset.class_names == ("dog",)
        assert "object 2 (cat): the class is not one of dog" in dataset.defects[0].message
        assert sum(defect.count for defect in dataset.defects) == 10

    def test_picture_in_two_splits_stays_where_it_is_measured(self, tmp_path: Path) -> None:
        write_voc(tmp_path, {"train": 3, "val": 2})
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("train00\ntrain01\nval00\n")
        dataset = read_dataset(tmp_path)
        assert [record.file for record in dataset.splits["train"]] == [f"JPEGImages/train0{n}.jpg" for n in (0, 1)]
        assert len(dataset.splits["val"]) == 2
        assert "val00.jpg is in train and val; left out of train" in dataset.defects[0].message

    def test_names_that_leave_the_folder_are_refused(self, tmp_path: Path) -> None:
        write_voc(tmp_path / "data", {"train": 3, "val": 2})
        write_picture(tmp_path / "outside.jpg")
        (tmp_path / "data" / "ImageSets" / "Main" / "train.txt").write_text("train00\n../../outside\n/etc/passwd\n")
        assert kinds(tmp_path / "data") == ["broken_split_line", "broken_split_line"]

    def test_many_defects_stay_readable(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        write_voc_xml(tmp_path, "all00", [voc_object("dog", (5, 5, 5, 5))] * 500 + [voc_object("dog", (1, 1, 9, 9))])
        defects = read_dataset(tmp_path).defects
        assert len(defects) == 21
        assert defects[-1].message == "and 480 more of this kind"
        assert sum(defect.count for defect in defects) == 500


class TestNothingLeft:
    def test_every_annotation_broken(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        for path in (tmp_path / "Annotations").iterdir():
            path.write_text("<annotation>")
        with pytest.raises(DatasetError, match=r"no usable picture with a box is left .* Annotations/all00.xml line 1"):
            read_dataset(tmp_path)

    def test_no_picture_folder(self, tmp_path: Path) -> None:
        write_voc_xml(tmp_path, "one", [voc_object("dog", (1, 1, 9, 9))])
        with pytest.raises(DatasetError, match=r"expected the pictures of the VOC dataset in .*JPEGImages"):
            read_dataset(tmp_path)


class TestRealBloodCells:
    def test_counts_are_those_of_its_documentation(self, shared_data_dir: Path) -> None:
        dataset = read_dataset(shared_data_dir / "bccd")
        assert dataset.class_names == ("Platelets", "RBC", "WBC")
        figures = {
            split: (len(records), np.bincount(np.concatenate([r.annotation.labels for r in records])).tolist())
            for split, records in dataset.splits.items()
        }
        # the documented boxes less the two of zero area, an RBC in train and one in val
        assert figures == {"train": (205, [209, 2381, 214]), "val": (87, [83, 967, 87]), "test": (72, [69, 805, 71])}
        assert [defect.kind for defect in dataset.defects] == ["zero_area_box", "zero_area_box"]
        assert {"BloodImage_00338.xml", "BloodImage_00343.xml"} == {
            defect.message.split("/")[1].split(" ")[0] for defect in dataset.defects
        }
