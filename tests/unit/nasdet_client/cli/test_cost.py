"""`nasdet cost` and `nasdet spaces show`: numbers to the digit, refusals in a sentence, no torch anywhere."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nasdet_client.cli.main import app
from nasdet_core.search_spaces.detector_space import DetectorSpace

# name, last convolution: body MACs, total MACs, body parameters, total parameters, at 224x224 on the authors' code
PUBLISHED = [
    ("detnas-coco-fpn-300m", None, 288_082_368, 321_219_008, 1_849_680, 3_533_112),
    ("detnas-coco-retinanet-300m", None, 291_205_824, 324_342_464, 2_041_888, 3_725_320),
    ("detnas-voc-fpn-300m", None, 316_387_904, 349_524_544, 1_967_696, 3_651_128),
    ("detnas-voc-retinanet-300m", None, 327_489_344, 360_625_984, 1_796_048, 3_479_480),
    ("detnas-coco-fpn-1.3g", None, 1_269_181_536, 1_318_374_496, 8_415_216, 10_426_328),
    ("detnas-coco-fpn-3.8g", None, 3_937_832_864, 4_085_874_080, 26_724_428, 31_444_596),
    ("detnas-coco-fpn-3.8g", 1728, 3_937_832_864, 4_085_874_080, 26_724_428, 31_444_596),
    ("detnas-coco-fpn-3.8g", 1024, 3_937_832_864, 4_025_560_992, 26_724_428, 29_521_972),
]
ONE_CANDIDATE = [
    ("detnas-300m", (262_705_856, 280_518_336, 307_237_056, 325_689_280), 33_136_640),
    ("detnas-1.3g", (1_036_681_632, 1_087_785_888, 1_164_442_272, 1_391_231_520), 49_192_960),
]

DETECTOR: dict[str, Any] = {
    "backbone": {"space": "detnas-300m", "width": 0.5},
    "neck": {"model": "fpn", "channels": 64, "levels": ["c3", "c4", "c5"], "extra_levels": 0},
    "head": {"model": "fcos", "convs": 2, "norm_groups": 8},
}
CLASSES = 3
GENOTYPE = (0, 1, 2, 3) * 5


def succeeded(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def cost(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(succeeded("cost", *arguments, "--json"))
    return found


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["cost", *arguments])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("nasdet: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def expected(size: tuple[int, int], description: dict[str, Any] = DETECTOR) -> dict[str, Any]:
    space = DetectorSpace.from_description(description, CLASSES)
    found = space.cost(GENOTYPE if space.blocks else (), size)
    return {
        **found.total.to_json(),
        "image_size": list(size),
        "classes": CLASSES,
        "parts": {role: part.to_json() for role, part in found.parts.items()},
    }


class TestBackbones:
    @pytest.mark.parametrize(("name", "last_conv", "macs", "whole_macs", "params", "whole_params"), PUBLISHED)
    def test_published_networks(
        self, name: str, last_conv: int | None, macs: int, whole_macs: int, params: int, whole_params: int
    ) -> None:
        option = [] if last_conv is None else ["--last-conv", str(last_conv)]
        assert cost(name, *option) == {
            "macs": macs,
            "params": params,
            "image_size": [224, 224],
            "parts": {
                "backbone": {
                    "macs": macs,
                    "params": params,
                    "classifier": {"macs": whole_macs, "params": whole_params},
                }
            },
        }

    @pytest.mark.parametrize(
        ("space", "macs", "supernet"),
        [("detnas-300m", (237_222_720, 365_472_576), 6_808_256), ("detnas-1.3g", None, 28_642_008)],
    )
    def test_a_space_without_genotype_gives_its_extremes(
        self, space: str, macs: tuple[int, int] | None, supernet: int
    ) -> None:
        """Range and supernet of the authors' spaces."""
        found = cost(space)
        assert found["supernet"]["params"] == supernet
        if macs is not None:
            assert (found["macs"]["smallest"], found["macs"]["largest"]) == macs
        assert f"{supernet:,} parameters" in succeeded("cost", space)

    @pytest.mark.parametrize(("space", "macs", "classifier"), ONE_CANDIDATE)
    def test_one_candidate_everywhere(self, space: str, macs: tuple[int, ...], classifier: int) -> None:
        for candidate, expected_macs in enumerate(macs):
            found = cost(space, "--genotype", f"all-{candidate}")
            assert found["macs"] == expected_macs
            assert found["parts"]["backbone"]["classifier"]["macs"] == expected_macs + classifier

    def test_text_has_the_same_numbers(self) -> None:
        text = succeeded("cost", "detnas-coco-fpn-3.8g", "--last-conv", "1024")
        assert "3,937,832,864 MACs at 224x224" in text
        assert "4,025,560,992" in text
        assert "29,521,972" in text

    def test_image_size_changes_the_body_and_not_the_imagenet_form(self) -> None:
        small, large = (cost("detnas-coco-fpn-300m", "--image-size", size) for size in ("64,96", "224,224"))
        assert small["macs"] < large["macs"]
        assert small["params"] == large["params"]
        assert small["parts"]["backbone"]["classifier"] == large["parts"]["backbone"]["classifier"]


