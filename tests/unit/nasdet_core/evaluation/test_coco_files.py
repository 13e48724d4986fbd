"""COCO's numbers of two files: the published case, and plain pycocotools to the last bit on generated ones."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nasdet_core.evaluation.coco_files import CategoryScore, CocoScores, load_pair, score_coco, unique_names
from nasdet_core.evaluation.coco_map import STATS

Json = dict[str, Any]

WIDTH, HEIGHT = 640, 480
SIDES_AT_THE_EDGES = (1, 31, 32, 33, 95, 96, 97)  # around 32^2 and 96^2, COCO's borders of small and medium


def write(folder: Path, truth: object, results: object) -> tuple[Path, Path]:
    paths = folder / "gt.json", folder / "dt.json"
    for path, content in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(content))
    return paths


def pycocotools(truth: Path, results: Path) -> COCOeval:
    """As its documentation shows it."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        run = COCOeval(coco, coco.loadRes(str(results)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def mean(values: npt.NDArray[np.float64]) -> float | None:
    present = values[values > -1]
    return float(np.mean(present)) if present.size else None


def assert_same(scores: CocoScores, expected: COCOeval) -> None:
    """Every number, with ==."""
    assert list(scores.metrics) == list(STATS)
    assert list(scores.metrics.values()) == [None if value == -1 else float(value) for value in expected.stats]
    precision = expected.eval["precision"]  # [T, R, K, A, M]
    for k, category in enumerate(expected.params.catIds):
        score = next(score for score in scores.per_category.values() if score.category_id == category)
        assert score.ap == mean(precision[:, :, k, 0, 2])
        assert score.ap50 == mean(precision[0, :, k, 0, 2])


