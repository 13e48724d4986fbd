"""Which candidate stands for pure chance."""

from __future__ import annotations

from services.common.db.models import Measurement, Trial
from services.common.ranking import ScoredTrial
from services.searcher.finals import control_trial


def scored(number: int, generation: int) -> ScoredTrial:
    return ScoredTrial(Trial(number=number, generation=generation), Measurement(value=0.5))


def test_the_control_is_the_first_random_candidate_that_works_and_has_not_won() -> None:
    # Trial 0 failed: it is not among the ranked ones.
    ranked = [scored(2, 0), scored(7, 1), scored(4, 0), scored(3, 0)]
    control = control_trial(ranked, ranked[:1])
    assert control is not None
    assert control.trial.number == 3


def test_a_bred_candidate_is_no_control() -> None:
    ranked = [scored(0, 0), scored(7, 1)]
    assert control_trial(ranked, ranked[:1]) is None
