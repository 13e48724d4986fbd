"""Our DetNAS backbone against recorded outputs of the public reference code, with its weights under its names.

`--golden DIR` names the folder; encoding, sizes and names are read from each file, so that other files of the same
layout can take its place. Our own outputs for seeded weights are in `recorded/detnas_outputs.json` and guard the
backbone where that folder is absent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasdet_core.backbones.classifier import DetNasClassifier
from nasdet_core.backbones.shufflenet import DetNasBackboneNet
from nasdet_core.importers.detnas import import_checkpoint, load_backbone, load_classifier
from nasdet_core.importers.detnas_contents import read_contents
from nasdet_core.importers.detnas_names import classifier_names
from nasdet_core.search_spaces.base import Genotype
from nasdet_core.search_spaces.shufflenet_chain import SHAPES, DetNasBackbone
from nasdet_core.training.placement import place

FLOAT64_TOLERANCE = 1e-6  # the recorded values are float32
FLOAT32_TOLERANCE = 1e-4  # the reference itself deviates by 1.2e-5
SPLIT_OF_METHOD = {"m1": "shuffle", "m2": "even_odd"}
STAGE_OF_LEVEL = {"c2": "stage1", "c3": "stage2", "c4": "stage3", "c5": "stage4"}

Golden = Mapping[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def goldens(golden_dir: Path) -> list[Golden]:
    files = sorted(golden_dir.glob("detnas_*.npz"))
    if not files:
        pytest.skip(f"no detnas_*.npz in {golden_dir}")
    contents: list[Golden] = []
    for file in files:
        with np.load(file, allow_pickle=False) as archive:
            contents.append({name: archive[name] for name in archive.files})
    return contents


def reference_weights(golden: Golden) -> dict[str, Tensor]:
    """Stored in half precision, exactly; computed with in float32 or float64."""
    return {
        name.removeprefix("sd/"): torch.from_numpy(values.astype(np.float32))
        for name, values in golden.items()
        if name.startswith("sd/")
    }


def described(golden: Golden, split: str) -> DetNasBackbone:
    """The space whose depth and channels are those of the file."""
    encoding: Genotype = tuple(int(choice) for choice in golden["encoding"])
    stem = golden["sd/first_conv.conv.weight"].shape[0]
    last = golden["sd/last_conv.conv.weight"].shape[1]
    for name, shape in SHAPES.items():
        width = stem / shape.stem_channels
        if sum(shape.stage_blocks) == len(encoding):
            part = DetNasBackbone(name, width=width, split=split, genotype=encoding)
            if (part.stem_channels, part.stage_channels[-1]) == (stem, last):
                return part
    raise AssertionError(f"no space has {len(encoding)} blocks, a stem of {stem} and a last stage of {last} channels")


def recorded_runs(golden: Golden) -> Iterator[tuple[str, str, list[str]]]:
    """(split method, input's name, outputs) of everything recorded, e.g. ("m2", "224", ["stage1", ..., "logits"])."""
    runs: dict[tuple[str, str], list[str]] = {}
    for name in golden:
        if name.startswith("out_"):
            run, output = name.removeprefix("out_").split("/")
            method, size = run.split("_", 1)
            runs.setdefault((method, size), []).append(output)
    for (method, size), outputs in runs.items():
        yield method, size, outputs


@torch.inference_mode()
def our_outputs(golden: Golden, method: str, size: str, dtype: torch.dtype) -> dict[str, Tensor]:
    part = described(golden, SPLIT_OF_METHOD[method])
    network = load_classifier(part, reference_weights(golden)).module.to(dtype).eval()
    assert isinstance(network, DetNasClassifier)
    images = torch.from_numpy(golden[f"input_{size}"].astype(np.float32)).to(dtype)
    levels = network.body(images)
    outputs = {STAGE_OF_LEVEL[level]: values for level, values in levels.items()}
    return {**outputs, "stem": network.body.stem(images), "logits": network(images)}


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, FLOAT64_TOLERANCE), (torch.float32, FLOAT32_TOLERANCE)], ids=str
)
def test_detnas_backbone_gives_the_reference_outputs(
    goldens: list[Golden], dtype: torch.dtype, tolerance: float
) -> None:
    compared: dict[str, set[str]] = {}
    for golden in goldens:
        for method, outputs in compare(golden, dtype, tolerance):
            compared.setdefault(method, set()).update(outputs)
    stages = set(STAGE_OF_LEVEL.values())
    assert compared["m1"] >= stages
    assert compared["m2"] >= stages | {"stem", "logits"}


