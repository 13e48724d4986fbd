"""Limits: exact reach, uniform sampling, numbers in every error."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from nasdet_core.errors import LimitError, SearchSpaceExhaustedError, UnknownNameError
from nasdet_core.search_spaces import (
    ChoiceBlock,
    Cost,
    CostFactors,
    DetectorSpace,
    DetNasBackbone,
    FcosHeadSpec,
    FeasibleSampler,
    FpnNeck,
    Limit,
    check_reachable,
    reachable,
)
from nasdet_core.search_spaces.base import ChoicePart, Genotype, LevelSpec, Role

SMALL = DetectorSpace(
    DetNasBackbone("detnas-300m", width=0.5),
    FpnNeck(channels=64, extra_levels=0),
    FcosHeadSpec(convs=2, norm_groups=8),
    3,
)
FULL = DetectorSpace(DetNasBackbone("detnas-300m"), FpnNeck(), FcosHeadSpec(), 80)
BODY_300M = Limit("macs", 300e6, "backbone", (224, 224))


@dataclass(frozen=True)
class TinyBackbone(ChoicePart):
    """Three blocks of three candidates; candidate k of block i costs (i + 1) * k. `additive` hides the factors."""

    additive: bool = True
    role: Role = "backbone"
    name: str = "tiny"

    @property
    def settings(self) -> dict[str, Any]:
        return {}

    @property
    def blocks(self) -> tuple[ChoiceBlock, ...]:
        return tuple(ChoiceBlock(f"b{i}", ("x", "y", "z"), 8) for i in range(3))

    def encoding(self, genotype: Genotype) -> Genotype:
        return self.canonical(genotype)

    def fixed(self, genotype: Genotype, *, from_scratch: bool = False) -> TinyBackbone:
        del from_scratch
        self.validate(genotype)
        return self

    def to_description(self) -> dict[str, Any]:
        return {"space": self.name}

    def feature_levels(self) -> tuple[LevelSpec, ...]:
        return tuple(LevelSpec(f"c{i}", 8, 2**i) for i in range(3, 6))

    def cost(self, genotype: Genotype, image_size: Any) -> Cost:
        del image_size
        value = sum((i + 1) * choice for i, choice in enumerate(genotype))
        return Cost(100 + value, 100 + value)

    def cost_factors(self, image_size: Any) -> CostFactors | None:
        del image_size
        if not self.additive:
            return None
        tables = tuple(tuple(Cost((i + 1) * k, (i + 1) * k) for k in range(3)) for i in range(3))
        return CostFactors(Cost(100, 100), tables)


def tiny(*, additive: bool = True) -> DetectorSpace:
    return DetectorSpace(TinyBackbone(additive), FpnNeck(channels=8), FcosHeadSpec(convs=0, norm_groups=8), 1)


def limit(maximum: float) -> Limit:
    return Limit("macs", maximum, "backbone", (64, 64))


class TestReachable:
    def test_detnas_300m_reaches_its_published_range(self) -> None:
        assert reachable(FULL, BODY_300M) == (237_222_720, 365_472_576)

    def test_the_extremes_are_reached_by_brute_force(self) -> None:
        space = tiny()
        values = [limit(1).value(space, genotype) for genotype in product(range(3), repeat=3)]
        assert reachable(space, limit(1)) == (min(values), max(values)) == (100, 112)

    @pytest.mark.parametrize("metric", ["macs", "params"])
    @pytest.mark.parametrize("part", ["backbone", "neck", "head", None])
    def test_holds_for_every_part_and_metric(self, metric: Any, part: Any) -> None:
        one = Limit(metric, 1.0, part, (192, 256))
        smallest, largest = reachable(SMALL, one)
        rng = random.Random(0)
        values = [one.value(SMALL, SMALL.sample(rng)) for _ in range(200)]
        assert smallest <= min(values) <= max(values) <= largest
        assert (smallest == largest) == (part in ("neck", "head"))

    def test_without_factors_it_is_what_samples_show(self) -> None:
        assert reachable(tiny(additive=False), limit(1)) == (100, 112)

    def test_a_limit_nothing_satisfies_is_refused_with_both_ends(self) -> None:
        with pytest.raises(LimitError) as caught:
            check_reachable(FULL, [BODY_300M, Limit("macs", 200e6, "backbone", (224, 224))])
        assert "macs of backbone <= 200,000,000 at 224x224" in str(caught.value)
        assert "from 237,222,720 to 365,472,576" in str(caught.value)

    def test_the_smallest_value_itself_can_be_the_limit(self) -> None:
        check_reachable(tiny(), [limit(100)])
        with pytest.raises(LimitError):
            check_reachable(tiny(), [limit(99)])

    def test_an_estimate_never_refuses_a_limit(self) -> None:
        check_reachable(tiny(additive=False), [limit(99)])


class TestLimit:
    def test_value_is_the_cost_of_the_part_or_of_all(self) -> None:
        genotype = (1,) * 20
        cost = SMALL.cost(genotype, (192, 256))
        assert Limit("macs", 1, "neck", (192, 256)).value(SMALL, genotype) == cost.parts["neck"].macs
        assert Limit("macs", 1, None, (192, 256)).value(SMALL, genotype) == cost.total.macs
        assert Limit("params", 1).value(SMALL, genotype) == cost.total.params

    @pytest.mark.parametrize("additive", [True, False])
    def test_value_does_not_hang_on_factors(self, additive: bool) -> None:
        assert limit(1).value(tiny(additive=additive), (2, 0, 1)) == 105

    def test_macs_need_an_image_size(self) -> None:
        with pytest.raises(LimitError, match="needs an image_size"):
            Limit("macs", 1.0).value(SMALL, (0,) * 20)

    def test_json_round_trip(self) -> None:
        written = {"metric": "macs", "part": "backbone", "image_size": [224, 224], "max": 80e6}
        read = Limit.from_json(written)
        assert read == Limit("macs", 80e6, "backbone", (224, 224))
        assert Limit.from_json(read.to_json()) == read
        assert len({read, Limit.from_json(written)}) == 1

    def test_the_default_image_size_fills_in(self) -> None:
        assert Limit.from_json({"metric": "macs", "max": 1e9}, (192, 256)).image_size == (192, 256)

    @pytest.mark.parametrize(
        ("description", "message"),
        [
            ({"metric": "flops", "max": 1}, "metric macs or params was expected, but 'flops' came"),
            ({"metric": "macs", "max": 0}, "max must be a positive number, but 0 came"),
            ({"metric": "macs", "max": "80e6"}, "but '80e6' came"),
            ({"metric": "macs", "max": float("nan")}, "but nan came"),
            ({"metric": "macs", "max": 1, "part": "body"}, "part backbone, neck, head or none"),
            ({"metric": "macs", "max": 1, "image_size": [224]}, "image_size"),
            ({"metric": "macs", "max": 1, "image_size": 224}, "image_size"),
            ({"metric": "macs"}, "'max' is missing"),
            ({"max": 1}, "'metric' is missing"),
        ],
    )
    def test_malformed_limits_are_refused(self, description: dict[str, Any], message: str) -> None:
        with pytest.raises(LimitError, match=message):
            Limit.from_json(description)

    def test_unknown_keys_are_refused_by_name(self) -> None:
        with pytest.raises(UnknownNameError, match="limit: unknown key 'maximum'"):
            Limit.from_json({"metric": "macs", "max": 1, "maximum": 2})


class TestFeasibleSampler:
    def test_share_of_detnas_under_its_limit(self) -> None:
        # 68.8 % of 200,000 samples in the reference; three standard errors of 4000 samples are 2.2 points.
        rate = FeasibleSampler(FULL, [BODY_300M]).acceptance_rate(random.Random(0), 4000)
        assert rate == pytest.approx(0.688, abs=0.022)

    @pytest.mark.parametrize("additive", [True, False])
    def test_samples_are_uniform_over_what_the_limits_allow(self, additive: bool) -> None:
        space = tiny(additive=additive)
        sampler = FeasibleSampler(space, [limit(104)])
        feasible = [g for g in product(range(3), repeat=3) if limit(104).value(space, g) <= 104]
        rng = random.Random(3)
        draws = 200 * len(feasible)
        counts = Counter(sampler.sample(rng) for _ in range(draws))
        assert set(counts) == set(feasible)
        chi_square = sum((counts[g] - 200) ** 2 / 200 for g in feasible)
        assert len(feasible) == 9  # 8 degrees of freedom
        assert chi_square < 26.1  # exceeded with probability 0.001

    def test_every_limit_counts(self) -> None:
        sampler = FeasibleSampler(tiny(), [limit(106), Limit("params", 100, "backbone")])
        assert {sampler.sample(random.Random(seed)) for seed in range(5)} == {(0, 0, 0)}
        assert not sampler.allows((1, 0, 0))

    def test_excluded_genotypes_never_come(self) -> None:
        sampler = FeasibleSampler(tiny(), [limit(101)])
        assert sampler.sample(random.Random(0), exclude={(0, 0, 0)}) == (1, 0, 0)

    def test_spent_attempts_give_the_numbers(self) -> None:
        sampler = FeasibleSampler(FULL, [Limit("macs", 238e6, "backbone", (224, 224))])
        with pytest.raises(SearchSpaceExhaustedError) as caught:
            sampler.sample(random.Random(0), attempts=1000)
        message = str(caught.value)
        assert "0 of 1000 samples are within the limits" in message
        assert "macs of backbone <= 238,000,000 at 224x224, smallest seen: 2" in message

    def test_a_space_that_is_used_up_says_so(self) -> None:
        sampler = FeasibleSampler(tiny(), [limit(100)])
        with pytest.raises(SearchSpaceExhaustedError, match="all of them were proposed before"):
            sampler.sample(random.Random(0), attempts=500, exclude={(0, 0, 0)})
