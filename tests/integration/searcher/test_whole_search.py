"""One search from its specification to its verdict, and the same one again under all kinds of disturbance."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from services.common.db.repositories import EventRepository, TrialRepository
from services.common.db.session import Database
from services.common.db.states import JobKind, SearchState
from tests.support.searches import FakeWorker, Installation

pytestmark = pytest.mark.integration
NewInstallation = Callable[[], Installation]


class TestUndisturbed:
    def test_ends_with_a_winner_a_baseline_a_control_and_a_verdict(self, undisturbed: dict[str, Any]) -> None:
        assert undisturbed["search"] == {
            "id": 1,
            "name": "cells",
            "state": "succeeded",
            "stage": "done",
            "reason": None,
        }
        assert undisturbed["trials"]["succeeded"] == undisturbed["trials"]["planned"] == 18
        assert undisturbed["final"]["genotype"] == undisturbed["best"]["genotype"]
        assert [run["seed"] for run in undisturbed["final"]["seeds"]] == [0, 1, 2]
        assert undisturbed["baseline"]["genotype"] == [0] * 20
        assert undisturbed["control"]["trial"] == 0
        assert undisturbed["final"]["split"] == "test"
        assert undisturbed["best"]["split"] == "val"
        assert undisturbed["verdict"].endswith(".")
        assert undisturbed["supernet"]["baseline_box_map"] == 0.36

    def test_goes_through_the_stages_in_order_within_ten_seconds(self, finished: Installation) -> None:
        with finished.database.read_session() as session:
            events = EventRepository(session).of_search(finished.search_id, limit=10_000)
        stages = [event.data["stage"] for event in events if event.kind == "stage.entered"]
        assert stages == ["check", "supernet", "search", "finalists", "done"]
        timing = finished.summary()["timing_s"]
        assert set(timing) >= {"check", "supernet", "search", "finalists", "candidates_per_hour"}
        assert timing["total"] < 10

    def test_evolves_after_the_first_generation_under_the_limit(self, finished: Installation) -> None:
        with finished.database.read_session() as session:
            trials = TrialRepository(session).of_search(1)
        assert {trial.origin for trial in trials if trial.generation == 0} == {"random"}
        assert {"mutation", "crossover"} <= {trial.origin for trial in trials if trial.generation > 0}
        assert all(trial.counted["backbone.macs@224x224"] <= 80e6 for trial in trials)
        assert len({trial.architecture_id for trial in trials}) == 18

    def test_another_seed_finds_others(self, installation: Installation, undisturbed: dict[str, Any]) -> None:
        installation.submit(seed=1)
        assert installation.run()["best"]["genotype"] != undisturbed["best"]["genotype"]

    def test_shows_progress_while_it_runs(self, installation: Installation) -> None:
        installation.submit()
        installation.step()
        running = installation.summary()
        assert [job["purpose"] for job in running["progress"]["jobs"]] == ["check"]
        assert running["verdict"] is None

    def test_shows_no_progress_at_the_end(self, finished: Installation) -> None:
        assert "progress" not in finished.summary()


class TestRepeatability:
    def test_two_workers_find_what_one_found(self, installation: Installation, undisturbed: dict[str, Any]) -> None:
        installation.submit()
        crew = [FakeWorker(installation.database, f"worker-{n}") for n in range(2)]
        assert installation.run(*crew) == undisturbed
        lists = [job for job in installation.jobs(JobKind.EVALUATE) if job.purpose == "evaluate/3"]
        assert lists, "the pending trials should have been shared by both workers"

    @pytest.mark.parametrize("seed", range(2))
    def test_the_order_in_which_results_land_does_not_matter(
        self, installation: Installation, undisturbed: dict[str, Any], seed: int
    ) -> None:
        """Three workers whose lists are shuffled, two searchers, all in a random order of transactions."""
        installation.submit()
        order = random.Random(seed)
        other = Database(installation.url)
        searchers = [installation, Installation(other)]
        searchers[1].search_id = installation.search_id
        crew = [FakeWorker(installation.database, f"worker-{n}", order=random.Random(seed + n)) for n in range(3)]
        while installation.state() is SearchState.RUNNING:
            if order.random() < 0.3:
                order.choice(searchers).step()
            else:
                order.choice(crew).advance()
        other.close()
        assert installation.result() == undisturbed

    def test_two_searchers_at_once_make_no_row_twice(
        self, installation: Installation, undisturbed: dict[str, Any]
    ) -> None:
        installation.submit()
        errors: list[BaseException] = []
        ended = threading.Event()

        def keep_stepping() -> None:
            database = Database(installation.url)
            searcher = Installation(database)
            searcher.search_id = installation.search_id
            try:
                while not ended.is_set():
                    searcher.step()
                    ended.wait(0.01)  # let the worker have the database, too
            except BaseException as error:  # handed to the test
                errors.append(error)
            database.close()

        threads = [threading.Thread(target=keep_stepping) for _ in range(2)]
        for thread in threads:
            thread.start()
        worker = FakeWorker(installation.database)
        while installation.state() is SearchState.RUNNING and not errors:
            worker.advance()
        ended.set()
        for thread in threads:
            thread.join()
        assert not errors
        assert installation.result() == undisturbed


class TestKills:
    @pytest.mark.parametrize("seed", range(2))
    def test_workers_killed_at_random_change_nothing(
        self, installation: Installation, undisturbed: dict[str, Any], seed: int
    ) -> None:
        installation.submit()
        chance = random.Random(f"kill {seed}")
        crew = [FakeWorker(installation.database, f"worker-{n}") for n in range(2)]
        kills: Counter[str] = Counter()
        while installation.state() is SearchState.RUNNING:
            installation.step()
            for worker in crew:
                worker.advance()
                # A third loss of one job without a checkpoint between would end it, as it should.
                if worker.job and kills[worker.job.purpose] < 2 and chance.random() < 0.3:
                    kills[worker.job.purpose] += 1
                    worker.die(by_lease=chance.random() < 0.5)
        assert kills.total() >= 5
        assert installation.result() == undisturbed

    @pytest.mark.parametrize("seed", range(2))
    def test_a_searcher_killed_in_the_middle_of_any_step_changes_nothing(
        self, installation: Installation, undisturbed: dict[str, Any], seed: int
    ) -> None:
        installation.submit()
        chance = random.Random(f"searcher {seed}")
        worker = FakeWorker(installation.database)
        kills = 0
        while installation.state() is SearchState.RUNNING:
            try:
                with _killed_after(installation.database, _moment(chance)):
                    installation.step()
            except Killed:
                kills += 1
                continue
            worker.advance()
        assert kills >= 4
        assert installation.result() == undisturbed


NEVER = 10**9  # statements


def _moment(chance: random.Random) -> int:
    """Early in a step, somewhere in a long one, or not this time."""
    return chance.choice((chance.randrange(8), chance.randrange(60), NEVER))


class Killed(BaseException):
    """Stands for `kill -9`: nothing in the program may catch it and go on."""


@contextmanager
def _killed_after(database: Database, statements: int) -> Iterator[None]:
    """The transaction dies before its n-th statement."""
    left = [statements]

    def count(*_: Any) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1

    event.listen(database.engine, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(database.engine, "before_cursor_execute", count)
