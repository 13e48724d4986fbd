"""DetNAS's ImageNet networks: names of the public code, strictly, and what travels with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nasdet_core.backbones.classifier import DetNasClassifier
from nasdet_core.backbones.elastic_classifier import ElasticDetNasClassifier
from nasdet_core.backbones.shufflenet import DetNasBackboneNet, ElasticDetNasBackbone
from nasdet_core.errors import CheckpointError
from nasdet_core.importers.detnas import import_checkpoint, load_backbone, load_classifier, save_imported
from nasdet_core.importers.detnas_contents import read_contents
from nasdet_core.importers.detnas_names import body_names
from nasdet_core.search_spaces.published import PUBLISHED
from nasdet_core.search_spaces.shufflenet_chain import DetNasBackbone
from nasdet_core.training.backbone_file import load_backbone_file
from tests.support.published_detnas import body_state, classifier_state

GENOTYPE = (0, 1, 2, 3) * 5
PART = DetNasBackbone("detnas-300m", width=0.25, split="even_odd", genotype=GENOTYPE)
LAST_CHANNELS, CLASSES = 48, 7


def randomised(network: nn.Module) -> nn.Module:
    """Every tensor differs from every other, statistics and counters of the norms included."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(int(torch.randint(1, 1000, (), generator=generator)))
        else:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network.eval()


def classifier(part: DetNasBackbone) -> DetNasClassifier | ElasticDetNasClassifier:
    network: nn.Module
    if part.genotype is None:
        network = ElasticDetNasClassifier(ElasticDetNasBackbone(part), last_channels=LAST_CHANNELS, num_classes=CLASSES)
    else:
        network = DetNasClassifier(DetNasBackboneNet(part), last_channels=LAST_CHANNELS, num_classes=CLASSES)
    randomised(network)
    assert isinstance(network, DetNasClassifier | ElasticDetNasClassifier)
    return network


@pytest.fixture(scope="module")
def network() -> DetNasClassifier | ElasticDetNasClassifier:
    return classifier(PART)


@pytest.fixture
def checkpoint(network: DetNasClassifier) -> dict[str, Tensor]:
    return classifier_state(network)


def assert_same_state(came: nn.Module, wanted: nn.Module) -> None:
    state = came.state_dict()
    assert state.keys() == wanted.state_dict().keys()
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(state[name], tensor), name


def without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


class TestNames:
    @pytest.mark.parametrize(("space", "bare", "counted"), [("detnas-300m", 1674, 2008), ("detnas-1.3g", 3174, 3808)])
    def test_supernet_has_as_many_tensors_as_the_public_one(self, space: str, bare: int, counted: int) -> None:
        """Counts of the public code, with and without batch counters."""
        with torch.device("meta"):
            supernet = ElasticDetNasClassifier(ElasticDetNasBackbone(DetNasBackbone(space)), last_channels=1024)
        state = classifier_state(supernet)
        assert (len(without_counters(state)), len(state)) == (bare, counted)

        loaded = read_contents(state)

        assert (loaded.form, loaded.supernet, loaded.part.name, loaded.part.width) == ("classifier", True, space, 1.0)
        assert (loaded.last_channels, loaded.num_classes) == (1024, 1000)

    def test_examples_of_the_public_code(self) -> None:
        names = body_names(DetNasBackbone("detnas-300m", genotype=GENOTYPE))
        assert names["blocks.7.main.4.norm.running_var"] == (
            "features.7.conv.2.interstellar2d_xception_3x3_branch2c_s_bn.running_var"
        )
        supernet = body_names(DetNasBackbone("detnas-300m"))
        assert supernet["blocks.5.1.main.2.conv.weight"] == (
            "features.5.1.conv.1.interstellar2b_shufflenet_5x5_branch2b.weight"
        )


