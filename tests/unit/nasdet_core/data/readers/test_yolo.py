"""YOLO on disk -> what it says; every defect is one sentence and costs only what it concerns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Defect
from nasdet_core.data.read import read_dataset
from nasdet_core.data.readers.raw import RawDataset
from nasdet_core.data.readers.yolo import find_yolo, read_yolo
from nasdet_core.data.readers.yolo_yaml import MAX_BYTES
from nasdet_core.errors import DatasetError
from tests.support.datasets import write_picture, write_voc, write_yolo

NAMES = "names: [cat, dog]\n"


def read(root: Path) -> RawDataset:
    files = find_yolo(root)
    assert files is not None
    return read_yolo(files, log=DefectLog(), progress=None)


def only_defect(dataset: RawDataset) -> Defect:
    (defect,) = dataset.defects
    return defect


def files_of(dataset: RawDataset) -> dict[str, list[str]]:
    return {split.name: [picture.file for picture in split.pictures] for split in dataset.splits}


def with_yaml(root: Path, text: str) -> RawDataset:
    write_yolo(root, {"train": 2, "val": 1})
    (root / "data.yaml").write_text(text)
    return read(root)


def with_label(root: Path, text: str | bytes) -> RawDataset:
    """A dataset of one train and one val picture, where the train picture has these labels."""
    write_yolo(root, {"train": 1, "val": 1})
    (root / "labels" / "train" / "train00.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(root)


class TestSoundDatasets:
    @pytest.mark.parametrize("exported", [False, True])
    def test_splits_classes_and_boxes(self, tmp_path: Path, exported: bool) -> None:
        dataset = read(write_yolo(tmp_path, {"train": 3, "valid": 2, "test": 1}, exported=exported))
        assert {name: len(files) for name, files in files_of(dataset).items()} == {"train": 3, "val": 2, "test": 1}
        assert (dataset.class_names, dataset.category_ids) == (("cat", "dog"), (0, 1))
        assert (dataset.source_format, dataset.box_form, dataset.defects) == ("yolo", "cxcywh_fraction", ())
        assert dataset.left_out == ()
        train = dataset.splits[0]
        folder = "train/images" if exported else "images/train"
        assert [picture.file for picture in train.pictures] == [f"{folder}/train0{n}.jpg" for n in range(3)]
        assert (train.pictures[0].size, train.pictures[0].no_size) == (None, False)
        assert train.objects.picture.tolist() == [0, 0, 1, 1, 2, 2]
        assert train.objects.labels.tolist() == [1, 0] * 3
        expected = [[17 / 64, 23 / 48, 26 / 64, 34 / 48], [35 / 64, 23 / 48, 30 / 64, 26 / 48]]
        assert train.objects.boxes[:2] == pytest.approx(np.array(expected), abs=1e-8)
        assert train.place(3) == f"{folder.replace('images', 'labels')}/train01.txt line 2"

    def test_end_to_end_the_same_data_as_a_devkit(self, tmp_path: Path) -> None:
        splits = {"train": 3, "val": 2, "test": 1}
        yolo, voc = (
            read_dataset(write_yolo(tmp_path / "yolo", splits)),
            read_dataset(write_voc(tmp_path / "voc", splits)),
        )
        assert yolo.defects == ()
        for split, records in voc.splits.items():
            for ours, theirs in zip(yolo.splits[split], records, strict=True):
                assert ours.annotation.exact_xywh == pytest.approx(theirs.annotation.exact_xywh, abs=1e-5)
                assert ours.annotation.labels.tolist() == theirs.annotation.labels.tolist()

    def test_labels_beside_the_pictures(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            write_picture(tmp_path / split / "a.jpg")
            (tmp_path / split / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
            (tmp_path / split / "classes.txt").write_text("cat\ndog\n")
        (tmp_path / "data.yaml").write_text(f"train: train\nval: val\n{NAMES}")
        dataset = read(tmp_path)
        assert [len(split.objects) for split in dataset.splits] == [1, 1]
        assert dataset.splits[0].place(0) == "train/a.txt line 1"
        assert dataset.defects == ()

    def test_the_last_images_folder_becomes_labels(self, tmp_path: Path) -> None:
        write_yolo(tmp_path / "images", {"train": 2, "val": 1})
        (tmp_path / "data.yaml").write_text(f"path: images\ntrain: images/train\nval: images/val\n{NAMES}")
        dataset = read(tmp_path)
        assert dataset.splits[0].pictures[0].file == "images/images/train/train00.jpg"
        assert dataset.splits[0].pictures[0].source == "images/labels/train/train00.txt"

    @pytest.mark.parametrize("text", [None, "", "\n \r\n"])
    def test_a_picture_without_labels_is_background(self, tmp_path: Path, text: str | None) -> None:
        write_yolo(tmp_path, {"train": 2, "val": 1})
        label = tmp_path / "labels" / "train" / "train00.txt"
        label.unlink() if text is None else label.write_text(text)
        dataset = read(tmp_path)
        assert len(dataset.splits[0].pictures) == 2
        assert dataset.splits[0].objects.picture.tolist() == [1, 1]
        assert (dataset.defects, dataset.left_out) == ((), ())
        assert dataset.splits[0].with_broken_objects == frozenset()

    def test_progress(self, tmp_path: Path) -> None:
        files = find_yolo(write_yolo(tmp_path, {"train": 2, "val": 1}))
        assert files is not None
        calls: list[tuple[int, int]] = []
        read_yolo(files, log=DefectLog(), progress=lambda done, total: calls.append((done, total)))
        assert calls == [(1, 3), (2, 3), (3, 3)]

    def test_thousands_of_labels_are_quick(self, tmp_path: Path) -> None:
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir()
        for number in range(3000):
            (tmp_path / "images" / f"{number}.jpg").touch()
            (tmp_path / "labels" / f"{number}.txt").write_text("0 0.500000 0.500000 0.100000 0.100000\n" * 7)
        (tmp_path / "data.yaml").write_text(f"train: images\n{NAMES}")
        assert len(read(tmp_path).splits[0].objects) == 21_000


class TestFinding:
    def test_other_yaml_is_no_dataset(self, tmp_path: Path) -> None:
        (tmp_path / "search.yaml").write_text("name: x\nsupernet: {train: 3}\n")
        (tmp_path / "classes.yml").write_text(NAMES)
        assert find_yolo(tmp_path) is None

    @pytest.mark.parametrize("text", ["{names: [cat], train: images}", '"names": [cat]\n"valid" : images\n'])
    def test_keys_in_every_form(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "x.yml").write_text(text)
        assert find_yolo(tmp_path) is not None

    def test_data_yaml_wins(self, tmp_path: Path) -> None:
        write_yolo(tmp_path, {"train": 1, "val": 1})
        (tmp_path / "a.yaml").write_text(f"train: x\n{NAMES}")
        assert read(tmp_path).defects == ()

    def test_several_files(self, tmp_path: Path) -> None:
        for name in ("a.yaml", "b.yml"):
            (tmp_path / name).write_text(f"train: x\n{NAMES}")
        with pytest.raises(DatasetError, match=r"holds 2 YOLO files \(a.yaml, b.yml\); rename the one to use"):
            find_yolo(tmp_path)


class TestYaml:
    @pytest.mark.parametrize(
        ("names", "expected", "ids"),
        [
            ("names:\n  1: dog\n  0: cat", ("cat", "dog"), (0, 1)),
            ("names: {0: cat, 1: dog, 7: cow}", ("cat", "dog", "cow"), (0, 1, 7)),
            ("names: [no, 1.0]", ("no", "1.0"), (0, 1)),
            ("names: ['cat', \"über dog\"]", ("cat", "über dog"), (0, 1)),
            ("names: &n [cat, dog]\nalso: *n", ("cat", "dog"), (0, 1)),
        ],
    )
    def test_names(self, tmp_path: Path, names: str, expected: tuple[str, ...], ids: tuple[int, ...]) -> None:
        dataset = with_yaml(tmp_path, f"train: images/train\nval: images/val\ntest:\n{names}\n")
        assert (dataset.class_names, dataset.category_ids) == (expected, ids)
        assert dataset.defects == ()

    def test_ids_with_gaps_are_those_of_the_label_files(self, tmp_path: Path) -> None:
        write_yolo(tmp_path, {"train": 1})
        (tmp_path / "data.yaml").write_text("train: images/train\nnames: {3: cat, 7: dog}\n")
        (tmp_path / "labels" / "train" / "train00.txt").write_text("7 .5 .5 .1 .1\n3 .5 .5 .1 .1\n0 .5 .5 .1 .1\n")
        dataset = read(tmp_path)
        assert dataset.splits[0].objects.labels.tolist() == [1, 0]
        assert only_defect(dataset).kind == "unknown_class"

    def test_another_number_of_classes(self, tmp_path: Path) -> None:
        dataset = with_yaml(tmp_path, f"train: images/train\nnc: 3\n{NAMES}")
        assert only_defect(dataset).kind == "class_count_differs"
        assert only_defect(dataset).message == ("data.yaml line 2: nc is 3, but `names` has 2; the 2 names are used")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("train: x\nnames: [a", "data.yaml line 2: broken YAML (expected ',' or ']'"),
            ("train: x\nnames: *a", "data.yaml line 2: broken YAML (found undefined alias"),
            ("train: x\nnames: [a]\nb: \x01", "data.yaml: broken YAML (unacceptable character"),
            ("train: x\nnames: " + "[" * 5000, "data.yaml: broken YAML (maximum recursion depth"),
            ("- {train: x, names: [a]}", "data.yaml: expected keys such as `names:`"),
            ("train: x\nnames: cat", "data.yaml line 2: expected a list of names"),
            ("train: x\nnames: []", "data.yaml line 2: expected a list of names"),
            ("train: x\nnames: [a, [b]]", "data.yaml line 2: expected plain text under `names: 1`"),
            ("train: x\nnames: &a [b, *a]", "data.yaml line 2: expected plain text under `names: 1`"),
            ("train: x\nnames:\n- a\n- ", "data.yaml line 4: class 1 has no name"),
            ("train: x\nnames: {x: a}", "data.yaml line 2: expected an integer from 0"),
            ("train: x\nnames: {-1: a}", "data.yaml line 2: expected an integer from 0"),
            ("train: x\nnames: [a, a]", "data.yaml line 2: class 1 ('a') repeats the id or the name of class 0"),
            ("train: x\nnames: {0: a, 00: b}", "data.yaml line 2: class 0 ('b') repeats the id or the name of class 0"),
            ("train: x\nnames: [a]\nnames: [b]", "data.yaml line 3: "),
            ("train: {a: b}\nnames: [a]", "data.yaml line 1: expected plain text under `train`"),
            ("train: x\nnames: [a]\nnc: [1]", "data.yaml line 3: expected plain text under `nc`"),
            ("train:\nval: ''\nnames: [a]", "data.yaml: expected a folder or list of pictures under `train`"),
            ("val: x\nvalid: y\nnames: [a]", "data.yaml line 2: `val` and `valid` are the same split"),
            ("train: x\nnames: [a]\nkpt_shape: [a, 3]", "data.yaml line 3: expected two integers"),
            (f"train: x\nnames: [a]\n#{'#' * MAX_BYTES}", f"expected a YAML file of at most {MAX_BYTES} bytes"),
            ("train: x\nnames: [a]\ncaf\udce9: 1", "expected UTF-8 text in data.yaml, but byte 23"),
        ],
    )
    def test_broken_files_are_one_sentence(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "data.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(DatasetError) as caught:
            read(tmp_path)
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)

    def test_nothing_is_constructed(self, tmp_path: Path) -> None:
        planted = tmp_path / "planted"
        text = f"x: !!python/object/apply:os.mkdir ['{planted}']\nd: 2020-13-45\nbig: {'9' * 10_000}\n"
        assert with_yaml(tmp_path, f"train: images/train\n{NAMES}{text}").defects == ()
        assert not planted.exists()

    def test_aliases_of_aliases_cost_nothing(self, tmp_path: Path) -> None:
        layers = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 60))
        merges = "".join(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 60))
        text = f"train: images/train\n{NAMES}a0: &a0 x\n{layers}m0: &m0 {{k: 1}}\n{merges}"
        assert with_yaml(tmp_path, text).defects == ()


class TestPlaces:
    @pytest.mark.parametrize(
        "text",
        [
            "train: ./images/train",
            "train: ../images/train",
            "train: ../../images/train/",
            "train: images\\train",
            "train: {root}/images/train",
            "path: .\ntrain: images/train",
            "path: images\ntrain: train",
            "path: {root}\ntrain: images/train",
            "path: ../{name}/images\ntrain: train",
            "path: {root}/images\ntrain: train",
            "path: /content/somewhere\ntrain: images/train",
            "path: ../datasets/coco8\ntrain: images/train",
            "train: [images/train]",
            "train: Images/Train",
        ],
    )
    def test_folders_are_found_where_they_are(self, tmp_path: Path, text: str) -> None:
        text = text.replace("{root}", str(tmp_path)).replace("{name}", tmp_path.name)
        dataset = with_yaml(tmp_path, f"{text}\n{NAMES}")
        assert files_of(dataset) == {"train": ["images/train/train00.jpg", "images/train/train01.jpg"]}
        if not text.startswith("train: /"):
            assert dataset.defects == ()

    @pytest.mark.parametrize("entry", ["/content/x/images/train", "/elsewhere", "C:\\data\\images\\train"])
    def test_a_place_on_another_computer_is_told(self, tmp_path: Path, entry: str) -> None:
        dataset = with_yaml(tmp_path, f"train: {entry}\n{NAMES}")
        assert len(files_of(dataset)["train"]) == 2
        assert only_defect(dataset).kind == "foreign_path"
        assert only_defect(dataset).message == (
            f"data.yaml line 1: train is {entry!r}, which is no place in this dataset (images/train is used); "
            "pictures are taken from this dataset alone"
        )

    def test_nothing_outside_is_read(self, tmp_path: Path) -> None:
        write_picture(tmp_path / "outside" / "a.jpg")
        (tmp_path / "outside" / "list.txt").write_text("a.jpg\n")
        for entry in ("../outside", str(tmp_path / "outside"), "../outside/list.txt", "images/../../outside"):
            dataset = with_yaml(tmp_path / "data", f"val: images/val\ntest: {entry}\n{NAMES}")
            assert files_of(dataset) == {"val": ["images/val/val00.jpg"]}
            assert only_defect(dataset).kind == "empty_split"
            assert f"data.yaml line 2: test is {entry!r}, which is no" in only_defect(dataset).message

    def test_no_split_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"found none: data.yaml line 1: test is 'nowhere', which is no folder"):
            with_yaml(tmp_path, f"test: nowhere\n{NAMES}")

    def test_folders_below_and_several_folders(self, tmp_path: Path) -> None:
        write_picture(tmp_path / "images" / "train" / "more" / "x.png")
        dataset = with_yaml(tmp_path, f"train: [images/train, images/val]\n{NAMES}")
        assert files_of(dataset)["train"] == [
            "images/train/more/x.png",
            "images/train/train00.jpg",
            "images/train/train01.jpg",
            "images/val/val00.jpg",
        ]

    def test_folder_without_pictures(self, tmp_path: Path) -> None:
        (tmp_path / "images" / "test").mkdir(parents=True)
        dataset = with_yaml(tmp_path, f"train: images/train\ntest: images/test\n{NAMES}")
        assert only_defect(dataset) == Defect(
            "empty_split", "images/test/: the test split has no picture", effect="noted"
        )

    def test_label_names_that_differ(self, tmp_path: Path) -> None:
        write_yolo(tmp_path, {"train": 1, "val": 1})
        folder = tmp_path / "labels" / "train"
        (folder / "train00.txt").rename(folder / "Train00.TXT")
        dataset = read(tmp_path)
        assert len(dataset.splits[0].objects) == 2
        assert only_defect(dataset).message == (
            "images/train/train00.jpg: 'train00.txt' is listed, found as labels/train/Train00.TXT"
        )

    def test_labels_without_picture(self, tmp_path: Path) -> None:
        write_yolo(tmp_path, {"train": 2, "val": 1})
        (tmp_path / "images" / "train" / "train01.jpg").unlink()
        (tmp_path / "labels" / "train" / "classes.txt").write_text("cat\ndog\n")
        dataset = read(tmp_path)
        assert only_defect(dataset) == Defect(
            "missing_picture", "labels/train/train01.txt: there is no picture images/train/train01.jpg"
        )


class TestLists:
    def listed(self, root: Path, *lines: str) -> RawDataset:
        root.mkdir(exist_ok=True)
        (root / "train.txt").write_text("\n".join(lines))
        return with_yaml(root, f"train: train.txt\nval: images/val\n{NAMES}")

    def test_a_list_takes_what_it_names(self, tmp_path: Path) -> None:
        dataset = self.listed(tmp_path, "./images/train/train01.jpg", "", "images/val/val00.jpg")
        assert files_of(dataset)["train"] == ["images/train/train01.jpg", "images/val/val00.jpg"]
        assert dataset.splits[0].objects.picture.tolist() == [0, 0, 1, 1]
        assert dataset.defects == ()  # train00 is not listed, so its label file is nobody's fault
        assert "train.txt" in dataset.sources

    def test_paths_of_another_computer(self, tmp_path: Path) -> None:
        dataset = self.listed(tmp_path, "/mnt/x/images/train/train00.jpg", "D:\\x\\images\\train\\train01.jpg")
        assert len(files_of(dataset)["train"]) == 2
        assert (only_defect(dataset).kind, only_defect(dataset).count) == ("foreign_path", 2)
        assert dataset.notes == {"foreign_paths": 2, "polygons": 0}

    def test_missing_and_outside(self, tmp_path: Path) -> None:
        write_picture(tmp_path / "outside.jpg")
        dataset = self.listed(tmp_path / "data", "images/train/train00.jpg", "images/train/x.jpg", "../outside.jpg")
        assert [defect.message for defect in dataset.defects] == [
            "train.txt line 2: the picture images/train/x.jpg is missing",
            "train.txt line 3: the picture ../outside.jpg is missing; the name leads out of the dataset",
        ]

    def test_listed_twice_and_another_suffix(self, tmp_path: Path) -> None:
        dataset = self.listed(tmp_path, "images/train/train00.jpg", "images/train/train00.png")
        assert [defect.kind for defect in dataset.defects] == ["picture_name_differs", "picture_listed_twice"]
        assert files_of(dataset)["train"] == ["images/train/train00.jpg"]

    def test_an_exact_name_elsewhere_beats_a_similar_one(self, tmp_path: Path) -> None:
        write_picture(tmp_path / "lists" / "A.jpg")
        write_picture(tmp_path / "a.jpg")
        (tmp_path / "lists" / "train.txt").write_text("A.jpg\n")
        (tmp_path / "data.yaml").write_text(f"train: lists/train.txt\n{NAMES}")
        dataset = read(tmp_path)
        assert files_of(dataset) == {"train": ["lists/A.jpg"]}
        assert dataset.defects == ()


class TestLabels:
    @pytest.mark.parametrize(
        ("line", "kind", "message"),
        [
            ("0 .5 .5 .1", "broken_box", "expected `class cx cy w h`, or a polygon of at least three points, found 4"),
            ("0 .5 .5 .1 .1 .9", "broken_box", "expected `class cx cy w h`, or a polygon of at least three points"),
            ("0", "broken_box", "expected `class cx cy w h`, or a polygon of at least three points, found 1 value:"),
            ("0 .5 x .1 .1", "broken_box", "expected numbers after the class, found '0 .5 x .1 .1'"),
            ("0 .5 0.1_5 .1 .1", "broken_box", "expected numbers after the class"),
            ("dog .5 .5 .1 .1", "broken_box", "expected the number of a class first, found 'dog'"),
            ("0.5 .5 .5 .1 .1", "broken_box", "expected the number of a class first, found '0.5'"),
            ("nan .5 .5 .1 .1", "broken_box", "expected the number of a class first, found 'nan'"),
            ("2 .5 .5 .1 .1", "unknown_class", "class 2 is not one of the 2 classes under `names`"),
            ("-1 .5 .5 .1 .1", "unknown_class", "class -1 is not one of the 2 classes under `names`"),
            ("0 32 24 10 12", "broken_box", "found 32; pixel coordinates seem to be written where fractions"),
            ("0 .5 .5 1.02 .1", "broken_box", "expected fractions of the picture from 0 to 1, found 1.02; it is left"),
            ("0 -.02 .5 .1 .1", "broken_box", "expected fractions of the picture from 0 to 1, found -0.02"),
            ("0 1 1 9 1 9 9", "broken_box", "pixel coordinates seem to be written where fractions are expected"),
            ("\xff\xfe", "broken_box", "expected `class cx cy w h`"),
        ],
    )
    def test_a_line_that_cannot_be_used(self, tmp_path: Path, line: str, kind: str, message: str) -> None:
        dataset = with_label(tmp_path, f"\n{line}\r\n1 .5 .5 .1 .1\n")
        assert only_defect(dataset).kind == kind
        assert only_defect(dataset).message.startswith("labels/train/train00.txt line 2: ")
        assert message in only_defect(dataset).message
        split = dataset.splits[0]
        assert (split.objects.labels.tolist(), split.place(0)) == ([1], "labels/train/train00.txt line 3")
        assert split.with_broken_objects == {0}

    @pytest.mark.parametrize(
        "line", ["1.0 .5 .5 .1 .1", "01 .5 .5 .1 .1", "1 1.01 .5 .1 .1", "1 -.01 .5 .1 .1", "1 0 0 1 1"]
    )
    def test_a_line_that_can(self, tmp_path: Path, line: str) -> None:
        dataset = with_label(tmp_path, line)
        assert dataset.splits[0].objects.labels.tolist() == [1]
        assert dataset.defects == ()

    def test_numbers_that_are_none_are_told_by_the_rules_for_all_formats(self, tmp_path: Path) -> None:
        dataset = with_label(tmp_path, "0 nan .5 .1 .1\n0 .5 .5 inf .1\n0 .1 .1 .9 .1 nan .9\n")
        assert np.isfinite(dataset.splits[0].objects.boxes).all(axis=1).tolist() == [False, False, False]
        assert [defect.kind for defect in dataset.defects] == ["polygon_label"]

    def test_the_box_around_a_polygon(self, tmp_path: Path) -> None:
        dataset = with_label(tmp_path, "0 .1 .2 .5 .2 .3 .8\n1 .5 .5 .1 .1\n1 0 0 1 0 1 1 0 1\n")
        boxes = dataset.splits[0].objects.boxes
        assert boxes == pytest.approx(np.array([[0.3, 0.5, 0.4, 0.6], [0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 1, 1]]))
        assert only_defect(dataset) == Defect(
            "polygon_label",
            "labels/train/train00.txt line 1: a polygon (one of 2); the box around it is used",
            count=2,
            effect="repaired",
        )
        assert dataset.notes == {"foreign_paths": 0, "polygons": 2}

    def test_key_points_are_no_polygon(self, tmp_path: Path) -> None:
        write_yolo(tmp_path, {"train": 1})
        (tmp_path / "data.yaml").write_text(f"train: images/train\nkpt_shape: [2, 3]\n{NAMES}")
        (tmp_path / "labels" / "train" / "train00.txt").write_text("0 .5 .5 .2 .4 .9 .9 2 .1 .1 2\n")
        dataset = read(tmp_path)
        assert dataset.splits[0].objects.boxes.tolist() == [[0.5, 0.5, 0.2, 0.4]]
        assert dataset.defects == ()

    @pytest.mark.parametrize("content", ["0 .5 .5 .1 .1".encode("utf-16"), b"\0" * 20])
    def test_no_text_at_all(self, tmp_path: Path, content: bytes) -> None:
        """Its picture is no background: what is on it is not known."""
        dataset = with_label(tmp_path, content)
        assert only_defect(dataset).kind == "broken_annotation"
        assert dataset.left_out == ("images/train/train00.jpg",)
        assert files_of(dataset)["train"] == []

    def test_byte_order_mark(self, tmp_path: Path) -> None:
        assert with_label(tmp_path, b"\xef\xbb\xbf0 .5 .5 .1 .1\n").defects == ()

    def test_many_defects_stay_readable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("nasdet_core.data.defects.SENTENCES_PER_KIND", 20)
        defects = with_label(tmp_path, "x\n" * 500).defects
        assert len(defects) == 21
        assert sum(defect.count for defect in defects) == 500