@pytest.fixture
def specification(tmp_path: Path) -> Path:
    file = tmp_path / "search.yaml"
    file.write_text(json.dumps({"detector": DETECTOR, "supernet": {"image_size": [192, 256], "reuse": "never"}}))
    return file


class TestSpecifications:
    def test_all_parts_at_the_supernets_image_size(self, specification: Path) -> None:
        options = ("--classes", str(CLASSES), "--genotype", " ".join(map(str, GENOTYPE)))
        assert cost(str(specification), *options) == expected((192, 256))

    def test_another_image_size(self, specification: Path) -> None:
        options = ("--classes", str(CLASSES), "--genotype", " ".join(map(str, GENOTYPE)))
        assert cost(str(specification), *options, "--image-size", "97,131") == expected((97, 131))

    def test_text_has_a_row_per_part_and_a_total(self, specification: Path) -> None:
        text = succeeded("cost", str(specification), "--classes", "3", "--genotype", "all-0")
        assert [line.split()[0] for line in text.splitlines()] == ["backbone", "neck", "head", "total"]

    def test_the_example_has_a_cost(self, repository: Path) -> None:
        found = cost(str(repository / "examples" / "bccd.yaml"), "--classes", "3", "--genotype", "all-0")
        assert found["macs"] == sum(part["macs"] for part in found["parts"].values())
        assert found["image_size"] == [192, 256]

    def test_classes_are_needed(self, specification: Path) -> None:
        text = refusal(str(specification), "--genotype", "all-0")
        assert "number of object classes" in text
        assert "--classes N" in text

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({}, ("`detector:`", "missing")),
            ({"detector": {**DETECTOR, "head": {"model": "fcoss"}}}, ("unknown head 'fcoss'", "retinanet")),
            ({"detector": {**DETECTOR, "neck": {"model": "fpn", "levels": ["c9"]}}}, ("c9",)),
            ({"detector": 3}, ("a mapping with backbone, neck, head",)),
            ({"detector": DETECTOR, "supernet": {"image_size": 3}}, ("image_size", "[height, width]")),
            ({"detector": DETECTOR, "supernet": {"epoch": 3}}, ("epoch", "known keys")),
        ],
    )
    def test_what_describes_no_detector(self, tmp_path: Path, body: dict[str, Any], words: tuple[str, ...]) -> None:
        file = tmp_path / "search.yml"
        file.write_text(json.dumps(body))
        text = refusal(str(file), "--classes", "3", "--genotype", "all-0")
        assert file.name in text
        assert all(word in text for word in words), text


def write_header(file: Path, description: dict[str, Any], **change: Any) -> Path:
    """A detector file without its tensors, written with the standard library alone."""
    header = {
        "schema": 2,
        "kind": "nasdet detector",
        "space": description,
        "class_names": ["red cell", "größe", "中"],
        "input": {"image_size": [96, 128], "pixel_format": "rgb_normalized"},
        "metadata": {},
        **change,
    }
    text = json.dumps({"__metadata__": {"nasdet": json.dumps(header)}}).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    return file


FIXED = {**DETECTOR, "backbone": {**DETECTOR["backbone"], "genotype": list(GENOTYPE), "split": "shuffle"}}


class TestDetectorFiles:
    def test_all_parts_at_the_files_own_input(self, tmp_path: Path) -> None:
        file = write_header(tmp_path / "model.safetensors", FIXED)
        assert cost(str(file)) == expected((96, 128), FIXED)
        assert cost(str(file), "--image-size", "64,64") == expected((64, 64), FIXED)

    def test_a_supernet_needs_a_genotype(self, tmp_path: Path) -> None:
        file = write_header(tmp_path / "model.safetensors", DETECTOR)
        assert cost(str(file), "--genotype", " ".join(map(str, GENOTYPE))) == expected((96, 128))
        assert "a genotype of 20 choices" in refusal(str(file))

    def test_a_file_whose_name_is_a_digest(self, tmp_path: Path) -> None:
        assert cost(str(write_header(tmp_path / ("ab" * 32), FIXED)))["classes"] == CLASSES

    def test_a_genotype_for_a_fixed_one_is_refused(self, tmp_path: Path) -> None:
        file = write_header(tmp_path / "model.safetensors", FIXED)
        assert "leave --genotype out" in refusal(str(file), "--genotype", "all-0")

    @pytest.mark.parametrize(
        "content", [b"", b"\x80\x04not a model", b"\xff" * 100, struct.pack("<Q", 2) + b"{}", b"PK\x03\x04"]
    )
    def test_other_files(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "model.safetensors").write_bytes(content)
        text = refusal(str(tmp_path / "model.safetensors"))
        assert "file model.safetensors: expected a nasdet detector in safetensors format" in text

    def test_another_kind_of_file_of_ours(self, tmp_path: Path) -> None:
        file = write_header(tmp_path / "state", FIXED, kind="nasdet training state", schema=1)
        assert "got 'nasdet training state' of schema 1" in refusal(str(file))

    def test_missing_files_and_folders(self, tmp_path: Path) -> None:
        assert "No such file" in refusal(str(tmp_path / "model.safetensors"))
        assert "No such file" in refusal("model.safetensors")
        assert "is a folder" in refusal(str(tmp_path))


