"""Ask and tell: what a search algorithm is to the searcher.

An algorithm knows nothing of torch, queues or the database. `ask` changes nothing, so that a searcher may die
between an ask and the matching tell; state changes in `tell` only and survives as JSON. The randomness of
trial n depends on the seed and n alone, so one seed repeats a search exactly, whatever the number of workers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from nasdet_core.errors import CheckpointError, TrialOrderError, TrialResultError
from nasdet_core.search_spaces.base import Genotype

STATE_SCHEMA = 1
Origin = Literal["random", "mutation", "crossover"]
TrialState = Literal["succeeded", "failed", "infeasible", "cancelled"]
TRIAL_STATES: tuple[TrialState, ...] = ("succeeded", "failed", "infeasible", "cancelled")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate for one trial, and where it came from."""

    genotype: Genotype  # canonical
    origin: Origin
    parents: tuple[int, ...]  # trial numbers: none for random, one for mutation, two for crossover
    generation: int  # from 0; always 0 for algorithms without generations


@dataclass(frozen=True, slots=True)
class CompletedTrial:
    """The end of one trial."""

    number: int
    genotype: Genotype
    state: TrialState
    value: float | None  # the objective, oriented so that larger is better; finite when succeeded


class Algorithm(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def total_trials(self) -> int: ...

    def visible(self, number: int) -> int:
        """How many trials (0..visible-1) must have been told before trial `number` may be asked."""
        ...

    def ask(self, number: int, earlier: Sequence[Genotype]) -> Proposal:
        """The candidate of trial `number`, given the genotypes of trials 0..number-1. Changes nothing."""
        ...

    def tell(self, trial: CompletedTrial) -> None:
        """Take the end of the next trial, in trial-number order, failed and infeasible ones too."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """JSON of at most 64 kB."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def trial_rng(seed: int, number: int) -> random.Random:
    """The randomness of one trial; a text seed is hashed, so neighbouring numbers are unrelated."""
    return random.Random(f"{seed}:{number}")


class TrialLedger:
    """Keeps an algorithm's calls in order; holds nothing but the number of trials told."""

    def __init__(self, total_trials: int) -> None:
        self.total_trials = total_trials
        self.told = 0

    def check_ask(self, number: int, earlier: Sequence[Genotype], visible: int) -> None:
        if not 0 <= number < self.total_trials:
            raise TrialOrderError(f"a trial from 0 to {self.total_trials - 1} was expected, but {number} was asked")
        if len(earlier) != number:
            raise TrialOrderError(
                f"trial {number} needs the genotypes of the {number} trials before it, but {len(earlier)} came"
            )
        if self.told < visible:
            raise TrialOrderError(
                f"trial {number} needs the results of trials 0..{visible - 1}, but only {self.told} were "
                "told; tell them first"
            )

    def accept(self, trial: CompletedTrial) -> None:
        """Check the next result and count it."""
        if trial.number != self.told or trial.number >= self.total_trials:
            raise TrialOrderError(
                f"the result of trial {self.told} of {self.total_trials} was expected, "
                f"but that of trial {trial.number} came"
            )
        if trial.state not in TRIAL_STATES:
            raise TrialResultError(
                f"trial {trial.number}: one of {', '.join(TRIAL_STATES)} was expected, but {trial.state!r} came"
            )
        if trial.state == "succeeded" and (trial.value is None or not math.isfinite(trial.value)):
            raise TrialResultError(
                f"trial {trial.number} succeeded, so a finite value was expected, but {trial.value!r} came; "
                "tell it as failed"
            )
        self.told += 1


def check_state(state: Mapping[str, Any], algorithm: str, total_trials: int) -> int:
    """The number of told trials in a state; CheckpointError when another algorithm or schema wrote it."""
    if state.get("algorithm") != algorithm:
        raise CheckpointError(
            f"the state of algorithm {algorithm!r} was expected, but that of {state.get('algorithm')!r} came"
        )
    if state.get("schema") != STATE_SCHEMA:
        raise CheckpointError(
            f"{algorithm}: a state of schema {STATE_SCHEMA} was expected, but schema {state.get('schema')!r} came"
        )
    told = state.get("told")
    if isinstance(told, bool) or not isinstance(told, int) or not 0 <= told <= total_trials:
        raise CheckpointError(
            f"{algorithm}: a number of told trials from 0 to {total_trials} was expected in the state, "
            f"but {told!r} came"
        )
    return told
