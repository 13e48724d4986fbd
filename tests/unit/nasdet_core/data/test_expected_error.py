"""The ± of AP that is told before anything is trained, against the one that is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasdet_core.data.expected_error import expected_ap_error, smallest_difference
from nasdet_core.data.in_memory import Annotation, ImageRecord
from nasdet_core.data.read import read_dataset
from nasdet_core.evaluation.coco_map import CocoEvaluator, Detections

FACTOR = 1.5


def objects(labels: list[int], *, crowd: bool = False) -> Annotation:
    count = len(labels)
    boxes = np.tile(np.array([1, 1, 9, 9], dtype=np.float32), (count, 1))
    return Annotation(boxes, np.array(labels), np.full(count, crowd), np.zeros(count, dtype=bool), np.ones(count))


def simulate(records: tuple[ImageRecord, ...], rng: np.random.Generator) -> list[Detections]:
    """A detector of AP about 0.5: larger objects are found oftener and better, some pictures are harder."""
    return [_detections(record, rng) for record in records]


def _detections(record: ImageRecord, rng: np.random.Generator) -> Detections:
    truth = record.annotation
    boxes = truth.exact_xywh[truth.trainable]
    size = np.sqrt(np.maximum(boxes[:, 2] * boxes[:, 3], 16))
    skill = 0.5 + rng.normal(0, 0.3) + rng.normal(0, 0.8, len(boxes)) + 0.5 * np.log(size / 40)
    found = rng.random(len(boxes)) < 1 / (1 + np.exp(-skill - 1.3))
    boxes, skill = boxes[found], skill[found]
    moved = 0.1 * np.exp(-0.5 * skill)[:, None] * rng.normal(size=(len(boxes), 4)) * np.tile(boxes[:, 2:], 2)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1) + moved
    false = rng.poisson(1.5 + 0.15 * len(truth))
    place = rng.uniform(0, 0.7, (false, 2)) * (record.width, record.height)
    extent = rng.uniform(0.05, 0.3, (false, 2)) * (record.width, record.height)
    labels = truth.labels[truth.trainable]
    guessed = rng.choice(labels, false) if len(labels) else np.zeros(false, dtype=np.int64)
    scores = np.concatenate([skill + rng.normal(0, 0.8, len(skill)), rng.normal(-1.7, 1, false)])
    return (
        np.concatenate([corners, np.concatenate([place, place + extent], axis=1)]),
        1 / (1 + np.exp(-scores)),
        np.concatenate([labels[found], guessed]),
    )


def coco_eval(folder: Path) -> tuple[tuple[ImageRecord, ...], tuple[str, ...], list[Detections]]:
    """COCO's example: 100 pictures of val2014 and made-up detections."""
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    categories = sorted(truth["categories"], key=lambda entry: entry["id"])
    label_of = {entry["id"]: label for label, entry in enumerate(categories)}

    def rows(entries: list[dict[str, Any]], image: int) -> Iterator[dict[str, Any]]:
        return (entry for entry in entries if entry["image_id"] == image)

    records: list[ImageRecord] = []
    detections: list[Detections] = []
    for image in truth["images"]:
        own = list(rows(truth["annotations"], image["id"]))
        xywh = np.array([entry["bbox"] for entry in own], dtype=np.float64).reshape(-1, 4)
        annotation = Annotation(
            boxes_xyxy=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
            labels=np.array([label_of[entry["category_id"]] for entry in own]),
            crowd=np.array([entry["iscrowd"] for entry in own], dtype=bool),
            difficult=np.zeros(len(own), dtype=bool),
            area=np.array([entry["area"] for entry in own]),
            boxes_xywh=xywh,
        )
        records.append(ImageRecord(image["file_name"], image["width"], image["height"], annotation))
        found = list(rows(results, image["id"]))
        boxes = np.array([entry["bbox"] for entry in found], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [label_of[entry["category_id"]] for entry in found]
        detections.append((boxes, [entry["score"] for entry in found], labels))
    return tuple(records), tuple(entry["name"] for entry in categories), detections


def assert_agrees(expected: float | None, measured: float) -> None:
    assert expected is not None
    assert 1 / FACTOR < expected / measured < FACTOR, (expected, measured)


class TestAgainstTheMeasuredError:
    @pytest.mark.parametrize(("dataset", "split"), [("bccd", "test"), ("bccd", "val"), ("coco_free_subset", "val")])
    def test_simulated_detections_on_real_annotations(self, dataset: str, split: str, shared_data_dir: Path) -> None:
        data = read_dataset(shared_data_dir / dataset)
        records = data.splits[split]
        scored = CocoEvaluator(records, data.class_names).evaluate(simulate(records, np.random.default_rng(0)))
        assert 0.3 < scored.box_map < 0.6
        expected = expected_ap_error([record.annotation for record in records], len(data.class_names))
        assert_agrees(expected, scored.standard_error)

    def test_the_example_detections_of_coco(self, shared_data_dir: Path) -> None:
        records, names, detections = coco_eval(shared_data_dir / "coco_eval")
        scored = CocoEvaluator(records, names).evaluate(detections)
        expected = expected_ap_error([record.annotation for record in records], len(names))
        assert_agrees(expected, scored.standard_error)

    def test_the_trained_winner_of_the_bccd_example(self, shared_data_dir: Path) -> None:
        """README.md: AP 0.496 ± 0.012 on test."""
        data = read_dataset(shared_data_dir / "bccd")
        assert_agrees(expected_ap_error([record.annotation for record in data.splits["test"]], 3), 0.012)


class TestFormula:
    def test_four_times_as_many_pictures_nearly_halve_it(self) -> None:
        once = [objects([0] * 20 + [1] * 20)] * 5
        few, many = expected_ap_error(once, 2), expected_ap_error(once * 4, 2)
        assert few is not None
        assert many is not None
        assert few / many == pytest.approx(2, rel=0.02)

    def test_classes_without_objects_and_crowd_regions_do_not_count(self) -> None:
        plain = [objects([0, 1, 1])] * 5
        assert expected_ap_error(plain, 2) == expected_ap_error(plain, 80)
        assert expected_ap_error(plain, 2) == expected_ap_error([*plain, objects([0] * 50, crowd=True)], 2)

    def test_a_class_of_one_object_is_all_or_nothing(self) -> None:
        error = expected_ap_error([objects([0]), objects([1])], 2)
        assert error == pytest.approx(np.sqrt(2 * 0.5**2) / 2)

    @pytest.mark.parametrize("annotations", [[], [objects([])] * 3, [objects([0, 0]), objects([])]])
    def test_fewer_than_two_pictures_with_objects_tell_nothing(self, annotations: list[Annotation]) -> None:
        assert expected_ap_error(annotations, 1) is None

    def test_two_candidates_are_told_apart_by_two_paired_errors(self) -> None:
        assert smallest_difference(0.0085) == pytest.approx(2 * 0.0055, rel=0.01)
