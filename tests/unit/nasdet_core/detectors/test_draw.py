"""Frames, names and scores on pictures."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from nasdet_core.detectors.draw import class_color, draw_detections, drawable_name, text_color

GREY = (128, 128, 128)
NAMES = ("cell", "größe", "中文")


def grey(width: int = 400, height: int = 300) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def changed(drawn: Image.Image) -> npt.NDArray[np.bool_]:
    """[H, W] where a grey picture was painted over."""
    painted: npt.NDArray[np.bool_] = (np.asarray(drawn) != 128).any(axis=2)
    return painted


def has_color(drawn: Image.Image, label: int) -> bool:
    return bool((np.asarray(drawn) == class_color(label)).all(axis=2).any())


class TestFrames:
    def test_they_lie_on_the_edges_of_the_box_in_the_color_of_the_class(self) -> None:
        drawn = draw_detections(grey(), [[50, 100, 350, 250]], [0.9], [1], NAMES)
        pixels = np.asarray(drawn)
        for x, y in ((50, 200), (350, 200), (200, 100), (200, 250)):
            assert tuple(pixels[y, x]) == class_color(1)
        assert not changed(drawn)[110:240, 60:340].any()  # nothing inside

    def test_the_picture_itself_stays_as_it_is(self) -> None:
        picture = grey()
        draw_detections(picture, [[50, 100, 350, 250]], [0.9], [1], NAMES)
        assert not changed(picture).any()

    def test_without_detections_it_is_a_copy(self) -> None:
        assert not changed(draw_detections(grey(), np.zeros((0, 4)), [], [], NAMES)).any()

    def test_a_frame_around_the_whole_picture_is_seen_on_all_sides(self) -> None:
        painted = changed(draw_detections(grey(), [[0, 0, 400, 300]], [0.9], [0], NAMES))
        assert painted[0].all()
        assert painted[-1].all()
        assert painted[:, 0].all()
        assert painted[:, -1].all()

    def test_they_grow_with_the_picture(self) -> None:
        small, large = (
            changed(draw_detections(grey(side, side), np.array([[0.2, 0.5, 0.2, 0.5]]) * side, [0.9], [0], NAMES))
            for side in (300, 3000)
        )
        assert large.sum() > 20 * small.sum()

    @pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (8, 8)])
    def test_tiny_pictures_and_boxes_without_area(self, size: tuple[int, int]) -> None:
        boxes = np.array([(0, 0, *size), (0.5, 0.5, 0.5, 0.5), (*size, *size)])
        assert draw_detections(grey(*size), boxes, [0.9, 0.5, 0.1], [0, 1, 2], NAMES).size == size


class TestTags:
    @pytest.mark.parametrize(
        "box", [[0, 0, 30, 30], [390, 0, 400, 20], [0, 290, 9, 300], [395, 295, 400, 300], [100, 3, 200, 50]]
    )
    def test_they_stay_inside_the_picture(self, box: list[float]) -> None:
        """As much of one is seen in a corner as in the middle."""
        drawn = draw_detections(grey(), [box], [0.9], [0], NAMES)
        middle = draw_detections(grey(), [[200, 150, 200, 150]], [0.9], [0], NAMES)
        assert changed(drawn).sum() >= changed(middle).sum()

    def test_better_detections_lie_on_top(self) -> None:
        box = [100, 100, 300, 200]
        for scores, top in (([0.9, 0.5], 0), ([0.5, 0.9], 1)):
            drawn = draw_detections(grey(), [box, box], scores, [0, 1], NAMES)
            assert tuple(np.asarray(drawn)[200, 200]) == class_color(top)

    def test_name_and_score_are_in_them(self) -> None:
        tags = [
            np.asarray(draw_detections(grey(), [[100, 100, 300, 200]], [score], [0], (name,))).tobytes()
            for name, score in (("cell", 0.9), ("cell", 0.8), ("call", 0.9))
        ]
        assert len(set(tags)) == 3

    def test_text_is_readable_on_every_color(self) -> None:
        for label in range(200):
            color = class_color(label)
            contrast = abs(np.dot((0.299, 0.587, 0.114), np.subtract(text_color(color), color)))
            assert contrast > 100


class TestColors:
    def test_neighbouring_classes_differ(self) -> None:
        colors = [class_color(label) for label in range(12)]
        for one, other in itertools.combinations(colors, 2):
            assert np.abs(np.subtract(one, other)).max() >= 50

    def test_a_class_has_its_color_in_every_picture(self) -> None:
        for others in ([], [0, 2]):
            labels = [*others, 1]
            boxes = [[10 * label, 200, 10 * label + 5, 250] for label in labels]
            assert has_color(draw_detections(grey(), boxes, [0.5] * len(labels), labels, NAMES), 1)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "drawn"),
        [
            ("red cell", "red cell"),
            ("größe", "grosse"),
            ("Łódź", "Lodz"),
            ("naïve", "naive"),
            ("cat 中", "cat ?"),
            ("中文", "class 7"),
            ("Клетка", "class 7"),
            ("🐱", "class 7"),
            ("a\nb", "a?b"),
            ("?", "?"),
            ("", ""),
        ],
    )
    def test_only_characters_that_the_font_has(self, name: str, drawn: str) -> None:
        assert drawable_name(name, 7) == drawn

    def test_names_of_other_scripts_are_drawn(self) -> None:
        assert changed(draw_detections(grey(), [[100, 100, 200, 200]], [0.5], [2], NAMES)).any()
