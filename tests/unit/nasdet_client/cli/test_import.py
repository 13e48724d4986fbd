"""`nasdet import`: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from nasdet_client.cli.importing import import_checkpoint
from nasdet_core.backbones.classifier import DetNasClassifier
from nasdet_core.backbones.shufflenet import DetNasBackboneNet, ElasticDetNasBackbone
from nasdet_core.detectors.detector import build_detector
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.search_spaces.shufflenet_chain import DetNasBackbone
from nasdet_core.supernet.detector_header import read_detector_header
from nasdet_core.training.backbone_file import load_backbone_file
from tests.support.hostile_files import HOSTILE
from tests.support.published_detnas import body_state, classifier_state, detector_state

GENOTYPE = (2, 1, 0, 3) * 5
PART = DetNasBackbone("detnas-300m", width=0.25, split="even_odd", genotype=GENOTYPE)

app = typer.Typer()
app.command(name="import")(import_checkpoint)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def imported(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def refusal(*arguments: object) -> str:
    """What stderr gets; asserts that it is one line of a refused command."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("nasdet: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    network = DetNasClassifier(DetNasBackboneNet(PART), last_channels=48, num_classes=7)
    torch.save(classifier_state(network), tmp_path / "net.pkl")
    return tmp_path / "net.pkl"


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    description = {
        "backbone": PART.to_description(),
        "neck": {"model": "fpn", "channels": 32},
        "head": {"model": "retinanet"},
    }
    network = build_detector(DetectorSpace.from_description(description, 3), elastic=False)
    torch.save({"model": detector_state(network), "iteration": 5}, tmp_path / "model.pth")
    return tmp_path / "model.pth"


class TestResult:
    def test_of_an_imagenet_classifier(self, classifier: Path) -> None:
        result = imported("detnas", classifier)

        written = classifier.with_suffix(".safetensors")
        cost = PART.classifier_cost((), (224, 224), 48, 7)
        assert result["form"] == "classifier"
        assert not result["supernet"]
        assert (result["space"], result["width"], result["encoding"]) == ("detnas-300m", 0.25, list(GENOTYPE))
        assert (result["split"], result["input"]["pixel_format"]) == ("even_odd", "bgr_255")
        assert (result["last_channels"], result["classes"]) == (48, 7)
        assert result["keys"]["present"] == result["keys"]["consumed"] > 400
        assert (result["macs"], result["params"]) == (cost.macs, cost.params)
        assert result["out"] == str(written)
        assert load_backbone_file(written).digest == result["out_sha256"]

    def test_of_a_supernet(self, tmp_path: Path) -> None:
        supernet = DetNasBackbone("detnas-300m", width=0.25)
        torch.save(body_state(ElasticDetNasBackbone(supernet)), tmp_path / "supernet.pkl")

        result = imported("detnas", tmp_path / "supernet.pkl")

        assert (result["supernet"], result["encoding"], result["split"]) == (True, None, "shuffle")
        assert (result["macs"], result["params"]) == (None, supernet.supernet_params())

    def test_of_a_detector(self, detector: Path, tmp_path: Path) -> None:
        (tmp_path / "names.txt").write_text("ä\nb\nc d\n\n", encoding="utf-8")
        out = tmp_path / "new" / "detector.safetensors"

        result = imported(
            "detnas", detector, "--classes", tmp_path / "names.txt", "--image-size", "96,128", "--out", out
        )

        header = read_detector_header(out)
        assert result["form"] == "retinanet"
        assert result["not_used"] == ["iteration"]
        assert header.class_names == ("ä", "b", "c d")
        assert header.input.image_size == (96, 128)
        assert result["macs"] == header.space.cost((), (96, 128)).total.macs
        assert result["notes"] == []

    def test_as_text(self, classifier: Path) -> None:
        result = run("detnas", classifier, "--split", "shuffle")
        assert result.exit_code == 0, result.output
        for words in ("DetNAS ImageNet classifier", "split by shuffle", "2 1 0 3 2 1", "bgr_255", "used of", "MACs at"):
            assert words in result.stdout
        assert load_backbone_file(classifier.with_suffix(".safetensors")).part.split == "shuffle"


class TestRefusals:
    def test_of_a_family_that_is_unknown(self, classifier: Path) -> None:
        assert "unknown family 'timm'; known families are detnas" in refusal("timm", classifier)

    def test_of_a_checkpoint_that_is_missing(self, tmp_path: Path) -> None:
        text = refusal("detnas", tmp_path / "none.pkl")
        assert "cannot read the checkpoint" in text
        assert "No such file" in text

    def test_of_a_file_that_means_harm(self, tmp_path: Path) -> None:
        HOSTILE["reduce_in_torch_zip"](tmp_path / "net.pkl", f"touch {tmp_path / 'it-ran'}")
        assert "refers to os.system" in refusal("detnas", tmp_path / "net.pkl")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pkl"]

    def test_of_overwriting(self, classifier: Path) -> None:
        written = classifier.with_suffix(".safetensors")
        written.write_text("mine")
        assert "exists already" in refusal("detnas", classifier)
        assert written.read_text() == "mine"
        assert imported("detnas", classifier, "--force")["out"] == str(written)

    def test_of_writing_over_the_checkpoint_itself(self, classifier: Path) -> None:
        text = refusal("detnas", classifier, "--out", classifier, "--force")
        assert "expected another file to write than the checkpoint" in text

    def test_of_a_target_that_is_a_folder(self, classifier: Path, tmp_path: Path) -> None:
        assert "is no file" in refusal("detnas", classifier, "--out", tmp_path, "--force")

    def test_of_a_folder(self) -> None:
        assert "expected a checkpoint file, but . is a folder" in refusal("detnas", ".")

    @pytest.mark.parametrize(
        ("option", "value", "reason"),
        [
            ("--image-size", "224", "expected H,W in pixels"),
            ("--image-size", "7,9999", "height, width) of 32 to 4096 pixels"),
            ("--space", "resnet-50", "unknown DetNAS space 'resnet-50'"),
            ("--space", "detnas-1.3g", "8 + 8 + 16 + 8 blocks were expected"),
            ("--width", "0.5", "no DetNAS space of width 0.5 has 20 blocks"),
            ("--width", "nan", "width"),
        ],
    )
    def test_of_an_option(self, option: str, value: str, reason: str, classifier: Path) -> None:
        assert reason in refusal("detnas", classifier, option, value)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"a\n\nb\n", "line 2 is empty"),
            (b"a\nb\na\n", "'a' is there twice"),
            (b"\xff\xfe\n", "expected class names in UTF-8"),
            (b"a\nb\n", "names of the detector's 3 classes were expected, in its order, but 2 were given"),
        ],
    )
    def test_of_class_names(self, content: bytes, reason: str, detector: Path, tmp_path: Path) -> None:
        (tmp_path / "names.txt").write_bytes(content)
        assert reason in refusal("detnas", detector, "--classes", tmp_path / "names.txt")

    def test_of_class_names_of_a_classifier(self, classifier: Path, tmp_path: Path) -> None:
        (tmp_path / "names.txt").write_text("a\n")
        assert "class names belong to a detector" in refusal("detnas", classifier, "--classes", tmp_path / "names.txt")
