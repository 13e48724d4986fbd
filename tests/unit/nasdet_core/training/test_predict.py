"""A prediction is what an evaluation of the same picture sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from nasdet_core.data.batches import eval_batches
from nasdet_core.data.cache import ResidentImages
from nasdet_core.data.in_memory import Annotation, ImageRecord
from nasdet_core.data.input_format import PIXEL_FORMATS, InputFormat
from nasdet_core.data.pictures import PictureError
from nasdet_core.detectors.detector import build_detector
from nasdet_core.errors import GenotypeError
from nasdet_core.supernet.checkpoint import SavedDetector, load_detector, pack_detector
from nasdet_core.training.evaluate import detect
from nasdet_core.training.predict import Prediction, predict_pictures
from tests.support.tiny_training import CLASS_NAMES, tiny_space

SIZES = ((64, 96), (150, 90), (90, 150), (33, 200), (640, 480))  # (width, height): small, portrait, landscape, large
ROTATED = 6  # EXIF: turn by 90 degrees


def saved_detector(input_format: InputFormat, *, elastic: bool = False) -> SavedDetector:
    space = tiny_space() if elastic else tiny_space().fixed((0, 1, 2, 3) * 5)
    model = build_detector(space, elastic=elastic, seed=3)
    data, _ = pack_detector(model, class_names=CLASS_NAMES, input=input_format)
    return load_detector(data)


def noise(width: int, height: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    """Smooth, so that a resize keeps some of it."""
    rough = np.random.default_rng(width * height).integers(0, 256, (6, 6, channels), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour pictures of several sizes, and one of each of the other kinds."""
    root = tmp_path_factory.mktemp("pictures")
    for width, height in SIZES:
        Image.fromarray(noise(width, height)).save(root / f"color-{width}.png")
    picture = Image.fromarray(noise(120, 80))
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    picture.save(root / "turned.jpg", exif=exif)
    picture.convert("L").save(root / "grey.png")
    picture.convert("P").save(root / "palette.png")
    Image.fromarray(noise(120, 80, 4), "RGBA").save(root / "alpha.png")
    Image.fromarray(noise(120, 80)[..., 0].astype(np.uint16) * 257).save(root / "sixteen.png")
    return root


def records(folder: Path) -> list[ImageRecord]:
    """As a reader of a dataset makes them: the upright size is known."""
    found = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112) == ROTATED
        size = (height, width) if turned else (width, height)
        flags = np.zeros(1, dtype=np.bool_)
        box = np.array([[1, 1, 20, 20]], dtype=np.float32)
        found.append(ImageRecord(path.name, *size, Annotation(box, np.zeros(1, np.int64), flags, flags, np.ones(1))))
    return found


def evaluated(saved: SavedDetector, folder: Path, batch_size: int) -> dict[str, tuple[npt.NDArray[Any], ...]]:
    cache = ResidentImages(folder, records(folder), saved.input.image_size)
    batches = eval_batches(cache, batch_size, pixel_format=saved.input.pixel_format)
    found = detect(saved.model, batches=batches)
    return {file: tuple(np.asarray(rows) for rows in one) for file, one in found.items()}


def predicted(saved: SavedDetector, folder: Path) -> list[Prediction]:
    results = list(predict_pictures(saved, sorted(folder.iterdir())))
    predictions = [result for result in results if isinstance(result, Prediction)]
    assert len(predictions) == len(results)
    return predictions


class TestEqualsEvaluation:
    @pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
    @pytest.mark.parametrize("image_size", [(64, 96), (128, 96)])
    def test_the_same_boxes_scores_and_labels(
        self, folder: Path, image_size: tuple[int, int], pixel_format: str
    ) -> None:
        saved = saved_detector(InputFormat(image_size, pixel_format))
        expected = evaluated(saved, folder, batch_size=1)
        assert sum(len(scores) for _, scores, _ in expected.values()) > 100
        for prediction in predicted(saved, folder):
            boxes, scores, labels = expected[prediction.path.name]
            assert np.array_equal(prediction.boxes_xyxy, boxes), prediction.path.name
            assert np.array_equal(prediction.scores, scores), prediction.path.name
            assert np.array_equal(prediction.labels, labels), prediction.path.name

    def test_whatever_batch_the_evaluation_puts_a_picture_into(self, folder: Path) -> None:
        """To the rounding of another order of sums."""
        saved = saved_detector(InputFormat((64, 96), "rgb_normalized"))
        expected = evaluated(saved, folder, batch_size=4)
        for prediction in predicted(saved, folder):
            boxes, scores, _ = expected[prediction.path.name]
            np.testing.assert_allclose(prediction.scores, scores, atol=1e-5)
            np.testing.assert_allclose(np.sort(prediction.boxes_xyxy, 0), np.sort(boxes, 0), atol=1e-2)

    def test_boxes_lie_in_the_upright_picture(self, folder: Path) -> None:
        saved = saved_detector(InputFormat((64, 96), "rgb_normalized"))
        for prediction in predicted(saved, folder):
            assert prediction.picture.mode == "RGB"
            assert (prediction.boxes_xyxy >= 0).all()
            assert (prediction.boxes_xyxy[:, 2:] <= prediction.picture.size).all()
        turned = next(p for p in predicted(saved, folder) if p.path.name == "turned.jpg")
        assert turned.picture.size == (80, 120)
        assert turned.boxes_xyxy[:, 3].max() > 80


class TestInputFormat:
    def test_both_values_act(self, folder: Path) -> None:
        inputs = (
            InputFormat((64, 96), "rgb_normalized"),
            InputFormat((64, 96), "bgr_255"),
            InputFormat((128, 192), "rgb_normalized"),
        )
        scores = {tuple(predicted(saved_detector(each), folder)[0].scores.tolist()) for each in inputs}
        assert len(scores) == 3


class TestScores:
    def test_low_ones_are_left_out_and_the_best_come_first(self, folder: Path) -> None:
        saved = saved_detector(InputFormat((64, 96), "rgb_normalized"))
        everything = predicted(saved, folder)[0]
        lowest = float(np.sort(everything.scores)[-10])
        found = next(iter(predict_pictures(saved, [everything.path], min_score=lowest)))
        assert isinstance(found, Prediction)
        assert len(found.scores) == 10 == len(found.labels) == len(found.boxes_xyxy)
        assert (np.diff(found.scores) <= 0).all()
        assert np.array_equal(found.scores, everything.scores[:10])


class TestBadInput:
    def test_a_broken_picture_gives_its_error_and_the_rest_goes_on(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "empty.png").write_bytes(b"")
        (tmp_path / "text.png").write_text("no picture")
        whole = (folder / "turned.jpg").read_bytes()
        (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
        saved = saved_detector(InputFormat((64, 96), "rgb_normalized"))
        paths = [tmp_path / name for name in ("empty.png", "text.png", "cut.jpg", "missing.png")]
        results = list(predict_pictures(saved, [*paths, folder / "grey.png"]))
        assert all(isinstance(result, PictureError) for result in results[:4])
        assert isinstance(results[4], Prediction)
        for path, result in zip(paths, results, strict=False):
            assert path.name in str(result)

    def test_a_supernet_is_refused(self, folder: Path) -> None:
        saved = saved_detector(InputFormat((64, 96), "rgb_normalized"), elastic=True)
        with pytest.raises(GenotypeError, match="20 blocks of this one are still searched: it is a supernet"):
            list(predict_pictures(saved, [folder / "grey.png"]))
