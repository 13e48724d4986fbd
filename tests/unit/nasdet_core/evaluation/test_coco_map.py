"""COCO AP against plain pycocotools, and the jackknife against pycocotools on fewer images."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nasdet_core.data.in_memory import Annotation, ImageRecord
from nasdet_core.data.read import read_dataset
from nasdet_core.errors import DatasetError
from nasdet_core.evaluation.coco_map import STATS, CocoEvaluator, Detections, DetectionsError
from tests.support.datasets import write_picture

Boxes = Sequence[tuple[float, float, float, float]]


def record(boxes: Boxes, labels: Sequence[int], **flags: Sequence[float]) -> ImageRecord:
    count = len(boxes)
    array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    sides = array[:, 2:] - array[:, :2]
    return ImageRecord(
        file="a.png",
        width=640,
        height=480,
        annotation=Annotation(
            boxes_xyxy=array.astype(np.float32),
            labels=np.array(labels),
            crowd=np.array(flags.get("crowd", [0] * count)),
            difficult=np.array(flags.get("difficult", [0] * count)),
            area=np.array(flags.get("area", sides[:, 0] * sides[:, 1])),
            boxes_xywh=np.concatenate([array[:, :2], sides], axis=1),
        ),
    )


def made_up(
    seed: int, images: int, *, classes: int = 4, per_image: int = 180
) -> tuple[list[ImageRecord], list[Detections]]:
    """Objects of all sizes, crowds, a class without objects, images without objects, tied scores, > 100 detections."""
    rng = np.random.default_rng(seed)
    records: list[ImageRecord] = []
    detections: list[Detections] = []
    for image in range(images):
        count = 0 if image % 5 == 4 else int(rng.integers(1, 12))
        corner = rng.integers(0, 300, (count, 2)).astype(float)
        side = np.exp(rng.uniform(np.log(6), np.log(180), (count, 2))).round()
        boxes = np.concatenate([corner, corner + side], axis=1)
        labels = rng.integers(0, classes - 1, count)  # the last class has no objects
        crowd = rng.random(count) < 0.1
        area = side[:, 0] * side[:, 1] * rng.uniform(0.5, 1, count)
        records.append(record([tuple(box) for box in boxes], labels.tolist(), crowd=crowd.tolist(), area=area.tolist()))
        pick = rng.integers(0, max(count, 1), per_image)
        near = boxes[pick] if count else np.tile([50.0, 50, 90, 90], (per_image, 1))
        sigma = rng.choice([1, 4, 15], (per_image, 1))
        near = near + rng.normal(0, sigma, (per_image, 4)).round(1)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        # most detections of one class, so that the limit of 100 per image and class cuts
        right = labels[pick] if count else pick
        found = np.where(rng.random(per_image) < 0.5, 0, right)
        found = np.where(rng.random(per_image) < 0.05, rng.integers(0, classes, per_image), found)
        scores = (1 / (1 + 0.1 * sigma[:, 0]) * rng.uniform(0.5, 1, per_image)).round(1)
        detections.append((near, scores, found))
    return records, detections


def plain_cocoeval(
    records: Sequence[ImageRecord],
    detections: Sequence[Detections],
    categories: Sequence[int],
    *,
    keep: Sequence[int] | None = None,
) -> COCOeval:
    """pycocotools as its documentation shows it."""
    truth: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image, (item, (boxes, scores, labels)) in enumerate(zip(records, detections, strict=True), start=1):
        for row in range(len(item.annotation)):
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": image,
                    "category_id": categories[item.annotation.labels[row]],
                    "bbox": item.annotation.exact_xywh[row].tolist(),
                    "area": float(item.annotation.area[row]),
                    "iscrowd": int(item.annotation.crowd[row]),
                }
            )
        for (x1, y1, x2, y2), score, label in zip(
            np.asarray(boxes), np.asarray(scores), np.asarray(labels), strict=True
        ):
            box = [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
            results.append({"image_id": image, "category_id": categories[label], "bbox": box, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in range(1, len(records) + 1)],
            "categories": [{"id": category, "name": str(category)} for category in categories],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        if keep is not None:
            evaluation.params.imgIds = [image + 1 for image in keep]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


class TestAgainstPycocotools:
    @pytest.mark.parametrize("seed", range(4))
    def test_all_numbers_are_equal_to_the_last_bit(self, seed: int) -> None:
        records, detections = made_up(seed, images=12)
        categories = (2, 5, 11, 40)
        expected = plain_cocoeval(records, detections, categories)
        evaluator = CocoEvaluator(records, ("a", "b", "c", "d"), categories)
        full, fitness = evaluator.evaluate(detections, full=True), evaluator.evaluate(detections)
        assert full.stats is not None
        assert list(full.stats.values()) == [None if x == -1 else float(x) for x in expected.stats]
        assert (fitness.box_map, fitness.box_ap50, fitness.box_ap75) == tuple(expected.stats[:3])
        assert (full.box_map, full.jackknife, full.per_class) == (fitness.box_map, fitness.jackknife, fitness.per_class)
        assert fitness.per_class["d"] is None
        precision = expected.eval["precision"][:, :, 1, 0, 2]
        assert fitness.per_class["b"] == float(precision.mean())
        assert full.per_class_ap50 is not None
        assert full.per_class_ap50["b"] == float(precision[0].mean())
        assert full.per_class_ap50["d"] is None
        assert fitness.per_class_ap50 is None
        assert 0.01 < full.box_map < 0.9  # the case says something

    @pytest.mark.parametrize("twentieths", range(21))
    def test_iou_exactly_at_every_edge(self, twentieths: int) -> None:
        """A detection of which n of 20 rows are kept has the IoU n / 20: every threshold, 0 and 1 are met exactly."""
        truth = [(40.0, 20.0, 60.0, 40.0), (200.0, 100.0, 240.0, 140.0)]
        records = [record(truth, [0, 0], crowd=[0, crowd]) for crowd in (0, 0, 1)]
        found = [(40.0, 20.0, 60.0, 20.0 + twentieths), (200.0, 100.0, 240.0, 100.0 + 2 * twentieths)]
        detections: list[Detections] = [(found, [0.5, 0.5], [0, 0])] * 3
        expected = plain_cocoeval(records, detections, (1,))
        result = CocoEvaluator(records, ("a",)).evaluate(detections, full=True)
        assert result.stats is not None
        assert list(result.stats.values()) == [None if x == -1 else float(x) for x in expected.stats]
        # the thresholds are 0.5, 0.55, ..., 0.95; a detection that reaches one is a match at it
        assert result.box_map == pytest.approx(min(max(0, twentieths - 9), 10) / 10)

    @pytest.mark.parametrize("seed", range(20, 50))
    def test_small_cases(self, seed: int) -> None:
        """Few objects, so that crowds, ties and empty classes decide more; sometimes over 100 detections an image."""
        records, detections = made_up(seed, images=4, per_image=130 if seed % 5 == 0 else 9)
        expected = plain_cocoeval(records, detections, (1, 2, 3, 4))
        result = CocoEvaluator(records, ("a", "b", "c", "d")).evaluate(detections, full=True)
        assert result.stats is not None
        assert list(result.stats.values()) == [None if x == -1 else float(x) for x in expected.stats]
        precision = expected.eval["precision"][:, :, :, 0, 2]
        for k, name in enumerate("abcd"):
            assert result.per_class[name] == (None if precision[0, 0, k] == -1 else float(precision[:, :, k].mean()))

    def test_more_than_100_detections_of_a_class_in_an_image(self) -> None:
        """The right one has the lowest score: of 100 it counts, of 101 it is cut off."""
        right, wrong = (10.0, 10.0, 60.0, 60.0), (200.0, 200.0, 260.0, 260.0)
        records = [record([right], [0])] * 2
        for others, expected in ((99, 0.01), (100, 0)):
            mine = ([wrong] * others + [right], [0.9] * others + [0.1], [0] * (others + 1))
            assert CocoEvaluator(records, ("a",)).evaluate([mine, mine]).box_map == pytest.approx(expected, abs=1e-12)

    def test_the_order_of_calls_does_not_matter(self) -> None:
        records, first = made_up(0, images=6)
        _records, second = made_up(1, images=6)
        evaluator = CocoEvaluator(records, ("a", "b", "c", "d"))
        alone = [evaluator.evaluate(detections) for detections in (first, second)]
        assert [evaluator.evaluate(detections, full=False) for detections in (second, first)] == alone[::-1]
        evaluator.evaluate(first, full=True)
        assert evaluator.evaluate(first) == alone[0]

    def test_published_fixture(self, shared_data_dir: Path, tmp_path: Path) -> None:
        folder = shared_data_dir / "coco_eval"
        truth = json.loads((folder / "instances_val2014_100.json").read_text())
        (tmp_path / "annotations").mkdir()
        (tmp_path / "annotations" / "instances_val2014.json").write_text(json.dumps(truth))
        for image in truth["images"]:
            write_picture(tmp_path / "val2014" / image["file_name"], image["width"], image["height"])
        dataset = read_dataset(tmp_path)
        by_image: dict[int, list[dict[str, Any]]] = {}
        for found in json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text()):
            by_image.setdefault(found["image_id"], []).append(found)
        label = {category: index for index, category in enumerate(dataset.category_ids)}
        detections: list[Detections] = []
        for identity in sorted(image["id"] for image in truth["images"]):
            mine = by_image.get(identity, [])
            xywh = np.array([item["bbox"] for item in mine]).reshape(-1, 4)
            xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
            detections.append((xyxy, [d["score"] for d in mine], [label[d["category_id"]] for d in mine]))
        evaluator = CocoEvaluator(dataset.splits["val"], dataset.class_names, dataset.category_ids)
        result = evaluator.evaluate(detections, full=True)
        recorded = json.loads((folder / "metrics.json").read_text())
        assert result.stats is not None
        # 1e-12: the corners are added up and taken apart again, a rounding of 1e-16
        assert result.stats == pytest.approx(recorded["metrics"], abs=1e-12)
        assert list(result.stats) == list(STATS) == list(recorded["metrics"])
        expected = {name: figures["AP"] for name, figures in recorded["per_category"].items()}
        present = {name: ap for name, ap in result.per_class.items() if ap is not None}
        assert present == pytest.approx(expected, abs=1e-12)
        assert result.per_size == {size: result.stats[f"AP_{size}"] for size in ("small", "medium", "large")}


class TestJackknife:
    def test_leaving_out_an_image_equals_pycocotools_without_it(self) -> None:
        records, detections = made_up(7, images=9)
        result = CocoEvaluator(records, ("a", "b", "c", "d")).evaluate(detections)
        expected = []
        order = sorted(range(9), key=lambda image: not records[image].annotation.trainable.any())
        for left_out in order:  # images with objects make the first groups
            keep = [image for image in range(9) if image != left_out]
            expected.append(plain_cocoeval(records, detections, (1, 2, 3, 4), keep=keep).stats[0])
        assert result.jackknife == pytest.approx(expected, abs=1e-12)
        assert len(set(result.jackknife)) > 5

    def test_many_images_share_64_groups(self) -> None:
        records, detections = made_up(3, images=150, per_image=12)
        result = CocoEvaluator(records, ("a", "b", "c", "d")).evaluate(detections)
        assert len(result.jackknife) == 64
        order = sorted(range(150), key=lambda image: not records[image].annotation.trainable.any())
        group = {image: rank % 64 for rank, image in enumerate(order)}
        keep = [image for image in range(150) if group[image] != 10]
        assert result.jackknife[10] == pytest.approx(
            plain_cocoeval(records, detections, (1, 2, 3, 4), keep=keep).stats[0], abs=1e-12
        )

    def test_error_is_that_of_the_choice_of_images(self) -> None:
        """The jackknife's error against the spread over many drawn sets of images."""
        records, detections = made_up(5, images=400, per_image=6)
        rng = np.random.default_rng(0)
        values, errors = [], []
        for _ in range(30):
            chosen = rng.choice(400, 40, replace=False)
            evaluator = CocoEvaluator([records[n] for n in chosen], ("a", "b", "c", "d"))
            result = evaluator.evaluate([detections[n] for n in chosen])
            values.append(result.box_map)
            errors.append(result.standard_error)
        # 30 draws know their spread to 13 %; drawing 40 of 400 without putting back takes 5 % off
        assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.4)

    def test_a_class_seen_in_one_image_only(self) -> None:
        box = (10.0, 10.0, 50.0, 50.0)
        records = [record([box], [0]), record([box], [0]), record([box], [1])]
        perfect: list[Detections] = [([box], [0.9], [0]), ([box], [0.8], [0]), ([box], [0.7], [1])]
        result = CocoEvaluator(records, ("a", "b")).evaluate(perfect)
        assert result.jackknife == pytest.approx((1, 1, 1))
        assert result.standard_error == pytest.approx(0, abs=1e-12)

    def test_fast_enough_to_be_computed_for_every_candidate(self) -> None:
        records, detections = made_up(1, images=87, classes=3, per_image=100)
        evaluator = CocoEvaluator(records, ("a", "b", "c"))
        run = evaluator._match(detections, full=False)
        from nasdet_core.evaluation.coco_jackknife import leave_out_aps

        by_class = [run.evalImgs[k * 87 : (k + 1) * 87] for k in range(3)]
        times = []
        for _ in range(3):
            started = time.perf_counter()
            leave_out_aps(by_class, evaluator._groups, np.asarray(run.params.recThrs))
            times.append(time.perf_counter() - started)
        assert min(times) < 0.3  # 0.03 on an idle core


