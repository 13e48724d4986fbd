"""What is proposed hangs on the results that may be seen, never on when somebody asked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nasdet_core.algorithms.base import CompletedTrial, Proposal
from nasdet_core.errors import SearchSpaceExhaustedError
from nasdet_core.search_spaces.base import Genotype
from services.common.db.models import Trial
from services.common.db.states import WorkState
from services.searcher.proposals import next_proposals

TOTAL = 9


class Recorder:
    """Sees two results back (trial n needs 0..n-3), and proposes what it was told."""

    name = "recorder"
    total_trials = TOTAL

    def __init__(self, exhausted_at: int = TOTAL) -> None:
        self.exhausted_at = exhausted_at
        self.told: list[CompletedTrial] = []

    def visible(self, number: int) -> int:
        return max(0, number - 2)

    def ask(self, number: int, earlier: Sequence[Genotype]) -> Proposal:
        assert len(earlier) == number
        assert len(self.told) == self.visible(number), "told more or less than may be seen"
        if number >= self.exhausted_at:
            raise SearchSpaceExhaustedError("nothing is left")
        seen = sum(trial.number + 1 for trial in self.told if trial.state == "succeeded")
        return Proposal((number, seen), "random", (), 0)

    def tell(self, trial: CompletedTrial) -> None:
        assert trial.number == len(self.told)
        self.told.append(trial)

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state: object) -> None: ...


def trial(number: int, genotype: Genotype, state: WorkState) -> Trial:
    value = 0.5 if state is WorkState.SUCCEEDED else None
    return Trial(number=number, genotype=list(genotype), state=state, value=value)


def all_genotypes(batch: int, states: Sequence[WorkState]) -> list[Genotype]:
    """Propose as far as possible, at most `batch` at once; everything proposed ends before the next step."""
    trials: list[Trial] = []
    while len(trials) < TOTAL:
        for proposal in next_proposals(Recorder(), trials, batch).proposals:
            number = len(trials)
            trials.append(trial(number, proposal.genotype, states[number]))
    return [tuple(item.genotype) for item in trials]


STATES = [WorkState.SUCCEEDED, WorkState.FAILED, WorkState.LOST] * 3


@pytest.mark.parametrize("batch", [1, 2, 256])
def test_a_late_or_a_hasty_searcher_proposes_the_same(batch: int) -> None:
    assert all_genotypes(batch, STATES) == all_genotypes(3, STATES)


def test_an_open_trial_holds_back_what_may_see_it() -> None:
    trials = [trial(n, (n, 0), WorkState.SUCCEEDED) for n in range(3)]
    trials[1].state = WorkState.RUNNING
    assert len(next_proposals(Recorder(), trials).proposals) == 1  # trial 3 sees trial 0 alone
    trials[0].state = WorkState.RUNNING
    assert next_proposals(Recorder(), trials).proposals == ()


def test_every_kind_of_end_is_told() -> None:
    states = [WorkState.SUCCEEDED, WorkState.FAILED, WorkState.INFEASIBLE, WorkState.LOST, WorkState.CANCELLED]
    recorder = Recorder()
    next_proposals(recorder, [trial(n, (n,), state) for n, state in enumerate(states)], most=3)
    assert [told.state for told in recorder.told] == ["succeeded", "failed", "infeasible", "failed", "cancelled"]


def test_the_sentence_of_an_exhausted_space_comes_with_what_was_found_before() -> None:
    found = next_proposals(Recorder(exhausted_at=2), [])
    assert len(found.proposals) == 2
    assert found.exhausted == "nothing is left"
