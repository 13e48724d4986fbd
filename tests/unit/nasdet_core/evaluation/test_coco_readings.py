"""Boxes in another form than COCO's are named by what they cover; good, bad and odd detectors are left alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from nasdet_core.evaluation.coco_boxes import BoxFormatError
from nasdet_core.evaluation.coco_files import score_coco
from nasdet_core.evaluation.coco_json import read_json
from tests.support.coco_pairs import Json, corners, detections_of, matched, refusal, truth_of

Box = Sequence[float]
NONE_COVERS = re.compile(r"dt.json: none of \d+ detections compared covers an object by half \(IoU 0.5\)")


def centred(box: Box) -> list[float]:
    return [box[0] + box[2] / 2, box[1] + box[3] / 2, box[2], box[3]]


def scaled(factor: float) -> Callable[[Box], list[float]]:
    return lambda box: [factor * value for value in box]


def one_object_a_picture(*boxes: Box, images: int = 12) -> Json:
    """Picture n has the box n of `boxes`, over and over; half of the pictures are 640x480, half 480x640."""
    truth = truth_of((1,), images=images, objects=1)
    for number, item in enumerate(truth["annotations"]):
        item["bbox"] = list(boxes[number % len(boxes)])
        item["area"] = item["bbox"][2] * item["bbox"][3]
    return truth


def jittered(truth: Json, rng: np.random.Generator, by: float = 0.05) -> list[Json]:
    """Every object once, each of the four numbers off by about this share of the side; nothing is clipped."""
    found = []
    for item in truth["annotations"]:
        width, height = item["bbox"][2:]
        noise = rng.normal(0, by, 4) * (width, height, width, height)
        box = [float(value) for value in item["bbox"] + noise]
        found.append({key: item[key] for key in ("image_id", "category_id")} | {"bbox": box, "score": rng.random()})
    return found


def real(shared_data_dir: Path, split: str) -> Json:
    content = read_json(shared_data_dir / "coco_free_subset" / "annotations" / f"instances_{split}2017.json")
    assert isinstance(content, dict)
    return content


class TestOtherForms:
    @pytest.mark.parametrize(
        ("write", "words", "advice"),
        [
            (corners, "corners (x1, y1, x2, y2)", "write x2 - x1 and y2 - y1 as width and height"),
            (centred, "(centre x, centre y, width, height)", "take half the width from x and half the height from y"),
            (
                scaled(0.5),
                "(x, y, width, height) in a picture about 0.5 times as large",
                "scale them to the picture's own size",
            ),
            (
                scaled(2),
                "(x, y, width, height) in a picture about 2 times as large",
                "scale them to the picture's own size",
            ),
            (scaled(1.6), "(x, y, width, height) in a picture about 1.6 times as large", "own size"),
        ],
    )
    def test_is_refused(self, write: Callable[[Box], list[float]], words: str, advice: str) -> None:
        truth = truth_of()
        for image in truth["images"][::2]:
            del image["width"]  # the overlap needs no sizes
        sentence = refusal(BoxFormatError, truth, detections_of(truth, lambda item: {"bbox": write(item["bbox"])}))
        assert re.fullmatch(
            rf"dt.json: the boxes look like {re.escape(words)}, but COCO's are \(x, y, width, height\) in pixels of "
            rf"the picture: of 72 detections compared, (9\d|100)% cover an object clearly better when read so and "
            rf"\d% as written; .*{re.escape(advice)}",
            sentence,
        )

    @pytest.mark.parametrize(
        ("write", "words"), [(list, ""), (corners, "corners "), (centred, "(centre x, centre y, width, height) ")]
    )
    def test_normalised(self, write: Callable[[Box], list[float]], words: str) -> None:
        truth = truth_of()
        sides = {image["id"]: (image["width"], image["height"]) * 2 for image in truth["images"]}
        results = detections_of(truth)
        for item in results:
            item["bbox"] = [v / side for v, side in zip(write(item["bbox"]), sides[item["image_id"]], strict=True)]
        sentence = refusal(BoxFormatError, truth, results)
        assert f"look like {words}" in sentence
        assert "normalised to 0..1" in sentence
        assert "multiply them by the picture's width and height" in sentence

    def test_normalised_in_pictures_of_unknown_size(self) -> None:
        """What they would cover cannot be told; where they lie can."""
        truth = truth_of()
        results = detections_of(truth, lambda item: {"bbox": [value / 640 for value in item["bbox"]]})
        for image in truth["images"]:
            del image["width"]
        assert "100% of the 72 boxes lie within 0..1, as normalised boxes do" in matched(truth, results).warnings[-1]

    @pytest.mark.parametrize("split", ["train", "val"])
    @pytest.mark.parametrize("by", [0, 0.05])
    def test_real_boxes_in_corners(self, split: str, by: float, shared_data_dir: Path) -> None:
        truth = real(shared_data_dir, split)
        results = [{**item, "bbox": corners(item["bbox"])} for item in jittered(truth, np.random.default_rng(1), by=by)]
        assert "look like corners (x1, y1, x2, y2)" in refusal(BoxFormatError, truth, results)

    @pytest.mark.parametrize("seed", range(5))
    def test_corners_at_the_top_left(self, seed: int) -> None:
        """No box leaves its picture, read as widths or not."""
        truth = truth_of(seed=seed)
        for item in truth["annotations"]:
            item["bbox"] = [value / 3 for value in item["bbox"]]
            item["area"] /= 9
        results = detections_of(truth, lambda item: {"bbox": corners(item["bbox"])})
        assert "look like corners" in refusal(BoxFormatError, truth, results)

    def test_the_best_of_a_long_list_decide(self) -> None:
        """Detectors list up to 100 boxes a picture, most of them guesses."""
        truth = truth_of()
        guesses = truth_of(objects=94, seed=8)
        found = [
            *detections_of(truth, lambda item: {"score": 0.6 + 0.4 * item["score"]}),
            *detections_of(guesses, lambda item: {"score": 0.5 * item["score"]}),
        ]
        assert matched(truth, found).warnings == ()
        in_corners = [{**item, "bbox": corners(item["bbox"])} for item in found]
        assert "look like corners" in refusal(BoxFormatError, truth, in_corners)

    def test_a_part_in_corners_is_a_warning(self) -> None:
        truth = truth_of()
        plain = detections_of(truth)
        in_corners = [{**item, "bbox": corners(item["bbox"])} for item in plain]
        (sentence,) = matched(truth, in_corners[:48] + plain[48:]).warnings
        assert re.search(r"look like corners .* 6\d% cover an object clearly better when read so and 3\d%", sentence)
        assert "look like corners" in refusal(BoxFormatError, truth, in_corners[:66] + plain[66:])

    def test_large_objects_in_corners_are_a_warning(self) -> None:
        """Most are covered by half as written, too, but by no means as well."""
        truth = one_object_a_picture((60, 50, 350, 380), (90, 70, 300, 360), (40, 90, 380, 300))
        results = detections_of(truth, lambda item: {"bbox": corners(item["bbox"])})
        (sentence,) = matched(truth, results).warnings
        assert re.search(r"look like corners .* (9\d|100)% cover an object clearly better when read so", sentence)

    @pytest.mark.parametrize(("count", "refused"), [(1, False), (2, False), (3, True), (9, True)])
    def test_a_small_file(self, count: int, refused: bool) -> None:
        truth = one_object_a_picture((300, 200, 90, 80), (250, 220, 50, 120), (400, 180, 30, 30), images=count)
        results = detections_of(truth, lambda item: {"bbox": corners(item["bbox"])})
        if refused:
            assert "look like corners" in refusal(BoxFormatError, truth, results)
        else:
            matched(truth, results)

    def test_a_small_file_of_which_one_fits_in_no_form(self) -> None:
        truth = one_object_a_picture((300, 200, 90, 80), images=9)
        results = detections_of(truth, lambda item: {"bbox": corners(item["bbox"])})
        results[4]["bbox"] = [3, 4, 9, 9]
        assert "look like corners" in matched(truth, results).warnings[0]


class TestSoundDetectors:
    def test_boxes_that_would_do_as_corners(self) -> None:
        """Right as they are; two sides reach out of the picture."""
        truth = one_object_a_picture((300, 200, 340, 280))
        for image in truth["images"]:
            image["width"], image["height"] = 640, 480
        results = detections_of(truth, lambda _item: {"bbox": [300, 200, 360, 300]})
        for count in (1, 3, 12):
            assert matched(truth, results[:count]).warnings == ()

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("by", [0.01, 0.05, 0.15])
    def test_large_objects_and_no_clipping(self, seed: int, by: float) -> None:
        rng = np.random.default_rng(seed)
        truth = one_object_a_picture(*[(x, y, 640 - x, 480 - y) for x, y in rng.integers(100, 220, (10, 2)).tolist()])
        for image in truth["images"]:
            image["width"], image["height"] = 640, 480
        assert matched(truth, jittered(truth, rng, by)).warnings == ()

    @pytest.mark.parametrize("split", ["train", "val"])
    @pytest.mark.parametrize("by", [0.05, 0.1])
    def test_real_objects(self, split: str, by: float, shared_data_dir: Path) -> None:
        truth = real(shared_data_dir, split)
        assert matched(truth, jittered(truth, np.random.default_rng(2), by)).warnings == ()

    @pytest.mark.parametrize("side", [1, 2, 4, 8, 16])
    def test_tiny_pictures(self, side: int) -> None:
        truth = truth_of((1, 2))
        for image in truth["images"]:
            image["width"] = image["height"] = side
        for number, item in enumerate(truth["annotations"]):
            corner = (0.5, 0.25, 0, 0.125)[number % 4] * side
            item["bbox"], item["area"] = [corner, 0.25 * side, 0.5 * side, 0.5 * side], side * side / 4
        assert matched(truth, jittered(truth, np.random.default_rng(side), 0.02)).warnings == ()

    def test_tiny_objects_with_boxes_within_a_pixel(self) -> None:
        """Normalised boxes would lie within 0..1 as well, but these are where the objects are."""
        truth = one_object_a_picture((0, 0, 2, 1), (0.2, 0, 1, 1), (0, 0.5, 1, 2))
        results = detections_of(truth)
        for item, there in zip(results, truth["annotations"], strict=True):
            x, y, width, height = there["bbox"]
            item["bbox"] = [x, y, min(width, 1.05), min(height, 1.05)]
        assert matched(truth, results).warnings == ()

    def test_one_box_for_all(self) -> None:
        """As wide as the picture: the same in every form."""
        truth = one_object_a_picture((0, 0, 480, 480))
        assert matched(truth, detections_of(truth, lambda _item: {"bbox": [0, 0, 480, 480]})).warnings == ()


class TestBadDetectors:
    @pytest.mark.parametrize("seed", range(30))
    def test_random_boxes(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        truth = truth_of(images=int(rng.integers(1, 13)), objects=int(rng.integers(1, 7)), seed=seed)
        ids = [image["id"] for image in truth["images"]]
        results = [
            {
                "image_id": ids[int(rng.integers(len(ids)))],
                "category_id": int(rng.choice([1, 2, 4])),
                "bbox": (rng.random(4) * (270, 270, 200, 200)).tolist(),
                "score": float(rng.random()),
            }
            for _ in range(int(rng.integers(1, 200)))
        ]
        assert [sentence for sentence in matched(truth, results).warnings if not NONE_COVERS.fullmatch(sentence)] == []

    @pytest.mark.parametrize("seed", range(10))
    def test_boxes_that_are_far_off(self, seed: int) -> None:
        """Near the objects, but hardly ever by half."""
        truth = truth_of(seed=seed)
        results = jittered(truth, np.random.default_rng(seed), 0.5)
        assert not any("look like" in sentence for sentence in matched(truth, results).warnings)

    def test_boxes_out_of_the_picture(self) -> None:
        """In no form do they cover anything; where they lie is said."""
        truth = truth_of()
        rng = np.random.default_rng(0)
        results = detections_of(truth, lambda _item: {"bbox": [*rng.integers(500, 700, 2).tolist(), 50, 40]})
        (sentence,) = matched(truth, results).warnings
        assert re.match(
            r"dt.json: boxes that leave their picture on the right or below: \d\d of 72 \(as corn", sentence
        )

    def test_what_covers_nothing(self) -> None:
        truth = one_object_a_picture((300, 200, 90, 80))
        results = detections_of(truth, lambda _item: {"bbox": [3, 90, 40, 30]})
        assert matched(truth, results).warnings == (
            "dt.json: none of 12 detections compared covers an object by half (IoU 0.5)",
        )
        assert matched(truth, results[:9]).warnings == ()

    def test_boxes_without_area(self) -> None:
        truth = truth_of()
        right = detections_of(truth)
        flat = [{**right[0], "bbox": [3, 3, 0, 9]}, {**right[0], "bbox": [9, 9, -4, -4]}]
        (sentence,) = matched(truth, [*right, *flat]).warnings
        assert sentence == (
            "dt.json: detections whose width or height is not above 0: 2 of 74 (first: entry [72]); to COCO they "
            "overlap nothing and are false alarms"
        )


class TestGroundTruth:
    def test_in_corners(self) -> None:
        truth, right = truth_of(), truth_of()
        for item in truth["annotations"]:
            item["bbox"] = corners(item["bbox"])
        assert re.fullmatch(
            r"gt.json: the boxes look like corners \(x1, y1, x2, y2\), but COCO's are \(x, y, width, height\): read as "
            r"COCO's \d\d% of the 72 boxes leave their picture, read as corners 100% lie inside; write x2 - x1 and "
            r"y2 - y1 as width and height",
            refusal(BoxFormatError, truth, detections_of(right)),
        )

    def test_normalised(self) -> None:
        truth, right = truth_of(), truth_of()
        for item in truth["annotations"]:
            item["bbox"] = [value / 640 for value in item["bbox"]]
        assert refusal(BoxFormatError, truth, detections_of(right)) == (
            "gt.json: expected boxes in pixels, but 100% of the 72 boxes lie within 0..1, as normalised boxes do; "
            "multiply x and width by the picture's width, y and height by its height"
        )

    def test_some_boxes_leave_their_picture(self) -> None:
        truth = truth_of(objects=1)
        for item in truth["annotations"][:2]:
            item["bbox"][0] = 700
        (sentence,) = matched(truth, detections_of(truth)).warnings
        assert sentence.startswith("gt.json: boxes that leave their picture on the right or below: 2 of 12 (as corners")


def test_many_pictures_and_a_crowded_one_take_no_time() -> None:
    truth = truth_of(images=3000, objects=3)
    crowd = [{**truth["annotations"][0], "id": 10**6 + n} for n in range(20_000)]
    truth["annotations"] += crowd
    results = detections_of(truth)
    started = time.process_time()
    pair = matched(truth, results)
    assert time.process_time() - started < 4
    assert pair.warnings == ()
    assert len(pair.results.detections) == 29_000


def test_numbers_do_not_depend_on_what_is_said() -> None:
    truth = truth_of()
    results = detections_of(truth)
    flat = {**results[0], "bbox": [9, 9, -4, -4], "score": 0.0}
    assert score_coco(matched(truth, [*results, flat])).metrics == score_coco(matched(truth, results)).metrics