class TestContents:
    @pytest.mark.parametrize("name", ["detnas-coco-fpn-300m", "detnas-coco-fpn-1.3g", "detnas-coco-fpn-3.8g"])
    def test_published_network_is_recognised(self, name: str) -> None:
        published = PUBLISHED[name]
        part = DetNasBackbone(published.space, split="even_odd", genotype=published.genotype)
        with torch.device("meta"):
            state = body_state(DetNasBackboneNet(part))
        assert read_contents(state).part == part

    @pytest.mark.parametrize("width", [0.25, 0.5, 0.3, 1.5, 2.0])
    def test_width_is_found_from_the_channels(self, width: float) -> None:
        part = DetNasBackbone("detnas-300m", width=width, split="even_odd", genotype=GENOTYPE)
        with torch.device("meta"):
            state = body_state(DetNasBackboneNet(part))
        found = read_contents(state).part
        assert (found.stem_channels, found.stage_channels) == (part.stem_channels, part.stage_channels)
        assert found.width == width

    @pytest.mark.parametrize("supernet", [False, True])
    def test_split_is_that_of_the_public_code_unless_told_otherwise(self, supernet: bool) -> None:
        with torch.device("meta"):
            part = DetNasBackbone("detnas-300m", genotype=None if supernet else GENOTYPE)
            state = body_state(ElasticDetNasBackbone(part) if supernet else DetNasBackboneNet(part))
        default, other = ("shuffle", "even_odd") if supernet else ("even_odd", "shuffle")
        assert read_contents(state).part.split == default
        assert read_contents(state, split=other).part.split == other

    def test_other_weights_are_no_detnas_network(self) -> None:
        with pytest.raises(CheckpointError, match=r"0 blocks were found among layer1\.0\.conv1\.weight"):
            read_contents({"layer1.0.conv1.weight": torch.zeros(1)})

    def test_channels_of_no_space_are_named(self, checkpoint: dict[str, Tensor]) -> None:
        checkpoint["first_conv.conv.weight"] = torch.zeros(40, 3, 3, 3)
        with pytest.raises(CheckpointError, match=r"no DetNAS space has 20 blocks and 40, 16, 40, 80, 160 channels"):
            read_contents(checkpoint)

    def test_space_of_another_depth_is_refused(self, checkpoint: dict[str, Tensor]) -> None:
        with pytest.raises(
            CheckpointError, match=r"blocks were expected for .* detnas-1\.3g, but .* has 4 \+ 4 \+ 8 \+ 4"
        ):
            read_contents(checkpoint, space="detnas-1.3g")


