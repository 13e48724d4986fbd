"""Best, ties and front are looked up from what is kept while results land, in whatever order they land."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.common.db.models import Trial
from services.common.db.repositories import JobRepository
from services.common.db.repositories.trials import NewTrial, TrialRepository
from services.common.db.session import Database
from services.common.db.states import JobKind
from services.common.ranking import ScoredTrial, best_trials, front_trials, random_trials, tied_with_best
from tests.support import stores

Point = tuple[int, float]  # (MACs, AP) of the trial whose number is the place in the list


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = stores.copied_database(stores.migrated_template(tmp_path), tmp_path / "nasdet.db")
    yield database
    database.close()


def measured(value: float, **more: Any) -> dict[str, Any]:
    return {**stores.success(value), "measurements": [{**stores.measurement(value), **more}]}


def land(database: Database, points: Sequence[Point], order: Sequence[int], payloads: Sequence[Any] = ()) -> int:
    """Score trials with these points, in this order; the search's id."""
    with database.write_session() as session:
        rows = stores.new_rows(session, f"search {random.random()}")
        trials = [
            TrialRepository(session)
            .add(
                rows.owner,
                rows.search_id,
                NewTrial(
                    number=number,
                    genotype=[number],
                    architecture_id=f"a{number}",
                    origin="random",
                    parents=[],
                    generation=number % 2,
                    macs=macs,
                    params=1,
                    counted={},
                ),
            )
            .id
            for number, (macs, _) in enumerate(points)
        ]
        jobs = JobRepository(session)
        jobs.create(rows.search_id, JobKind.EVALUATE, "evaluate/0", {}, supernet_id=rows.supernet_id, trials=trials)
        job = jobs.claim(stores.new_worker(session), "cpu", [])
    assert job is not None
    for number in order:
        payload = payloads[number] if payloads else measured(points[number][1])
        with database.write_session() as session:
            assert JobRepository(session).land_result(job.id, job.attempt, trials[number], payload) == "accepted"
    with database.write_session() as session:
        JobRepository(session).release_unacknowledged(job.worker_id or 0)
    return rows.search_id


def numbers(found: Sequence[ScoredTrial]) -> list[int]:
    return [scored.trial.number for scored in found]


def dominated(points: Sequence[Point], number: int) -> bool:
    macs, value = points[number]
    return any(
        (m <= macs and v >= value) and ((m, v) != (macs, value) or other < number)
        for other, (m, v) in enumerate(points)
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_front_equals_the_quadratic_definition_in_every_order_of_landing(database: Database, seed: int) -> None:
    rng = random.Random(seed)
    points = [(rng.randrange(6), rng.randrange(6) / 10) for _ in range(14)]
    expected = sorted((n for n in range(len(points)) if not dominated(points, n)), key=lambda n: points[n][0])
    for _ in range(2):
        search_id = land(database, points, rng.sample(range(len(points)), len(points)))
        with database.read_session() as session:
            assert numbers(front_trials(session, search_id)) == expected


def test_best_first_and_of_equal_ones_the_lower_number(database: Database) -> None:
    points = [(1, 0.2), (1, 0.4), (1, 0.3), (1, 0.4)]
    search_id = land(database, points, [3, 1, 0, 2])
    with database.read_session() as session:
        assert numbers(best_trials(session, search_id, 10)) == [1, 3, 2, 0]
        assert numbers(best_trials(session, search_id, 1)) == [1]
        assert numbers(random_trials(session, search_id, 10)) == [0, 2]


def test_ties_are_those_within_one_error_of_the_best(database: Database) -> None:
    points = [(1, 0.400), (1, 0.395), (1, 0.380), (1, 0.100)]
    pairs = ([0.40, 0.41, 0.39], [0.40, 0.40, 0.385], [0.38, 0.39, 0.37], [0.1, 0.1, 0.1])
    payloads = [measured(value, jackknife=list(pair)) for (_, value), pair in zip(points, pairs, strict=True)]
    search_id = land(database, points, range(4), payloads)
    with database.read_session() as session:
        assert tied_with_best(session, search_id) == [1]


def test_only_the_fullest_fidelity_and_its_commonest_protocol_are_compared(database: Database) -> None:
    values = [0.9, 0.5, 0.4, 0.8]
    payloads = [
        measured(0.9, fidelity={"images": 4}),
        measured(0.5, fidelity={"images": 40}, protocol_hash="a" * 64),
        measured(0.4, fidelity={"images": 40}, protocol_hash="a" * 64),
        measured(0.8, fidelity={"images": 40}, protocol_hash="b" * 64),
    ]
    search_id = land(database, [(1, value) for value in values], range(4), payloads)
    with database.read_session() as session:
        assert numbers(best_trials(session, search_id, 10)) == [1, 2]
        assert numbers(front_trials(session, search_id)) == [1]


def test_a_failed_trial_and_one_without_the_objective_are_not_ranked(database: Database) -> None:
    failed: dict[str, Any] = {"state": "failed", "reason": "broken", "value": None, "measurements": [], "seconds": {}}
    payloads = [failed, {**stores.success(0.5), "measurements": [stores.measurement(0.5, "box_ap50")]}]
    search_id = land(database, [(1, 0.0), (1, 0.5)], range(2), payloads)
    with database.read_session() as session:
        assert best_trials(session, search_id, 10) == []
        assert session.query(Trial).filter(Trial.search_id == search_id).count() == 2