class Generated:
    """A ground truth and detections full of what evaluators get wrong; each seed has its own mixture."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.text_ids = seed % 7 == 3
        self.categories = sorted(self.rng.choice(np.arange(seed % 2, 60), size=4, replace=False).tolist())
        self.images: list[int | str] = [f"picture {n}" if self.text_ids else int(10 * n + 3) for n in range(5)]
        self.first_annotation = 0 if seed % 11 == 5 else int(self.rng.integers(1, 10**6))
        self.crowd = float(self.rng.choice([0, 0.1, 0.4]))
        self.truth = self._truth()
        self.results = self._results(crowded=seed % 3 == 0)

    def _truth(self) -> Json:
        annotations: list[Json] = []
        for image in self.images[:-1]:  # the last one has no object
            for _ in range(int(self.rng.integers(1, 8))):
                annotations.append(self._annotation(len(annotations), image))
        self.rng.shuffle(annotations)
        return {
            "images": [{"id": image, "width": WIDTH, "height": HEIGHT, "file_name": "x"} for image in self.images],
            "categories": [{"id": category, "name": f"class {category}"} for category in self.categories],
            "annotations": annotations,
        }

    def _annotation(self, number: int, image: int | str) -> Json:
        width, height = self.rng.choice(SIDES_AT_THE_EDGES, 2).tolist()
        if self.rng.random() < 0.3:
            width, height = float(width) * 1.37, float(height) * 0.83
        if self.rng.random() < 0.04:
            width = 0  # no area: nothing can match it
        x, y = self.rng.integers(0, WIDTH - 140).tolist(), self.rng.integers(0, HEIGHT - 140).tolist()
        return {
            "id": self.first_annotation + number,
            "image_id": image,
            "category_id": self.categories[int(self.rng.integers(0, 3))],  # the last class has no object
            "bbox": [x, y, width, height],
            "area": width * height * float(self.rng.choice([1, 1, 0.7])),
            "iscrowd": int(self.rng.random() < self.crowd),
            "ignore": int(self.rng.random() < 0.1),  # pycocotools does not look at it
        }

    def _results(self, *, crowded: bool) -> list[Json]:
        found: list[Json] = []
        for item in self.truth["annotations"]:
            for _ in range(int(self.rng.integers(0, 4))):
                found.append(self._near(item))
        for _ in range(130 if crowded else 5):  # more than 100 of one class in one picture
            found.append(self._near(self.truth["annotations"][0]))
        for image in self.images[::2]:
            found.append(self._near({**self.truth["annotations"][-1], "image_id": image}))
        self.rng.shuffle(found)
        return found

    def _near(self, item: Json) -> Json:
        """A detection whose IoU with the object is often exactly a threshold, 1 or 0."""
        x, y, width, height = item["bbox"]
        way = self.rng.integers(0, 5)
        if way == 0:
            height = height * float(self.rng.integers(10, 21)) / 20  # IoU 0.5, 0.55, ..., 1
        elif way == 1:
            x = x + width  # the two touch: IoU 0
        elif way == 2:
            x, y = x + float(self.rng.normal(0, 4)), y + float(self.rng.normal(0, 4))
        elif way == 3:
            width, height = width * float(self.rng.uniform(0.6, 1.5)), height * float(self.rng.uniform(0.6, 1.5))
        category = item["category_id"] if self.rng.random() < 0.9 else self.categories[-1]
        score = float(self.rng.choice([0.25, 0.5, 0.75, 1])) if self.rng.random() < 0.6 else float(self.rng.random())
        return {
            "image_id": item["image_id"],
            "category_id": category,
            "bbox": [x, y, width, height],
            "score": score if score < 1 else 1,
        }


@pytest.fixture(scope="module")
def published(shared_data_dir: Path) -> tuple[Path, Path, Json]:
    folder = shared_data_dir / "coco_eval"
    metrics = json.loads((folder / "metrics.json").read_text())
    return folder / metrics["ground_truth"], folder / metrics["detections"], metrics


class TestPublishedCase:
    def test_all_recorded_numbers(self, published: tuple[Path, Path, Json]) -> None:
        *paths, recorded = published
        scores = score_coco(load_pair(*paths))
        assert list(scores.metrics) == list(recorded["metrics"])
        assert scores.metrics == pytest.approx(recorded["metrics"], rel=0, abs=1e-9)
        assert scores.metrics == pytest.approx(recorded["published"], rel=0, abs=1e-9)
        present = {name: score for name, score in scores.per_category.items() if score.ap is not None}
        assert list(present) == list(recorded["per_category"])
        for name, score in present.items():
            expected = recorded["per_category"][name]
            assert score.category_id == expected["category_id"]
            assert (score.ap, score.ap50) == pytest.approx((expected["AP"], expected["AP50"]), rel=0, abs=1e-9)
        assert len(scores.per_category) == 80
        assert all(score.ap50 is None for score in scores.per_category.values() if score.ap is None)

    def test_counts(self, published: tuple[Path, Path, Json]) -> None:
        *paths, recorded = published
        names = {"gt_images": "images", "gt_annotations": "annotations", "gt_crowd": "crowd"}
        expected = {names.get(key, key): value for key, value in recorded["counts"].items()}
        assert load_pair(*paths).counts() == {**expected, "difficult": 0}

    def test_equal_to_pycocotools_to_the_last_bit(self, published: tuple[Path, Path, Json]) -> None:
        truth, results, _recorded = published
        assert_same(score_coco(load_pair(truth, results)), pycocotools(truth, results))


class TestAgainstPycocotools:
    @pytest.mark.parametrize("seed", range(72))
    def test_generated_case(self, seed: int, tmp_path: Path) -> None:
        case = Generated(seed)
        paths = write(tmp_path, case.truth, case.results)
        assert_same(score_coco(load_pair(*paths)), pycocotools(*paths))

    def test_the_cases_hold_what_they_should(self) -> None:
        cases = [Generated(seed) for seed in range(72)]
        scores = [[item["score"] for item in case.results] for case in cases]
        assert all(len(set(values)) < len(values) for values in scores)  # ties
        most = [max(np.unique([str(i["image_id"]) for i in c.results], return_counts=True)[1]) for c in cases]
        assert sum(count > 100 for count in most) > 20
        crowd = [sum(item["iscrowd"] for item in case.truth["annotations"]) for case in cases]
        assert sum(count > 0 for count in crowd) > 30
        assert sum(min(i["id"] for i in case.truth["annotations"]) == 0 for case in cases) > 3
        assert sum(any(i["bbox"][2] == 0 for i in case.truth["annotations"]) for case in cases) > 10
        assert any(isinstance(case.images[0], str) for case in cases)

    @pytest.mark.parametrize("twentieths", range(21))
    def test_iou_exactly_at_every_edge(self, twentieths: int, tmp_path: Path) -> None:
        truth, results = one_object(bbox=[40, 20, 20, 20]), one_detection(bbox=[40, 20, 20, twentieths])
        paths = write(tmp_path, truth, results)
        scores = score_coco(load_pair(*paths))
        assert_same(scores, pycocotools(*paths))
        # the thresholds are 0.5, 0.55, ..., 0.95; a detection that reaches one is a match at it
        assert scores.metrics["AP"] == pytest.approx(min(max(0, twentieths - 9), 10) / 10)

    def test_more_than_100_detections(self, tmp_path: Path) -> None:
        """The right one has the lowest score: of 100 it counts, of 101 it is cut off."""
        truth = one_object()
        for others, expected in ((99, 0.01), (100, 0)):
            wrong = [{**one_detection()[0], "bbox": [300, 300, 9, 9], "score": 0.9} for _ in range(others)]
            paths = write(tmp_path, truth, [*wrong, {**one_detection()[0], "score": 0.1}])
            scores = score_coco(load_pair(*paths))
            assert_same(scores, pycocotools(*paths))
            assert scores.metrics["AP"] == pytest.approx(expected, abs=1e-12)

    def test_a_tie_goes_to_the_detection_that_comes_first(self, tmp_path: Path) -> None:
        right, wrong = one_detection()[0], {**one_detection()[0], "bbox": [300, 300, 9, 9]}
        values = []
        for results in ([right, wrong], [wrong, right]):
            paths = write(tmp_path, one_object(), results)
            scores = score_coco(load_pair(*paths))
            assert_same(scores, pycocotools(*paths))
            values.append(scores.metrics["AP"])
        assert values == [pytest.approx(1), pytest.approx(0.5)]

    def test_no_objects_at_all(self, tmp_path: Path) -> None:
        truth = {**one_object(), "annotations": []}
        paths = write(tmp_path, truth, one_detection())
        pair = load_pair(*paths)
        assert_same(score_coco(pair), pycocotools(*paths))
        assert set(score_coco(pair).metrics.values()) == {None}
        assert pair.warnings == (f"{paths[0]}: there is no object that counts, so every number is undefined",)

    def test_scoring_twice_gives_the_same(self, tmp_path: Path) -> None:
        """pycocotools writes into its annotations; a pair stays as it was read."""
        pair = load_pair(*write(tmp_path, Generated(0).truth, Generated(0).results))
        before = json.dumps(pair.truth.objects)
        assert score_coco(pair) == score_coco(pair)
        assert json.dumps(pair.truth.objects) == before

    def test_prints_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        score_coco(load_pair(*write(tmp_path, one_object(), one_detection())))
        assert capsys.readouterr() == ("", "")


class TestEmptyDetections:
    def test_ap_is_0_and_a_sentence_says_why(self, tmp_path: Path) -> None:
        paths = write(tmp_path, one_object(), [])
        pair = load_pair(*paths)
        scores = score_coco(pair)
        assert (scores.metrics["AP"], scores.metrics["AR_100"], scores.metrics["AP_large"]) == (0, 0, None)
        assert scores.per_category["cup"] == CategoryScore(3, 0.0, 0.0)
        assert pair.warnings == (
            f"{paths[1]}: the list of detections is empty, so every object counts as missed and AP is 0",
        )


class TestNames:
    @pytest.mark.parametrize(
        ("categories", "expected"),
        [
            ({1: "cat", 2: "dog"}, {1: "cat", 2: "dog"}),
            ({1: "cat", 2: "cat"}, {1: "cat (id 1)", 2: "cat (id 2)"}),
            ({1: "cat", 2: "cat", 3: "cat (id 1)"}, {1: "cat (id 1) (id 1)", 2: "cat (id 2)", 3: "cat (id 1)"}),
        ],
    )
    def test_no_two_are_alike(self, categories: Mapping[int, str], expected: Mapping[int, str]) -> None:
        assert unique_names(categories) == expected

    def test_two_categories_of_one_name_keep_their_scores(self, tmp_path: Path) -> None:
        truth = one_object()
        truth["categories"] = [{"id": 3, "name": "cup"}, {"id": 8, "name": "cup"}]
        pair = load_pair(*write(tmp_path, truth, one_detection()))
        scores = score_coco(pair).per_category
        assert list(scores) == ["cup (id 3)", "cup (id 8)"]
        assert scores["cup (id 3)"].ap == pytest.approx(1)
        assert scores["cup (id 8)"] == CategoryScore(8, None, None)
        assert "categories with the name of another one: 1 (first: 'cup', id 8)" in pair.warnings[0]


def one_object(**changes: Any) -> Json:
    annotation = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [40, 20, 20, 20], "area": 400, "iscrowd": 0}
    return {
        "images": [{"id": 7, "width": WIDTH, "height": HEIGHT, "file_name": "7.jpg"}],
        "categories": [{"id": 3, "name": "cup"}],
        "annotations": [{**annotation, **changes}],
    }


def one_detection(**changes: Any) -> list[Json]:
    return [{"image_id": 7, "category_id": 3, "bbox": [40, 20, 20, 20], "score": 0.5, **changes}]