class TestIgnoredObjects:
    box, other = (10.0, 10.0, 60.0, 60.0), (200.0, 200.0, 260.0, 260.0)

    def score(self, flags: Mapping[str, Sequence[float]], found: Boxes, scores: Sequence[float]) -> float:
        """AP where the second image holds `other` (always found) and `box` with the given flags."""
        records = [record([self.other], [0]), record([self.other, self.box], [0, 0], **flags)]
        detections: list[Detections] = [
            ([self.other], [0.5], [0]),
            ([self.other, *found], [0.5, *scores], [0] * (1 + len(found))),
        ]
        return CocoEvaluator(records, ("a",)).evaluate(detections).box_map

    @pytest.mark.parametrize("kind", ["difficult", "crowd"])
    def test_neither_missing_nor_finding_one_counts(self, kind: str) -> None:
        flags = {kind: [0, 1]}
        assert self.score(flags, [], []) == pytest.approx(1)
        assert self.score(flags, [self.box], [0.9]) == pytest.approx(1)
        assert self.score({}, [], []) < 0.7  # an ordinary object that is missed counts

    def test_a_crowd_takes_any_number_a_difficult_object_one(self) -> None:
        found = [self.box, (12.0, 12.0, 58.0, 58.0)]
        assert self.score({"crowd": [0, 1]}, found, [0.9, 0.8]) == pytest.approx(1)
        assert self.score({"difficult": [0, 1]}, found, [0.9, 0.8]) < 1

    def test_a_small_box_inside_is_ignored_for_a_crowd_only(self) -> None:
        inside = [(20.0, 20.0, 30.0, 30.0)]
        assert self.score({"crowd": [0, 1]}, inside, [0.9]) == pytest.approx(1)
        assert self.score({"difficult": [0, 1]}, inside, [0.9]) < 1


