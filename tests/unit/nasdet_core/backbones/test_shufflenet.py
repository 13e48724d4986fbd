"""Structure, cost and weight sharing of the DetNAS backbones, elastic and standalone."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from nasdet_core.backbones.classifier import DetNasClassifier
from nasdet_core.backbones.init_detnas import init_detnas
from nasdet_core.backbones.shufflenet import DetNasBackboneNet, ElasticDetNasBackbone
from nasdet_core.errors import GenotypeError
from nasdet_core.evaluation.complexity import count_macs_by_hooks, count_parameters
from nasdet_core.search_spaces.base import Genotype
from nasdet_core.search_spaces.published import PUBLISHED
from nasdet_core.search_spaces.shufflenet_chain import DetNasBackbone

BLOCKS = 20
GENOTYPES: list[Genotype] = [(choice,) * BLOCKS for choice in range(4)]
GENOTYPES += [model.genotype for model in PUBLISHED.values() if model.space == "detnas-300m"]


def standalone(part: DetNasBackbone) -> DetNasBackboneNet:
    with torch.device("meta"):
        return DetNasBackboneNet(part)


class TestCost:
    @pytest.mark.parametrize("width", [1.0, 0.5])
    def test_closed_form_is_the_hooked_forward_on_random_genotypes(self, width: float) -> None:
        space = DetNasBackbone("detnas-300m", width=width)
        supernet = ElasticDetNasBackbone(space).eval()
        rng = random.Random(0)
        for _ in range(50):
            genotype = space.sample(rng)
            for size in ((64, 64), (47, 90)):
                assert space.cost(genotype, size).macs == count_macs_by_hooks(
                    supernet, torch.zeros(1, 3, *size), genotype
                )

    @pytest.mark.parametrize("width", [1.0, 0.5])
    def test_closed_form_parameters_are_those_of_the_standalone_module(self, width: float) -> None:
        space = DetNasBackbone("detnas-300m", width=width)
        rng = random.Random(1)
        for _ in range(5):
            genotype = space.sample(rng)
            assert space.cost(genotype, (224, 224)).params == count_parameters(standalone(space.fixed(genotype)))

    @pytest.mark.parametrize("name", ["detnas-300m", "detnas-1.3g"])
    def test_closed_form_parameters_of_the_supernet(self, name: str) -> None:
        space = DetNasBackbone(name)
        with torch.device("meta"):
            assert space.supernet_params() == count_parameters(ElasticDetNasBackbone(space))

    def test_imagenet_form_has_the_published_counts(self) -> None:
        genotype = (2, 1, 2, 0, 2, 1, 1, 2, 3, 3, 1, 3, 0, 0, 3, 1, 3, 1, 3, 2)  # COCO_FPN_300M
        body = DetNasBackboneNet(DetNasBackbone("detnas-300m", genotype=genotype))
        network = DetNasClassifier(body, last_channels=1024).eval()
        assert count_macs_by_hooks(network, torch.zeros(1, 3, 224, 224)) == 321_219_008
        assert count_parameters(network) == 3_533_112


class TestForward:
    @pytest.mark.parametrize("size", [(64, 96), (75, 101), (1, 1)])
    def test_levels_have_the_declared_channels_and_strides(self, size: tuple[int, int]) -> None:
        space = DetNasBackbone("detnas-300m", width=0.25)
        levels = ElasticDetNasBackbone(space).eval()(torch.zeros(2, 3, *size), (0, 1, 2, 3) * 5)
        assert list(levels) == ["c2", "c3", "c4", "c5"]
        for spec in space.feature_levels():
            height, width = (-(-side // spec.stride) for side in size)
            assert levels[spec.name].shape == (2, spec.channels, height, width)

    def test_memory_format_changes_nothing_but_speed(self) -> None:
        for split in ("shuffle", "even_odd"):
            backbone = ElasticDetNasBackbone(DetNasBackbone("detnas-300m", width=0.25, split=split)).double().eval()
            images, genotype = torch.randn(2, 3, 48, 64).double(), (0, 1, 2, 3) * 5
            with torch.no_grad():
                plain = backbone(images, genotype)
                backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's overloads
                last = backbone(images.to(memory_format=torch.channels_last), genotype)
            for name, level in last.items():
                assert level.is_contiguous(memory_format=torch.channels_last)
                torch.testing.assert_close(level, plain[name])

    @pytest.mark.parametrize("genotype", [(0,) * (BLOCKS - 1), (4, *(0,) * (BLOCKS - 1)), (-1, *(0,) * (BLOCKS - 1))])
    def test_genotype_that_does_not_fit_is_refused(self, genotype: Genotype) -> None:
        with torch.device("meta"):
            backbone = ElasticDetNasBackbone(DetNasBackbone("detnas-300m", width=0.25))
        with pytest.raises(GenotypeError):
            backbone(torch.empty(1, 3, 32, 32, device="meta"), genotype)

    def test_standalone_network_of_a_searched_description_is_refused(self) -> None:
        with pytest.raises(GenotypeError, match="leaves it to the search"):
            DetNasBackboneNet(DetNasBackbone("detnas-300m"))

    def test_elastic_network_of_a_fixed_description_is_refused(self) -> None:
        with pytest.raises(GenotypeError, match="has a fixed genotype"):
            ElasticDetNasBackbone(DetNasBackbone("detnas-300m", genotype=(0,) * BLOCKS))


def shaken(backbone: ElasticDetNasBackbone) -> ElasticDetNasBackbone:
    """Statistics and affine parameters that matter, so that a wrong norm shows."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in backbone.state_dict().items():
        if ".norm." in name and tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(noise if name.endswith("_mean") else 0.5 + noise)
    return backbone.eval()


