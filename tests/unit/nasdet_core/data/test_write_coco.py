"""COCO form of any dataset: exact, complete or not there at all."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasdet_core.data.in_memory import Annotation, Dataset, ImageRecord
from nasdet_core.data.read import read_dataset
from nasdet_core.data.write_coco import Pictures, coco_category_ids, write_coco
from nasdet_core.errors import DatasetError
from tests.support.datasets import write_voc

ARRAYS = ("boxes_xyxy", "labels", "crowd", "difficult", "area", "boxes_xywh")


def annotation(count: int) -> Annotation:
    rng = np.random.default_rng(count)
    xywh = rng.uniform(0.1, 9.7, (count, 4))
    flags = np.arange(count)
    return Annotation(
        boxes_xyxy=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        labels=flags % 2,
        crowd=flags % 3 == 1,
        difficult=flags % 3 == 0,
        area=rng.uniform(1, 50, count),
        boxes_xywh=xywh,
    )


def made_up(root: Path, files: Mapping[str, Sequence[str]], source_format: str = "voc") -> Dataset:
    """Pictures on disk with 0, 1, 2, ... objects."""
    splits: dict[str, tuple[ImageRecord, ...]] = {}
    for split, names in files.items():
        records = []
        for number, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 24), (number, 0, 0)).save(root / name)
            records.append(ImageRecord(name, 20, 24, annotation(number)))
        splits[split] = tuple(records)
    return Dataset(root, ("cat", "dog"), (3, 7), splits, source_format)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return made_up(tmp_path / "source", {"train": ["images/a.png", "images/b.png", "images/ü.png"], "val": ["c.png"]})


def content(out: Path, split: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((out / "annotations" / f"instances_{split}.json").read_text())
    return body


def assert_same_records(actual: Sequence[ImageRecord], expected: Sequence[ImageRecord]) -> None:
    assert [(r.width, r.height) for r in actual] == [(r.width, r.height) for r in expected]
    assert [PurePosixPath(r.file).name for r in actual] == [PurePosixPath(r.file).name for r in expected]
    for one, other in zip(actual, expected, strict=True):
        for name in ARRAYS:
            values, wanted = getattr(one.annotation, name), getattr(other.annotation, name)
            assert np.array_equal(values, wanted), (one.file, name)


class TestContent:
    def test_objects_are_written_exactly(self, dataset: Dataset, tmp_path: Path) -> None:
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="none")
        body = content(tmp_path / "out", "train")
        expected = dataset.splits["train"][2].annotation
        first, second = body["annotations"][1:]
        assert first == {
            "id": 2,
            "image_id": 3,
            "category_id": 1,
            "bbox": expected.exact_xywh[0].tolist(),
            "area": float(expected.area[0]),
            "iscrowd": 0,
            "difficult": 1,
        }
        assert (second["category_id"], second["iscrowd"], second["difficult"]) == (2, 1, 0)

    def test_numbers_go_through_all_splits(self, dataset: Dataset, tmp_path: Path) -> None:
        write_coco(dataset, {"train": dataset.splits["train"], "more": dataset.splits["train"]}, tmp_path / "out",
                   pictures="none")  # fmt: skip
        images = [entry["id"] for split in ("train", "more") for entry in content(tmp_path / "out", split)["images"]]
        objects = [
            entry["id"] for split in ("train", "more") for entry in content(tmp_path / "out", split)["annotations"]
        ]
        assert images == [1, 2, 3, 4, 5, 6]
        assert objects == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize(("source_format", "expected"), [("coco", (3, 7)), ("voc", (1, 2)), ("yolo", (1, 2))])
    def test_category_ids(
        self, source_format: str, expected: tuple[int, ...], dataset: Dataset, tmp_path: Path
    ) -> None:
        dataset = replace(dataset, source_format=source_format)
        assert coco_category_ids(dataset) == expected
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="none")
        assert content(tmp_path / "out", "val")["categories"] == [
            {"id": identity, "name": name} for identity, name in zip(expected, ("cat", "dog"), strict=True)
        ]

    def test_the_same_arguments_give_the_same_bytes(self, dataset: Dataset, tmp_path: Path) -> None:
        for name in ("one", "two"):
            write_coco(dataset, dataset.splits, tmp_path / name, pictures="copy")
        written = [path for path in sorted((tmp_path / "one").rglob("*")) if path.is_file()]
        assert len(written) == 6
        for path in written:
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


class TestPictures:
    def test_copies_are_files_of_their_own_with_the_same_bytes(self, dataset: Dataset, tmp_path: Path) -> None:
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="copy")
        copy, source = tmp_path / "out" / "train" / "ü.png", dataset.root / "images" / "ü.png"
        assert copy.read_bytes() == source.read_bytes()
        assert not copy.samefile(source)

    def test_links_take_no_room(self, dataset: Dataset, tmp_path: Path) -> None:
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="link")
        assert (tmp_path / "out" / "train" / "a.png").samefile(dataset.root / "images" / "a.png")

    def test_a_link_to_a_picture_becomes_the_picture(self, dataset: Dataset, tmp_path: Path) -> None:
        """A symbolic link that moved along would lead nowhere."""
        picture = dataset.root / "images" / "a.png"
        (dataset.root / "images" / "real").mkdir()
        picture.rename(dataset.root / "images" / "real" / "a.png")
        picture.symlink_to(Path("real") / "a.png")
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="link")
        linked = tmp_path / "out" / "train" / "a.png"
        assert not linked.is_symlink()
        assert linked.samefile(picture)

    def test_where_links_are_impossible_pictures_are_copied(
        self, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stands for another file system, which a test cannot have."""

        def refuse(_source: Path, _target: Path) -> None:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr(os, "link", refuse)
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="link")
        assert (tmp_path / "out" / "train" / "a.png").read_bytes() == (dataset.root / "images" / "a.png").read_bytes()

    def test_none_names_the_pictures_where_they_are(self, dataset: Dataset, tmp_path: Path) -> None:
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="none")
        assert [entry["file_name"] for entry in content(tmp_path / "out", "train")["images"]] == [
            "images/a.png",
            "images/b.png",
            "images/ü.png",
        ]
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["annotations"]

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            (["x/one/a.png", "x/two/b.png"], ["a.png", "b.png"]),
            (["x/one/a.png", "x/two/a.png"], ["one/a.png", "two/a.png"]),
            (["a.png", "two/a.png"], ["a.png", "two/a.png"]),
            (["x/a.png", "x/A.png"], ["000001/a.png", "000002/A.png"]),
        ],
    )
    def test_names_do_not_collide(self, files: list[str], expected: list[str], tmp_path: Path) -> None:
        dataset = made_up(tmp_path / "source", {"train": files})
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="copy")
        assert [entry["file_name"] for entry in content(tmp_path / "out", "train")["images"]] == expected
        for file, name in zip(files, expected, strict=True):
            assert (tmp_path / "out" / "train" / name).read_bytes() == (dataset.root / file).read_bytes()