class TestImport:
    @pytest.mark.parametrize("genotype", [GENOTYPE, None], ids=["single", "supernet"])
    @pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
    def test_every_tensor_arrives(self, genotype: tuple[int, ...] | None, legacy: bool, tmp_path: Path) -> None:
        split = "shuffle" if genotype is None else "even_odd"
        original = classifier(DetNasBackbone("detnas-300m", width=0.25, split=split, genotype=genotype))
        state = classifier_state(original)
        wrapped = {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
        torch.save(wrapped, tmp_path / "net.pkl", _use_new_zipfile_serialization=not legacy)

        imported = import_checkpoint(tmp_path / "net.pkl")

        assert sorted(imported.consumed) == sorted(state)
        assert imported.present == len(state)
        assert_same_state(imported.model, original)
        assert imported.contents.part == original.body.part
        assert imported.input.to_json() == {"image_size": [224, 224], "pixel_format": "bgr_255"}
        images = torch.rand(2, 3, 32, 64)
        path = () if genotype else (GENOTYPE,)
        assert torch.equal(imported.model(images, *path), original(images, *path))

    def test_body_alone_is_imported_as_such(self, network: DetNasClassifier, tmp_path: Path) -> None:
        torch.save(body_state(network.body), tmp_path / "body.pkl")
        imported = import_checkpoint(tmp_path / "body.pkl")
        assert imported.contents.form == "body"
        assert_same_state(imported.model, network.body)

    def test_last_convolution_is_as_wide_as_its_tensor(self, checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
        torch.save(checkpoint, tmp_path / "net.pkl")
        contents = import_checkpoint(tmp_path / "net.pkl").contents
        assert (contents.last_channels, contents.num_classes) == (LAST_CHANNELS, CLASSES)

    def test_cost_is_that_of_the_network(self, checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
        torch.save(checkpoint, tmp_path / "net.pkl")
        imported = import_checkpoint(tmp_path / "net.pkl")
        assert imported.cost is not None
        assert imported.cost.params == sum(parameter.numel() for parameter in imported.model.parameters())
        assert imported.cost == PART.classifier_cost((), (224, 224), LAST_CHANNELS, CLASSES)

    def test_half_precision_is_computed_with_in_single(self, checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
        halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in checkpoint.items()}
        torch.save(halves, tmp_path / "net.pkl")
        state = import_checkpoint(tmp_path / "net.pkl").model.state_dict()
        assert state["body.stem.conv.bias"].dtype == torch.float32
        assert torch.equal(state["body.stem.conv.bias"], halves["first_conv.conv.bias"].float())

    def test_class_names_belong_to_detectors(self, checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
        torch.save(checkpoint, tmp_path / "net.pkl")
        with pytest.raises(CheckpointError, match="class names belong to a detector"):
            import_checkpoint(tmp_path / "net.pkl", class_names=["cat"])

    def test_written_file_gives_the_same_network(self, checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
        torch.save(checkpoint, tmp_path / "net.pkl")
        imported = import_checkpoint(tmp_path / "net.pkl", split="shuffle", image_size=(96, 128))

        digest = save_imported(imported, tmp_path / "net.safetensors")
        saved = load_backbone_file(tmp_path / "net.safetensors")

        assert saved.digest == digest
        assert_same_state(saved.model, imported.model)
        assert (saved.part, saved.input) == (imported.contents.part, imported.input)
        assert saved.part.split == "shuffle"
        assert saved.source == {"family": "detnas", "file": "net.pkl", "sha256": imported.source["sha256"]}


class TestStrictness:
    def test_all_differences_are_listed_at_once(self, checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
        del checkpoint["features.3.conv.2.interstellar1d_xception_3x3_branch2c.weight"]
        checkpoint["features.9.conv.7.weight"] = torch.zeros(1)
        checkpoint["first_conv.conv.bias"] = torch.zeros(5)
        checkpoint["first_conv.bn.bias"] = torch.zeros(4, dtype=torch.int32)
        torch.save(checkpoint, tmp_path / "net.pkl")
        with pytest.raises(CheckpointError) as refusal:
            import_checkpoint(tmp_path / "net.pkl")
        for difference in (
            "1 is missing (features.3.conv.2.interstellar1d_xception_3x3_branch2c.weight)",
            "1 is unexpected (features.9.conv.7.weight)",
            "2 are of another shape or type (first_conv.conv.bias (5,) instead of (4,), first_conv.bn.bias of ",
        ):
            assert difference in str(refusal.value)

    def test_long_lists_are_cut(self, checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
        checkpoint |= {f"extra.{number}": torch.zeros(1) for number in range(500)}
        torch.save(checkpoint, tmp_path / "net.pkl")
        with pytest.raises(
            CheckpointError, match=r"500 are unexpected \(extra\.0, extra\.1, .*, extra\.99 and 400 more\)"
        ):
            import_checkpoint(tmp_path / "net.pkl")

    def test_wrong_width_lists_what_differs(self, checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
        torch.save(checkpoint, tmp_path / "net.pkl")
        with pytest.raises(
            CheckpointError, match=r"are of another shape or type .* \(4, 3, 3, 3\) instead of \(8, 3, 3, 3\)"
        ):
            import_checkpoint(tmp_path / "net.pkl", space="detnas-300m", width=0.5)

    def test_classifier_without_its_last_convolution_is_refused(
        self, checkpoint: dict[str, Tensor], tmp_path: Path
    ) -> None:
        kept = {name: tensor for name, tensor in checkpoint.items() if not name.startswith("last_conv.")}
        torch.save(kept, tmp_path / "net.pkl")
        with pytest.raises(CheckpointError, match=r"must hold last_conv\.conv\.weight"):
            import_checkpoint(tmp_path / "net.pkl")

    def test_counters_may_be_absent_and_are_loaded_when_present(
        self, network: DetNasClassifier, checkpoint: dict[str, Tensor]
    ) -> None:
        for name in list(checkpoint):
            if name.endswith("num_batches_tracked") and not name.startswith("first_conv."):
                del checkpoint[name]
        loaded = load_classifier(PART, checkpoint)
        state = loaded.module.state_dict()
        assert torch.equal(
            state["body.stem.norm.num_batches_tracked"], network.body.stem.norm.state_dict()["num_batches_tracked"]
        )
        assert int(state["last_conv.norm.num_batches_tracked"]) == 0
        assert sorted(loaded.consumed) == sorted(checkpoint)

    def test_weights_that_are_not_finite_are_refused(self, checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
        checkpoint["fc.fc.bias"] = torch.full((CLASSES,), torch.nan)
        torch.save(checkpoint, tmp_path / "net.pkl")
        with pytest.raises(CheckpointError, match=r"finite weights were expected, but fc\.fc\.bias hold"):
            import_checkpoint(tmp_path / "net.pkl")

    def test_negative_variances_are_refused(self, checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
        checkpoint["first_conv.bn.running_var"] = -checkpoint["first_conv.bn.running_var"] - 1
        torch.save(checkpoint, tmp_path / "net.pkl")
        with pytest.raises(CheckpointError, match=r"zero or more were expected, but first_conv\.bn\.running_var hold"):
            import_checkpoint(tmp_path / "net.pkl")


def test_backbone_without_the_head_names_what_it_leaves_out(
    network: DetNasClassifier, checkpoint: dict[str, Tensor]
) -> None:
    loaded = load_backbone(PART, checkpoint)
    assert_same_state(loaded.module, network.body)
    assert len(loaded.left_out) == 9
    assert sorted((*loaded.consumed, *loaded.left_out)) == sorted(checkpoint)
