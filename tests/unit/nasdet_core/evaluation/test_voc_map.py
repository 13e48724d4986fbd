"""Pascal VOC's mAP against a reference in plain loops, and against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasdet_core.data.in_memory import Annotation
from nasdet_core.errors import DatasetError, NasDetError, SettingError
from nasdet_core.evaluation.coco_files import load_pair
from nasdet_core.evaluation.coco_map import Detections, DetectionsError
from nasdet_core.evaluation.voc_files import score_voc_files
from nasdet_core.evaluation.voc_map import VocClassScore, VocObjects, score_voc

Box = tuple[float, float, float, float]
BOX: Box = (10, 10, 29, 29)
AWAY: Box = (100, 100, 119, 119)


def objects(boxes: Sequence[Box], labels: Sequence[int] | None = None, difficult: Sequence[int] = ()) -> VocObjects:
    count = len(boxes)
    return VocObjects(np.array(boxes), np.array(labels or [0] * count), np.array(difficult or [0] * count))


def found(*ranked: tuple[Box, float]) -> Detections:
    return [box for box, _ in ranked], [score for _, score in ranked], [0] * len(ranked)


def one_class(truth: Sequence[VocObjects], detections: Sequence[Detections], **options: float) -> VocClassScore:
    return score_voc(truth, detections, 1, **options).per_class[0]


def reference(
    truth: Sequence[VocObjects], detections: Sequence[Detections], label: int, min_overlap: float
) -> tuple[float, float] | None:
    """(11-point AP, area AP) in the steps of VOCevaldet.m and VOCap.m; None without an object."""
    ranked = []
    for image, (boxes, scores, labels) in enumerate(detections):
        for box, score, of in zip(np.asarray(boxes).tolist(), np.asarray(scores), np.asarray(labels), strict=True):
            if of == label:
                ranked.append((image, box, float(score)))
    ranked.sort(key=lambda item: -item[2])
    npos = sum(1 for item in truth for d, of in zip(item.difficult, item.labels, strict=True) if of == label and not d)
    if npos == 0:
        return None
    taken = set()
    tp = fp = 0
    recall, precision = [], []
    for image, bb, _score in ranked:
        best, best_row = -math.inf, -1
        for row, (gt, of) in enumerate(zip(truth[image].boxes_xyxy.tolist(), truth[image].labels, strict=True)):
            if of != label:
                continue
            iw = min(bb[2], gt[2]) - max(bb[0], gt[0]) + 1
            ih = min(bb[3], gt[3]) - max(bb[1], gt[1]) + 1
            if iw > 0 and ih > 0:
                ua = (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1) + (gt[2] - gt[0] + 1) * (gt[3] - gt[1] + 1) - iw * ih
                if iw * ih / ua > best:
                    best, best_row = iw * ih / ua, row
        if best < min_overlap:
            fp += 1
        elif not truth[image].difficult[best_row]:
            if (image, best_row) in taken:
                fp += 1
            else:
                taken.add((image, best_row))
                tp += 1
        recall.append(tp / npos)
        precision.append(tp / (tp + fp) if tp + fp else 0.0)
    points = [0, 0.1, 0.2, 0.30000000000000004, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]  # MATLAB's 0:0.1:1
    eleven = sum(max([p for r, p in zip(recall, precision, strict=True) if r >= t], default=0) / 11 for t in points)
    area, before = 0.0, 0.0
    for index, value in enumerate(recall):
        area += (value - before) * max(precision[index:])
        before = value
    return eleven, area


def made_up(seed: int) -> tuple[list[VocObjects], list[Detections], float]:
    """Few positions and scores, so that overlaps and ranks tie; difficult objects, empty pictures and classes."""
    rng = np.random.default_rng(seed)
    truth: list[VocObjects] = []
    detections: list[Detections] = []
    for image in range(int(rng.integers(1, 7))):
        count = 0 if image == 4 else int(rng.integers(0, 7))
        corner = rng.integers(0, 40, (count, 2)) * 2.0
        side = rng.choice([0.0, 9, 10, 19, 20, 24.5], (count, 2))  # a side of 0 is one pixel
        boxes = np.concatenate([corner, corner + side], axis=1)
        labels = rng.integers(0, 3, count)  # the class 3 has no object
        truth.append(VocObjects(boxes, labels, rng.random(count) < 0.25))
        many = int(rng.integers(0, 12)) if count else 2
        pick = rng.integers(0, max(count, 1), many)
        near = boxes[pick] if count else np.tile([5.0, 5, 20, 20], (many, 1))
        near = near + rng.choice([0, 0, 1, -1, 5, 0.5], (many, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
        of = np.where(rng.random(many) < 0.8, labels[pick] if count else pick, rng.integers(0, 4, many))
        detections.append((near, rng.choice([0.1, 0.4, 0.5, 0.9], many), of))
    return truth, detections, float(rng.choice([0.5, 0.5, 0.3, 0.75]))


class TestAgainstTheReference:
    @pytest.mark.parametrize("seed", range(60))
    def test_generated_case(self, seed: int) -> None:
        truth, detections, min_overlap = made_up(seed)
        scores = score_voc(truth, detections, 4, min_overlap=min_overlap)
        expected = [reference(truth, detections, label, min_overlap) for label in range(4)]
        for score, values in zip(scores.per_class, expected, strict=True):
            if values is None:
                assert (score.ap_11_point, score.ap_area, score.objects) == (None, None, 0)
            else:
                assert (score.ap_11_point, score.ap_area) == pytest.approx(values, abs=1e-12)
        present = [values for values in expected if values is not None]
        means = tuple(np.mean(present, axis=0)) if present else (None, None)
        assert (scores.map_11_point, scores.map_area) == pytest.approx(means, abs=1e-12)

    def test_the_cases_say_something(self) -> None:
        values = [reference(*made_up(seed)[:2], 0, made_up(seed)[2]) for seed in range(60)]
        present = [value for value in values if value is not None]
        assert len({round(area, 6) for _eleven, area in present}) > 25
        assert sum(0 < area < 1 for _eleven, area in present) > 25

    def test_many_in_one_ranking(self) -> None:
        """About 1000 detections: recall crosses every one of the 11 points."""
        parts = [made_up(seed)[:2] for seed in range(60)]
        truth = [item for some, _ in parts for item in some]
        detections = [item for _, some in parts for item in some]
        score = score_voc(truth, detections, 4).per_class[0]
        assert (score.ap_11_point, score.ap_area) == pytest.approx(reference(truth, detections, 0, 0.5), abs=1e-12)


class TestByHand:
    def test_perfect(self) -> None:
        score = one_class([objects([BOX])], [found((BOX, 0.5))])
        assert score == VocClassScore(ap_11_point=1.0, ap_area=1.0, objects=1, detections=1)

    def test_one_of_two_found(self) -> None:
        """Recall 0.5 at precision 1: 6 of the 11 points (0 to 0.5), and half of the area."""
        score = one_class([objects([BOX, AWAY])], [found((BOX, 0.5))])
        assert (score.ap_11_point, score.ap_area) == pytest.approx((6 / 11, 0.5))

    def test_recall_of_three_tenths_is_below_the_fourth_point(self) -> None:
        """The kit's 0:0.1:1 holds 3 * 0.1, a rounding above 0.3; all other points are met exactly."""
        boxes: list[Box] = [(40 * n, 0, 40 * n + 20, 20) for n in range(10)]
        for count in range(11):
            score = one_class([objects(boxes)], [found(*[(box, 0.5) for box in boxes[:count]])])
            points = 0 if count == 0 else count + 1
            assert score.ap_11_point == pytest.approx((points - (count == 3)) / 11)

    def test_precision_is_made_monotone(self) -> None:
        """True, false, true: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
        score = one_class([objects([BOX, AWAY])], [found((BOX, 0.9), ((300, 300, 310, 310), 0.8), (AWAY, 0.7))])
        assert score.ap_area == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
        assert score.ap_11_point == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)

    def test_a_later_detection_of_the_same_object_is_false(self) -> None:
        score = one_class([objects([BOX, AWAY])], [found((BOX, 0.9), (BOX, 0.8), (AWAY, 0.7))])
        assert score.ap_area == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)

    def test_corners_are_pixels_of_the_box(self) -> None:
        """20x20 pixels, 10 columns of them found: IoU exactly 0.5 when both edges count, less when they do not."""
        assert one_class([objects([BOX])], [found(((10, 10, 19, 29), 0.5))]).ap_area == 1
        assert one_class([objects([BOX])], [found(((10, 10, 18, 29), 0.5))]).ap_area == 0

    def test_the_threshold_itself_is_enough(self) -> None:
        half = [found(((10, 10, 19, 29), 0.5))]
        assert one_class([objects([BOX])], half, min_overlap=0.5).ap_area == 1
        assert one_class([objects([BOX])], half, min_overlap=np.nextafter(0.5, 1)).ap_area == 0
        assert one_class([objects([BOX])], [found((BOX, 0.5))], min_overlap=1).ap_area == 1

    def test_a_box_of_one_pixel(self) -> None:
        assert one_class([objects([(5, 5, 5, 5)])], [found(((5, 5, 5, 5), 0.5))]).ap_area == 1

    def test_an_object_is_compared_with_the_best_overlap_only(self) -> None:
        """The second detection overlaps both, most the one that is taken; the free one is not tried."""
        first, second = (0, 0, 19, 19), (4, 0, 23, 19)
        score = one_class([objects([first, second])], [found((first, 0.9), ((1, 0, 20, 19), 0.8))])
        assert score.ap_area == 0.5

    def test_scores_decide_over_all_pictures(self) -> None:
        truth = [objects([BOX]), objects([])]
        assert one_class(truth, [found((BOX, 0.4)), found((BOX, 0.6))]).ap_area == 0.5
        assert one_class(truth, [found((BOX, 0.6)), found((BOX, 0.4))]).ap_area == 1

    def test_ties_keep_the_order_of_the_images(self) -> None:
        tied = [found((BOX, 0.5)), found((BOX, 0.5))]
        assert one_class([objects([BOX]), objects([])], tied).ap_area == 1
        assert one_class([objects([]), objects([BOX])], tied).ap_area == 0.5


class TestDifficultObjects:
    def test_neither_missing_nor_finding_one_counts(self) -> None:
        truth = [objects([BOX, AWAY], difficult=[0, 1])]
        for detections in (found((BOX, 0.5)), found((AWAY, 0.9), (BOX, 0.5)), found(*[(AWAY, 0.9)] * 3, (BOX, 0.5))):
            score = one_class(truth, [detections])
            assert (score.ap_area, score.ap_11_point) == pytest.approx((1, 1))
            assert score.objects == 1

    def test_one_that_overlaps_more_takes_the_detection(self) -> None:
        """The kit looks for the best overlap among all objects, so the ordinary object stays unfound."""
        truth = [objects([(12, 10, 31, 29), BOX], difficult=[0, 1])]
        assert one_class(truth, [found((BOX, 0.9))]).ap_area == 0

    def test_a_class_of_difficult_objects_has_no_ap_and_counts_in_no_mean(self) -> None:
        truth = [objects([BOX, AWAY], labels=[0, 1], difficult=[0, 1])]
        scores = score_voc(truth, [found((BOX, 0.5))], 3)
        assert [score.ap_area for score in scores.per_class] == [1, None, None]
        assert (scores.map_area, scores.map_11_point) == pytest.approx((1, 1))

    def test_a_ranking_of_which_nothing_counts_has_precision_0(self) -> None:
        truth = [objects([BOX, AWAY], difficult=[0, 1])]
        score = one_class(truth, [found((AWAY, 0.9))])
        assert (score.ap_area, score.ap_11_point) == (0, 0)

    def test_crowd_regions_are_difficult(self) -> None:
        annotation = Annotation(
            boxes_xyxy=np.array([BOX, AWAY, (0, 0, 5, 5)]),
            labels=np.array([0, 0, 0]),
            crowd=np.array([0, 1, 0]),
            difficult=np.array([0, 0, 1]),
            area=np.array([400, 400, 25]),
        )
        assert VocObjects.of(annotation).difficult.tolist() == [False, True, True]

    def test_corners_are_not_rounded_to_float32(self) -> None:
        exact = (0.1, 0.2, 10.25, 20.125)
        annotation = Annotation(
            boxes_xyxy=np.array([(0.1, 0.2, 10.35, 20.325)]), labels=np.array([0]), crowd=np.array([0]),
            difficult=np.array([0]), area=np.array([1]), boxes_xywh=np.array([exact]),
        )  # fmt: skip
        assert VocObjects.of(annotation).boxes_xyxy.tolist() == [[0.1, 0.2, 0.1 + 10.25, 0.2 + 20.125]]


class TestInput:
    def test_nothing_found(self) -> None:
        scores = score_voc([objects([BOX])], [found()], 2)
        assert scores.per_class == (VocClassScore(0.0, 0.0, 1, 0), VocClassScore(None, None, 0, 0))

    def test_no_pictures(self) -> None:
        scores = score_voc([], [], 1)
        assert (scores.map_area, scores.map_11_point) == (None, None)

    @pytest.mark.parametrize("min_overlap", [0, -1, 1.5, math.nan])
    def test_a_threshold_that_is_none(self, min_overlap: float) -> None:
        with pytest.raises(SettingError, match="an IoU above 0 and up to 1 was expected"):
            score_voc([objects([BOX])], [found()], 1, min_overlap=min_overlap)

    @pytest.mark.parametrize(
        ("truth", "detections", "error", "message"),
        [
            ([BOX], [], DetectionsError, "expected detections for 1 images, found them for 0"),
            ([BOX], [([BOX], [0.5], [1])], DetectionsError, r"labels 1..1, expected class indices 0..0"),
            ([BOX], [([BOX], [math.nan], [0])], DetectionsError, "not a finite number"),
        ],
    )
    def test_detections_that_cannot_be_scored(
        self, truth: list[Box], detections: list[Detections], error: type[NasDetError], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            score_voc([objects(truth)], detections, 1)

    def test_objects_that_cannot_be_scored(self) -> None:
        with pytest.raises(DatasetError, match=r"expected objects of classes 0..0, found 0..2"):
            score_voc([objects([BOX, AWAY], labels=[0, 2])], [found()], 1)
        with pytest.raises(DatasetError, match="found 2 boxes, 1 labels and 2 flags"):
            VocObjects(np.array([BOX, AWAY]), np.array([0]), np.array([0, 0]))


class TestFiles:
    @pytest.mark.parametrize(("right_first", "expected"), [(True, 1), (False, 0.5)])
    @pytest.mark.parametrize("ids", [(1, 2), (2, 1), ("b", "a")])
    def test_ties_keep_the_order_of_the_file(
        self, right_first: bool, expected: float, ids: tuple[Any, Any], tmp_path: Path
    ) -> None:
        """Whatever the ids of the pictures are, as the devkit's sort does with the lines of its file."""
        truth, detections = _write(tmp_path, [objects([BOX]), objects([])], [found((BOX, 0.5)), found((BOX, 0.5))])
        content, results = json.loads(truth.read_text()), json.loads(detections.read_text())
        for item in (*content["annotations"], *results):
            item["image_id"] = ids[item["image_id"] - 1]
        for item in content["images"]:
            item["id"] = ids[item["id"] - 1]
        low = {**results[0], "score": 0.1}
        truth.write_text(json.dumps(content))
        detections.write_text(json.dumps([low, *(results if right_first else results[::-1])]))
        assert score_voc_files(load_pair(truth, detections)).scores.per_class[0].ap_area == expected

    @pytest.mark.parametrize("seed", [2, 5, 7, 10])
    def test_equal_to_the_arrays(self, seed: int, tmp_path: Path) -> None:
        """The same objects and detections, through two COCO files; ids in another order than the lists."""
        truth, detections, _ = made_up(seed)
        pair = load_pair(*_write(tmp_path, truth, detections))
        scores = score_voc_files(pair)
        expected = score_voc(truth, detections, 4)
        assert scores.scores.per_class == expected.per_class
        assert (scores.scores.map_area, scores.scores.map_11_point) == (expected.map_area, expected.map_11_point)
        assert list(scores.per_category) == [f"class {n}" for n in range(4)]
        assert [category for category, _score in scores.per_category.values()] == [5, 7, 9, 11]
        stricter = score_voc_files(pair, min_overlap=0.75).scores
        assert stricter.per_class == score_voc(truth, detections, 4, min_overlap=0.75).per_class
        assert stricter.per_class != expected.per_class


