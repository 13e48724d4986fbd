"""What every part space promises. A new part inherits the whole suite for a fixture of its own."""

from __future__ import annotations

import json
import random
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasdet_core.errors import GenotypeError
from nasdet_core.search_spaces import (
    DetNasBackbone,
    FasterRcnnHeadSpec,
    FcosHeadSpec,
    FpnNeck,
    Part,
    RetinaNetHeadSpec,
    build_part,
)

SEEDS = st.integers(0, 2**32)
# Each part runs the inherited tests in a class of its own, which hypothesis would take for a mistake.
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


class PartContract:
    """Subclasses set `part`."""

    part: Part

    def check(self, genotype: tuple[int, ...]) -> None:
        self.part.validate(genotype)
        assert self.part.canonical(self.part.canonical(genotype)) == self.part.canonical(genotype)
        assert isinstance(genotype, tuple)

    @FEW
    @given(seed=SEEDS)
    def test_samples_are_valid_and_repeat_with_their_seed(self, seed: int) -> None:
        genotype = self.part.sample(random.Random(seed))
        self.check(genotype)
        assert self.part.sample(random.Random(seed)) == genotype

    @FEW
    @given(seed=SEEDS, probability=st.floats(0, 1))
    def test_mutants_are_valid_and_the_parent_stays(self, seed: int, probability: float) -> None:
        rng = random.Random(seed)
        parent = self.part.sample(rng)
        before = tuple(parent)
        self.check(self.part.mutate(parent, rng, probability))
        assert parent == before
        assert self.part.mutate(parent, rng, 0.0) == parent

    @FEW
    @given(seed=SEEDS)
    def test_crossover_takes_every_gene_from_a_parent(self, seed: int) -> None:
        rng = random.Random(seed)
        a, b = self.part.sample(rng), self.part.sample(rng)
        child = self.part.crossover(a, b, rng)
        self.check(child)
        assert all(gene in genes for gene, *genes in zip(child, a, b, strict=True))
        assert self.part.crossover(a, a, rng) == a

    def test_every_candidate_of_every_block_is_sampled(self) -> None:
        rng = random.Random(0)
        samples = [self.part.sample(rng) for _ in range(60)]
        for index, block in enumerate(self.part.blocks):
            assert {genotype[index] for genotype in samples} == set(range(len(block.candidates)))

    def test_wrong_genotypes_are_refused_by_every_operation(self) -> None:
        rng = random.Random(0)
        right = self.part.sample(rng)
        wrong: list[tuple[Any, ...]] = [(*right, 0)]
        if right:
            wrong += [right[:-1], (-1, *right[1:]), (99, *right[1:]), (True, *right[1:]), (0.0, *right[1:])]
        for genotype in wrong:
            with pytest.raises(GenotypeError):
                self.part.validate(genotype)
            with pytest.raises(GenotypeError):
                self.part.canonical(genotype)
            with pytest.raises(GenotypeError):
                self.part.mutate(genotype, rng)
            with pytest.raises(GenotypeError):
                self.part.crossover(right, genotype, rng)
            with pytest.raises(GenotypeError):
                self.part.fixed(genotype)

    def test_blocks_have_distinct_names_and_real_choices(self) -> None:
        names = [block.name for block in self.part.blocks]
        assert len(set(names)) == len(names)
        assert all(len(set(block.candidates)) == len(block.candidates) >= 2 for block in self.part.blocks)

    def test_description_round_trips_through_json(self) -> None:
        written = json.loads(json.dumps(self.part.to_description()))
        read = build_part(self.part.role, written)
        assert read == self.part
        assert read.settings == self.part.settings
        assert hash(read) == hash(self.part)

    def test_fixed_form_has_no_choices_and_the_same_encoding(self) -> None:
        genotype = self.part.sample(random.Random(1))
        for from_scratch in (False, True):
            fixed = self.part.fixed(genotype, from_scratch=from_scratch)
            assert fixed.blocks == ()
            assert fixed.encoding(()) == self.part.encoding(genotype)
            assert fixed.name == self.part.name

    def test_is_frozen(self) -> None:
        part: Any = self.part
        with pytest.raises(FrozenInstanceError):
            setattr(part, fields(part)[0].name, None)


class TestDetNas300m(PartContract):
    part = DetNasBackbone("detnas-300m", width=0.5)


class TestDetNas13g(PartContract):
    part = DetNasBackbone("detnas-1.3g")


class TestDetNas38g(PartContract):
    part = DetNasBackbone("detnas-3.8g", split="even_odd")


class TestFixedDetNas(PartContract):
    part = DetNasBackbone("detnas-300m", split="even_odd", genotype=(3,) * 20)


class TestFpn(PartContract):
    part = FpnNeck(channels=64, levels=("c2", "c3"), extra_levels=0, norm="batch")


class TestFcos(PartContract):
    part = FcosHeadSpec(convs=2, norm_groups=8)


class TestRetinaNet(PartContract):
    part = RetinaNetHeadSpec(convs=1)


class TestFasterRcnn(PartContract):
    part = FasterRcnnHeadSpec(proposals=300, box_head="2fc")
