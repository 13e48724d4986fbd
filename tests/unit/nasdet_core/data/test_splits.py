"""Which pictures train, search and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Annotation, Dataset, ImageRecord
from nasdet_core.data.splits import SplitPlan, assign_splits, drop_repeated
from nasdet_core.errors import DatasetError


def made_up(splits: Mapping[str, int], *, without_boxes: str = "", rare: int = 0) -> Dataset:
    """Pictures with one box of a cat each; the first `rare` ones of each split have a dog as well."""

    def annotation(name: str, number: int) -> Annotation:
        count = 0 if name == without_boxes else 1 + (number < rare)
        boxes = np.tile(np.array([1, 1, 9, 9], dtype=np.float32), (count, 1))
        no = np.zeros(count, dtype=np.bool_)
        return Annotation(boxes, np.arange(count), no, no, np.ones(count))

    return Dataset(
        root=Path("data"),
        class_names=("cat", "dog"),
        category_ids=(1, 2),
        splits={
            name: tuple(ImageRecord(f"{name}/{n:06d}.png", 10, 10, annotation(name, n)) for n in range(count))
            for name, count in splits.items()
        },
        source_format="coco",
    )


def sizes(plan: SplitPlan) -> tuple[int, int, int, int]:
    return len(plan.train), len(plan.search), len(plan.report), len(plan.final)


class TestThreeSets:
    def test_search_on_val_report_on_test(self) -> None:
        plan = assign_splits(made_up({"train": 10, "val": 4, "test": 3}))
        assert sizes(plan) == (10, 4, 3, 10)
        assert plan.names == {"train": "train", "search": "val", "report": "test", "final": "train"}
        assert all(file.startswith("val/") for file in plan.search)

    def test_a_test_set_without_boxes_cannot_be_reported(self) -> None:
        plan = assign_splits(made_up({"train": 10, "val": 4, "test": 3}, without_boxes="test"))
        assert plan.names["report"] == "val"


class TestWrittenSearchSplit:
    """DetNAS's form, as `nasdet data split --search` writes it."""

    @pytest.mark.parametrize("measured", ["val", "test"])
    def test_is_taken_as_it_is(self, measured: str) -> None:
        plan = assign_splits(made_up({"train": 10, "search": 4, measured: 3}))
        assert sizes(plan) == (10, 4, 3, 14)
        assert plan.names == {"train": "train", "search": "search", "report": measured, "final": "train+search"}
        assert all(file.startswith("search/") for file in plan.search)
        assert set(plan.final) == {*plan.train, *plan.search}
        assert plan.unused == ()

    def test_beside_val_and_test_the_report_is_on_test_and_val_is_unused(self) -> None:
        plan = assign_splits(made_up({"train": 10, "search": 4, "val": 5, "test": 3}))
        assert sizes(plan) == (10, 4, 3, 14)
        assert plan.names["report"] == "test"
        assert plan.unused == ("val",)

    def test_without_a_set_to_report_on_it_is_refused(self) -> None:
        with pytest.raises(DatasetError, match="found search, train; rename the split files"):
            assign_splits(made_up({"train": 10, "search": 4}))

    def test_a_picture_of_train_and_search_is_kept_in_search(self) -> None:
        train = made_up({"train": 3}).splits["train"]
        log = DefectLog()
        splits = drop_repeated({"train": train, "search": train[:1]}, log)
        assert (len(splits["train"]), len(splits["search"])) == (2, 1)
        assert [defect.kind for defect in log.defects()] == ["picture_in_two_splits"]


class TestTwoSets:
    @pytest.mark.parametrize("measured", ["val", "test"])
    def test_search_split_comes_out_of_train(self, measured: str) -> None:
        plan = assign_splits(made_up({"train": 50, measured: 4}))
        assert sizes(plan) == (40, 10, 4, 50)
        assert set(plan.train) | set(plan.search) == set(plan.final)
        assert not set(plan.train) & set(plan.search)
        assert plan.names == {"train": "train:rest", "search": "train:search", "report": measured, "final": "train"}

    def test_detnas_number_at_coco_size(self) -> None:
        assert sizes(assign_splits(made_up({"train": 30_000, "val": 10}))) == (25_000, 5000, 10, 30_000)

    def test_seed_decides_and_repeats(self) -> None:
        dataset = made_up({"train": 50, "val": 4})
        assert assign_splits(dataset, seed=1) == assign_splits(dataset, seed=1)
        assert assign_splits(dataset, seed=1).search != assign_splits(dataset, seed=2).search

    def test_the_draw_is_recorded(self) -> None:
        """Another draw would give every registered dataset another version.

        Recorded anew when the draw became stratified (before: 11, 15, 16, 19).
        """
        plan = assign_splits(made_up({"train": 20, "val": 4}), seed=0)
        assert [int(file[6:12]) for file in plan.search] == [3, 9, 13, 14]

    def test_a_rare_class_is_searched_on(self) -> None:
        """Drawn by lot, no picture of it is in the search split with a chance of one in three."""
        dataset = made_up({"train": 50, "val": 4}, rare=5)
        rare = {record.file for record in dataset.splits["train"] if 1 in record.annotation.labels}
        for seed in range(8):
            plan = assign_splits(dataset, seed)
            assert len(rare & set(plan.search)) == 1
            assert len(rare & set(plan.train)) == 4

    def test_the_order_of_the_pictures_does_not_matter(self) -> None:
        dataset = made_up({"train": 50, "val": 4}, rare=5)
        turned = replace(dataset, splits={**dataset.splits, "train": dataset.splits["train"][::-1]})
        assert assign_splits(dataset).search == assign_splits(turned).search


class TestOneSet:
    def test_everything_is_drawn_by_seed(self) -> None:
        plan = assign_splits(made_up({"all": 50}))
        assert sizes(plan) == (30, 10, 10, 40)
        assert len({*plan.train, *plan.search, *plan.report}) == 50
        assert set(plan.final) == {*plan.train, *plan.search}
        assert plan.names["report"] == "all:report"

    def test_too_few_pictures(self) -> None:
        with pytest.raises(DatasetError, match="expected at least 5 usable pictures"):
            assign_splits(made_up({"all": 4}))


class TestUnusable:
    def test_unknown_sets(self) -> None:
        with pytest.raises(DatasetError, match="found left, right; rename the split files"):
            assign_splits(made_up({"left": 5, "right": 5}))

    def test_a_measured_set_needs_two_pictures_with_objects(self) -> None:
        with pytest.raises(DatasetError, match=r"at least 2 pictures with objects in the report split \(test\)"):
            assign_splits(made_up({"train": 10, "val": 4, "test": 1}))

    def test_train_too_small_to_share(self) -> None:
        with pytest.raises(DatasetError, match="expected more than 2 usable training pictures to split"):
            assign_splits(made_up({"train": 2, "val": 4}))
