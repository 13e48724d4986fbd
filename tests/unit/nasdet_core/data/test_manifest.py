"""Dataset versions and the check report."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from nasdet_core.data.check import check_and_build_manifest, check_dataset
from nasdet_core.data.manifest import Manifest, build_manifest
from nasdet_core.data.read import read_dataset
from nasdet_core.data.splits import assign_splits
from nasdet_core.errors import DatasetError
from tests.support.datasets import voc_object, write_coco, write_picture, write_voc, write_voc_xml

SPLITS = {"train": 4, "val": 3, "test": 2}


def manifest_of(root: Path) -> Manifest:
    return check_and_build_manifest(root)[1]


class TestVersion:
    def test_names_every_file_and_split(self, tmp_path: Path) -> None:
        manifest = manifest_of(write_voc(tmp_path, SPLITS))
        assert len(manifest.files) == 9 + 9 + 3  # pictures, annotations, lists
        assert {role: len(files) for role, files in manifest.splits.items()} == {
            "train": 4,
            "search": 3,
            "report": 2,
            "final": 4,
        }
        assert manifest.split_names["search"] == "val"

    def test_digest_is_that_of_the_content_not_of_the_place(self, tmp_path: Path) -> None:
        one, two = write_voc(tmp_path / "one", SPLITS), write_voc(tmp_path / "two", SPLITS)
        assert manifest_of(one).digest == manifest_of(two).digest
        assert len(manifest_of(one).digest) == 64

    def test_digest_changes_with_any_file_and_with_the_seed(self, tmp_path: Path) -> None:
        root = write_coco(tmp_path, {"train": 10, "val": 3})
        first = manifest_of(root)
        assert check_and_build_manifest(root, seed=1)[1].digest != first.digest
        write_picture(root / "train" / "0004.png", 64, 48, seed=99)
        assert manifest_of(root).digest != first.digest

    def test_survives_json(self, tmp_path: Path) -> None:
        manifest = check_and_build_manifest(write_coco(tmp_path, SPLITS), seed=5)[1]
        again = Manifest.from_json(json.loads(json.dumps(manifest.to_json())))
        assert again == manifest
        assert again.digest == manifest.digest

    def test_unknown_keys_and_newer_schemas_are_refused(self, tmp_path: Path) -> None:
        body = manifest_of(write_coco(tmp_path, SPLITS)).to_json()
        with pytest.raises(DatasetError, match=r"unknown keys \['colour'\]"):
            Manifest.from_json({**body, "colour": 1})
        with pytest.raises(DatasetError, match="expected a dataset manifest of schema 1, found 2"):
            Manifest.from_json({**body, "schema": 2})

    def test_records_of_a_role(self, tmp_path: Path) -> None:
        root = write_coco(tmp_path, {"train": 10, "val": 3})
        manifest, dataset = manifest_of(root), read_dataset(root)
        search = manifest.records(dataset, "search")
        assert [record.file for record in search] == list(manifest.splits["search"])
        assert not {record.file for record in manifest.records(dataset, "train")} & {record.file for record in search}
        with pytest.raises(DatasetError, match="expected one of the split roles"):
            manifest.records(dataset, "validation")

    def test_built_in_parts_equals_built_at_once(self, tmp_path: Path) -> None:
        dataset = read_dataset(write_coco(tmp_path, SPLITS))
        hashes = {file: sha256((dataset.root / file).read_bytes()).hexdigest() for file in dataset.by_file()}
        assert build_manifest(dataset, assign_splits(dataset), picture_hashes=hashes) == manifest_of(tmp_path)


class TestDrift:
    def test_untouched_passes(self, tmp_path: Path) -> None:
        manifest = manifest_of(write_voc(tmp_path, SPLITS))
        seen: list[tuple[int, int]] = []
        manifest.verify(tmp_path, lambda done, total: seen.append((done, total)))
        assert seen[-1] == (21, 21)

    @pytest.mark.parametrize("file", ["JPEGImages/val01.jpg", "Annotations/val01.xml", "ImageSets/Main/val.txt"])
    def test_changed_file_is_named(self, tmp_path: Path, file: str) -> None:
        manifest = manifest_of(write_voc(tmp_path, SPLITS))
        with (tmp_path / file).open("ab") as stream:
            stream.write(b" ")
        with pytest.raises(DatasetError, match=rf"{file} in .* has changed since the dataset was registered"):
            manifest.verify(tmp_path)

    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        manifest = manifest_of(write_voc(tmp_path, SPLITS))
        (tmp_path / "JPEGImages" / "test00.jpg").unlink()
        with pytest.raises(DatasetError, match=r"JPEGImages/test00.jpg of this dataset version is missing"):
            manifest.verify(tmp_path)
        with pytest.raises(DatasetError, match="no longer readable"):
            manifest.records(read_dataset(tmp_path), "report")

    def test_other_classes_are_drift(self, tmp_path: Path) -> None:
        manifest = manifest_of(write_voc(tmp_path, SPLITS))
        write_voc_xml(tmp_path, "train00", [voc_object("horse", (1, 1, 9, 9))])
        with pytest.raises(DatasetError, match=r"the classes in .* are cat, dog, horse, but this dataset version"):
            manifest.records(read_dataset(tmp_path), "train")

    def test_manifest_cannot_point_outside(self, tmp_path: Path) -> None:
        body = manifest_of(write_voc(tmp_path, SPLITS)).to_json()
        body["files"]["../secret"] = "0" * 64
        with pytest.raises(DatasetError, match="outside the dataset"):
            Manifest.from_json(body).verify(tmp_path)


class TestCheck:
    def test_counts(self, tmp_path: Path) -> None:
        seen: list[tuple[str, int, int]] = []
        report = check_dataset(write_voc(tmp_path, SPLITS), lambda *said: seen.append(said))
        assert report["splits"]["train"]["pictures"] == 4
        assert report["splits"]["train"]["boxes_by_class"] == {"cat": 4, "dog": 4}
        assert (report["splits"]["val"]["small"], report["splits"]["val"]["medium"]) == (6, 0)
        assert report["planned_splits"]["report"] == {"name": "test", "pictures": 2}
        assert report["picture_sizes"] == [{"width": 64, "height": 48, "pictures": 9}]
        assert report["defects"] == []
        assert [step for step in seen if step[0] == "looking at pictures"][-1][1:] == (9, 9)
        assert {what for what, _done, _total in seen} == {
            "reading annotations",
            "looking at pictures",
            "comparing pictures",
        }
        json.dumps(report)

    def test_bad_pictures_are_said_and_left_out(self, tmp_path: Path) -> None:
        root = write_voc(tmp_path, SPLITS)
        picture = root / "JPEGImages" / "train01.jpg"
        picture.write_bytes(picture.read_bytes()[:200])
        write_picture(root / "JPEGImages" / "val00.jpg", 32, 24)
        report, manifest = check_and_build_manifest(root)
        assert report["defect_counts"] == {"truncated_picture": 1, "wrong_size_and_boxes": 1}
        sentences = {defect["kind"]: defect["message"] for defect in report["defects"]}
        assert sentences["truncated_picture"].startswith("picture JPEGImages/train01.jpg cannot be decoded")
        assert sentences["wrong_size_and_boxes"].startswith(
            "picture JPEGImages/val00.jpg is 32x24, but its annotation in Annotations/val00.xml was made for 64x48"
        )
        assert manifest.left_out == ("JPEGImages/train01.jpg", "JPEGImages/val00.jpg")
        assert (len(manifest.splits["train"]), len(manifest.splits["search"])) == (3, 2)
        assert [record.file for record in manifest.records(read_dataset(root), "search")] == list(
            manifest.splits["search"]
        )

    def test_same_bytes_in_two_splits_are_said(self, tmp_path: Path) -> None:
        root = write_voc(tmp_path, SPLITS)
        (root / "JPEGImages" / "test01.jpg").write_bytes((root / "JPEGImages" / "train02.jpg").read_bytes())
        defects = check_dataset(root)["defects"]
        assert [defect["kind"] for defect in defects] == ["same_picture_in_two_splits"]
        for part in ("JPEGImages/train02.jpg", "JPEGImages/test01.jpg", "train", "test"):
            assert part in defects[0]["message"]

    def test_class_that_cannot_be_learned(self, tmp_path: Path) -> None:
        root = write_voc(tmp_path, SPLITS)
        write_voc_xml(root, "val00", [voc_object("horse", (1, 1, 9, 9))])
        assert [d["message"] for d in check_dataset(root)["defects"]] == [
            "1 class has boxes in val only and cannot be learned: horse"
        ]

    def test_sets_that_cannot_be_split_are_reported_not_raised(self, tmp_path: Path) -> None:
        root = write_voc(tmp_path, {"train": 2, "val": 1})
        report = check_dataset(root)
        assert report["planned_splits"] is None
        assert "usable training pictures" in report["splits_problem"]
        with pytest.raises(DatasetError, match="usable training pictures"):
            check_and_build_manifest(root)

    def test_a_split_without_boxes_is_said(self, tmp_path: Path) -> None:
        root = write_coco(tmp_path, {"train": 12, "val": 3, "test": 3})
        path = root / "annotations" / "instances_test.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "images": [], "annotations": []}))
        report = check_dataset(root)
        assert [d["message"] for d in report["defects"] if d["kind"] == "empty_split"] == [
            "split test has no usable picture; searches treat the dataset as if it had no such split"
        ]
        assert report["planned_splits"]["report"]["name"] == "val"

    def test_nothing_left(self, tmp_path: Path) -> None:
        root = write_voc(tmp_path, SPLITS)
        for path in (root / "JPEGImages").iterdir():
            path.write_bytes(b"no picture")
        with pytest.raises(DatasetError, match=r"no usable picture with a box is left .* cannot be decoded"):
            check_dataset(root)


def test_reading_and_checking_need_no_torch() -> None:
    code = (
        "import sys, nasdet_core.data.check, nasdet_core.data.manifest, nasdet_core.data.demo\n"
        "sys.exit(any(name.split('.')[0] in ('torch', 'torchvision', 'sklearn') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
