"""`nasdet evaluate` as its user meets it: what is printed, refused, and with which exit code."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from nasdet_client.cli.evaluate import evaluate
from nasdet_core.data.input_format import InputFormat
from nasdet_core.detectors.detector import build_detector
from nasdet_core.supernet.checkpoint import save_detector
from tests.support.datasets import write_coco
from tests.support.tiny_training import tiny_space

app = typer.Typer()
app.command()(evaluate)

TRUTH: dict[str, Any] = {
    "images": [{"id": 7, "width": 640, "height": 480, "file_name": "7.jpg"}],
    "categories": [{"id": 3, "name": "cup"}, {"id": 5, "name": "[red]fork[/red]"}, {"id": 8, "name": "größe 中"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [40, 20, 20, 20], "area": 400, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 5, "bbox": [100, 99, 50, 40], "area": 2000, "iscrowd": 0},
        {"id": 3, "image_id": 7, "category_id": 5, "bbox": [300, 99, 50, 40], "area": 2000, "iscrowd": 0},
    ],
}
DETECTIONS: list[dict[str, Any]] = [
    {"image_id": 7, "category_id": 3, "bbox": [40, 20, 20, 20], "score": 0.9},
    {"image_id": 7, "category_id": 5, "bbox": [100, 99, 50, 40], "score": 0.8},
]
COCO_LABELS = """\
 Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.7525
 Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets=100 ] = 0.7525
 Average Precision  (AP) @[ IoU=0.75      | area=   all | maxDets=100 ] = 0.7525
 Average Precision  (AP) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = 1.0000
 Average Precision  (AP) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = 0.5050
 Average Precision  (AP) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = -
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = 0.7500
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets= 10 ] = 0.7500
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.7500
 Average Recall     (AR) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = 1.0000
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = 0.5000
 Average Recall     (AR) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = -
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def result_of(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    body: dict[str, Any] = json.loads(done.stdout)
    return body


def refusal(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("nasdet: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def write(folder: Path, truth: object = TRUTH, detections: object = DETECTIONS) -> tuple[str, Path, str, Path]:
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "dt.json").write_text(json.dumps(detections))
    return "--gt", folder / "gt.json", "--detections", folder / "dt.json"


@pytest.fixture(scope="module")
def model_and_data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str, Path]:
    folder = tmp_path_factory.mktemp("model")
    write_coco(folder / "data", {"train": 4, "val": 3})
    detector = build_detector(tiny_space().fixed((0, 1, 2, 3) * 5), elastic=False, seed=3)
    input_format = InputFormat((64, 96), "rgb_normalized")
    save_detector(folder / "winner", detector, class_names=("fork", "cup"), input=input_format)
    return "--model", folder / "winner", "--data", folder / "data"


class TestFiles:
    def test_published_case(self, shared_data_dir: Path) -> None:
        folder = shared_data_dir / "coco_eval"
        recorded = json.loads((folder / "metrics.json").read_text())
        found = result_of("--gt", folder / recorded["ground_truth"], "--detections", folder / recorded["detections"])
        assert list(found) == ["metrics", "per_category", "counts", "warnings"]
        assert found["metrics"] == pytest.approx(recorded["metrics"], rel=0, abs=1e-9)
        present = {name: entry for name, entry in found["per_category"].items() if entry["AP"] is not None}
        assert list(present) == list(recorded["per_category"])
        for name, entry in recorded["per_category"].items():
            assert present[name] == pytest.approx(entry, rel=0, abs=1e-9)
        assert found["counts"]["images"] == recorded["counts"]["gt_images"]
        assert found["warnings"] == []

    def test_json(self, tmp_path: Path) -> None:
        found = result_of(*write(tmp_path))
        assert found["metrics"]["AP_large"] is None
        assert found["metrics"]["AP"] == pytest.approx((1 + 51 / 101) / 2)
        assert found["per_category"]["größe 中"] == {"category_id": 8, "AP": None, "AP50": None}
        assert list(found["per_category"]) == ["cup", "[red]fork[/red]", "größe 中"]
        assert found["counts"] == {
            "images": 1, "annotations": 3, "crowd": 0, "difficult": 0, "categories": 3, "detections": 2,
            "images_with_detections": 1,
        }  # fmt: skip

    def test_for_a_person(self, tmp_path: Path) -> None:
        done = run(*write(tmp_path))
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith(COCO_LABELS)
        rows = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in done.stdout.splitlines() if "│" in line}
        assert {name: [cell.strip() for cell in cells] for name, cells in rows.items()} == {
            "cup": ["3", "1.0000", "1.0000"],
            "[red]fork[/red]": ["5", "0.5050", "0.5050"],
            "größe 中": ["8", "-", "-"],
        }
        assert done.stdout.endswith(
            "images 1, annotations 3, crowd 0, difficult 0, categories 3, detections 2, images with detections 1\n"
        )

    def test_names_cannot_write_over_a_terminal(self, tmp_path: Path) -> None:
        truth = json.loads(json.dumps(TRUTH))
        truth["categories"][0]["name"] = "cup\x1b[2J\x9b1m"
        done = run(*write(tmp_path, truth))
        assert "cup\\x1b[2J\\x9b1m" in done.stdout
        assert all(char.isprintable() or char == "\n" for char in done.stdout)

    def test_warnings(self, tmp_path: Path) -> None:
        arguments = write(tmp_path, detections=[])
        sentence = f"{tmp_path}/dt.json: the list of detections is empty, so every object counts as missed and AP is 0"
        assert run(*arguments).stdout.endswith(f"\nwarning: {sentence}\n")
        found = result_of(*arguments)
        assert (found["warnings"], found["metrics"]["AP"]) == ([sentence], 0)

    def test_what_concerns_pycocotools_alone_is_said_with_its_numbers(self, tmp_path: Path) -> None:
        truth = json.loads(json.dumps(TRUTH))
        truth["annotations"][0]["id"] = 0
        arguments = write(tmp_path, truth)
        (sentence,) = result_of(*arguments)["warnings"]
        assert "an annotation has the id 0" in sentence
        assert result_of(*arguments, "--voc")["warnings"] == []

    def test_files_that_do_not_belong_together(self, tmp_path: Path) -> None:
        other = [{**item, "image_id": 8} for item in DETECTIONS]
        assert "does not have: 2 of 2 (image ids: 1, first: 8); are the two files of the same split?" in refusal(
            *write(tmp_path, detections=other)
        )
        assert "swapped?" in refusal(*write(tmp_path, DETECTIONS, TRUTH))

    def test_broken_json(self, tmp_path: Path) -> None:
        arguments = write(tmp_path)
        (tmp_path / "dt.json").write_text('[\n {"image_id" 1}]')
        assert "dt.json line 2 column 14: broken JSON" in refusal(*arguments)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        write(tmp_path)
        text = refusal("--gt", tmp_path / "gt.json", "--detections", tmp_path / "nothing.json")
        assert "nothing.json cannot be read: No such file" in text


