"""DetNAS's evolutionary search (Chen et al. 2019, arXiv:1903.10979, section 3.4 and its public code).

Generation 0 is random. Every later generation is bred from the best `parents` trials of the whole history:
first mutants, then crossovers, then random candidates, in trial-number order. Where this leaves the public
code, a comment that starts with "Deviation" says how and why.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasdet_core.algorithms.base import (
    STATE_SCHEMA,
    CompletedTrial,
    Proposal,
    TrialLedger,
    check_state,
    trial_rng,
)
from nasdet_core.algorithms.random_search import MAX_TRIALS, check_enough_candidates
from nasdet_core.errors import CheckpointError, SettingError, TrialOrderError
from nasdet_core.search_spaces.base import DEFAULT_MUTATION_PROBABILITY, Genotype
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.search_spaces.limits import DEFAULT_ATTEMPTS, FeasibleSampler, Limit, check_reachable
from nasdet_core.search_spaces.settings import real_number, whole_number

BRED_SHARE = 0.4  # of a generation come from mutation, as many from crossover: 20 of 50 in the paper
MAX_PARENTS = 100  # keeps the state below 64 kB


@dataclass(frozen=True, slots=True)
class Parent:
    """One of the best trials so far."""

    number: int
    genotype: Genotype
    value: float


class DetNasEvolution:
    """Evolution with the paper's numbers as defaults.

    `generations` counts generation 0 too. A mutant redraws each block with `mutation_probability` (the draw
    may hit the old candidate); a crossover takes each block from either of two parents, drawn independently.
    """

    name = "detnas"

    def __init__(
        self,
        space: DetectorSpace,
        limits: Sequence[Limit],
        seed: int,
        *,
        population: int = 50,
        generations: int = 20,
        parents: int = 10,
        mutations: int | None = None,
        crossovers: int | None = None,
        mutation_probability: float = DEFAULT_MUTATION_PROBABILITY,
        attempts: int = 10,
        random_attempts: int = DEFAULT_ATTEMPTS,
    ) -> None:
        self.population = whole_number("detnas: population", population, 1, MAX_TRIALS)
        self.generations = whole_number("detnas: generations", generations, 1, MAX_TRIALS)
        self.parents = whole_number("detnas: parents", parents, 1, MAX_PARENTS)
        share = round(BRED_SHARE * population)
        self.mutations = whole_number("detnas: mutations", share if mutations is None else mutations, 0, population)
        self.crossovers = whole_number("detnas: crossovers", share if crossovers is None else crossovers, 0, population)
        if self.mutations + self.crossovers > population:
            raise SettingError(
                f"detnas: mutations and crossovers must fit a population of {population}, but they are "
                f"{self.mutations} + {self.crossovers}"
            )
        self.mutation_probability = real_number("detnas: mutation_probability", mutation_probability, 0.0, 1.0)
        self.attempts = whole_number("detnas: attempts", attempts, 1, 1_000_000)
        self.random_attempts = whole_number("detnas: random_attempts", random_attempts, 1, 10_000_000)
        check_enough_candidates(space, population * generations)
        check_reachable(space, limits)
        self.space = space
        self.seed = seed
        self._sampler = FeasibleSampler(space, limits)
        self._ledger = TrialLedger(population * generations)
        self._best: tuple[Parent, ...] = ()  # of all told trials
        self._breeding: tuple[Parent, ...] = ()  # of all told trials of completed generations

    @property
    def total_trials(self) -> int:
        return self._ledger.total_trials

    def visible(self, number: int) -> int:
        """A generation is bred once the whole generation before it has been told."""
        return self._generation(number) * self.population

    def ask(self, number: int, earlier: Sequence[Genotype]) -> Proposal:
        self._ledger.check_ask(number, earlier, self.visible(number))
        generation = self._generation(number)
        if generation < self._ledger.told // self.population:
            raise TrialOrderError(
                f"trial {number} belongs to generation {generation}, whose parents are no longer kept, since "
                f"{self._ledger.told} trials were told; ask for trials in order"
            )
        # Deviation: the public code marks a path as visited only after its evaluation, so one generation can
        # hold duplicates that waste evaluations and crowd the parents. Here every earlier proposal is
        # excluded.
        taken = {self.space.canonical(genotype) for genotype in earlier}
        # Deviation: the public code is not seeded, so that its runs cannot be repeated.
        rng = trial_rng(self.seed, number)
        bred = self._breed(number, rng, taken)
        if bred is not None:
            return bred
        # As in the public code, what breeding does not give is filled at random.
        genotype = self._sampler.sample(rng, self.random_attempts, taken)
        return Proposal(genotype, "random", (), generation)

    def _breed(self, number: int, rng: random.Random, taken: set[Genotype]) -> Proposal | None:
        """A new, feasible mutant or crossover; None for a random slot, without parents, or when attempts end.

        Deviation: the public code lowers its retry counter only after a legal child, so an exhausted
        neighbourhood loops forever. It means 10 attempts per child, shared by a generation; here each child
        has `attempts` of its own, since a trial's randomness must not hang on its siblings.
        """
        generation, slot = divmod(number, self.population)
        if generation == 0 or not self._breeding or slot >= self.mutations + self.crossovers:
            return None
        make_child = self._mutant if slot < self.mutations else self._crossover
        for _ in range(self.attempts):
            child = make_child(generation, rng)
            if child.genotype not in taken and self._sampler.allows(child.genotype):
                return child
        return None

    def _mutant(self, generation: int, rng: random.Random) -> Proposal:
        parent = self._draw_parent(rng)
        child = self.space.mutate(parent.genotype, rng, self.mutation_probability)
        return Proposal(self.space.canonical(child), "mutation", (parent.number,), generation)

    def _crossover(self, generation: int, rng: random.Random) -> Proposal:
        a, b = self._draw_parent(rng), self._draw_parent(rng)
        child = self.space.crossover(a.genotype, b.genotype, rng)
        return Proposal(self.space.canonical(child), "crossover", (a.number, b.number), generation)

    def _draw_parent(self, rng: random.Random) -> Parent:
        return self._breeding[rng.randrange(len(self._breeding))]

    def tell(self, trial: CompletedTrial) -> None:
        """Take the end of the next trial.

        Deviation: a failed trial is not repeated (the public code sends it again forever); it breeds nothing.
        """
        self.space.validate(trial.genotype)
        self._ledger.accept(trial)
        if trial.state == "succeeded" and trial.value is not None:
            newcomer = Parent(trial.number, self.space.canonical(trial.genotype), trial.value)
            ranked = sorted((*self._best, newcomer), key=lambda parent: (-parent.value, parent.number))
            self._best = tuple(ranked[: self.parents])
        if self._ledger.told % self.population == 0:
            self._breeding = self._best

    def _generation(self, number: int) -> int:
        return number // self.population

    def state_dict(self) -> dict[str, Any]:
        return {
            "schema": STATE_SCHEMA,
            "algorithm": self.name,
            "told": self._ledger.told,
            "best": [_to_json(parent) for parent in self._best],
            "breeding": [_to_json(parent) for parent in self._breeding],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        told = check_state(state, self.name, self.total_trials)
        best, breeding = self._read_parents(state, "best"), self._read_parents(state, "breeding")
        self._ledger.told, self._best, self._breeding = told, best, breeding

    def _read_parents(self, state: Mapping[str, Any], key: str) -> tuple[Parent, ...]:
        try:
            parents = tuple(
                Parent(int(row["number"]), tuple(row["genotype"]), float(row["value"])) for row in state[key]
            )
            for parent in parents:
                self.space.validate(parent.genotype)
        except (KeyError, TypeError, ValueError) as error:  # GenotypeError is a ValueError
            raise CheckpointError(
                f"detnas: the state's {key!r} should list trials of this space with number, genotype and "
                f"value, but reading it failed ({type(error).__name__}: {error})"
            ) from error
        if len(parents) > self.parents:
            raise CheckpointError(
                f"detnas: at most {self.parents} trials were expected in the state's {key!r}, but {len(parents)} came"
            )
        return parents


def _to_json(parent: Parent) -> dict[str, Any]:
    return {"number": parent.number, "genotype": list(parent.genotype), "value": parent.value}
