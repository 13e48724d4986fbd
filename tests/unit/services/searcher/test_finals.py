"""Which candidate stands for pure chance."""

from __future__ import annotations

from services.common.db.models import Measurement, Trial
from services.common.ranking import ScoredTrial
from services.searcher.finals import control_trial


def scored(number: int) -> ScoredTrial:
    return ScoredTrial(Trial(number=number), Measurement(value=0.5))


def test_the_control_is_the_first_random_candidate_that_works_and_has_not_won() -> None:
    drawn = [scored(2), scored(3), scored(4)]
    control = control_trial(drawn, drawn[:1])
    assert control is not None
    assert control.trial.number == 3


def test_where_every_random_candidate_won_there_is_no_control() -> None:
    drawn = [scored(0)]
    assert control_trial(drawn, [scored(7), *drawn]) is None
