"""What every search algorithm promises. A new algorithm inherits the whole suite for one method."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from nasdet_core.algorithms import Algorithm, CompletedTrial, Proposal, build_algorithm
from nasdet_core.errors import CheckpointError, GenotypeError, TrialOrderError, TrialResultError
from nasdet_core.search_spaces import DetectorSpace, Limit
from nasdet_core.search_spaces.base import Genotype

SPACE = DetectorSpace.from_description(
    {
        "backbone": {"space": "detnas-300m", "width": 0.5},
        "neck": {"model": "fpn", "channels": 64},
        "head": {"model": "fcos"},
    },
    3,
)
LIMIT = Limit("macs", 78e6, "backbone", (224, 224))
MAX_STATE_BYTES = 64 * 1024


def objective(genotype: Genotype) -> float:
    """Any fixed function with ties."""
    return float(sum(genotype[::2]) - sum(genotype[1::3]))


def result(number: int, genotype: Genotype) -> CompletedTrial:
    """Every seventh trial fails, every eleventh turns out infeasible."""
    if number % 7 == 6:
        return CompletedTrial(number, genotype, "failed", None)
    if number % 11 == 10:
        return CompletedTrial(number, genotype, "infeasible", None)
    return CompletedTrial(number, genotype, "succeeded", objective(genotype))


def search(
    algorithm: Algorithm,
    *,
    eager: bool = False,
    each: Callable[[int, Algorithm], Algorithm] = lambda _, algorithm: algorithm,
) -> list[Proposal]:
    """Run a search. Results are told as late as `visible` allows, or as early as possible when `eager`."""
    proposals: list[Proposal] = []
    told = 0
    for number in range(algorithm.total_trials):
        algorithm = each(number, algorithm)
        needed = number if eager else algorithm.visible(number)
        while told < needed:
            algorithm.tell(result(told, proposals[told].genotype))
            told += 1
        proposals.append(algorithm.ask(number, genotypes(proposals)))
    while told < len(proposals):
        algorithm.tell(result(told, proposals[told].genotype))
        told += 1
    return proposals


def genotypes(proposals: Sequence[Proposal]) -> list[Genotype]:
    return [proposal.genotype for proposal in proposals]


class AlgorithmContract:
    @abstractmethod
    def make(self, seed: int = 0) -> Algorithm:
        """A fresh algorithm over SPACE under LIMIT."""

    def test_proposals_are_valid_within_the_limit_and_all_different(self) -> None:
        proposals = search(self.make())
        for proposal in proposals:
            assert SPACE.canonical(proposal.genotype) == proposal.genotype
            assert LIMIT.value(SPACE, proposal.genotype) <= LIMIT.max
        assert len(set(genotypes(proposals))) == len(proposals) == self.make().total_trials

    def test_parents_are_earlier_succeeded_trials_and_fit_the_origin(self) -> None:
        proposals = search(self.make())
        for number, proposal in enumerate(proposals):
            assert len(proposal.parents) == {"random": 0, "mutation": 1, "crossover": 2}[proposal.origin]
            for parent in proposal.parents:
                assert 0 <= parent < self.make().visible(number)
                assert result(parent, proposals[parent].genotype).state == "succeeded"

    def test_one_seed_repeats_a_search_another_does_not(self) -> None:
        assert search(self.make(0)) == search(self.make(0))
        assert search(self.make(0)) != search(self.make(1))

    def test_results_told_earlier_than_needed_change_nothing(self) -> None:
        assert search(self.make(), eager=True) == search(self.make())

    def test_ask_changes_nothing(self) -> None:
        algorithm = self.make()

        def ask_twice(number: int, same: Algorithm) -> Algorithm:
            if number and same.visible(number) == same.visible(number - 1):
                before = json.dumps(same.state_dict())
                with pytest.raises(TrialOrderError):
                    same.ask(number, [])  # the earlier genotypes are missing
                assert json.dumps(same.state_dict()) == before
            return same

        proposals = search(algorithm, each=ask_twice)
        last = algorithm.total_trials - 1
        again = self.make()
        told = 0
        while told < again.visible(last):
            again.tell(result(told, proposals[told].genotype))
            told += 1
        state = json.dumps(again.state_dict())
        answers = {again.ask(last, genotypes(proposals[:last])) for _ in range(3)}
        assert answers == {proposals[last]}
        assert json.dumps(again.state_dict()) == state

    def test_resuming_from_json_at_every_trial_continues_identically(self) -> None:
        def resume(number: int, algorithm: Algorithm) -> Algorithm:
            del number
            fresh = self.make()
            fresh.load_state_dict(json.loads(json.dumps(algorithm.state_dict())))
            return fresh

        assert search(self.make(), eager=True, each=resume) == search(self.make())

    def test_state_is_small_json(self) -> None:
        algorithm = self.make()
        search(algorithm)
        assert len(json.dumps(algorithm.state_dict(), allow_nan=False)) <= MAX_STATE_BYTES

    def test_asking_before_the_results_that_are_needed_is_refused(self) -> None:
        algorithm = self.make()
        proposals: list[Proposal] = []
        for number in range(algorithm.total_trials):
            if algorithm.visible(number) > 0:
                with pytest.raises(TrialOrderError, match="tell them first"):
                    algorithm.ask(number, genotypes(proposals))
                return
            proposals.append(algorithm.ask(number, genotypes(proposals)))

    @pytest.mark.parametrize("number", [-1, 10**6])
    def test_asking_beyond_the_search_is_refused(self, number: int) -> None:
        with pytest.raises(TrialOrderError, match="a trial from 0 to"):
            self.make().ask(number, [(0,) * 20] * max(number, 0))

    def test_telling_out_of_order_or_twice_is_refused(self) -> None:
        algorithm = self.make()
        genotype = algorithm.ask(0, []).genotype
        with pytest.raises(TrialOrderError, match="the result of trial 0 of"):
            algorithm.tell(CompletedTrial(1, genotype, "succeeded", 0.5))
        algorithm.tell(CompletedTrial(0, genotype, "succeeded", 0.5))
        with pytest.raises(TrialOrderError, match="the result of trial 1 of"):
            algorithm.tell(CompletedTrial(0, genotype, "succeeded", 0.5))

    @pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
    def test_success_without_a_finite_value_is_refused_and_leaves_no_trace(self, value: float | None) -> None:
        algorithm = self.make()
        before = json.dumps(algorithm.state_dict())
        with pytest.raises(TrialResultError, match="a finite value was expected"):
            algorithm.tell(CompletedTrial(0, (0,) * 20, "succeeded", value))
        assert json.dumps(algorithm.state_dict()) == before

    def test_an_unknown_state_of_a_trial_is_refused(self) -> None:
        state: Any = "done"
        with pytest.raises(TrialResultError, match="one of succeeded, failed, infeasible, cancelled"):
            self.make().tell(CompletedTrial(0, (0,) * 20, state, 0.5))

    def test_a_genotype_of_another_space_is_refused(self) -> None:
        with pytest.raises(GenotypeError):
            self.make().tell(CompletedTrial(0, (0,) * 40, "succeeded", 0.5))

    @pytest.mark.parametrize(
        "changed", [{"algorithm": "other"}, {"schema": 2}, {"told": -1}, {"told": "3"}, {"told": 10**6}]
    )
    def test_a_foreign_state_is_refused_and_leaves_no_trace(self, changed: dict[str, Any]) -> None:
        algorithm = self.make()
        before = algorithm.state_dict()
        with pytest.raises(CheckpointError):
            algorithm.load_state_dict({**before, **changed})
        assert algorithm.state_dict() == before


class TestRandomSearch(AlgorithmContract):
    def make(self, seed: int = 0) -> Algorithm:
        return build_algorithm("random", SPACE, [LIMIT], seed, {"trials": 40})


class TestRandomSearchWithLag(AlgorithmContract):
    def make(self, seed: int = 0) -> Algorithm:
        return build_algorithm("random", SPACE, [LIMIT], seed, {"trials": 30, "lag": 4})


class TestDetNasEvolution(AlgorithmContract):
    def make(self, seed: int = 0) -> Algorithm:
        options = {"population": 12, "generations": 4, "parents": 5}
        return build_algorithm("detnas", SPACE, [LIMIT], seed, options)


class TestDetNasEvolutionAtItsLargestState(AlgorithmContract):
    def make(self, seed: int = 0) -> Algorithm:
        options = {"population": 60, "generations": 3, "parents": 100}
        return build_algorithm("detnas", SPACE, [LIMIT], seed, options)
