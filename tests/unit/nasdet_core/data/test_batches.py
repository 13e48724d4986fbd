"""Resident pictures, augmentation and batches of fixed shapes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from nasdet_core.data.augment import Augmentation
from nasdet_core.data.batches import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Batch,
    TrainLoader,
    eval_batches,
    sample_batches,
)
from nasdet_core.data.cache import ResidentImages, frame_of
from nasdet_core.data.in_memory import Annotation, ImageRecord
from nasdet_core.data.read import read_dataset
from nasdet_core.errors import DatasetError, SettingError
from tests.support.datasets import write_coco, write_picture

QUIET = Augmentation(horizontal_flip=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("coco"), {"train": 11, "val": 5})


@pytest.fixture
def cache(root: Path) -> ResidentImages:
    """11 pictures: 8 of 64x48, 3 of 48x64."""
    return ResidentImages(root, read_dataset(root).splits["train"], (32, 48))


def objects(
    boxes: Sequence[tuple[float, float, float, float]],
    *,
    crowd: Sequence[bool] | None = None,
    difficult: Sequence[bool] | None = None,
) -> Annotation:
    """Boxes with the labels 0, 1, 2 ..."""
    count = len(boxes)
    return Annotation(
        boxes_xyxy=np.array(boxes, dtype=np.float32),
        labels=np.arange(count),
        crowd=np.array([False] * count if crowd is None else crowd),
        difficult=np.array([False] * count if difficult is None else difficult),
        area=np.ones(count),
    )


def same(a: Batch, b: Batch) -> bool:
    return (
        torch.equal(a.images, b.images)
        and [r.file for r in a.records] == [r.file for r in b.records]
        and all(torch.equal(x["boxes"], y["boxes"]) for x, y in zip(a.targets, b.targets, strict=True))
    )


def only_mark(image: Tensor) -> tuple[int, int, int, int]:
    """Smallest box around what is brighter than half, in a picture [3, H, W] of 0..255."""
    rows, columns = torch.where(image.mean(0) > 128)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def marked(tmp_path: Path, size: tuple[int, int], box: tuple[int, int, int, int]) -> ResidentImages:
    """One black picture with a white box, and that box as its only object."""
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), box)
    image.save(tmp_path / "a.png")
    annotation = objects([box])
    return ResidentImages(tmp_path, [ImageRecord("a.png", *size, annotation)], (60, 80))


class TestFrame:
    @pytest.mark.parametrize(
        ("picture", "bucket", "content"),
        [
            ((64, 48), (32, 48), (32, 43)),
            ((48, 64), (48, 32), (43, 32)),  # upright: the bucket is turned
            ((100, 10), (32, 48), (5, 48)),
            ((10_000, 1), (32, 48), (1, 48)),
            ((50, 50), (32, 48), (32, 32)),
            ((48, 32), (32, 48), (32, 48)),
        ],
    )
    def test_aspect_ratio_is_kept(
        self, picture: tuple[int, int], bucket: tuple[int, int], content: tuple[int, int]
    ) -> None:
        frame = frame_of(*picture, (32, 48))
        assert (frame.bucket, frame.content) == (bucket, content)
        assert frame.scale == (content[1] / picture[0], content[0] / picture[1])


class TestResidentImages:
    def test_pixels_are_those_of_an_antialiased_resize(self, root: Path, cache: ResidentImages) -> None:
        image = Image.open(root / cache.records[0].file).resize((43, 32), Image.Resampling.BILINEAR)
        assert torch.equal(cache.pixels(0), torch.from_numpy(np.array(image)).permute(2, 0, 1))

    def test_boxes_follow_the_picture(self, tmp_path: Path) -> None:
        cache = marked(tmp_path, (40, 30), (10, 6, 30, 24))
        boxes, labels = cache.target(0)
        assert boxes.tolist() == [[20, 12, 60, 48]]
        assert labels.tolist() == [0]
        assert only_mark(cache.pixels(0).float()) == (20, 12, 60, 48)

    def test_crowd_difficult_and_overhanging_boxes(self, tmp_path: Path) -> None:
        write_picture(tmp_path / "a.png", 80, 60)
        boxes = [(0, 0, 9, 9), (1, 1, 9, 9), (-5, 50, 300, 70), (79.5, 0, 90, 10)]
        annotation = objects(boxes, crowd=[True, False, False, False], difficult=[False, True, False, False])
        cache = ResidentImages(tmp_path, [ImageRecord("a.png", 80, 60, annotation)], (60, 80))
        left, labels = cache.target(0)
        assert left.tolist() == [[0, 50, 80, 60], [79.5, 0, 80, 10]]
        assert labels.tolist() == [2, 3]

    def test_each_picture_is_read_once(self, tmp_path: Path) -> None:
        cache = marked(tmp_path, (40, 30), (10, 6, 30, 24))
        first = cache.pixels(0)
        (tmp_path / "a.png").unlink()
        assert cache.pixels(0) is first

    def test_figures(self, cache: ResidentImages) -> None:
        assert cache.figures().decoded == 0
        seen: list[tuple[int, int]] = []
        cache.preload(lambda done, total: seen.append((done, total)))
        figures = cache.figures()
        assert seen[-1] == (11, 11)
        assert (figures.pictures, figures.decoded, figures.compressed) == (11, 11, 0)
        assert figures.resident_mb == figures.all_decoded_mb == pytest.approx(11 * 3 * 32 * 43 / 2**20)

    def test_over_the_limit_the_smaller_form_is_kept_and_nothing_else_changes(self, root: Path) -> None:
        records = read_dataset(root).splits["train"]
        free = ResidentImages(root, records, (320, 480))
        tight = ResidentImages(root, records, (320, 480), memory_limit_mb=0.01)
        tight.preload()
        figures = tight.figures()
        assert figures.decoded == 0  # 0.4 MB decoded against 2 kB of PNG
        assert 0 < figures.compressed < 11
        assert figures.resident_mb <= 0.01
        assert all(torch.equal(free.pixels(n), tight.pixels(n)) for n in range(11))

    def test_broken_picture_is_one_sentence(self, tmp_path: Path) -> None:
        cache = marked(tmp_path, (40, 30), (10, 6, 30, 24))
        (tmp_path / "a.png").write_bytes(b"gone")
        with pytest.raises(DatasetError, match=r"picture a.png cannot be decoded"):
            cache.pixels(0)

    def test_picture_of_another_size_than_its_record(self, tmp_path: Path) -> None:
        cache = marked(tmp_path, (40, 30), (10, 6, 30, 24))
        write_picture(tmp_path / "a.png", 30, 40)
        with pytest.raises(DatasetError, match=r"a.png is 30x40, but its annotation was made for 40x30"):
            cache.pixels(0)

    def test_no_pictures(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="expected at least one picture"):
            ResidentImages(tmp_path, [], (32, 32))


class TestEvalBatches:
    def test_every_picture_once_grouped_by_bucket(self, cache: ResidentImages) -> None:
        batches = list(eval_batches(cache, 4))
        assert [tuple(batch.images.shape) for batch in batches] == [(4, 3, 32, 48), (4, 3, 32, 48), (3, 3, 48, 32)]
        assert sorted(r.file for b in batches for r in b.records) == sorted(r.file for r in cache.records)
        assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in batches)

    def test_normalised_and_padded_with_zero_afterwards(self, cache: ResidentImages) -> None:
        image = next(eval_batches(cache, 4)).images[0]
        mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
        assert_close(image[:, :, :43], (cache.pixels(0).float() / 255 - mean) / std)
        assert not image[:, :, 43:].any()

    def test_detnas_pixels(self, cache: ResidentImages) -> None:
        image = next(eval_batches(cache, 4, pixel_format="bgr_255")).images[0]
        assert torch.equal(image[:, :, :43], cache.pixels(0).float()[[2, 1, 0]])
        with pytest.raises(SettingError, match="pixel_format must be one of rgb_normalized, bgr_255, found 'rgb'"):
            next(eval_batches(cache, 4, pixel_format="rgb"))

    def test_a_picture_does_not_hang_on_its_neighbours(self, cache: ResidentImages) -> None:
        alone = {batch.records[0].file: batch.images[0] for batch in eval_batches(cache, 1)}
        for batch in eval_batches(cache, 4):
            for record, image in zip(batch.records, batch.images, strict=True):
                assert torch.equal(alone[record.file], image)

    def test_boxes_go_back_to_the_original_picture(self, cache: ResidentImages) -> None:
        for batch in eval_batches(cache, 4):
            for index, record in enumerate(batch.records):
                back = batch.to_original(index, batch.targets[index]["boxes"])
                assert back.dtype == torch.float64
                assert_close(back, torch.tensor(record.annotation.boxes_xyxy, dtype=torch.float64), atol=1e-4, rtol=0)
            outside = batch.to_original(0, torch.tensor([[-3.0, -3.0, 999.0, 999.0]]))
            assert outside.tolist() == [[0, 0, batch.records[0].width, batch.records[0].height]]

    def test_fixed_random_choice(self, cache: ResidentImages) -> None:
        def files(seed: int, count: int = 5) -> list[str]:
            return [r.file for b in sample_batches(cache, count, 2, seed=seed) for r in b.records]

        assert files(0) == files(0)
        assert len(set(files(0))) == 5
        assert files(0) != files(1)
        assert len(files(0, count=500)) == 11


class TestTrainLoader:
    def test_a_batch_is_a_function_of_seed_and_step(self, cache: ResidentImages) -> None:
        loader, again = TrainLoader(cache, 4, seed=3), TrainLoader(cache, 4, seed=3)
        forward = [loader.batch(step) for step in range(30)]
        backward = {step: again.batch(step) for step in reversed(range(30))}
        assert all(same(forward[step], backward[step]) for step in range(30))
        other = TrainLoader(cache, 4, seed=4)
        assert not all(same(forward[step], other.batch(step)) for step in range(5))

    def test_every_picture_equally_often_in_full_batches_of_one_shape(self, cache: ResidentImages) -> None:
        loader = TrainLoader(cache, 4, seed=0)
        batches = [loader.batch(step) for step in range(33)]  # 132 pictures: 12 epochs of 11
        counts = Counter(record.file for batch in batches for record in batch.records)
        assert set(counts.values()) == {12}
        assert {tuple(batch.images.shape) for batch in batches} == {(4, 3, 32, 48), (4, 3, 48, 32)}
        assert loader.steps_per_epoch == 2

    def test_one_epoch_holds_every_picture_once(self, tmp_path: Path) -> None:
        root = write_coco(tmp_path, {"train": 2, "val": 2})
        loader = TrainLoader(ResidentImages(root, read_dataset(root).splits["train"], (32, 48)), 1, seed=0)
        for epoch in range(5):
            assert len({loader.batch(epoch * 2 + k).records[0].file for k in range(2)}) == 2

    def test_order_changes_between_epochs(self, root: Path) -> None:
        records = [record for record in read_dataset(root).splits["train"] if record.width == 64]
        loader = TrainLoader(ResidentImages(root, records, (32, 48)), len(records), seed=0)
        assert len({tuple(r.file for r in loader.batch(step).records) for step in range(4)}) == 4

    def test_more_pictures_asked_for_than_there_are(self, cache: ResidentImages) -> None:
        loader = TrainLoader(cache, 16, seed=0)
        assert loader.steps_per_epoch == 1
        assert loader.batch(0).images.shape[0] == 16

    def test_flips_move_boxes_with_pixels(self, tmp_path: Path) -> None:
        cache = marked(tmp_path, (40, 30), (10, 4, 20, 18))
        loader = TrainLoader(cache, 1, 0, augmentation=Augmentation(vertical_flip=0.5), pixel_format="bgr_255")
        seen = set()
        for step in range(40):
            batch = loader.batch(step)
            box = tuple(batch.targets[0]["boxes"][0].tolist())
            assert only_mark(batch.images[0]) == box
            seen.add(box)
        assert len(seen) == 4

    def test_flips_stay_within_the_content(self, tmp_path: Path) -> None:
        cache = marked(tmp_path, (30, 30), (0, 0, 15, 15))  # content 60x60 in a bucket of 60x80
        batch = TrainLoader(cache, 1, 0, augmentation=Augmentation(horizontal_flip=1), pixel_format="bgr_255").batch(0)
        assert only_mark(batch.images[0]) == (30, 0, 60, 30)
        assert batch.targets[0]["boxes"].tolist() == [[30, 0, 60, 30]]

    def test_negative_step_and_empty_batch(self, cache: ResidentImages) -> None:
        with pytest.raises(SettingError, match="counts from 0"):
            TrainLoader(cache, 4, 0).batch(-1)
        with pytest.raises(SettingError, match="batch_size must be at least 1"):
            TrainLoader(cache, 0, 0)


class TestAugmentation:
    def test_scale_jitter_moves_boxes_with_pixels(self, tmp_path: Path) -> None:
        cache = marked(tmp_path, (80, 60), (30, 20, 50, 40))
        loader = TrainLoader(cache, 1, 0, augmentation=Augmentation(scale=(0.5, 1.6)), pixel_format="bgr_255")
        for step in range(40):
            batch = loader.batch(step)
            assert batch.images.shape == (1, 3, 60, 80)
            if len(batch.targets[0]["boxes"]):
                box = torch.tensor(only_mark(batch.images[0]), dtype=torch.float32)
                assert_close(box, batch.targets[0]["boxes"][0], atol=1.01, rtol=0)

    def test_objects_that_a_crop_cuts_away_are_no_targets(self) -> None:
        pixels = torch.zeros(3, 60, 80, dtype=torch.uint8)
        boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [38.0, 28.0, 42.0, 32.0]])
        for seed in range(20):
            _pixels, left, labels = Augmentation(horizontal_flip=0, scale=(4, 4))(
                pixels, boxes, torch.tensor([0, 1]), bucket=(60, 80), rng=random.Random(seed)
            )
            assert len(left) == len(labels)
            assert (left[:, 2:] > left[:, :2]).all()
            assert (left >= 0).all()

    def test_colours_change_but_neither_size_nor_boxes(self, cache: ResidentImages) -> None:
        strong = Augmentation(horizontal_flip=0, brightness=0.4, contrast=0.4, saturation=0.4)
        changed, plain = (TrainLoader(cache, 4, 0, augmentation=a).batch(0) for a in (strong, QUIET))
        assert not torch.equal(changed.images, plain.images)
        assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(changed.targets, plain.targets, strict=True))

    def test_the_resident_picture_stays_as_it_is(self, cache: ResidentImages) -> None:
        before = [cache.pixels(index).clone() for index in range(11)]
        loud = Augmentation(0.5, 0.5, (0.5, 2), 0.4, 0.4, 0.4)
        for step in range(6):
            TrainLoader(cache, 4, 0, augmentation=loud).batch(step)
        assert all(torch.equal(before[index], cache.pixels(index)) for index in range(11))

    @pytest.mark.parametrize("bad", [{"horizontal_flip": 1.5}, {"brightness": -0.1}, {"scale": (2.0, 1.0)}])
    def test_values_out_of_range(self, bad: dict[str, float]) -> None:
        with pytest.raises(SettingError, match=next(iter(bad))):
            Augmentation(**bad)  # type: ignore[arg-type]  # one dictionary for fields of two types