class TestInput:
    records = (record([(1, 1, 9, 9)], [0]), record([(1, 1, 9, 9)], [0]))
    nothing: Detections = ([], [], [])

    def test_no_detections_at_all(self) -> None:
        result = CocoEvaluator(self.records, ("a", "b")).evaluate([self.nothing] * 2, full=True)
        assert (result.box_map, result.standard_error) == (0, 0)
        assert result.per_class == {"a": 0, "b": None}
        assert result.stats is not None
        assert result.stats["AP_large"] is None

    def test_prints_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        CocoEvaluator(self.records, ("a",)).evaluate([([[1, 1, 9, 9]], [0.5], [0]), self.nothing], full=True)
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (([[1, 1, 9, 9]], [0.5, 0.5], [0]), "image 2 has 1 boxes, 2 scores and 1 labels"),
            (([[1, 1, 9, 9]], [float("nan")], [0]), "not a finite number"),
            (([[1, 1, float("inf"), 9]], [0.5], [0]), "not a finite number"),
            (([[1, 1, 9, 9]], [0.5], [1]), r"labels 1..1, expected class indices 0..0"),
            (([[1, 1, 9, 9]], [0.5], [-1]), r"labels -1..-1"),
        ],
    )
    def test_detections_that_cannot_be_scored(self, bad: Detections, message: str) -> None:
        with pytest.raises(DetectionsError, match=message):
            CocoEvaluator(self.records, ("a",)).evaluate([self.nothing, bad])

    def test_wrong_number_of_images(self) -> None:
        with pytest.raises(DetectionsError, match="expected detections for 2 images, found them for 1"):
            CocoEvaluator(self.records, ("a",)).evaluate([self.nothing])

    def test_ground_truth_that_gives_no_error(self) -> None:
        with pytest.raises(DatasetError, match=r"at least 2 pictures with objects .* found 1 of 2"):
            CocoEvaluator([self.records[0], record([], [])], ("a",))
        ignored = record([(1, 1, 9, 9)], [0], crowd=[1])
        with pytest.raises(DatasetError, match="found 1 of 2"):
            CocoEvaluator([self.records[0], ignored], ("a",))

    def test_category_ids_out_of_order(self) -> None:
        with pytest.raises(DatasetError, match="rising order"):
            CocoEvaluator(self.records, ("a", "b"), (2, 1))

    def test_real_cells_scored_against_themselves(self, shared_data_dir: Path) -> None:
        dataset = read_dataset(shared_data_dir / "bccd")
        records = dataset.splits["val"]
        perfect: list[Detections] = [
            (r.annotation.boxes_xyxy, np.ones(len(r.annotation)), r.annotation.labels) for r in records
        ]
        result = CocoEvaluator(records, dataset.class_names, dataset.category_ids).evaluate(perfect)
        assert result.box_map == pytest.approx(1)
        assert result.images == 87
