"""Detector spaces: one genotype over three parts, fits, identity, cost."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nasdet_core.errors import GenotypeError, IncompatiblePartsError, SettingError, UnknownNameError
from nasdet_core.search_spaces import (
    ChoiceBlock,
    Cost,
    CostFactors,
    DetectorSpace,
    DetNasBackbone,
    FcosHeadSpec,
    FpnNeck,
)
from nasdet_core.search_spaces.base import Genotype

DESCRIPTION: dict[str, Any] = {
    "backbone": {"space": "detnas-300m", "width": 0.5},
    "neck": {"model": "fpn", "channels": 64, "extra_levels": 0},
    "head": {"model": "fcos", "convs": 2, "norm_groups": 8},
}
SIZE = (192, 256)


def changed(**parts: dict[str, Any]) -> DetectorSpace:
    """DESCRIPTION with some keys of its parts replaced."""
    return DetectorSpace.from_description(
        {role: {**part, **parts.get(role, {})} for role, part in DESCRIPTION.items()}, 3
    )


@pytest.fixture
def space() -> DetectorSpace:
    return changed()


@dataclass(frozen=True)
class SearchedNeck(FpnNeck):
    """An FPN with two blocks whose first choice makes the second one pointless: a part with equal graphs."""

    @property
    def blocks(self) -> tuple[ChoiceBlock, ...]:
        return (ChoiceBlock("merge", ("sum", "none"), 8), ChoiceBlock("kernel", ("1x1", "3x3", "5x5"), 8))

    def canonical(self, genotype: Genotype) -> Genotype:
        self.validate(genotype)
        return (1, 0) if genotype[0] == 1 else genotype

    def cost_factors(self, image_size: Any, in_levels: Any) -> CostFactors:
        del image_size, in_levels
        return CostFactors(Cost(100, 10), ((Cost(1, 1), Cost(0, 0)), (Cost(1, 1), Cost(9, 9), Cost(25, 25))))

    def cost(self, genotype: Genotype, image_size: Any, in_levels: Any) -> Cost:
        return self.cost_factors(image_size, in_levels).cost(genotype)


JOINT = DetectorSpace(DetNasBackbone("detnas-300m", width=0.5), SearchedNeck(channels=64), FcosHeadSpec(), 3)


class TestGenotype:
    def test_blocks_are_prefixed_with_their_part(self) -> None:
        names = [block.name for block in JOINT.blocks]
        assert names[0] == "backbone.stage1.1"
        assert names[-2:] == ["neck.merge", "neck.kernel"]
        assert JOINT.size == 4**20 * 2 * 3

    def test_split_gives_each_part_its_slice(self) -> None:
        genotype = (*range(4), *(0,) * 16, 1, 2)
        assert JOINT.split(genotype) == {"backbone": genotype[:20], "neck": (1, 2), "head": ()}

    def test_canonical_goes_through_every_part(self) -> None:
        assert JOINT.canonical((*(3,) * 20, 1, 2)) == (*(3,) * 20, 1, 0)
        assert JOINT.canonical((*(3,) * 20, 0, 2)) == (*(3,) * 20, 0, 2)

    def test_equal_graphs_have_one_architecture_id(self) -> None:
        assert JOINT.architecture_id((*(3,) * 20, 1, 2)) == JOINT.architecture_id((*(3,) * 20, 1, 0))
        assert JOINT.architecture_id((*(3,) * 20, 0, 2)) != JOINT.architecture_id((*(3,) * 20, 0, 1))

    def test_crossover_and_mutation_reach_every_part(self) -> None:
        rng = random.Random(0)
        zero, one = (0,) * 22, (1,) * 22
        crossed = {JOINT.crossover(zero, one, rng)[20:] for _ in range(60)}
        assert crossed == {(0, 0), (0, 1), (1, 0), (1, 1)}
        assert JOINT.mutate(zero, rng, 0.0) == zero
        assert {JOINT.mutate(zero, rng, 1.0)[21] for _ in range(60)} == {0, 1, 2}

    def test_an_error_names_the_block_with_its_part(self, space: DetectorSpace) -> None:
        with pytest.raises(GenotypeError, match=r"block 'backbone.stage3.5': candidate 7 is out of range 0..3"):
            space.validate((*(0,) * 12, 7, *(0,) * 7))

    @pytest.mark.parametrize("length", [0, 19, 21])
    def test_a_wrong_length_is_refused_everywhere(self, space: DetectorSpace, length: int) -> None:
        wrong, right, rng = (0,) * length, (0,) * 20, random.Random(0)
        operations = (
            lambda: space.validate(wrong),
            lambda: space.canonical(wrong),
            lambda: space.mutate(wrong, rng),
            lambda: space.crossover(right, wrong, rng),
            lambda: space.architecture_id(wrong),
            lambda: space.cost(wrong, SIZE),
            lambda: space.fixed(wrong),
        )
        for operation in operations:
            with pytest.raises(GenotypeError, match=f"of 20 choices was expected, but {length} came"):
                operation()


class TestDescription:
    def test_round_trip_through_json(self, space: DetectorSpace) -> None:
        for one in (space, space.fixed((2,) * 20), space.fixed((2,) * 20, from_scratch=True)):
            written = json.loads(json.dumps(one.to_description()))
            assert DetectorSpace.from_description(written, 3) == one
            assert one.to_description() == written

    def test_a_setting_that_is_left_out_equals_its_default_written_out(self) -> None:
        assert changed(backbone={"split": "shuffle"}) == changed()
        assert changed(neck={"norm": "none"}).architecture_id((0,) * 20) == changed().architecture_id((0,) * 20)

    def test_the_head_decides_the_levels_that_the_neck_leaves_out(self) -> None:
        def strides(neck: dict[str, Any], head: str) -> list[int]:
            description = {**DESCRIPTION, "neck": {"model": "fpn", **neck}, "head": {"model": head}}
            space = DetectorSpace.from_description(description, 3)
            return [level.stride for level in space.levels["neck"]]

        assert strides({}, "faster-rcnn") == [4, 8, 16, 32, 64]
        assert strides({}, "retinanet") == [8, 16, 32, 64, 128]
        assert strides({"extra_levels": 0}, "fcos") == [8, 16, 32]
        assert strides({"levels": ["c2", "c3"]}, "faster-rcnn") == [4, 8, 16]

    def test_parts_that_do_not_fit_are_refused(self) -> None:
        description = {
            **DESCRIPTION,
            "neck": {"model": "fpn", "levels": ["c3", "c4", "c5"]},
            "head": {"model": "faster-rcnn"},
        }
        with pytest.raises(IncompatiblePartsError, match=r"needs levels from stride 4 .*\[c2, c3, c4, c5\]"):
            DetectorSpace.from_description(description, 3)

    def test_a_part_in_the_wrong_role_is_refused(self) -> None:
        neck: Any = FpnNeck()
        with pytest.raises(IncompatiblePartsError, match="a head was expected, but 'fpn' is a neck"):
            DetectorSpace(DetNasBackbone("detnas-300m"), FpnNeck(), neck, 3)

    def test_missing_and_unknown_parts_are_refused_by_name(self) -> None:
        with pytest.raises(UnknownNameError, match="'neck' is missing"):
            DetectorSpace.from_description({"backbone": DESCRIPTION["backbone"], "head": DESCRIPTION["head"]}, 3)
        with pytest.raises(UnknownNameError, match="detector: unknown key 'tail'"):
            DetectorSpace.from_description({**DESCRIPTION, "tail": {}}, 3)
        with pytest.raises(SettingError, match="a mapping with backbone, neck, head was expected"):
            DetectorSpace.from_description(["backbone"], 3)  # type: ignore[arg-type]  # what a user may write

    @pytest.mark.parametrize("num_classes", [0, -1, True, 2.0, "3"])
    def test_a_class_count_that_is_none_is_refused(self, num_classes: Any) -> None:
        with pytest.raises(SettingError, match="num_classes: a whole number from 1"):
            DetectorSpace.from_description(DESCRIPTION, num_classes)


class TestArchitectureId:
    genotype = (1,) * 20

    def test_fixed_and_searched_forms_of_one_architecture_share_it(self, space: DetectorSpace) -> None:
        assert space.fixed(self.genotype).architecture_id(()) == space.architecture_id(self.genotype)

    def test_is_the_same_in_every_process(self, space: DetectorSpace, repository: Path) -> None:
        program = (
            "import json, sys; from nasdet_core.search_spaces import DetectorSpace; "
            f"s = DetectorSpace.from_description(json.loads({json.dumps(DESCRIPTION)!r}), 3); "
            f"sys.stdout.write(s.architecture_id({self.genotype!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": "7"},
            cwd=repository,
        )
        assert done.stdout == space.architecture_id(self.genotype)
        assert len(done.stdout) == 16

    def test_every_setting_of_every_part_counts(self, space: DetectorSpace) -> None:
        others = [
            changed(backbone={"width": 0.75}),
            changed(backbone={"split": "even_odd"}),
            changed(neck={"channels": 128}),
            changed(neck={"extra_levels": 1}),
            changed(neck={"levels": ["c4", "c5"]}),
            changed(neck={"norm": "batch"}),
            changed(head={"convs": 3}),
            changed(head={"norm_groups": 16}),
        ]
        identifiers = {one.architecture_id(self.genotype) for one in (space, *others)}
        assert len(identifiers) == len(others) + 1

    def test_a_whole_number_width_is_the_same_width(self) -> None:
        one, other = (changed(backbone={"width": width}) for width in (1, 1.0))
        assert one.architecture_id(self.genotype) == other.architecture_id(self.genotype)


class TestCost:
    def test_is_the_sum_of_the_parts(self, space: DetectorSpace) -> None:
        genotype = (2,) * 20
        cost = space.cost(genotype, SIZE)
        assert cost.parts["backbone"] == space.backbone.cost(genotype, SIZE)
        assert cost.total == cost.parts["backbone"] + cost.parts["neck"] + cost.parts["head"]
        assert space.fixed(genotype).cost((), SIZE) == cost

    def test_factors_give_the_same(self, space: DetectorSpace) -> None:
        rng = random.Random(1)
        for one in (space, JOINT):
            for _ in range(20):
                genotype = one.sample(rng)
                parts = one.split(genotype)
                for role in one.parts:
                    factors = one.part_cost_factors(role, (201, 333))
                    assert factors is not None
                    assert factors.cost(parts[role]) == one.cost(genotype, (201, 333)).parts[role]

    def test_needs_the_number_of_classes(self) -> None:
        space = DetectorSpace.from_description(DESCRIPTION)
        with pytest.raises(SettingError, match="needs num_classes"):
            space.cost((0,) * 20, SIZE)

    @pytest.mark.parametrize("size", [(0, 10), (10, -1), (10,), (10.0, 10), (1, 10**9), 224, "ab"])
    def test_an_image_size_that_is_none_is_refused(self, space: DetectorSpace, size: Any) -> None:
        with pytest.raises(SettingError, match="image_size: "):
            space.cost((0,) * 20, size)
