"""Confused label files are named in one sentence; sound ones give none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasdet_core.evaluation.coco_category_ids import CategoryIdError
from nasdet_core.evaluation.coco_files import FilePair, load_pair, score_coco
from nasdet_core.evaluation.coco_image_ids import ImageIdError
from nasdet_core.evaluation.coco_json import (
    BrokenFileError,
    CocoFileError,
    DuplicateIdError,
    ScoreError,
    SwappedFilesError,
    read_json,
)
from nasdet_core.evaluation.coco_truth import check_gt
from tests.support.coco_pairs import GAPS, Change, Json, detections_of, matched, refusal, truth_of


class TestSoundData:
    def test_published_case(self, shared_data_dir: Path) -> None:
        folder = shared_data_dir / "coco_eval"
        pair = load_pair(folder / "instances_val2014_100.json", folder / "instances_val2014_fakebbox100_results.json")
        assert (pair.warnings, pair.truth.coco_warnings) == ((), ())

    @pytest.mark.parametrize("split", ["train2017", "val2017"])
    def test_real_ground_truth(self, split: str, shared_data_dir: Path) -> None:
        content = read_json(shared_data_dir / "coco_free_subset" / "annotations" / f"instances_{split}.json")
        assert isinstance(content, dict)
        pair = matched(content, detections_of(content))
        assert (pair.warnings, pair.truth.coco_warnings) == ((), ())

    @pytest.mark.parametrize("categories", [GAPS, (1, 2, 3), (0, 1, 2), (5,), range(1, 81)])
    @pytest.mark.parametrize("seed", range(4))
    def test_generated(self, categories: Sequence[int], seed: int) -> None:
        truth = truth_of(categories, seed=seed)
        pair = matched(truth, detections_of(truth, seed=seed))
        assert (pair.warnings, pair.truth.coco_warnings) == ((), ())

    @pytest.mark.parametrize("categories", [GAPS, (1, 2, 3), (0, 1, 2), range(1, 81)])
    def test_a_bad_detector(self, categories: Sequence[int]) -> None:
        """Boxes and classes at random, half of the classes never found, scores above 1: poor, not confused."""
        truth = truth_of(categories)
        other = truth_of(categories[::2], seed=9, objects=40)
        rng = np.random.default_rng(3)
        results = detections_of(other, lambda _item: {"score": float(rng.normal(0, 3))})
        assert matched(truth, results).warnings in (
            (),
            ("dt.json: none of 72 detections compared covers an object by half (IoU 0.5)",),
        )

    def test_boxes_that_are_not_clipped(self) -> None:
        truth = truth_of()
        results = detections_of(truth, lambda item: {"bbox": [item["bbox"][0] - 3, -2, *item["bbox"][2:]]})
        assert matched(truth, results).warnings == ()

    def test_a_detector_that_takes_one_class_for_another(self) -> None:
        """Read as "one too low" 60 % agree, but as written 40 % do."""
        truth = truth_of((1, 2, 3))
        for number, item in enumerate(truth["annotations"]):
            item["category_id"] = 1 if number % 5 < 2 else 2
        assert matched(truth, detections_of(truth, lambda _item: {"category_id": 1})).warnings == ()

    def test_large_objects_of_which_some_leave_their_picture(self) -> None:
        """Nearly all would do as corners, but nearly all do as they are."""
        truth = truth_of((1, 2))
        for item in truth["annotations"]:
            item["bbox"], item["area"] = [60, 50, 350, 380], 350 * 380
        results = detections_of(truth)
        for item in results[:5]:
            item["bbox"] = [110, 100, 400, 410]
        assert matched(truth, results).warnings == ()

    def test_large_objects_in_the_middle(self) -> None:
        """Width > x and height > y as with corners, but no box leaves its picture."""
        truth = truth_of((1, 2))
        for item in truth["annotations"]:
            item["bbox"], item["area"] = [60, 50, 350, 380], 350 * 380
        assert matched(truth, detections_of(truth)).warnings == ()


def renumbered(ids: Sequence[int]) -> Json:
    truth = truth_of(images=len(ids))
    for image in truth["images"]:
        image["id"] = ids[image["id"] - 100]
    for item in truth["annotations"]:
        item["image_id"] = ids[item["image_id"] - 100]
    return truth


class TestImageIds:
    truth = truth_of()

    def sentence(self, change: Change, truth: Json | None = None) -> str:
        truth = truth or self.truth
        return refusal(ImageIdError, truth, detections_of(self.truth, change))

    def test_another_split(self) -> None:
        assert self.sentence(lambda item: {"image_id": item["image_id"] + 5_000_000}) == (
            "dt.json: detections of pictures that gt.json does not have: 72 of 72 (image ids: 12, first: 5000100); are "
            "the two files of the same split?"
        )

    def test_more_pictures_than_the_ground_truth(self) -> None:
        fewer = {**self.truth, "images": self.truth["images"][:-1], "annotations": self.truth["annotations"][:-6]}
        assert self.sentence(lambda _item: {}, fewer) == (
            "dt.json: detections of pictures that gt.json does not have: 6 of 72 (image ids: 1, first: 111); give the "
            "ground truth of all these pictures, or take their detections out"
        )

    @pytest.mark.parametrize(
        ("write", "advice"),
        [
            (lambda n: str(n), "they are numbers as text: write 100 in place of '100', and so on"),
            (lambda n: f"{n:012d}", "they are numbers as text: write 100 in place of '000000000100', and so on"),
            (lambda n: f"val/{n + 4900:08d}.jpg", "they are file names: write 100 in place of 'val/00005000.jpg'"),
            (lambda n: f"{n + 4900:08d}.jpg", "they are file names: write 100 in place of '00005000.jpg'"),
            (lambda n: f"{n + 4900:08d}", "they are file names without ending: write 100 in place of '00005000'"),
            (lambda n: n + 4900, "they are the numbers in the file names: write 100 in place of 5000"),
        ],
    )
    def test_written_otherwise(self, write: Callable[[int], object], advice: str) -> None:
        sentence = self.sentence(lambda item: {"image_id": write(item["image_id"])})
        assert advice in sentence
        assert "does not have: 72 of 72 (image ids: 12, first:" in sentence

    @pytest.mark.parametrize(
        ("ids", "offset", "words"),
        [
            (range(1, 13), -1, "positions in the list 'images' counted from 0"),
            (range(12), 1, "positions in the list 'images' counted from 1"),
            (range(10, 130, 10), -1, "ids that are one too low"),
            (range(10, 130, 10), 1, "ids that are one too high"),
        ],
    )
    def test_off_by_one(self, ids: Sequence[int], offset: int, words: str) -> None:
        truth = renumbered(ids)
        results = detections_of(truth, lambda item: {"image_id": item["image_id"] + offset})
        assert re.search(
            rf"the image ids look like {words}: of \d\d detections compared, (9\d|100)% cover an object by half "
            rf"\(IoU 0.5\) when read so and \d% as written; write the ids of gt.json's 'images', e.g. ",
            refusal(ImageIdError, truth, results),
        )

    def test_the_boxes_tell_positions_from_ids(self) -> None:
        """Every number would do as a position, too."""
        truth = renumbered((7, 3, 1, 10, 4, 2, 11, 6, 12, 5, 9, 8))
        results = detections_of(truth, lambda item: {"image_id": item["image_id"] - 1})
        assert "the image ids look like ids that are one too low" in refusal(ImageIdError, truth, results)

    @pytest.mark.parametrize("split", ["train2017", "val2017"])
    def test_positions_of_which_some_are_ids(self, split: str, shared_data_dir: Path) -> None:
        content = read_json(shared_data_dir / "coco_free_subset" / "annotations" / f"instances_{split}.json")
        assert isinstance(content, dict)
        place = {image["id"]: number for number, image in enumerate(content["images"])}
        results = detections_of(content, lambda item: {"image_id": place[item["image_id"]]})
        sentence = refusal(ImageIdError, content, results)
        assert "the image ids look like positions in the list 'images' counted from 0" in sentence

    def test_off_by_one_where_every_number_is_an_id(self) -> None:
        """Nothing is found in the last picture: only the boxes tell, so the number stands."""
        truth = renumbered(range(1, 13))
        results = detections_of(truth, lambda item: {"image_id": item["image_id"] + 1})
        pair = matched(truth, [item for item in results if item["image_id"] <= 12])
        assert "the image ids look like ids that are one too high" in pair.warnings[0]

    def test_positions_that_no_box_tells(self) -> None:
        truth = renumbered(range(1, 13))
        results = [{"image_id": n, "category_id": 1, "bbox": [1, 1, 4, 4], "score": 0.5} for n in range(12)]
        assert refusal(ImageIdError, truth, results).endswith(
            "(image ids: 1, first: 0); they look like positions in the list 'images' counted from 0; write the "
            "pictures' ids"
        )

    def test_right_boxes_and_a_picture_more(self) -> None:
        """The ids would do as positions, but the boxes are where the objects are."""
        truth = renumbered(range(1, 13))
        results = [item for item in detections_of(truth) if item["image_id"] < 12]
        more = {**results[0], "image_id": 0}
        assert "give the ground truth of all these pictures" in refusal(ImageIdError, truth, [*results, more])

    def test_the_same_objects_in_every_picture(self) -> None:
        """A camera that stands still: read as other ids the boxes fit as well."""
        truth = renumbered(range(1, 13))
        for item in truth["annotations"]:
            item["bbox"], item["area"] = [60, 50, 350, 380], 350 * 380
        results = [item for item in detections_of(truth) if item["image_id"] > 1]
        assert matched(truth, results).warnings == ()

    def test_text_in_the_ground_truth(self) -> None:
        truth = json.loads(json.dumps(self.truth))
        for image in truth["images"]:
            image["id"], image["file_name"] = str(image["id"]), f"x{image['id']}.jpg"
        for item in truth["annotations"]:
            item["image_id"] = str(item["image_id"])
        assert "the ground truth's ids are text: write '100' in place of 100" in self.sentence(lambda _item: {}, truth)

    def test_whole_numbers_with_a_point_are_the_same_ids(self) -> None:
        """Tables export integers so."""
        results = detections_of(self.truth, lambda item: {key: float(item[key]) for key in ("image_id", "category_id")})
        assert score_coco(matched(self.truth, results)) == score_coco(matched(self.truth, detections_of(self.truth)))


class TestCategoryIds:
    def test_class_indices_from_0(self) -> None:
        truth = truth_of()
        results = detections_of(truth, lambda item: {"category_id": GAPS.index(item["category_id"])})
        sentence = refusal(CategoryIdError, truth, results)
        assert re.fullmatch(
            r"dt.json: the category ids look like class indices counted from 0: of \d+ detections that cover an "
            r"object, (9\d|100)% have its class when read so and [0-4]% as written; write the ids of gt.json's "
            r"'categories', e.g. \d+ \('class \d+'\) in place of \d",
            sentence,
        )

    def test_class_numbers_from_1(self) -> None:
        truth = truth_of()
        results = detections_of(truth, lambda item: {"category_id": 1 + GAPS.index(item["category_id"])})
        assert "look like class numbers counted from 1" in refusal(CategoryIdError, truth, results)

    @pytest.mark.parametrize(
        ("categories", "offset", "words"),
        [
            ((1, 2, 3), -1, "class indices counted from 0"),
            ((0, 1, 2), 1, "class numbers counted from 1"),
            (range(1, 11), -1, "class indices counted from 0"),
            (GAPS, -1, "ids that are one too low"),
            (GAPS, 1, "ids that are one too high"),
        ],
    )
    def test_off_by_one(self, categories: Sequence[int], offset: int, words: str) -> None:
        truth = truth_of(categories)
        results = detections_of(truth, lambda item: {"category_id": item["category_id"] + offset})
        assert words in refusal(CategoryIdError, truth, results)

    def test_numbered_anew_where_every_number_is_a_class(self) -> None:
        """Only the boxes tell: class numbers of 1..N read as ids. The number stands, with a warning."""
        truth = truth_of((1, 2, 3, 5, 6, 9))
        wanted = {1: 1, 2: 2, 3: 3, 5: 4, 6: 5, 9: 6}
        kept = [item for item in truth["annotations"] if item["category_id"] != 5]
        truth["annotations"] = kept
        results = detections_of(truth, lambda item: {"category_id": wanted[item["category_id"]]})
        (sentence,) = matched(truth, results).warnings
        assert "the category ids look like class numbers counted from 1" in sentence
        assert "100% have its class when read so and 0% as written" in sentence

    def test_many_classes_of_which_one_is_hardly_found(self) -> None:
        """A detection with the id 0 may be a slip, so the number stands, with the evidence as a warning."""
        truth = truth_of(range(1, 81))
        truth["annotations"][0]["category_id"] = 1
        results = detections_of(truth, lambda item: {"category_id": item["category_id"] - 1})
        assert 0 < sum(item["category_id"] == 0 for item in results) < 3
        (sentence,) = matched(truth, results).warnings
        assert "look like class indices counted from 0" in sentence

    def test_two_classes_on_the_same_boxes(self) -> None:
        """Every object is there as 1 and as 2, and the detector finds all of 2: as right as can be."""
        truth = truth_of((1, 2), seed=4)
        twins = []
        for item in truth["annotations"]:
            item["category_id"] = 1
            twins.append({**item, "id": 1000 + item["id"], "category_id": 2})
        results = detections_of(truth, lambda _item: {"category_id": 2})
        truth["annotations"] += twins
        slip = {**results[0], "category_id": 3, "score": 0.1}
        for found in (results, [*results, slip]):
            pair = matched(truth, found)
            assert not [sentence for sentence in pair.warnings if "look like" in sentence]
            assert score_coco(pair).per_category["class 2"].ap50 == pytest.approx(1)

    @pytest.mark.parametrize("slip", [0, 3])
    def test_a_detector_that_swaps_classes_and_slips_once(self, slip: int) -> None:
        """It looks like ids one too low or high, but is just bad: the number stands."""
        truth = truth_of((1, 2))
        for item in truth["annotations"]:
            item["category_id"] = 2 if slip == 0 else 1
        results = detections_of(truth, lambda _item: {"category_id": 1 if slip == 0 else 2})
        results[0]["category_id"] = slip
        assert "look like" in matched(truth, results).warnings[0]

    @pytest.mark.parametrize("zeros", [1, 20])
    def test_a_detector_that_finds_nothing(self, zeros: int) -> None:
        """That 0 is no class is said, and from many of them that all would do as indices; nothing is refused."""
        truth = truth_of((1, 2, 3))
        results = [
            {"image_id": 100, "category_id": n, "bbox": [1, 1, 4, 4], "score": 0.5} for n in (0,) * zeros + (1, 2)
        ]
        sentence = matched(truth, results).warnings[-1]
        assert f"gt.json does not have: {zeros} of {zeros + 2} (first: 0); they do not count" in sentence
        assert ("the ids look like class indices counted from 0" in sentence) == (zeros > 1)

    def test_a_detector_of_random_classes(self) -> None:
        """The boxes are right, so they would tell if the ids were indices."""
        truth = truth_of((1, 2, 3, 4))
        rng = np.random.default_rng(0)
        (sentence,) = matched(truth, detections_of(truth, lambda _item: {"category_id": int(rng.integers(4))})).warnings
        assert sentence.endswith("(first: 0); they do not count")

    def test_none_is_known(self) -> None:
        truth = truth_of()
        results = detections_of(truth, lambda item: {"category_id": item["category_id"] + 1000})
        assert refusal(CategoryIdError, truth, results) == (
            "dt.json: detections with category ids that gt.json does not have: 72 of 72 (first: 1001); write the ids "
            "of its 'categories': 1 'class 1', 2 'class 2', 4 'class 4', 7 'class 7', 8 'class 8', ..."
        )

    def test_a_detector_of_more_classes(self) -> None:
        """The others do not count, as with pycocotools."""
        truth = truth_of((1, 3, 7))
        extra = [{**item, "category_id": 90} for item in detections_of(truth)[:5]]
        pair = matched(truth, [*detections_of(truth), *extra])
        assert pair.warnings == (
            "dt.json: detections with category ids that gt.json does not have: 5 of 77 (first: 90); they do not count",
        )
        assert score_coco(pair) == score_coco(matched(truth, detections_of(truth)))

    def test_a_background_class_0_beside_right_ids(self) -> None:
        truth = truth_of((1, 2, 3, 4))
        right = [item for item in detections_of(truth) if item["category_id"] < 4]
        noise = [{"image_id": 100, "category_id": 0, "bbox": [1, 1, 4, 4], "score": 0.1}]
        (sentence,) = matched(truth, [*right, *noise]).warnings
        assert sentence.endswith("(first: 0); they do not count")

    def test_names(self) -> None:
        truth = truth_of()
        results = detections_of(truth, lambda item: {"category_id": f"class {item['category_id']}"})
        sentence = refusal(BrokenFileError, truth, results)
        assert "entry [0] needs an integer 'category_id', found 'class" in sentence
        assert "write the id that the ground truth's 'categories' give the class" in sentence


class TestSwappedFiles:
    def test_both(self, tmp_path: Path) -> None:
        truth = truth_of()
        paths = tmp_path / "gt.json", tmp_path / "dt.json"
        for path, content in zip(paths, (detections_of(truth), truth), strict=True):
            path.write_text(json.dumps(content))
        with pytest.raises(SwappedFilesError, match=r"gt.json: .*found a list of detections; are .* swapped\?"):
            load_pair(*paths)

    def test_the_ground_truth_in_place_of_the_detections(self) -> None:
        truth = truth_of()
        assert "found a COCO ground truth" in refusal(SwappedFilesError, truth, truth)
        assert "has no 'score' but an 'id'" in refusal(SwappedFilesError, truth, truth["annotations"])


class TestScores:
    @pytest.mark.parametrize(
        ("score", "message"),
        [
            ("0.9", "'score' must be a finite number, found '0.9'"),
            (None, "'score' must be a finite number, found None"),
            (True, "'score' must be a finite number, found True"),
            ([0.5], "'score' must be a finite number, found [0.5]"),
            (float("nan"), "'score' must be a finite number, found nan"),
            (float("inf"), "'score' must be a finite number, found inf"),
            (10**400, "'score' must be a finite number, found 1000"),
        ],
    )
    def test_no_number(self, score: object, message: str) -> None:
        truth = truth_of()
        sentence = refusal(ScoreError, truth, detections_of(truth, lambda _item: {"score": score}))
        assert sentence.startswith(f"dt.json: entry [0]: {message}")

    def test_missing(self) -> None:
        truth = truth_of()
        results = detections_of(truth)
        del results[3]["score"]
        assert refusal(ScoreError, truth, results).startswith("dt.json: entry [3] has no 'score'; every detection")

    @pytest.mark.parametrize("largest", [1, 1.0000001, 1.4, 250])
    def test_no_percent(self, largest: float) -> None:
        truth = truth_of()
        assert matched(truth, detections_of(truth, lambda item: {"score": largest * item["score"]})).warnings == ()
        assert matched(truth, [{**item, "score": largest} for item in detections_of(truth)]).warnings == ()

    def test_percent(self) -> None:
        truth = truth_of()
        plain = detections_of(truth)
        pair = matched(truth, [{**item, "score": 100 * item["score"]} for item in plain])
        (sentence,) = pair.warnings
        assert re.match(r"dt.json: scores go up to 9\d(\.\d+)?, as percentages do; only their order matters", sentence)
        assert score_coco(pair) == score_coco(matched(truth, plain))


class TestGroundTruth:
    def changed(self, change: Change) -> Json:
        truth = truth_of()
        change(truth)
        return truth

    def note(self, change: Change) -> str:
        """What is said about the file beside its numbers."""
        truth = check_gt(self.changed(change), "gt.json")
        (sentence,) = (*truth.warnings, *truth.coco_warnings)
        return sentence

    def test_two_annotations_of_one_id(self) -> None:
        truth = self.changed(lambda t: t["annotations"][5].update(id=2))
        assert refusal(DuplicateIdError, truth, []) == (
            "gt.json: annotations with an id that an earlier one has as well: 1 (first: 2); pycocotools would take one "
            "object for the other, so number the annotations anew from 1"
        )

    @pytest.mark.parametrize("key", ["images", "categories"])
    def test_two_others_of_one_id(self, key: str) -> None:
        truth = self.changed(lambda t: t[key][1].update(id=t[key][0]["id"]))
        assert f"{key}[1] has the id {truth[key][0]['id']}" in refusal(DuplicateIdError, truth, [])

    @pytest.mark.parametrize("key", ["images", "categories"])
    def test_the_same_entry_again(self, key: str) -> None:
        assert "listed again with the same entry" in self.note(lambda t: t[key].append(dict(t[key][0])))

    def test_annotation_id_0_is_reported_and_the_number_is_that_of_pycocotools(self) -> None:
        truth = truth_of((1,), images=1, objects=1)
        detections = detections_of(truth)
        assert score_coco(matched(truth, detections)).metrics["AP50"] == pytest.approx(1)
        truth["annotations"][0]["id"] = 0
        pair = matched(truth, detections)
        assert score_coco(pair).metrics["AP50"] == 0
        assert pair.truth.coco_warnings == (
            "gt.json: an annotation has the id 0 (annotations[0], id 0): pycocotools takes a match with it for no "
            "match, so finding it counts as a false alarm; number annotations from 1",
        )

    def test_missing_area(self) -> None:
        assert self.note(lambda t: t["annotations"][4].pop("area")) == (
            "gt.json: annotations without 'area': 1 (first: annotations[4], id 5); width * height was taken, by which "
            "COCO sorts objects into small, medium and large"
        )
        truth = self.changed(lambda t: t["annotations"][4].pop("area"))
        assert check_gt(truth, "gt.json").objects == check_gt(truth_of(), "gt.json").objects

    def test_missing_iscrowd(self) -> None:
        assert "annotations without 'iscrowd': 1 (first: annotations[4], id 5); 0 was taken" in self.note(
            lambda t: t["annotations"][4].pop("iscrowd")
        )

    def test_objects_without_area(self) -> None:
        assert "objects with a box without area: 1 (first: annotations[4], id 5)" in self.note(
            lambda t: t["annotations"][4].update(bbox=[3, 3, 0, 9])
        )

    def test_flags_that_pycocotools_does_not_know(self) -> None:
        assert "COCO's numbers count them like any other" in self.note(
            lambda t: t["annotations"][4].update(difficult=1)
        )
        assert "pycocotools goes by 'iscrowd' alone" in self.note(lambda t: t["annotations"][4].update(ignore=1))

    def test_annotations_of_nothing(self) -> None:
        assert "annotations of pictures that 'images' lacks: 1 (first: annotations[4], id 5: image 9)" in self.note(
            lambda t: t["annotations"][4].update(image_id=9)
        )
        assert (
            "annotations of categories that 'categories' lacks: 1 (first: annotations[4], id 5: category 99)"
            in self.note(lambda t: t["annotations"][4].update(category_id=99))
        )

    def test_all_annotations_of_nothing(self) -> None:
        truth = self.changed(lambda t: t.update(images=[{"id": 1, "width": 9, "height": 9}]))
        assert "no annotation (72 in all) belongs to a picture" in refusal(BrokenFileError, truth, [])
        truth = self.changed(lambda t: t.update(categories=[{"id": 99, "name": "a"}]))
        assert "no annotation (72 in all) has a category" in refusal(BrokenFileError, truth, [])

    def test_nothing_but_crowd_regions(self) -> None:
        sentence = "there is no object that counts, so every number is undefined"
        assert sentence in self.note(lambda t: [item.update(iscrowd=1) for item in t["annotations"]])

    def test_a_category_without_a_name(self) -> None:
        assert "categories without a name: 1 (first: categories[2]); the id stands for it" in self.note(
            lambda t: t["categories"][2].pop("name")
        )


class TestBrokenFiles:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'{"images": [\n  {"id" 1}]}', r"gt.json line 2 column 9: broken JSON \(Expecting"),
            (b"", r"gt.json line 1 column 1: broken JSON"),
            (b'{"images": [', r"gt.json line 1 column 13: broken JSON"),
            (b'{"a": "\xff"}', r"gt.json: broken JSON \(no UTF-8 text: invalid start byte at byte 7\)"),
            (b"[" * 200_000, r"gt.json: broken JSON \(nested too deeply for a COCO file\)"),
            (b'{"images": ' + b"9" * 5000 + b"}", r"gt.json: broken JSON \(a number of too many digits\)"),
        ],
    )
    def test_no_json(self, content: bytes, message: str, tmp_path: Path) -> None:
        (tmp_path / "gt.json").write_bytes(content)
        with pytest.raises(BrokenFileError, match=message):
            read_json(tmp_path / "gt.json")

    def test_not_readable(self, tmp_path: Path) -> None:
        with pytest.raises(BrokenFileError, match=r"nothing\.json cannot be read: No such file"):
            read_json(tmp_path / "nothing.json")
        with pytest.raises(BrokenFileError, match="cannot be read: Is a directory"):
            read_json(tmp_path)

    @pytest.mark.parametrize(
        ("truth", "message"),
        [
            (3, "expected a COCO ground truth (an object), found 3"),
            ([], "found a list"),
            ({}, "expected a list 'images'"),
            ({"images": {}, "annotations": [], "categories": []}, "expected a list 'images'"),
            ({"images": [], "annotations": [], "categories": []}, "the list 'categories' is empty"),
            ({"images": [], "annotations": [], "categories": [{"id": 1}]}, "the list 'images' is empty"),
            ({"images": [4], "annotations": [], "categories": [{"id": 1}]}, "images[0] needs an integer 'id', found 4"),
            (
                {"images": [{"id": 1}], "annotations": [], "categories": [{"id": True}]},
                "categories[0] needs an integer",
            ),
            ({"images": [{"id": 1}, {"id": "2"}], "annotations": [], "categories": [{"id": 1}]}, "some image ids are"),
            (
                {"images": [{"id": 2**63}], "annotations": [], "categories": [{"id": 1}]},
                "images[0] needs an integer 'id', found 9223372036854775808, which is too large for 64 bits",
            ),
        ],
    )
    def test_no_ground_truth(self, truth: object, message: str) -> None:
        assert message in refusal(BrokenFileError, truth, [])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"id": "a"}, "annotations[1] needs an integer 'id', found 'a'"),
            ({"id": None}, "annotations[1] needs an integer 'id', found None"),
            ({"image_id": 1.5}, "annotations[1] needs an integer 'image_id', found 1.5"),
            ({"category_id": None}, "annotations[1] needs an integer 'category_id', found None"),
            ({"category_id": -(2**63)}, "found -9223372036854775808, which is too large for 64 bits"),
            ({"bbox": [1, 2, 3]}, "four finite numbers (x, y, width, height), found [1, 2, 3]"),
            ({"bbox": [1, 2, 3, float("nan")]}, "found [1, 2, 3, nan]"),
            ({"bbox": [1, 2, 3, 1e400]}, "found [1, 2, 3, inf]"),
            ({"bbox": [1, 2, 3, "4"]}, "found [1, 2, 3, '4']"),
            ({"bbox": [1, 2, 3, 2e9]}, "'bbox' lies beyond 1,000,000,000 pixels: [1, 2, 3, 2000000000.0]"),
            ({"bbox": None, "segmentation": []}, "has a 'segmentation' but no 'bbox'"),
            ({"area": "12"}, "'area' must be a finite number, found '12'"),
            ({"area": float("inf")}, "'area' must be a finite number, found inf"),
            ({"iscrowd": "0"}, "'iscrowd' must be 0 or 1, found '0'"),
            ({"iscrowd": 2}, "'iscrowd' must be 0 or 1, found 2"),
            ({"difficult": "yes"}, "'difficult' must be 0 or 1, found 'yes'"),
        ],
    )
    def test_a_broken_annotation(self, change: Json, message: str) -> None:
        truth = truth_of()
        truth["annotations"][1].update(change)
        assert message in refusal(BrokenFileError, truth, [])

    @pytest.mark.parametrize(
        ("results", "message"),
        [
            ({"detections": []}, "expected a list of detections"),
            ({"annotations": [{"score": 1}]}, "found them inside an object; write its list 'annotations' alone"),
            (None, "found None"),
            ([[1, 2]], "entry [0] must be an object"),
            ([{"image_id": None}], "entry [0] needs an integer 'image_id', found None"),
            ([{"image_id": 100, "category_id": 1, "score": 1}], "entry [0] needs a 'bbox' of four finite numbers"),
            ([{"image_id": 100, "category_id": 1, "score": 1, "segmentation": {}}], "boxes are scored here"),
        ],
    )
    def test_no_detections(self, results: object, message: str) -> None:
        assert message in refusal(BrokenFileError, truth_of(), results)

    def test_a_value_of_any_size_makes_a_short_sentence(self) -> None:
        truth = truth_of()
        deep: object = 1
        for _ in range(800):
            deep = [deep]
        for value in (deep, list(range(10**5)), {str(n): n for n in range(10**5)}, "\n\x1b[31m" * 10**5, 7**5000):
            truth["annotations"][1]["bbox"] = value
            sentence = refusal(BrokenFileError, truth, [])
            assert len(sentence) < 300
            assert sentence.isprintable()


ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 10**300, 1e308, 1e-308, float("nan"), float("-inf"), "", "1", "\ud800\n\x1b", [], {},
    [[1]], [None] * 4, [1e308] * 4, [2**990] * 4, [-5, -5, -5, -5], [0, 0, 0, 0], {"id": 1},
)  # fmt: skip


def _spoil(content: Any, rng: np.random.Generator) -> None:
    """Delete, double or replace something at a random depth."""
    while True:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        key = keys[int(rng.integers(len(keys)))]
        deeper = isinstance(content[key], dict | list) and len(content[key]) > 0
        if deeper and rng.random() < 0.8:
            content = content[key]
            continue
        way = rng.random()
        if way < 0.2:
            del content[key]
        elif way < 0.4 and isinstance(content, list):
            content.append(content[key])
        else:
            content[key] = ODD[int(rng.integers(len(ODD)))]
        return


def _outcome(truth: object, results: object) -> FilePair | str:
    """What became of two files: the pair, or the sentence of the error."""
    try:
        return matched(json.loads(json.dumps(truth)), json.loads(json.dumps(results)))
    except CocoFileError as error:
        return str(error)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(8))
def test_spoiled_files_give_numbers_or_one_sentence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scored = 0
    for _ in range(60):
        truth = truth_of(images=3, objects=3, seed=seed)
        results = detections_of(truth)
        _spoil(truth if rng.random() < 0.6 else results, rng)
        outcome = _outcome(truth, results)
        if isinstance(outcome, FilePair):
            scored += 1
            assert all(value is None or 0 <= value <= 1 + 1e-9 for value in score_coco(outcome).metrics.values())
            assert all(sentence.isprintable() for sentence in (*outcome.warnings, *outcome.truth.coco_warnings))
        else:
            assert outcome.isprintable()
            assert len(outcome) < 400
    assert scored > 0