def _write(folder: Path, truth: Sequence[VocObjects], detections: Sequence[Detections]) -> tuple[Path, Path]:
    """Image n has the id n + 1; every second difficult object is written as a crowd region instead."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image, (there, (boxes, scores, labels)) in enumerate(zip(truth, detections, strict=True), start=1):
        for (x1, y1, x2, y2), label, hard in zip(
            there.boxes_xyxy.tolist(), there.labels.tolist(), there.difficult, strict=True
        ):
            number = len(annotations) + 1
            kind = "iscrowd" if number % 2 else "difficult"
            flags = {"iscrowd": 0, "area": 1, kind: int(hard)}
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append({"id": number, "image_id": image, "category_id": 5 + 2 * label, "bbox": box, **flags})
        for (x1, y1, x2, y2), score, label in zip(
            np.asarray(boxes).tolist(), np.asarray(scores).tolist(), np.asarray(labels).tolist(), strict=True
        ):
            box = [x1, y1, x2 - x1, y2 - y1]
            results.append({"image_id": image, "category_id": 5 + 2 * label, "bbox": box, "score": score})
    images = [{"id": n + 1, "width": 640, "height": 480} for n in reversed(range(len(truth)))]
    categories = [{"id": 5 + 2 * n, "name": f"class {n}"} for n in range(4)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "gt.json").write_text(json.dumps(content))
    (folder / "dt.json").write_text(json.dumps(results))
    return folder / "gt.json", folder / "dt.json"