def compare(golden: Golden, dtype: torch.dtype, tolerance: float) -> Iterator[tuple[str, list[str]]]:
    for method, size, outputs in recorded_runs(golden):
        ours = our_outputs(golden, method, size, dtype)
        for output in outputs:
            theirs = torch.from_numpy(golden[f"out_{method}_{size}/{output}"]).double()
            assert ours[output].shape == theirs.shape
            deviation = float((ours[output].double() - theirs).abs().max() / theirs.abs().max())
            assert deviation <= tolerance, f"{method} {size} {output}: relative deviation {deviation:.2g}"
        yield method, outputs


def test_detnas_encoding_is_read_from_the_reference_names(goldens: list[Golden]) -> None:
    for golden in goldens:
        assert read_contents(reference_weights(golden)).part.genotype == tuple(golden["encoding"])


@pytest.mark.parametrize("legacy", [False, True], ids=["torch zip", "torch legacy"])
def test_detnas_importer_consumes_every_tensor_of_the_golden(
    goldens: list[Golden], legacy: bool, tmp_path: Path
) -> None:
    """Written as the public files are, read by our reader: consumed = present, and the logits are the reference's."""
    for golden in goldens:
        weights = reference_weights(golden)
        torch.save(weights, tmp_path / "net.pkl", _use_new_zipfile_serialization=not legacy)
        imported = import_checkpoint(tmp_path / "net.pkl")
        assert sorted(imported.consumed) == sorted(weights)
        assert imported.present == len(weights)
        part, wanted = imported.contents.part, described(golden, "even_odd")
        assert (part.genotype, part.split) == (wanted.genotype, "even_odd")
        assert (part.stem_channels, part.stage_channels) == (wanted.stem_channels, wanted.stage_channels)
        assert_logits(imported.model, golden)


@torch.inference_mode()
def assert_logits(network: nn.Module, golden: Golden) -> None:
    for method, size, outputs in recorded_runs(golden):
        if method == "m2" and "logits" in outputs:
            logits = network(torch.from_numpy(golden[f"input_{size}"].astype(np.float32)))
            theirs = torch.from_numpy(golden[f"out_{method}_{size}/logits"])
            assert float((logits - theirs).abs().max() / theirs.abs().max()) <= FLOAT32_TOLERANCE


def test_detnas_body_can_be_imported_without_the_imagenet_head(goldens: list[Golden]) -> None:
    golden = goldens[0]
    weights = reference_weights(golden)
    head = {name for name in weights if name.startswith(("last_conv.", "fc."))}
    loaded = load_backbone(described(golden, "even_odd"), weights)
    assert torch.equal(loaded.module.stem.conv.weight, weights["first_conv.conv.weight"])
    assert set(loaded.left_out) == head
    assert set(loaded.consumed) == set(weights) - head


def seeded_classifier(split: str) -> DetNasClassifier:
    """All four choices at both strides; weights and statistics from NumPy, which no version of torch changes."""
    rng = np.random.Generator(np.random.PCG64(7))
    genotype = (0, 1, 2, 3, 1, 3, 0, 2, 2, 0, 3, 1, 3, 2, 0, 1, 3, 2, 1, 0)
    body = DetNasBackboneNet(DetNasBackbone("detnas-300m", width=0.25, split=split, genotype=genotype))
    fill_by_seed(body, rng)
    network = DetNasClassifier(body, last_channels=48, num_classes=16)
    fill_by_seed(network.last_conv, rng)
    fill_by_seed(network.classifier, rng)
    return network.double().eval()


