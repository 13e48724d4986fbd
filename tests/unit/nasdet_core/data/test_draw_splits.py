"""Splits that are written as files: fractions of all pictures, or a search split out of train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nasdet_core.data.draw_splits import divide, take_search_split
from nasdet_core.data.in_memory import Annotation, Dataset, ImageRecord
from nasdet_core.data.splits import assign_splits
from nasdet_core.errors import DatasetError


def made_up(**splits: int) -> Dataset:
    no = np.zeros(1, dtype=np.bool_)
    one = Annotation(np.array([[1, 1, 9, 9]], dtype=np.float32), np.zeros(1, dtype=np.int64), no, no, np.ones(1))
    return Dataset(
        root=Path("data"),
        class_names=("cat",),
        category_ids=(1,),
        splits={
            name: tuple(ImageRecord(f"{name}/{n:03d}.png", 10, 10, one) for n in range(count))
            for name, count in splits.items()
        },
        source_format="coco",
    )


def sizes(splits: dict[str, tuple[ImageRecord, ...]]) -> dict[str, int]:
    return {name: len(records) for name, records in splits.items()}


def files(records: tuple[ImageRecord, ...]) -> list[str]:
    return [record.file for record in records]


class TestDivide:
    def test_all_pictures_are_dealt_out_anew(self) -> None:
        dataset = made_up(train=7, val=3)
        splits = divide(dataset, {"train": 0.5, "val": 0.3, "test": 0.2}, seed=0)
        assert sizes(splits) == {"train": 5, "val": 3, "test": 2}
        assert sorted(file for records in splits.values() for file in files(records)) == sorted(dataset.by_file())

    def test_a_fraction_of_zero_is_no_split(self) -> None:
        assert sizes(divide(made_up(all=10), {"train": 0.8, "val": 0.2, "test": 0.0}, seed=0)) == {"train": 8, "val": 2}

    def test_rounding_leaves_the_rest_to_the_first(self) -> None:
        assert sizes(divide(made_up(all=11), {"train": 0.7, "val": 0.2, "test": 0.1}, seed=0)) == {
            "train": 8,
            "val": 2,
            "test": 1,
        }

    @pytest.mark.parametrize("stratified", [True, False])
    def test_the_seed_decides(self, stratified: bool) -> None:
        first, again, other = (
            files(divide(made_up(all=50), {"train": 0.8, "val": 0.2}, seed=seed, stratified=stratified)["val"])
            for seed in (1, 1, 2)
        )
        assert first == again
        assert first != other

    def test_a_dataset_of_one_set_is_divided_as_a_search_would(self) -> None:
        dataset = made_up(all=50)
        plan = assign_splits(dataset, seed=3)
        splits = divide(dataset, {"train": 0.6, "val": 0.2, "test": 0.2}, seed=3)
        assert [tuple(files(records)) for records in splits.values()] == [plan.train, plan.search, plan.report]

    @pytest.mark.parametrize(
        ("fractions", "message"),
        [
            ({"train": 0.6, "val": 0.2}, "sum to 0.8"),
            ({"train": 1.0, "val": 0.0}, "two or more splits"),
            ({"train": 1.5, "val": -0.5}, "between 0 and 1"),
            ({"train": float("nan"), "val": 0.5}, "sum to nan"),
            ({"train": 0.99, "val": 0.01}, "leaves none for val"),
        ],
    )
    def test_what_cannot_be_is_refused(self, fractions: dict[str, float], message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            divide(made_up(all=10), fractions, seed=0)


class TestTakeSearchSplit:
    def test_comes_out_of_train_and_leaves_the_others(self) -> None:
        dataset = made_up(train=20, val=5, test=4)
        splits = take_search_split(dataset, 6, seed=0)
        assert sizes(splits) == {"train": 14, "search": 6, "val": 5, "test": 4}
        assert {*files(splits["train"]), *files(splits["search"])} == set(files(dataset.splits["train"]))
        assert splits["val"] == dataset.splits["val"]

    def test_is_the_one_that_a_search_would_draw(self) -> None:
        dataset = made_up(train=20, val=5)
        plan = assign_splits(dataset, seed=3)
        assert tuple(files(take_search_split(dataset, len(plan.search), seed=3)["search"])) == plan.search

    @pytest.mark.parametrize(
        ("dataset", "pictures", "message"),
        [
            (made_up(all=20), 5, "expected splits train and val"),
            (made_up(train=20), 5, "expected splits train and val"),
            (made_up(train=20, search=5, val=5), 5, "has a split search already"),
            (made_up(train=20, val=5), 20, "expected fewer pictures for the search split than the 20 of train"),
        ],
    )
    def test_what_cannot_be_is_refused(self, dataset: Dataset, pictures: int, message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            take_search_split(dataset, pictures, seed=0)
