"""Drawing subsets: exact sizes, every class in proportion, the same seed the same draw."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from nasdet_core.data.stratify import Assignment, draw_random, draw_stratified
from nasdet_core.errors import DatasetError

Labels = list[set[int]]


def made_up(pictures: int, classes: int, seed: int = 0) -> Labels:
    """Classes as unevenly frequent as in COCO; some pictures have none."""
    rng = np.random.default_rng(seed)
    weights = 1 / (np.arange(classes) + 1.5)
    draws = [rng.choice(classes, rng.poisson(2.9), p=weights / weights.sum()) for _picture in range(pictures)]
    return [set(draw.tolist()) for draw in draws]


def off(labels: Labels, assignment: Assignment, shares: Sequence[int], label: int | None) -> float:
    """By how many pictures a class (None: no object) misses its proportion, in the worst subset."""
    has = np.array([not classes if label is None else label in classes for classes in labels])
    sizes = np.array([len(labels) - sum(shares), *shares])
    found = np.bincount(assignment[has], minlength=len(sizes))
    return float(np.abs(found - has.sum() * sizes / len(labels)).max())


class TestDrawStratified:
    @pytest.mark.parametrize("shares", [(5,), (30, 10), (0, 20), (100,)])
    def test_sizes_are_exact(self, shares: tuple[int, ...]) -> None:
        assignment = draw_stratified(made_up(100, 7), shares, random.Random(0))
        assert np.bincount(assignment, minlength=len(shares) + 1).tolist() == [100 - sum(shares), *shares]

    def test_rare_classes_and_empty_pictures_are_spread_in_proportion(self) -> None:
        labels = made_up(5000, 20)
        shares = (1000, 1000)
        assignment = draw_stratified(labels, shares, random.Random(0))
        assert off(labels, assignment, shares, None) < 1
        assert max(off(labels, assignment, shares, label) for label in range(10, 20)) < 1

    def test_classes_are_closer_to_proportion_than_by_lot(self) -> None:
        labels = made_up(500, 12)
        shares = (100, 100)
        drawn = [
            [
                sum(off(labels, assignment, shares, label) for label in range(12))
                for assignment in (
                    draw_stratified(labels, shares, random.Random(seed)),
                    draw_random(len(labels), shares, random.Random(seed)),
                )
            ]
            for seed in range(5)
        ]
        stratified, plain = np.mean(drawn, axis=0)
        assert stratified < plain / 2

    def test_a_class_of_one_picture_stays_where_most_pictures_are(self) -> None:
        """What is not in the rest (train) cannot be learned."""
        labels: Labels = [{0} for _picture in range(49)] + [{0, 1}]
        for seed in range(5):
            assert draw_stratified(labels, (10, 10), random.Random(seed))[-1] == 0

    def test_the_seed_decides_and_repeats(self) -> None:
        labels = made_up(200, 5)
        first, again, other = (draw_stratified(labels, (40,), random.Random(seed)) for seed in (1, 1, 2))
        assert (first == again).all()
        assert (first != other).any()

    def test_no_pictures_at_all(self) -> None:
        assert draw_stratified([], (), random.Random(0)).tolist() == []

    def test_the_size_of_coco_takes_seconds(self) -> None:
        labels, shares = made_up(120_000, 80), (24_000, 5000)
        assignment = draw_stratified(labels, shares, random.Random(0))
        assert off(labels, assignment, shares, None) < 1  # dealt out last, they would miss it by a hundred


class TestDrawRandom:
    def test_sizes_are_exact_and_the_seed_decides(self) -> None:
        first, again, other = (draw_random(100, (20, 30), random.Random(seed)) for seed in (1, 1, 2))
        assert np.bincount(first).tolist() == [50, 20, 30]
        assert (first == again).all()
        assert (first != other).any()


@pytest.mark.parametrize("shares", [(3,), (1, 2), (-1,)])
def test_impossible_shares_are_refused(shares: tuple[int, ...]) -> None:
    with pytest.raises(DatasetError, match="cannot draw subsets of"):
        draw_stratified([{0}, {1}], shares, random.Random(0))
    with pytest.raises(DatasetError, match="cannot draw subsets of"):
        draw_random(2, shares, random.Random(0))
