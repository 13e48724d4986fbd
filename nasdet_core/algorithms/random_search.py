"""Random search: every trial is a uniform, feasible candidate that was not proposed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasdet_core.algorithms.base import (
    STATE_SCHEMA,
    CompletedTrial,
    Proposal,
    TrialLedger,
    check_state,
    trial_rng,
)
from nasdet_core.errors import SearchSpaceExhaustedError
from nasdet_core.search_spaces.base import Genotype
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.search_spaces.limits import DEFAULT_ATTEMPTS, FeasibleSampler, Limit, check_reachable
from nasdet_core.search_spaces.settings import whole_number

MAX_TRIALS = 1_000_000


class RandomSearch:
    """Proposals do not hang on results.

    `lag` L only bounds how far asking may run ahead: trial n is asked once trials 0..n-L were told; None
    asks as far ahead as one likes.
    """

    name = "random"

    def __init__(
        self,
        space: DetectorSpace,
        limits: Sequence[Limit],
        seed: int,
        *,
        trials: int,
        lag: int | None = None,
        random_attempts: int = DEFAULT_ATTEMPTS,
    ) -> None:
        whole_number("random: trials", trials, 1, MAX_TRIALS)
        if lag is not None:
            whole_number("random: lag", lag, 1, MAX_TRIALS)
        whole_number("random: random_attempts", random_attempts, 1, 10_000_000)
        check_enough_candidates(space, trials)
        check_reachable(space, limits)
        self.space = space
        self.seed = seed
        self.lag = lag
        self.random_attempts = random_attempts
        self._sampler = FeasibleSampler(space, limits)
        self._ledger = TrialLedger(trials)

    @property
    def total_trials(self) -> int:
        return self._ledger.total_trials

    def visible(self, number: int) -> int:
        return 0 if self.lag is None else max(0, number - self.lag + 1)

    def ask(self, number: int, earlier: Sequence[Genotype]) -> Proposal:
        self._ledger.check_ask(number, earlier, self.visible(number))
        taken = {self.space.canonical(genotype) for genotype in earlier}
        genotype = self._sampler.sample(trial_rng(self.seed, number), self.random_attempts, taken)
        return Proposal(genotype, "random", (), 0)

    def tell(self, trial: CompletedTrial) -> None:
        self.space.validate(trial.genotype)
        self._ledger.accept(trial)

    def state_dict(self) -> dict[str, Any]:
        return {"schema": STATE_SCHEMA, "algorithm": self.name, "told": self._ledger.told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._ledger.told = check_state(state, self.name, self.total_trials)


def check_enough_candidates(space: DetectorSpace, trials: int) -> None:
    """A search proposes each architecture once: it cannot have more trials than the space has genotypes."""
    if trials > space.size:
        raise SearchSpaceExhaustedError(
            f"{trials} different candidates were asked for, but the space has {space.size}; "
            "ask for fewer, or search more parts"
        )
