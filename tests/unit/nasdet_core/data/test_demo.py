"""The generated demo dataset."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasdet_core.data.check import check_dataset
from nasdet_core.data.demo import IMAGE_SIZE, write_demo_dataset
from nasdet_core.data.demo_scene import LARGEST, MAX_COVER, SMALLEST
from nasdet_core.data.in_memory import Dataset
from nasdet_core.data.read import read_dataset
from nasdet_core.errors import DatasetError


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def small(root: Path, seed: int = 0) -> Path:
    return write_demo_dataset(root, seed, train=40, val=12, test=12)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("demo") / "digits")


@pytest.fixture(scope="module")
def dataset(demo: Path) -> Dataset:
    return read_dataset(demo)


class TestContent:
    def test_a_sound_coco_dataset(self, demo: Path) -> None:
        report = check_dataset(demo)
        assert report["defects"] == []
        assert report["classes"] == ["zero", "four", "seven"]
        assert {name: split["pictures"] for name, split in report["splits"].items()} == {
            "train": 40,
            "val": 12,
            "test": 12,
        }
        assert report["picture_sizes"] == [{"width": IMAGE_SIZE[1], "height": IMAGE_SIZE[0], "pictures": 64}]
        assert report["planned_splits"]["search"]["name"] == "val"

    def test_sizes_vary_over_the_whole_range(self, dataset: Dataset) -> None:
        sides = np.concatenate([r.annotation.exact_xywh[:, 2:].max(axis=1) for r in dataset.splits["train"]])
        assert (sides.min(), sides.max()) >= (SMALLEST, SMALLEST)
        assert sides.max() <= LARGEST
        assert sides.min() < 21
        assert sides.max() > 50

    def test_boxes_lie_inside_and_overlap_a_little(self, dataset: Dataset) -> None:
        covers = []
        for record in dataset.splits["train"]:
            boxes = record.annotation.boxes_xyxy
            assert boxes.min() >= 0
            assert (boxes[:, 2] <= record.width).all()
            assert (boxes[:, 3] <= record.height).all()
            for index, (x1, y1, x2, y2) in enumerate(boxes):
                for u1, v1, u2, v2 in boxes[:index]:
                    shared = max(min(x2, u2) - max(x1, u1), 0) * max(min(y2, v2) - max(y1, v1), 0)
                    covers.append(shared / min((x2 - x1) * (y2 - y1), (u2 - u1) * (v2 - v1)))
        assert max(covers) <= MAX_COVER
        assert sum(cover > 0.05 for cover in covers) >= 5

    def test_digits_stand_out_and_fill_their_boxes(self, demo: Path, dataset: Dataset) -> None:
        """The ink is brighter than the ground around it and reaches all four sides of its box."""
        for record in dataset.splits["val"]:
            light = np.asarray(Image.open(demo / record.file).convert("L"), dtype=float)
            ground = np.median(light)
            for x, y, width, height in record.annotation.exact_xywh.astype(int):
                bright = light[y : y + height, x : x + width] > ground + 50
                assert bright.mean() > 0.15
                for side in (bright[:2], bright[-2:], bright[:, :2], bright[:, -2:]):
                    assert side.any()


class TestBytes:
    def test_same_arguments_same_bytes(self, demo: Path, tmp_path: Path) -> None:
        assert digests(small(tmp_path / "again")) == digests(demo)

    def test_another_seed_gives_other_scenes(self, demo: Path, tmp_path: Path) -> None:
        other, first = digests(small(tmp_path / "other", seed=1)), digests(demo)
        assert other.keys() == first.keys()
        assert not {other[name] for name in other} & {first[name] for name in first}

    def test_more_scenes_leave_the_first_ones_as_they_were(self, demo: Path, tmp_path: Path) -> None:
        longer = digests(write_demo_dataset(tmp_path / "longer", train=42, val=12, test=12))
        assert longer["train/000040.png"] == digests(demo)["train/000040.png"]


class TestDirectory:
    def test_a_finished_one_is_left_alone(self, demo: Path) -> None:
        before = (demo / "demo.json").stat().st_mtime_ns
        assert small(demo) == demo
        assert (demo / "demo.json").stat().st_mtime_ns == before

    def test_other_settings_are_refused(self, demo: Path) -> None:
        with pytest.raises(DatasetError, match=r"holds a demo dataset made with .*'seed': 0.*; name another directory"):
            small(demo, seed=5)

    def test_other_files_are_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("x")
        with pytest.raises(DatasetError, match="is not empty and holds no demo dataset"):
            small(tmp_path)

    def test_an_empty_directory_is_filled(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert (write_demo_dataset(tmp_path / "empty", train=2, val=2, test=2) / "demo.json").exists()

    def test_an_interrupted_run_leaves_nothing(self, tmp_path: Path) -> None:
        def stop(done: int, _total: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_demo_dataset(tmp_path / "digits", train=5, val=2, test=2, progress=stop)
        assert list(tmp_path.iterdir()) == []