class TestReadBack:
    @pytest.mark.parametrize("pictures", ["copy", "link"])
    def test_made_up_records(self, pictures: Pictures, tmp_path: Path) -> None:
        dataset = made_up(
            tmp_path / "source",
            {"train": ["x/a.png", "y/a.png"], "search": ["x/b.png", "x/ü.png"], "val": ["x/c.png", "x/d.png"]},
        )
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures=pictures)
        again = read_dataset(tmp_path / "out")
        assert again.class_names == dataset.class_names
        assert set(again.splits) == {"train", "search", "val"}
        for split, records in dataset.splits.items():
            assert_same_records(again.splits[split], records)

    @pytest.mark.parametrize("name", ["bccd", "coco_free_subset"])
    def test_real_datasets(self, name: str, shared_data_dir: Path, tmp_path: Path) -> None:
        dataset = read_dataset(shared_data_dir / name)
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="copy")
        again = read_dataset(tmp_path / "out")
        assert (again.class_names, again.category_ids) == (dataset.class_names, dataset.category_ids)
        assert set(again.splits) == set(dataset.splits)
        for split, records in dataset.splits.items():
            assert_same_records(again.splits[split], records)

    def test_a_turned_picture_stays_turned(self, tmp_path: Path) -> None:
        """Its bytes keep the EXIF orientation; size and boxes are those of the upright picture."""
        dataset = made_up(tmp_path / "source", {"all": ["a.jpg", "b.jpg"]})
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (24, 20)).save(dataset.root / "b.jpg", exif=exif)
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="copy")
        again = read_dataset(tmp_path / "out")
        assert_same_records(again.splits["all"], dataset.splits["all"])


class TestNothingHalfDone:
    def test_progress_and_end(self, dataset: Dataset, tmp_path: Path) -> None:
        seen: list[tuple[int, int]] = []
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="copy",
                   progress=lambda done, total: seen.append((done, total)))  # fmt: skip
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]

    def test_a_picture_that_went_away_leaves_nothing(self, dataset: Dataset, tmp_path: Path) -> None:
        (dataset.root / "c.png").unlink()
        with pytest.raises(DatasetError, match=r"picture c\.png is no longer in .*put it back"):
            write_coco(dataset, dataset.splits, tmp_path / "out", pictures="copy")
        assert [path.name for path in tmp_path.iterdir()] == ["source"]

    def test_an_empty_directory_is_taken(self, dataset: Dataset, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        write_coco(dataset, dataset.splits, tmp_path / "out", pictures="copy")
        assert (tmp_path / "out" / "val" / "c.png").is_file()

    def test_a_directory_with_something_in_it_is_refused_and_kept(self, dataset: Dataset, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
        with pytest.raises(DatasetError, match="is not empty; name another one"):
            write_coco(dataset, dataset.splits, tmp_path / "out", pictures="copy")
        assert (tmp_path / "out" / "mine.txt").read_text() == "mine"

    def test_a_file_in_the_way_is_named(self, dataset: Dataset, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("a file")
        with pytest.raises(DatasetError, match="but it is a file"):
            write_coco(dataset, dataset.splits, tmp_path / "out", pictures="copy")

    def test_a_place_inside_the_dataset_is_refused(self, dataset: Dataset) -> None:
        with pytest.raises(DatasetError, match="would then hold itself"):
            write_coco(dataset, dataset.splits, dataset.root / "coco", pictures="copy")

    def test_a_place_that_cannot_be_made_is_one_sentence(self, dataset: Dataset, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(DatasetError, match="cannot write the dataset to"):
            write_coco(dataset, dataset.splits, tmp_path / "file" / "out", pictures="copy")

    def test_a_split_that_cannot_be_a_folder_is_refused(self, dataset: Dataset, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="cannot be a folder"):
            write_coco(dataset, {"../up": dataset.splits["val"]}, tmp_path / "out", pictures="copy")


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dataset = read_dataset(write_voc(tmp_path / "voc"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    abandoned, foreign = tmp_path / f".out.{ended.pid}.part", tmp_path / f".out.{os.getppid()}.part"
    for folder in (abandoned, foreign):
        (folder / "train").mkdir(parents=True)
    write_coco(dataset, dataset.splits, tmp_path / "out", pictures="none")
    assert not abandoned.exists()
    assert foreign.exists()  # of a process that lives