class TestRefusals:
    @pytest.mark.parametrize("name", ["fpn", "fcos", "retinanet", "faster-rcnn"])
    def test_necks_and_heads_say_what_to_do(self, name: str) -> None:
        text = refusal(name)
        assert "hangs on the levels it gets" in text
        assert "SPEC.yaml with --classes N" in text

    @pytest.mark.parametrize("name", ["detnas-1.4g", "resnet", "detnas"])
    def test_an_unknown_name_lists_the_known_ones(self, name: str) -> None:
        text = refusal(name)
        assert f"unknown space or model '{name}'; known names are detnas-300m" in text
        assert "MODEL.safetensors" in text

    @pytest.mark.parametrize(
        ("target", "option", "words"),
        [
            ("detnas-300m", ("--classes", "3"), "leave --classes out"),
            ("SPEC", ("--width", "0.5"), "leave --width out"),
            ("SPEC", ("--last-conv", "1024"), "leave --last-conv out"),
            ("FILE", ("--width", "0.5"), "leave --width out"),
            ("FILE", ("--last-conv", "1024"), "leave --last-conv out"),
            ("FILE", ("--classes", "3"), "leave --classes out"),
        ],
    )
    def test_options_that_would_not_act(
        self, tmp_path: Path, specification: Path, target: str, option: tuple[str, str], words: str
    ) -> None:
        file = write_header(tmp_path / "model.safetensors", DETECTOR)
        target = {"SPEC": str(specification), "FILE": str(file)}.get(target, target)
        assert words in refusal(target, "--genotype", "all-0", *option)


class TestShow:
    def test_a_published_network_has_its_figures_with_their_sources(self) -> None:
        shown = json.loads(succeeded("spaces", "show", "detnas-coco-fpn-300m", "--json"))
        figures = shown["published"]
        assert (figures["macs"], figures["params"]) == (300e6, 3.5e6)
        assert (figures["top1_error_percent"], figures["top5_error_percent"]) == (26.2, 8.4)
        assert [(ap["metric"], ap["value"]) for ap in figures["ap"]] == [("box_map", 0.364), ("box_map", 0.366)]
        assert "ShuffleNet-Series" in figures["ap"][0]["source"]
        assert "megvii-model/DetNAS" in figures["ap"][1]["source"]

    def test_they_are_printed(self) -> None:
        text = succeeded("spaces", "show", "detnas-coco-fpn-3.8g")
        for words in ("3.8G MACs", "29.5M parameters", "21.6 %", "6.3 %", "box_map 0.420", "ShuffleNet-Series", "1728"):
            assert words in text

    @pytest.mark.parametrize("name", ["detnas-300m", "fpn"])
    def test_what_is_not_published_has_none(self, name: str) -> None:
        assert json.loads(succeeded("spaces", "show", name, "--json"))["published"] is None
        assert "reported" not in succeeded("spaces", "show", name)


WITHOUT_TORCH = """
import sys
import tests.support.block_torch
from typer.testing import CliRunner
from nasdet_client.cli.main import app
for line in sys.stdin.read().splitlines():
    result = CliRunner().invoke(app, line.split("|"))
    print(result.exit_code, result.stderr.strip())
"""


def test_costs_need_no_torch(repository: Path, tmp_path: Path, specification: Path) -> None:
    """Of every kind of target."""
    file = write_header(tmp_path / "model.safetensors", FIXED)
    commands = [
        "cost|detnas-coco-fpn-3.8g|--last-conv|1024",
        "cost|detnas-1.3g|--genotype|all-0|--json",
        f"cost|{specification}|--classes|3|--genotype|all-0",
        f"cost|{file}|--json",
        "spaces|list",
        "spaces|show|detnas-coco-fpn-300m",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        input="\n".join(commands),
        capture_output=True,
        text=True,
        check=True,
        cwd=repository,
    )
    assert done.stdout.splitlines() == ["0 "] * len(commands)
