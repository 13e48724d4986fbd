"""`nasdet predict` as its user meets it: what is printed, drawn, refused, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from nasdet_client.cli.predict import predict
from nasdet_core.data.input_format import InputFormat
from nasdet_core.detectors.detector import build_detector
from nasdet_core.supernet.checkpoint import load_detector, save_detector
from nasdet_core.training.predict import Prediction, predict_pictures
from nasdet_core.training.tensor_file import pack_tensors
from tests.support.tiny_training import tiny_space

CLASS_NAMES = ("red cell", "größe 中")
INPUT = InputFormat((64, 96), "bgr_255")

app = typer.Typer()
app.command()(predict)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def found(*arguments: object) -> list[dict[str, Any]]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    pictures: list[dict[str, Any]] = json.loads(result.stdout)
    return pictures


def refusal(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("nasdet: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    detector = build_detector(tiny_space().fixed((0, 1, 2, 3) * 5), elastic=False, seed=3)
    file = tmp_path_factory.mktemp("model") / "winner"
    save_detector(file, detector, class_names=CLASS_NAMES, input=INPUT)
    return file


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with two pictures in a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    picture(tmp_path / "photos" / "b.jpg", (120, 80))
    picture(tmp_path / "photos" / "a.png", (60, 90))
    return tmp_path


def picture(file: Path, size: tuple[int, int]) -> Path:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


class TestResults:
    def test_json_holds_what_the_core_finds(self, here: Path, model: Path) -> None:
        file = here / "photos" / "b.jpg"
        (shown,) = found(model, file, "--score", 0.05)
        expected = next(predict_pictures(load_detector(model), [file], min_score=0.05))
        assert isinstance(expected, Prediction)
        assert len(expected.scores) > 0
        assert (shown["file"], shown["width"], shown["height"]) == (str(file), 120, 80)
        assert [one["label"] for one in shown["detections"]] == expected.labels.tolist()
        assert [one["class"] for one in shown["detections"]] == [CLASS_NAMES[label] for label in expected.labels]
        assert [one["score"] for one in shown["detections"]] == expected.scores.tolist()
        assert [one["box_xyxy"] for one in shown["detections"]] == expected.boxes_xyxy.tolist()

    def test_drawn_copies_have_the_pictures_size_and_its_format(self, here: Path, model: Path) -> None:
        shown = found(model, "photos", "--score", 0.05)
        assert [one["drawn"] for one in shown] == ["detections/a.detections.png", "detections/b.detections.jpg"]
        for one, kind in zip(shown, ("PNG", "JPEG"), strict=True):
            with Image.open(here / one["drawn"]) as drawn:
                assert (drawn.format, drawn.size) == (kind, (one["width"], one["height"]))
                drawn.load()
        with Image.open(here / "photos" / "a.png") as original, Image.open(here / shown[0]["drawn"]) as drawn:
            assert (np.asarray(original) != np.asarray(drawn)).any()
        assert sorted(file.name for file in (here / "detections").iterdir()) == [
            "a.detections.png",
            "b.detections.jpg",
        ]

    def test_nothing_is_drawn_on_a_picture_without_detections(self, here: Path, model: Path) -> None:
        (shown,) = found(model, here / "photos" / "a.png", "--score", 1)
        assert shown["detections"] == []
        with Image.open(here / "photos" / "a.png") as original, Image.open(shown["drawn"]) as drawn:
            assert np.array_equal(np.asarray(original), np.asarray(drawn))

    def test_text_has_a_line_per_picture_and_a_summary(self, here: Path, model: Path) -> None:
        pictures = found(model, "photos", "--score", 0.05)
        result = run(model, here / "photos", "--out", "other", "--score", 0.05)
        lines = result.stdout.splitlines()
        assert result.exit_code == 0
        assert len(lines) == 3
        best = pictures[0]["detections"][0]
        count = len(pictures[0]["detections"])
        assert lines[0].endswith(
            f"a.png: {count} detections, best {best['class']} {best['score']:.2f} -> other/a.detections.png"
        )
        total = sum(len(one["detections"]) for one in pictures)
        assert lines[2] == f"2 pictures, {total} detections of score 0.05 or more"

    def test_higher_scores_only(self, here: Path, model: Path) -> None:
        everything = found(model, here / "photos" / "a.png", "--score", 0)[0]["detections"]
        limit = everything[4]["score"]
        assert found(model, here / "photos" / "a.png", "--score", limit, "--force")[0]["detections"] == everything[:5]


class TestNames:
    def test_two_pictures_of_one_name_do_not_collide(self, here: Path, model: Path) -> None:
        for folder in ("x", "y", "z"):
            (here / folder).mkdir()
            picture(here / folder / "a.png", (60, 90))
        picture(here / "x" / "a-2.png", (60, 90))
        shown = found(model, "x", "y", "z/a.png")
        assert [Path(one["drawn"]).name for one in shown] == [
            "a-2.detections.png",
            "a.detections.png",
            "a-3.detections.png",
            "a-4.detections.png",
        ]
        assert len(list((here / "detections").iterdir())) == 4

    def test_a_picture_given_twice_is_looked_at_once(self, here: Path, model: Path) -> None:
        assert len(found(model, "photos", "photos/a.png", here / "photos" / "b.jpg")) == 2

    def test_drawn_pictures_in_a_folder_are_not_looked_at_again(self, here: Path, model: Path) -> None:
        for _ in range(2):
            shown = found(model, "photos", "--out", here / "photos", "--force")
            assert [one["file"] for one in shown] == ["photos/a.png", "photos/b.jpg"]

    def test_folders_are_not_searched_through_and_other_files_left_alone(self, here: Path, model: Path) -> None:
        (here / "photos" / "deeper").mkdir()
        picture(here / "photos" / "deeper" / "c.png", (60, 90))
        picture(here / "photos" / "UPPER.PNG", (60, 90))
        (here / "photos" / "notes.txt").write_text("no picture")
        assert [Path(one["file"]).name for one in found(model, "photos")] == ["UPPER.PNG", "a.png", "b.jpg"]

    def test_names_that_are_not_ascii(self, here: Path, model: Path) -> None:
        file = picture(here / "größe 中 🐱.png", (60, 90))
        (shown,) = found(model, file)
        assert shown["drawn"] == "detections/größe 中 🐱.detections.png"
        assert (here / shown["drawn"]).is_file()

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
    def test_a_name_that_is_no_text(self, here: Path, model: Path) -> None:
        file = picture(here / os.fsdecode(b"\xff.png"), (60, 90))
        (shown,) = found(model, file)
        assert shown["file"].endswith("\ufffd.png")
        assert (here / "detections" / os.fsdecode(b"\xff.detections.png")).is_file()


class TestKindsOfPictures:
    def test_each_is_drawn_upright_in_color(self, here: Path, model: Path) -> None:
        with Image.open(here / "photos" / "b.jpg") as original:
            exif = Image.Exif()
            exif[0x0112] = 6
            original.save(here / "turned.jpg", exif=exif)
            for name, mode in (("grey", "L"), ("palette", "P"), ("alpha", "RGBA"), ("bits", "1")):
                original.convert(mode).save(here / f"{name}.png")
        Image.fromarray(np.full((80, 120), 40_000, dtype=np.uint16)).save(here / "sixteen.png")
        for one in found(model, here):
            size = (80, 120) if Path(one["file"]).name == "turned.jpg" else (120, 80)
            with Image.open(one["drawn"]) as drawn:
                assert (one["width"], one["height"]) == size == drawn.size
                assert drawn.mode == "RGB"


class TestOverwriting:
    def test_only_with_force(self, here: Path, model: Path) -> None:
        found(model, here / "photos" / "a.png")
        drawn = here / "detections" / "a.detections.png"
        drawn.write_text("precious")
        text = refusal(model, here / "photos")
        assert "1 of the pictures to draw exist already" in text
        assert "--force" in text
        assert drawn.read_text() == "precious"
        assert not (here / "detections" / "b.detections.jpg").exists()
        found(model, here / "photos", "--force")
        assert drawn.read_bytes().startswith(b"\x89PNG")

    def test_a_link_is_replaced_and_not_followed(self, here: Path, model: Path) -> None:
        (here / "detections").mkdir()
        (here / "precious").write_text("precious")
        (here / "detections" / "a.detections.png").symlink_to(here / "precious")
        assert "exist already" in refusal(model, here / "photos" / "a.png")
        found(model, here / "photos" / "a.png", "--force")
        assert (here / "precious").read_text() == "precious"


class TestBrokenPictures:
    def test_each_is_a_sentence_and_the_rest_goes_on(self, here: Path, model: Path) -> None:
        (here / "photos" / "empty.png").write_bytes(b"")
        (here / "photos" / "text.jpg").write_text("no picture")
        whole = (here / "photos" / "a.png").read_bytes()
        (here / "photos" / "cut.png").write_bytes(whole[: len(whole) // 2])
        result = run(model, "photos", "--json")
        assert result.exit_code == 1
        assert [Path(one["file"]).name for one in json.loads(result.stdout)] == ["a.png", "b.jpg"]
        lines = result.stderr.splitlines()
        assert len(lines) == 3
        for line, name in zip(lines, ("cut.png", "empty.png", "text.jpg"), strict=True):
            assert line.startswith(f"nasdet: picture {name}")
            assert "(in photos)" in line
        assert run(model, "photos", "--force").stdout.splitlines()[-1].endswith("; 3 pictures could not be read")

    def test_when_none_can_be_read(self, here: Path, model: Path) -> None:
        (here / "empty.png").write_bytes(b"")
        result = run(model, here / "empty.png", "--json")
        assert result.exit_code == 1
        assert json.loads(result.stdout) == []


class TestRefusals:
    def test_pictures_that_are_not_there(self, here: Path, model: Path) -> None:
        assert "nowhere.png does not exist" in refusal(model, here / "photos", here / "nowhere.png")
        (here / "void").mkdir()
        assert "directly in the folder" in refusal(model, here / "void")
        assert not (here / "detections").exists()

    @pytest.mark.parametrize("score", ["-0.1", "1.1", "nan"])
    def test_a_score_out_of_range(self, here: Path, model: Path, score: str) -> None:
        assert "--score: expected a number from 0 to 1" in refusal(model, here / "photos", f"--score={score}")

    def test_an_output_folder_that_is_a_file(self, here: Path, model: Path) -> None:
        (here / "file").write_text("")
        assert "give another with --out" in refusal(model, here / "photos", "--out", here / "file")
        assert "give another with --out" in refusal(model, here / "photos", "--out", here / "file" / "below")

    def test_a_supernet(self, here: Path) -> None:
        supernet = build_detector(tiny_space(), elastic=True, seed=3)
        save_detector(here / "supernet", supernet, class_names=CLASS_NAMES, input=INPUT)
        text = refusal(here / "supernet", here / "photos")
        assert "holds a supernet" in text
        assert "weights of a finalist" in text

    def test_other_files(self, here: Path) -> None:
        (here / "random").write_bytes(os.urandom(1000))
        assert "file random: expected a nasdet detector in safetensors format" in refusal("random", here / "photos")
        (here / "backbone").write_bytes(pack_tensors({}, {"kind": "nasdet backbone", "schema": 1}))
        assert "got 'nasdet backbone'" in refusal("backbone", here / "photos")
        assert "cannot read the detector file missing" in refusal("missing", here / "photos")
        assert "is a folder" in refusal(here, here / "photos")

    def test_a_model_that_is_cut_short(self, here: Path, model: Path) -> None:
        whole = model.read_bytes()
        (here / "half").write_bytes(whole[: len(whole) // 2])
        assert "file half: the tensors are damaged" in refusal("half", here / "photos")


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # an import now fails as if it were not installed
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else found(name, package)
from typer import Typer
from nasdet_client.cli.predict import predict
app = Typer()
app.command()(predict)
app()
"""


def test_without_torch_it_says_what_to_install(repository: Path, here: Path, model: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(model), str(here / "photos")]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "nasdet: predictions need the package torch; install it with: pip install 'nasdet[worker]'\n"