def fill_by_seed(module: nn.Module, rng: np.random.Generator) -> None:
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        drawn = rng.standard_normal(tuple(tensor.shape))
        if tensor.dim() == 4:
            drawn *= (2 / np.prod(tensor.shape[1:])) ** 0.5
        elif name.endswith(("running_var", "norm.weight")):
            drawn = 1 + 0.2 * np.tanh(drawn)
        else:
            drawn *= 0.1
        tensor.copy_(torch.from_numpy(drawn))


def outputs_to_record(network: DetNasClassifier, images: Tensor) -> dict[str, list[float]]:
    """At most 64 values of every level and of the logits."""
    outputs = {**network.body(images), "logits": network(images)}
    return {
        name: [float(f"{value:.9g}") for value in values.flatten()[:: max(1, values.numel() // 64)][:64]]
        for name, values in outputs.items()
    }


@pytest.fixture(scope="module")
def recorded_images() -> Tensor:
    return torch.from_numpy(np.random.Generator(np.random.PCG64(8)).standard_normal((1, 3, 64, 96)))


@pytest.fixture
def recorded_outputs(repository: Path) -> dict[str, dict[str, list[float]]]:
    """What the first test below has recorded."""
    path = repository / "tests" / "golden" / "recorded" / "detnas_outputs.json"
    outputs: dict[str, dict[str, list[float]]] = json.loads(path.read_text())
    return outputs


def assert_as_recorded(actual: Mapping[str, list[float]], wanted: Mapping[str, list[float]]) -> None:
    assert set(actual) == set(wanted)
    for name, values in actual.items():
        np.testing.assert_allclose(values, wanted[name], rtol=1e-7, atol=1e-8, err_msg=name)


@torch.inference_mode()
def test_detnas_network_gives_its_own_recorded_outputs(
    recorded: Callable[[str, Any], Any], recorded_images: Tensor
) -> None:
    actual = {split: outputs_to_record(seeded_classifier(split), recorded_images) for split in ("shuffle", "even_odd")}
    wanted = recorded("detnas_outputs", actual)
    for split, outputs in actual.items():
        assert_as_recorded(outputs, wanted[split])


@torch.inference_mode()
@pytest.mark.parametrize("split", ["shuffle", "even_odd"])
def test_recorded_outputs_come_in_either_order_in_memory(
    recorded_outputs: dict[str, dict[str, list[float]]], recorded_images: Tensor, split: str
) -> None:
    """The executors compute in channels-last order, which has a shuffle of its own."""
    network = place(seeded_classifier(split), "cpu")
    images = recorded_images.to(memory_format=torch.channels_last)
    actual = outputs_to_record(network, images)
    assert_as_recorded(actual, recorded_outputs[split])


@torch.inference_mode()
def test_recorded_outputs_come_through_the_published_names(
    recorded_outputs: dict[str, dict[str, list[float]]], recorded_images: Tensor, tmp_path: Path
) -> None:
    """Saved under the reference's names and imported; without options the split is that of the published networks."""
    network = seeded_classifier("even_odd")
    names = classifier_names(network.body.part)
    torch.save({names[ours]: tensor for ours, tensor in network.state_dict().items()}, tmp_path / "published.pkl")
    imported = import_checkpoint(tmp_path / "published.pkl", width=0.25)
    assert isinstance(imported.model, DetNasClassifier)
    assert imported.input.pixel_format == "bgr_255"
    actual = outputs_to_record(imported.model.double(), recorded_images)
    wanted = recorded_outputs["even_odd"]
    for name, values in actual.items():
        np.testing.assert_allclose(values, wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)  # through float32
