"""Learning-rate schedules."""

import pytest

from nasdet_core.supernet.recipe import SCHEDULES, SupernetRecipe, TrainingRecipe
from nasdet_core.training.schedule import learning_rate_share

STEPS = 1000


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_rises_to_the_peak_and_never_rises_again(schedule: str) -> None:
    recipe = TrainingRecipe(schedule=schedule, warmup=0.3, warmup_start=0.04)
    shares = [learning_rate_share(recipe, step, STEPS) for step in range(STEPS)]
    assert shares[0] == pytest.approx(0.04)
    assert max(shares) == pytest.approx(1.0, abs=1e-3)
    peak = shares.index(max(shares))
    assert peak == pytest.approx(300, abs=1)
    assert shares[:peak] == sorted(shares[:peak])
    assert shares[peak:] == sorted(shares[peak:], reverse=True)
    assert shares[-1] < 0.02


def test_detnas_steps_are_where_the_paper_has_them() -> None:
    recipe = SupernetRecipe.detnas()
    shares = {step: learning_rate_share(recipe, step, 90_000) for step in (0, 250, 500, 59_999, 60_000, 80_000)}
    assert shares[0] == pytest.approx(1 / 3)
    assert shares[250] == pytest.approx(2 / 3)
    assert shares[500] == shares[59_999] == 1.0
    assert shares[60_000] == pytest.approx(0.1)
    assert shares[80_000] == pytest.approx(0.01)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_tiny_runs_have_a_finite_rate(schedule: str, steps: int) -> None:
    recipe = TrainingRecipe(schedule=schedule)
    assert all(0 <= learning_rate_share(recipe, step, steps) <= 1 for step in range(steps))
