"""DetNAS's evolution: generations, parents, operators, bounded breeding."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from nasdet_core.algorithms import CompletedTrial, DetNasEvolution, Proposal
from nasdet_core.errors import CheckpointError, SearchSpaceExhaustedError, SettingError, TrialOrderError
from nasdet_core.search_spaces import DetectorSpace, DetNasBackbone, FcosHeadSpec, FpnNeck, Limit
from nasdet_core.search_spaces.base import Genotype

SPACE = DetectorSpace(DetNasBackbone("detnas-300m"), FpnNeck(), FcosHeadSpec(), 80)
BODY_300M = Limit("macs", 300e6, "backbone", (224, 224))

Value = Callable[[int], float | None]  # of a trial number; None: the trial fails


def count_of_threes(genotype: Genotype) -> float:
    return float(genotype.count(3))


def run(search: DetNasEvolution, value: Value | None = None, stop: int | None = None) -> list[Proposal]:
    """Ask and tell up to trial `stop`, generation by generation; the objective is the count of threes by default."""
    proposals: list[Proposal] = []
    total = search.total_trials if stop is None else stop
    for number in range(total):
        if number and number % search.population == 0:
            tell(search, proposals, value)
        proposals.append(search.ask(number, [proposal.genotype for proposal in proposals]))
    tell(search, proposals, value)
    return proposals


def tell(search: DetNasEvolution, proposals: list[Proposal], value: Value | None) -> None:
    for number in range(search.state_dict()["told"], len(proposals)):
        genotype = proposals[number].genotype
        outcome = count_of_threes(genotype) if value is None else value(number)
        state: Any = "failed" if outcome is None else "succeeded"
        search.tell(CompletedTrial(number, genotype, state, outcome))


class TestPaperSettings:
    def test_defaults_are_the_papers(self) -> None:
        search = DetNasEvolution(SPACE, [BODY_300M], 0)
        assert (search.population, search.generations, search.total_trials) == (50, 20, 1000)
        assert (search.parents, search.mutations, search.crossovers) == (10, 20, 20)
        assert search.mutation_probability == 0.1

    def test_a_generation_holds_mutants_then_crossovers_then_random(self) -> None:
        proposals = run(DetNasEvolution(SPACE, [BODY_300M], 0), stop=150)
        origins = [proposal.origin for proposal in proposals]
        assert origins[:50] == ["random"] * 50
        for start in (50, 100):
            expected = ["mutation"] * 20 + ["crossover"] * 20 + ["random"] * 10
            assert origins[start : start + 50] == expected
        assert [proposal.generation for proposal in proposals] == [0] * 50 + [1] * 50 + [2] * 50

    def test_small_populations_keep_the_share(self) -> None:
        search = DetNasEvolution(SPACE, [], 0, population=12, generations=3)
        assert (search.mutations, search.crossovers, search.total_trials) == (5, 5, 36)

    def test_visible_is_the_whole_generation_before(self) -> None:
        search = DetNasEvolution(SPACE, [], 0, population=12, generations=3)
        assert [search.visible(number) for number in (0, 11, 12, 23, 24, 35)] == [0, 0, 12, 12, 24, 24]


class TestParents:
    def test_are_the_best_of_the_whole_history(self) -> None:
        search = DetNasEvolution(SPACE, [], 0, population=40, generations=4, parents=4)
        proposals = run(search)
        for generation in (1, 2, 3):
            start = generation * 40
            ranked = sorted(range(start), key=lambda n: (-count_of_threes(proposals[n].genotype), n))
            used = {parent for proposal in proposals[start : start + 40] for parent in proposal.parents}
            assert used == set(ranked[:4])

    def test_ties_go_to_the_lower_number(self) -> None:
        search = DetNasEvolution(SPACE, [], 0, population=30, generations=2, parents=3)
        proposals = run(search, lambda _: 0.5)
        assert {parent for proposal in proposals for parent in proposal.parents} == {0, 1, 2}

    def test_failed_trials_breed_nothing(self) -> None:
        search = DetNasEvolution(SPACE, [], 0, population=30, generations=2, parents=10)
        proposals = run(search, lambda number: 0.5 if number in (7, 11) else None)
        assert {parent for proposal in proposals for parent in proposal.parents} == {7, 11}

    def test_without_any_success_a_generation_is_random(self) -> None:
        search = DetNasEvolution(SPACE, [], 0, population=10, generations=3)
        proposals = run(search, lambda _: None)
        assert {proposal.origin for proposal in proposals} == {"random"}
        assert [proposal.generation for proposal in proposals] == [0] * 10 + [1] * 10 + [2] * 10

    def test_results_of_the_own_generation_do_not_count(self) -> None:
        early, late = (DetNasEvolution(SPACE, [], 0, population=10, generations=2, parents=1) for _ in range(2))
        proposals = run(early, stop=10)
        run(late, stop=10)
        earlier = [proposal.genotype for proposal in proposals]
        first = early.ask(10, earlier)
        early.tell(CompletedTrial(10, first.genotype, "succeeded", 1e9))
        assert early.ask(11, [*earlier, first.genotype]) == late.ask(11, [*earlier, first.genotype])

    def test_a_generation_that_is_over_is_not_asked_again(self) -> None:
        search = DetNasEvolution(SPACE, [], 0, population=10, generations=2)
        run(search, stop=10)
        with pytest.raises(TrialOrderError, match="trial 3 belongs to generation 0"):
            search.ask(3, [(0,) * 20] * 3)


class TestOperators:
    def test_mutants_differ_from_their_parent_where_ten_percent_of_draws_fall(self) -> None:
        search = DetNasEvolution(SPACE, [], 3, population=200, generations=2, mutations=200, crossovers=0)
        proposals = run(search)
        changed = [
            sum(a != b for a, b in zip(one.genotype, proposals[one.parents[0]].genotype, strict=True))
            for one in proposals[200:]
        ]
        assert min(changed) == 1  # an unchanged mutant is a duplicate
        # A block changes with probability 0.075; given that one of 20 does, 1.5 / 0.79 = 1.90 on average.
        assert sum(changed) / 200 == pytest.approx(1.90, abs=0.25)

    def test_crossovers_take_every_gene_from_one_of_two_parents(self) -> None:
        search = DetNasEvolution(SPACE, [], 0, population=40, generations=2, mutations=0, crossovers=40)
        proposals = run(search)
        children = [proposal for proposal in proposals if proposal.origin == "crossover"]
        assert len(children) >= 35
        for child in children:
            a, b = (proposals[parent].genotype for parent in child.parents)
            assert all(gene in pair for gene, *pair in zip(child.genotype, a, b, strict=True))

    def test_mutants_and_crossovers_obey_the_limit(self) -> None:
        limit = Limit("macs", 285e6, "backbone", (224, 224))
        proposals = run(DetNasEvolution(SPACE, [limit], 0, population=30, generations=3))
        assert {proposal.origin for proposal in proposals} == {"random", "mutation", "crossover"}
        assert all(limit.value(SPACE, proposal.genotype) <= limit.max for proposal in proposals)

    def test_evolution_climbs_above_its_random_generation(self) -> None:
        proposals = run(DetNasEvolution(SPACE, [BODY_300M], 0, population=20, generations=8))
        values = [count_of_threes(proposal.genotype) for proposal in proposals]
        assert sum(values[-20:]) / 20 > sum(values[:20]) / 20 + 3


@dataclass(frozen=True)
class OneBlock(DetNasBackbone):
    """detnas-300m of which one block alone is searched: 4 genotypes."""

    @property
    def blocks(self) -> Any:
        return super().blocks[:1]

    def encoding(self, genotype: Genotype) -> Genotype:
        return (*genotype, *(0,) * 19)


class TestBoundedBreeding:
    def test_spent_attempts_are_filled_at_random(self) -> None:
        search = DetNasEvolution(
            SPACE, [], 0, population=10, generations=2, mutations=10, crossovers=0, mutation_probability=0.0
        )
        proposals = run(search)  # a mutant with probability 0 is its parent, so always a duplicate
        assert {(proposal.origin, proposal.generation) for proposal in proposals} == {
            ("random", 0),
            ("random", 1),
        }
        assert len({proposal.genotype for proposal in proposals}) == 20

    def test_crossovers_of_a_single_parent_are_filled_at_random(self) -> None:
        search = DetNasEvolution(SPACE, [], 0, population=10, generations=2, parents=1, mutations=0, crossovers=10)
        assert {proposal.origin for proposal in run(search)} == {"random"}

    def test_a_space_is_used_up_to_its_last_genotype(self) -> None:
        space = DetectorSpace(OneBlock("detnas-300m"), FpnNeck(), FcosHeadSpec(), 80)
        proposals = run(DetNasEvolution(space, [], 0, population=2, generations=2))
        assert {proposal.genotype for proposal in proposals} == {(0,), (1,), (2,), (3,)}

    def test_more_trials_than_genotypes_are_refused_at_the_start(self) -> None:
        space = DetectorSpace(OneBlock("detnas-300m"), FpnNeck(), FcosHeadSpec(), 80)
        with pytest.raises(SearchSpaceExhaustedError, match="6 different candidates were asked for"):
            DetNasEvolution(space, [], 0, population=2, generations=3)


class TestOptions:
    @pytest.mark.parametrize(
        "options",
        [
            {"population": 0},
            {"generations": 0},
            {"parents": 0},
            {"parents": 101},
            {"mutations": -1},
            {"population": 10, "crossovers": 11},
            {"population": 10, "mutations": 6, "crossovers": 5},
            {"mutation_probability": 1.1},
            {"mutation_probability": "0.1"},
            {"attempts": 0},
            {"population": 10.0},
        ],
    )
    def test_out_of_range_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(SettingError, match="detnas: "):
            DetNasEvolution(SPACE, [], 0, **options)


class TestState:
    @pytest.mark.parametrize(
        "changed",
        [
            {"best": None},
            {"best": [{"number": 0, "value": 1.0}]},
            {"best": [{"number": 0, "genotype": [9] * 20, "value": 1.0}]},
            {"breeding": [{"number": 0, "genotype": [0] * 20, "value": 1.0}] * 11},
        ],
    )
    def test_a_broken_list_of_parents_is_refused_by_name(self, changed: dict[str, Any]) -> None:
        search = DetNasEvolution(SPACE, [], 0)
        with pytest.raises(CheckpointError, match=f"the state's '{next(iter(changed))}'"):
            search.load_state_dict({**search.state_dict(), **changed})

    def test_stays_small_on_forty_blocks_with_a_hundred_parents(self) -> None:
        space = DetectorSpace(DetNasBackbone("detnas-1.3g"), FpnNeck(), FcosHeadSpec(), 80)
        search = DetNasEvolution(space, [], 0, population=100, generations=2, parents=100)
        rng = random.Random(0)
        run(search, lambda _: rng.random())
        assert len(json.dumps(search.state_dict())) <= 64 * 1024