@pytest.fixture(scope="module", params=["shuffle", "even_odd"])
def supernet(request: pytest.FixtureRequest) -> ElasticDetNasBackbone:
    """At the real widths."""
    return shaken(ElasticDetNasBackbone(DetNasBackbone("detnas-300m", split=request.param)))


class TestWeightSharing:
    """The four uniform genotypes hold every choice at every block, so at both strides."""

    @pytest.mark.parametrize("genotype", GENOTYPES, ids=lambda genotype: "".join(map(str, genotype)))
    @torch.inference_mode()
    def test_standalone_network_gives_what_the_supernet_gives(
        self, supernet: ElasticDetNasBackbone, genotype: Genotype
    ) -> None:
        subnet = standalone(supernet.part.fixed(genotype))
        subnet.load_state_dict(supernet.subnet_state_dict(genotype), strict=True, assign=True)
        images = torch.randn(1, 3, 64, 75)
        expected = supernet(images, genotype)
        for name, level in subnet.eval()(images).items():
            assert torch.equal(level, expected[name])

    def test_two_choices_share_no_tensor(self, supernet: ElasticDetNasBackbone) -> None:
        stem = {tensor.data_ptr() for tensor in supernet.stem.state_dict().values()}
        seen: set[int] = set()
        for choice in range(4):
            state = supernet.subnet_state_dict((choice,) * BLOCKS)
            own = {tensor.data_ptr() for tensor in state.values()} - stem
            assert not own & seen
            seen |= own


class TestInitialisation:
    def test_detnas_initialisation_has_the_reference_spreads(self) -> None:
        torch.manual_seed(0)
        backbone = DetNasBackboneNet(DetNasBackbone("detnas-300m", genotype=(0,) * BLOCKS))
        init_detnas(backbone)
        state = backbone.state_dict()

        def spread(tensor: Tensor) -> float:
            return float(tensor.std())

        assert spread(state["stem.conv.weight"]) == pytest.approx(0.01, rel=0.2)
        assert spread(state["blocks.19.main.0.conv.weight"]) == pytest.approx(1 / 320, rel=0.05)  # pointwise: 1 / in
        assert spread(state["blocks.19.main.1.conv.weight"]) == pytest.approx(1.0, rel=0.05)  # depthwise: 1
        assert torch.all(state["stem.conv.bias"] == 0)
        norms = [name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")]
        assert all(
            torch.all(state[f"{norm}.bias"] == 1e-4) and torch.all(state[f"{norm}.weight"] == 1) for norm in norms
        )