class TestVoc:
    def test_json(self, tmp_path: Path) -> None:
        found = result_of(*write(tmp_path), "--voc")
        assert found["metrics"] == pytest.approx({"mAP_11_point": (1 + 6 / 11) / 2, "mAP_area": 0.75})
        fork = {"category_id": 5, "AP_11_point": pytest.approx(6 / 11), "AP_area": 0.5, "objects": 2, "detections": 1}
        assert found["per_category"]["[red]fork[/red]"] == fork
        assert found["per_category"]["größe 中"]["AP_area"] is None

    def test_difficult_objects_are_left_out(self, tmp_path: Path) -> None:
        truth = json.loads(json.dumps(TRUTH))
        truth["annotations"][2]["difficult"] = 1
        arguments = write(tmp_path, truth)
        found = result_of(*arguments, "--voc")
        assert (found["metrics"]["mAP_area"], found["counts"]["difficult"]) == (1, 1)
        assert found["warnings"] == []
        assert "COCO's numbers count them like any other" in result_of(*arguments)["warnings"][0]

    def test_for_a_person(self, tmp_path: Path) -> None:
        done = run(*write(tmp_path), "--voc")
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith(
            "mAP at IoU 0.5, 11 points (VOC2007)       = 0.7727\nmAP at IoU 0.5, area (VOC2010 and later)  = 0.7500\n"
            "by the rules of the VOC development kit: IoU >= 0.5, width = x2 - x1 + 1, recall 0:0.1:1 or area, "
            "difficult objects left out\n"
        )
        (fork,) = (line for line in done.stdout.splitlines() if "[red]fork[/red]" in line)
        assert [cell.strip() for cell in fork.split("│")[2:-1]] == ["5", "0.5455", "0.5000", "2", "1"]


class TestModel:
    def test_the_split_is_val_unless_told_otherwise(self, model_and_data: tuple[str, Path, str, Path]) -> None:
        found, train = result_of(*model_and_data), result_of(*model_and_data, "--split", "train", "--batch-size", 3)
        assert (found["split"], found["counts"]["images"]) == ("val", 3)
        assert (train["split"], train["counts"]["images"]) == ("train", 4)
        assert set(found["per_category"]) == {"cup", "fork"}
        assert math.isfinite(found["standard_error"])

    def test_for_a_person(self, model_and_data: tuple[str, Path, str, Path]) -> None:
        done = run(*model_and_data)
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines()[12] == "standard error of AP over the choice of pictures: 0.0000"
        voc = run(*model_and_data, "--voc")
        assert voc.exit_code == 0, voc.output
        assert voc.stdout.startswith("mAP at IoU 0.5, 11 points (VOC2007)")

    def test_an_unknown_split(self, model_and_data: tuple[str, Path, str, Path]) -> None:
        assert "has no split 'test'; it has train, val" in refusal(*model_and_data, "--split", "test")


class TestOptions:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "nothing to evaluate; give --gt and --detections for two files, or --model and --data for a detector"),
            (("--voc",), "nothing to evaluate"),
            (("--gt", "a"), "--gt needs --detections as well"),
            (("--detections", "a"), "--detections needs --gt as well"),
            (("--model", "a"), "--model needs --data as well"),
            (("--data", "a"), "--data needs --model as well"),
            (("--split", "val"), "--split needs --model as well"),
            (("--batch-size", "3", "--data", "a"), "--data needs --model as well"),
            (("--model", "a", "--gt", "b"), "--model does not go with --gt"),
            (("--gt", "a", "--data", "b"), "--data does not go with --gt"),
            (("--gt", "a", "--detections", "b", "--split", "val"), "--split does not go with --gt"),
            (("--gt", "a", "--detections", "b", "--batch-size", "2"), "--batch-size does not go with --gt"),
        ],
    )
    def test_what_does_not_go_together(self, arguments: tuple[str, ...], message: str) -> None:
        assert refusal(*arguments).startswith(f"nasdet: {message}")

    @pytest.mark.parametrize("size", ["0", "-1", "1025", "x"])
    def test_a_batch_size_out_of_range(self, size: str) -> None:
        assert run("--model", "a", "--data", "b", "--batch-size", size).exit_code == 2
