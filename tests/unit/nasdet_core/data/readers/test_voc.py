"""Pascal VOC on disk -> what it says; every defect is one sentence and costs only what it concerns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Defect
from nasdet_core.data.read import read_dataset
from nasdet_core.data.readers.raw import RawDataset
from nasdet_core.data.readers.voc import find_voc, read_voc
from nasdet_core.errors import DatasetError
from tests.support.datasets import voc_object, voc_xml, write_picture, write_voc, write_voc_beside, write_voc_xml

DOG = voc_object("dog", (1, 1, 9, 9))


def read(root: Path, class_names: Sequence[str] | None = None) -> RawDataset:
    files = find_voc(root)
    assert files is not None
    return read_voc(files, class_names=class_names, log=DefectLog(), progress=None)


def kinds(root: Path) -> list[str]:
    return [defect.kind for defect in read(root).defects]


def only_defect(dataset: RawDataset) -> Defect:
    (defect,) = dataset.defects
    return defect


def files_of(dataset: RawDataset) -> dict[str, list[str]]:
    return {split.name: [picture.file for picture in split.pictures] for split in dataset.splits}


class TestDevkit:
    def test_splits_classes_and_boxes_as_written(self, tmp_path: Path) -> None:
        dataset = read(write_voc(tmp_path, {"train": 3, "val": 2, "test": 1}))
        assert {name: len(files) for name, files in files_of(dataset).items()} == {"train": 3, "val": 2, "test": 1}
        assert (dataset.class_names, dataset.category_ids) == (("cat", "dog"), (1, 2))
        assert (dataset.source_format, dataset.box_form, dataset.defects) == ("voc", "xyxy", ())
        assert "ImageSets/Main/val.txt" in dataset.sources
        train = dataset.splits[0]
        first = train.pictures[0]
        assert (first.file, first.size, first.no_size) == ("JPEGImages/train00.jpg", (64, 48), False)
        assert train.objects.picture.tolist() == [0, 0, 1, 1, 2, 2]
        assert train.objects.boxes[:2].tolist() == [[4, 6, 30, 40], [20, 10, 50, 36]]
        assert train.objects.labels[:2].tolist() == [1, 0]
        assert np.isnan(train.objects.area).all()
        assert not train.objects.crowd.any()

    def test_end_to_end_nothing_is_subtracted_or_added(self, tmp_path: Path) -> None:
        dataset = read_dataset(write_voc(tmp_path, {"train": 3, "val": 2, "test": 1}))
        assert dataset.defects == ()
        first = dataset.splits["train"][0]
        assert (first.file, first.width, first.height) == ("JPEGImages/train00.jpg", 64, 48)
        assert first.annotation.boxes_xyxy.tolist() == [[4, 6, 30, 40], [20, 10, 50, 36]]
        assert first.annotation.exact_xywh.tolist() == [[4, 6, 26, 34], [20, 10, 30, 26]]
        assert first.annotation.area.tolist() == [26 * 34, 30 * 26]
        assert first.annotation.labels.tolist() == [1, 0]
        with pytest.raises(ValueError, match="read-only"):
            first.annotation.boxes_xyxy[0, 0] = 5

    def test_devkit_one_folder_down(self, tmp_path: Path) -> None:
        write_voc(tmp_path / "VOC2007", {"train": 2, "val": 2})
        (tmp_path / "LICENSE").write_text("free")
        assert find_voc(tmp_path) is None
        assert read_dataset(tmp_path).root == tmp_path / "VOC2007"

    def test_without_lists_everything_is_one_set(self, tmp_path: Path) -> None:
        assert list(files_of(read(write_voc(tmp_path)))) == ["all"]

    def test_trainval_counts_only_where_train_is_absent(self, tmp_path: Path) -> None:
        write_voc(tmp_path, {"train": 2, "val": 2, "test": 1})
        lists = tmp_path / "ImageSets" / "Main"
        (lists / "trainval.txt").write_text("train00\ntrain01\nval00\nval01\n")
        (lists / "dog_train.txt").write_text("train00 1\ntrain01 -1\n")
        assert {k: len(v) for k, v in files_of(read(tmp_path)).items()} == {"train": 2, "val": 2, "test": 1}
        (lists / "train.txt").unlink()
        assert {k: len(v) for k, v in files_of(read(tmp_path)).items()} == {"train": 4, "test": 1}

    def test_a_picture_outside_of_the_lists_is_no_defect(self, tmp_path: Path) -> None:
        write_voc(tmp_path, {"train": 2, "val": 2})
        write_picture(tmp_path / "JPEGImages" / "more.jpg")
        assert kinds(tmp_path) == []

    def test_without_lists_a_picture_without_annotation_is_left_out(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        write_picture(tmp_path / "JPEGImages" / "more.jpg")
        dataset = read(tmp_path)
        assert only_defect(dataset).message == (
            "picture JPEGImages/more.jpg has no Annotations/more.xml; it is left out"
        )
        assert dataset.left_out == ("JPEGImages/more.jpg",)

    def test_lower_case_folders(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        (tmp_path / "Annotations").rename(tmp_path / "annotations")
        (tmp_path / "JPEGImages").rename(tmp_path / "images")
        assert files_of(read(tmp_path))["all"][0] == "images/all00.jpg"

    def test_no_picture_folder(self, tmp_path: Path) -> None:
        write_voc_xml(tmp_path, "one", [DOG])
        with pytest.raises(DatasetError, match=r"expected the pictures of the VOC dataset in .*JPEGImages, but"):
            read(tmp_path)

    def test_progress_counts_every_file_once(self, tmp_path: Path) -> None:
        write_voc(tmp_path, {"train": 3, "val": 2})
        (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("train00\nval00\nval01\n")
        files = find_voc(tmp_path)
        assert files is not None
        calls: list[tuple[int, int]] = []
        read_voc(files, class_names=None, log=DefectLog(), progress=lambda done, total: calls.append((done, total)))
        assert calls == [(number, 5) for number in range(1, 6)]


class TestLists:
    def lists(self, root: Path, text: str) -> RawDataset:
        write_voc(root, {"train": 3, "val": 2})
        (root / "ImageSets" / "Main" / "train.txt").write_text(text)
        return read(root)

    def test_names_that_leave_the_folder_are_refused(self, tmp_path: Path) -> None:
        write_picture(tmp_path / "outside.jpg")
        dataset = self.lists(tmp_path / "data", "train00\n../../outside\n/etc/passwd\n")
        assert [defect.message for defect in dataset.defects] == [
            "ImageSets/Main/train.txt line 2: '../../outside' is not a picture's name",
            "ImageSets/Main/train.txt line 3: '/etc/passwd' is not a picture's name",
        ]

    @pytest.mark.parametrize("line", ["train01.jpg", "train01.xml", "TRAIN01"])
    def test_names_that_differ_are_understood(self, tmp_path: Path, line: str) -> None:
        dataset = self.lists(tmp_path, f"train00\n{line}\n")
        assert files_of(dataset)["train"] == ["JPEGImages/train00.jpg", "JPEGImages/train01.jpg"]
        assert only_defect(dataset).kind == "picture_name_differs"
        assert only_defect(dataset).message == (f"ImageSets/Main/train.txt line 2: {line!r} is listed, used as train01")

    def test_names_with_spaces(self, tmp_path: Path) -> None:
        write_voc_xml(tmp_path, "my cat", [DOG])
        write_picture(tmp_path / "JPEGImages" / "my cat.jpg")
        dataset = self.lists(tmp_path, "train00 1\nmy cat\n")
        assert files_of(dataset)["train"] == ["JPEGImages/my cat.jpg", "JPEGImages/train00.jpg"]
        assert dataset.defects == ()

    def test_listed_twice(self, tmp_path: Path) -> None:
        dataset = self.lists(tmp_path, "train00\ntrain01\ntrain00\n")
        assert len(files_of(dataset)["train"]) == 2
        assert only_defect(dataset).message == (
            "ImageSets/Main/train.txt line 3: train00 is listed again, first in line 1; used once"
        )

    def test_neither_picture_nor_annotation(self, tmp_path: Path) -> None:
        dataset = self.lists(tmp_path, "train00\nghost\n")
        assert only_defect(dataset) == Defect(
            "missing_picture",
            "ImageSets/Main/train.txt line 2: there is neither a picture JPEGImages/ghost.jpg nor "
            "Annotations/ghost.xml",
        )

    def test_empty_list(self, tmp_path: Path) -> None:
        dataset = self.lists(tmp_path, "\n\n")
        assert list(files_of(dataset)) == ["val"]
        assert only_defect(dataset).kind == "empty_split"

    def test_no_text(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"expected UTF-8 text .* in ImageSets/Main/train.txt"):
            self.lists(tmp_path, "a\0b")

    def test_annotation_missing(self, tmp_path: Path) -> None:
        write_voc(tmp_path, {"train": 3, "val": 2})
        (tmp_path / "Annotations" / "val01.xml").unlink()
        dataset = read(tmp_path)
        assert only_defect(dataset).message == (
            "ImageSets/Main/val.txt line 2: picture JPEGImages/val01.jpg has no Annotations/val01.xml; it is left out"
        )
        assert dataset.left_out == ("JPEGImages/val01.jpg",)

    def test_picture_in_two_splits_stays_where_it_is_measured(self, tmp_path: Path) -> None:
        write_voc(tmp_path, {"train": 3, "val": 2})
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("train00\ntrain01\nval00\n")
        assert len(files_of(read(tmp_path))["train"]) == 3  # what the files say
        dataset = read_dataset(tmp_path)
        assert [record.file for record in dataset.splits["train"]] == [f"JPEGImages/train0{n}.jpg" for n in (0, 1)]
        assert len(dataset.splits["val"]) == 2
        assert "val00.jpg is in train and val; left out of train" in dataset.defects[0].message


class TestSplitFolders:
    def test_the_same_data_as_a_devkit(self, tmp_path: Path) -> None:
        beside = read(write_voc_beside(tmp_path / "beside", {"train": 3, "valid": 2, "test": 1}))
        devkit = read(write_voc(tmp_path / "devkit", {"train": 3, "val": 2, "test": 1}))
        assert {name: len(files) for name, files in files_of(beside).items()} == {"test": 1, "train": 3, "val": 2}
        assert beside.class_names == devkit.class_names
        assert beside.defects == ()
        objects = {split.name: split.objects for split in beside.splits}
        for split in devkit.splits:
            assert np.array_equal(objects[split.name].boxes, split.objects.boxes)
            assert np.array_equal(objects[split.name].labels, split.objects.labels)

    def test_pictures_and_annotations_in_folders_below(self, tmp_path: Path) -> None:
        write_voc_beside(tmp_path, {"train": 3, "val": 2})
        for split in ("train", "val"):
            for folder, suffix in (("images", ".jpg"), ("annotations", ".xml")):
                (tmp_path / split / folder).mkdir()
                for path in list((tmp_path / split).glob(f"*{suffix}")):
                    path.rename(path.parent / folder / path.name)
        dataset = read(tmp_path)
        assert files_of(dataset)["val"] == ["val/images/val00.jpg", "val/images/val01.jpg"]
        assert dataset.splits[0].pictures[0].source == "train/annotations/train00.xml"
        assert dataset.defects == ()

    def test_split_folders_below_images_and_annotations(self, tmp_path: Path) -> None:
        write_voc_beside(tmp_path, {"train": 3, "val": 2})
        for split in ("train", "val"):
            for folder, suffix in (("images", ".jpg"), ("annotations", ".xml")):
                (tmp_path / folder / split).mkdir(parents=True)
                for path in list((tmp_path / split).glob(f"*{suffix}")):
                    path.rename(tmp_path / folder / split / path.name)
            (tmp_path / split).rmdir()
        dataset = read(tmp_path)
        assert files_of(dataset)["val"] == ["images/val/val00.jpg", "images/val/val01.jpg"]
        assert dataset.defects == ()

    def test_one_flat_folder(self, tmp_path: Path) -> None:
        write_voc_beside(tmp_path, {"train": 4})
        assert files_of(read(tmp_path / "train"))["all"][0] == "train00.jpg"

    def test_pictures_without_annotation_are_left_out(self, tmp_path: Path) -> None:
        write_voc_beside(tmp_path, {"train": 3, "valid": 2})
        for path in (tmp_path / "valid").glob("*.xml"):
            path.unlink()
        dataset = read(tmp_path)
        assert [defect.kind for defect in dataset.defects] == [
            "missing_annotation",
            "missing_annotation",
            "empty_split",
        ]
        assert dataset.left_out == ("valid/valid00.jpg", "valid/valid01.jpg")
        assert list(files_of(dataset)) == ["train"]

    def test_two_folders_of_one_split(self, tmp_path: Path) -> None:
        write_voc_beside(tmp_path, {"train": 2, "val": 2, "valid": 2})
        with pytest.raises(DatasetError, match=r"val/ and valid/ both are the 'val' split"):
            read(tmp_path)

    @pytest.mark.parametrize("text", ["<svg></svg>", "", "no xml"])
    def test_other_xml_is_no_annotation(self, tmp_path: Path, text: str) -> None:
        for split in ("train", "."):
            write_picture(tmp_path / split / "a.jpg")
            (tmp_path / split / "a.xml").write_text(text)
        assert find_voc(tmp_path) is None

    def test_finding_reads_a_few_files_only(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_voc_beside(tmp_path, {"train": 40})
        for number in range(39):
            (tmp_path / "train" / f"train{number:02d}.xml").write_text("<other/>")
        opened: list[Path] = []
        original = Path.open

        def counted(path: Path, mode: str = "r") -> object:
            opened.append(path)
            return original(path, mode)

        monkeypatch.setattr(Path, "open", counted)
        find_voc(tmp_path)
        assert 0 < len(opened) < 30


class TestPictures:
    def test_filename_is_asked_where_no_picture_has_the_name(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        (tmp_path / "JPEGImages" / "all03.jpg").rename(tmp_path / "JPEGImages" / "scan.jpg")
        (tmp_path / "Annotations" / "all03.xml").write_text(voc_xml([DOG], filename="C:\\data\\scan.jpg"))
        dataset = read(tmp_path)
        assert "JPEGImages/scan.jpg" in files_of(dataset)["all"]
        assert only_defect(dataset) == Defect(
            "picture_name_differs",
            "Annotations/all03.xml: there is no picture of that name; JPEGImages/scan.jpg, its <filename>, is used",
            effect="repaired",
        )

    def test_filename_takes_no_picture_of_another_annotation(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        (tmp_path / "JPEGImages" / "all03.jpg").unlink()
        (tmp_path / "Annotations" / "all03.xml").write_text(voc_xml([DOG], filename="all04.jpg"))
        dataset = read(tmp_path)
        assert only_defect(dataset).message == "Annotations/all03.xml: there is no picture JPEGImages/all03.jpg"
        assert len(files_of(dataset)["all"]) == 9

    def test_name_in_another_letter_case(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        (tmp_path / "JPEGImages" / "all03.jpg").rename(tmp_path / "JPEGImages" / "ALL03.JPG")
        dataset = read(tmp_path)
        assert "JPEGImages/ALL03.JPG" in files_of(dataset)["all"]
        assert only_defect(dataset).message == (
            "Annotations/all03.xml: 'all03' is listed, found as JPEGImages/ALL03.JPG"
        )

    def test_two_pictures_of_one_name(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        write_picture(tmp_path / "JPEGImages" / "all03.png")
        dataset = read(tmp_path)
        assert len(files_of(dataset)["all"]) == 10
        assert only_defect(dataset).message == (
            "Annotations/all03.xml: all03.jpg, all03.png have the same name, JPEGImages/all03.jpg is used"
        )

    @pytest.mark.parametrize(
        "size",
        ["", "<size><width>0</width><height>0</height></size>", "<size><width>64</width><height>x</height></size>"],
    )
    def test_no_size(self, tmp_path: Path, size: str) -> None:
        write_voc(tmp_path)
        (tmp_path / "Annotations" / "all00.xml").write_text(f"<annotation>{size}{DOG}</annotation>")
        picture = read(tmp_path).splits[0].pictures[0]
        assert (picture.size, picture.no_size) == (None, True)
        record = read_dataset(tmp_path).splits["all"][0]
        assert (record.width, record.height) == (64, 48)


class TestObjects:
    def test_difficult_and_truncated(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        cut = DOG.replace("<bndbox>", "<truncated>1</truncated><bndbox>")
        write_voc_xml(
            tmp_path, "all00", [voc_object("dog", (1, 1, 9, 9), difficult=1), voc_object("cat", (1, 1, 9, 9)), cut]
        )
        dataset = read(tmp_path)
        objects = dataset.splits[0].objects
        assert objects.difficult[:3].tolist() == [True, False, False]
        assert objects.truncated[:3].tolist() == [False, False, True]
        assert dataset.notes == {"foreign_paths": 0, "truncated": 1}
        annotation = read_dataset(tmp_path).splits["all"][0].annotation
        assert annotation.trainable.tolist() == [False, True, True]

    def test_parts_of_an_object_are_not_objects(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        part = "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></part>"
        nested = voc_object("dog", (1, 1, 30, 30)).replace("</object>", f"{part}</object>")
        first = nested.replace("<object>", f"<object>{part}<part>{DOG}</part>")
        write_voc_xml(tmp_path, "all00", [nested, first])
        dataset = read(tmp_path)
        assert dataset.splits[0].objects.boxes[:3].tolist() == [[1, 1, 30, 30], [1, 1, 30, 30], [4, 6, 30, 40]]
        assert dataset.class_names == ("cat", "dog")

    def test_place_is_said_when_asked(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        write_voc_xml(
            tmp_path, "all01", [voc_object("dog", (1, 1, 9, 9)), "", "<object/>", voc_object("RBC", (1, 1, 9, 9))]
        )
        place = read(tmp_path).splits[0].place
        assert place(0) == "Annotations/all00.xml line 4: object 1 (dog)"
        assert place(3) == "Annotations/all01.xml line 7: object 3 (RBC)"

    def test_names_are_stripped_but_not_merged(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        names = [" dog\n", "Dog", "big dog", "big  dog"]
        write_voc_xml(tmp_path, "all00", [voc_object(name, (1, 1, 9, 9)) for name in names])
        assert read(tmp_path).class_names == ("Dog", "big  dog", "big dog", "cat", "dog")

    def test_fractions_and_numbers_that_are_none(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        write_voc_xml(
            tmp_path, "all00", [voc_object("dog", (1.25, 1e-3, 9.5, 9)), voc_object("dog", (1, 1, float("nan"), 9))]
        )
        boxes = read(tmp_path).splits[0].objects.boxes
        assert boxes[0].tolist() == [1.25, 0.001, 9.5, 9]
        assert np.isnan(boxes[1]).tolist() == [False, False, True, False]  # told by the rules for all formats

    def test_class_outside_the_given_ones(self, tmp_path: Path) -> None:
        dataset = read(write_voc(tmp_path), class_names=("dog",))
        assert dataset.class_names == ("dog",)
        assert dataset.defects[0].message == (
            "Annotations/all00.xml line 5: object 2 (cat): the class is not one of dog"
        )
        assert sum(defect.count for defect in dataset.defects) == 10
        assert dataset.splits[0].with_broken_objects == frozenset(range(10))

    def test_given_classes_keep_their_order(self, tmp_path: Path) -> None:
        dataset = read(write_voc(tmp_path), class_names=("dog", "bird", "cat"))
        assert dataset.splits[0].objects.labels[:2].tolist() == [0, 2]
        assert dataset.defects == ()

    @pytest.mark.parametrize(
        ("box", "found"),
        [
            ("", "found no <bndbox>"),
            ("<bndbox><xmin>a</xmin></bndbox>", "found a, nothing, nothing, nothing"),
            ("<bndbox><xmin>1_0</xmin><ymin>1</ymin><xmax>20</xmax><ymax>9</ymax></bndbox>", "found 1_0, 1, 20, 9"),
            ("<bndbox><xmin>1,5</xmin><ymin>1</ymin><xmax>20</xmax><ymax>9</ymax></bndbox>", "found 1,5, 1, 20, 9"),
        ],
    )
    def test_object_without_numbers(self, tmp_path: Path, box: str, found: str) -> None:
        write_voc(tmp_path)
        write_voc_xml(tmp_path, "all00", [f"<object><name>dog</name>{box}</object>", voc_object("cat", (1, 1, 9, 9))])
        dataset = read(tmp_path)
        assert only_defect(dataset).message == (
            "Annotations/all00.xml line 4: object 1 (dog): expected numbers in <bndbox> xmin, ymin, xmax, ymax, "
            f"{found}"
        )
        assert (dataset.splits[0].objects.picture == 0).sum() == 1
        assert dataset.splits[0].with_broken_objects == {0}

    def test_object_without_name(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        write_voc_xml(tmp_path, "all00", [DOG.replace("dog", " ")])
        assert only_defect(read(tmp_path)).message == "Annotations/all00.xml line 4: object 1 has no <name>"

    def test_many_defects_stay_readable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("nasdet_core.data.defects.SENTENCES_PER_KIND", 20)
        write_voc(tmp_path)
        write_voc_xml(tmp_path, "all00", ["<object><name>dog</name></object>"] * 500 + [DOG])
        defects = read(tmp_path).defects
        assert len(defects) == 21
        assert sum(defect.count for defect in defects) == 500

    def test_zero_area_and_outside_boxes_are_left_out(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        bad = [(5, 5, 5, 9), (5, 5, 9, 5), (9, 9, 5, 5), (70, 5, 90, 20), (float("nan"), 1, 5, 5)]
        write_voc_xml(tmp_path, "all00", [voc_object("dog", box) for box in [*bad, (1, 1, 64.5, 9)]])
        dataset = read_dataset(tmp_path)
        found = sorted(defect.kind for defect in dataset.defects)
        assert found == ["box_not_finite", "box_outside", *["zero_area_box"] * 3]
        sentences = " ".join(defect.message for defect in dataset.defects)
        assert "Annotations/all00.xml line 4: object 1 (dog)" in sentences
        assert dataset.splits["all"][0].annotation.boxes_xyxy.tolist() == [[1, 1, 64.5, 9]]


class TestForeignPaths:
    def write(self, root: Path, *elements: str) -> RawDataset:
        write_voc(root)
        for number, text in enumerate(elements):
            (root / "Annotations" / f"all{number:02d}.xml").write_text(f"<annotation>{text}{DOG}</annotation>")
        return read(root)

    def test_are_told_once_with_their_number(self, tmp_path: Path) -> None:
        dataset = self.write(
            tmp_path, "<path>/mnt/pi/all00.jpg</path>", "<path>C:\\all01.jpg</path>", "<folder>x</folder>"
        )
        assert only_defect(dataset) == Defect(
            "foreign_path",
            "Annotations/all00.xml: <path> is '/mnt/pi/all00.jpg', which is no place in this dataset (3 such paths); "
            "<path> and <folder> are not used",
            count=3,
            effect="noted",
        )
        assert dataset.notes == {"foreign_paths": 3, "truncated": 0}

    @pytest.mark.parametrize(
        "text",
        [
            "<path>all00.jpg</path>",
            "<path>JPEGImages/all00.jpg</path>",
            "<path>{root}/JPEGImages/all00.jpg</path>",
            "<folder>JPEGImages</folder>",
            "<folder/><path>Unknown</path>",
        ],
    )
    def test_places_in_the_dataset_are_none(self, tmp_path: Path, text: str) -> None:
        assert self.write(tmp_path, text.replace("{root}", str(tmp_path))).defects == ()


class TestBrokenFiles:
    def test_broken_xml_names_file_and_line(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        (tmp_path / "Annotations" / "all02.xml").write_text("<annotation>\n<object>\n</annotation>\n")
        dataset = read(tmp_path)
        assert only_defect(dataset).message == "Annotations/all02.xml line 3: broken XML (mismatched tag)"
        assert dataset.left_out == ("JPEGImages/all02.jpg",)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "<html></html>",
            "<annotation>\0</annotation>",
            "<?xml version='1.0' encoding='nonsense'?><a/>",
            "<a>" * 10_000,
        ],
    )
    def test_other_broken_files_cost_one_picture(self, tmp_path: Path, text: str) -> None:
        write_voc(tmp_path)
        (tmp_path / "Annotations" / "all02.xml").write_text(text)
        assert kinds(tmp_path) == ["broken_annotation"]

    def test_every_annotation_broken(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        for path in (tmp_path / "Annotations").iterdir():
            path.write_text("<annotation>")
        with pytest.raises(DatasetError, match=r"no usable picture with a box is left .* Annotations/all00.xml line 1"):
            read_dataset(tmp_path)


class TestRealBloodCells:
    def test_counts_are_those_of_its_documentation(self, shared_data_dir: Path) -> None:
        dataset = read(shared_data_dir / "bccd" / "BCCD")
        figures = {
            split.name: (len(split.pictures), np.bincount(split.objects.labels).tolist()) for split in dataset.splits
        }
        assert dataset.class_names == ("Platelets", "RBC", "WBC")
        assert figures == {"train": (205, [209, 2382, 214]), "val": (87, [83, 968, 87]), "test": (72, [69, 805, 71])}
        assert dataset.notes == {"foreign_paths": 364, "truncated": 1131}
        assert [defect.kind for defect in dataset.defects] == ["foreign_path"]

    def test_end_to_end(self, shared_data_dir: Path) -> None:
        dataset = read_dataset(shared_data_dir / "bccd")
        figures = {
            split: (len(records), np.bincount(np.concatenate([r.annotation.labels for r in records])).tolist())
            for split, records in dataset.splits.items()
        }
        # the documented boxes less the two of zero area, an RBC in train and one in val
        assert figures == {"train": (205, [209, 2381, 214]), "val": (87, [83, 967, 87]), "test": (72, [69, 805, 71])}
        zero = [defect.message for defect in dataset.defects if defect.kind == "zero_area_box"]
        assert {"BloodImage_00338.xml", "BloodImage_00343.xml"} == {
            message.split("/")[1].split(" ")[0] for message in zero
        }
        assert len(zero) == 2
