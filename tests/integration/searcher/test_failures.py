"""How a search ends, or goes on, when part of it fails; and what two searches share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from services.common.db.models import Job, JobAttempt, JsonDict, Search
from services.common.db.repositories import EventRepository, JobRepository, SupernetRepository
from services.common.db.states import JobKind, SearchState, Stage, WorkState
from services.common.settings import SearcherSettings
from services.searcher.main import STEP_FAILURES, Searcher
from tests.support.searches import SPEC, FakeWorker, Installation

# What a step makes of a failure is the same on each database (tests/contracts); the second one costs two minutes.
EACH_STORE = ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)]
pytestmark = [pytest.mark.integration, pytest.mark.parametrize("store", EACH_STORE, indirect=True)]
NewInstallation = Callable[[], Installation]


SMALL: JsonDict = {
    "search": {**SPEC["search"], "population": 4, "generations": 2},
    "final": {"epochs": 1, "seeds": 1},
}


def submit(installation: Installation, **changes: Any) -> int:
    """A search of few candidates and one seed."""
    return installation.submit(**{**SMALL, **changes})


def breaks(*purposes: str) -> Callable[[Job], str | None]:
    """Jobs whose purpose begins like one of these fail."""
    return lambda job: "made to fail" if job.purpose.startswith(purposes) else None


class TestFatal:
    @pytest.mark.parametrize(
        ("purpose", "reason"),
        [
            ("check", "the check of dataset 'cells' ended as failed: made to fail"),
            ("supernet", "the training of the supernet ended as failed: made to fail"),
            ("evaluate", "none of the 8 candidates could be scored: made to fail"),
            ("final/winner", "no training of a winner succeeded, 1 were tried: made to fail"),
        ],
    )
    def test_the_search_ends_with_the_reason_and_leaves_nothing_open(
        self, installation: Installation, purpose: str, reason: str
    ) -> None:
        submit(installation)
        worker = FakeWorker(installation.database, break_job=breaks(purpose))
        result = installation.run(worker)
        assert (result["search"]["state"], result["search"]["reason"]) == ("failed", reason)
        assert result["verdict"] is None
        assert all(job.state.ended for job in installation.jobs())

    def test_a_limit_that_the_real_number_of_classes_breaks_is_found_at_the_check(
        self, installation: Installation
    ) -> None:
        limit = {"metric": "params", "max": 902_500}  # in reach with one class, not with the dataset's three
        submit(installation, limits=[limit])
        reason = installation.run()["search"]["reason"]
        assert "with 3 classes: limits.0: nothing satisfies the limit params" in reason

    def test_too_few_pictures_for_an_exponential_average_are_found_at_the_check(
        self, installation: Installation
    ) -> None:
        recalibration = {"average": "exponential", "images": 4000, "batch_size": 8}
        submit(installation, evaluation={"recalibration": recalibration})
        reason = installation.run()["search"]["reason"]
        assert reason.startswith(
            "evaluation.recalibration: the train split of dataset 'cells' has 100 pictures, which are 13 batches of 8,"
        )
        assert [job.purpose for job in installation.jobs()] == ["check"]

    def test_no_candidate_within_the_limits_ends_the_search_with_the_numbers(self, installation: Installation) -> None:
        tight = {**SPEC["limits"][0], "max": 64_000_000}
        submit(installation, limits=[tight], search={**SMALL["search"], "random_attempts": 20})
        reason = installation.run()["search"]["reason"]
        assert reason.startswith("there is no candidate to begin with: ")
        assert "0 of 20 samples are within the limits" in reason

    def test_a_step_that_fails_again_and_again_ends_the_search_and_not_the_loop(
        self, installation: Installation, tmp_path: Path
    ) -> None:
        submit(installation)
        sound = submit(installation, name="sound")
        with installation.database.write_session() as session:
            session.execute(update(Search).where(Search.id == 1).values(spec={"no": "specification"}))
        searcher = Searcher(installation.database, SearcherSettings(home=tmp_path))
        for _ in range(STEP_FAILURES):
            assert installation.state(1) is SearchState.RUNNING
            searcher.round()
        ended = installation.summary(1)["search"]
        assert ended["state"] == "failed"
        assert "failed 3 times in a row at stage 'check' (SpecificationError: " in ended["reason"]
        with installation.database.read_session() as session:
            kinds = [event.kind for event in EventRepository(session).of_search(1)]
        assert kinds.count("step.failed") == STEP_FAILURES
        assert [job.purpose for job in installation.jobs()] == ["check"]
        assert installation.state(sound) is SearchState.RUNNING


class TestNotFatal:
    @pytest.mark.parametrize("purpose", ["baseline", "final/baseline"])
    def test_without_a_baseline_the_verdict_says_that_nothing_was_compared(
        self, installation: Installation, purpose: str
    ) -> None:
        submit(installation)
        result = installation.run(FakeWorker(installation.database, break_job=breaks(purpose)))
        assert result["search"]["state"] == "succeeded"
        assert result["verdict"].startswith("The baseline could not be trained (made to fail), so the winner")

    def test_a_control_that_fails_is_shown_with_its_reason(self, installation: Installation) -> None:
        submit(installation)
        result = installation.run(FakeWorker(installation.database, break_job=breaks("final/control")))
        assert result["search"]["state"] == "succeeded"
        assert result["control"]["box_map"] is None
        assert {run["reason"] for run in result["control"]["seeds"]} == {"made to fail"}
        assert result["control_verdict"] is None

    def test_one_seed_of_the_winner_that_fails_leaves_the_median_of_the_others(
        self, installation: Installation
    ) -> None:
        submit(installation, final={"epochs": 1, "seeds": 3})
        result = installation.run(FakeWorker(installation.database, break_job=breaks("final/winner/0/1")))
        values = [run["box_map"] for run in result["final"]["seeds"]]
        assert values[1] is None
        assert result["final"]["box_map"] == pytest.approx((values[0] + values[2]) / 2)

    def test_failed_and_infeasible_candidates_are_told_and_the_search_goes_on(
        self, new_installation: NewInstallation
    ) -> None:
        def state(number: int) -> str:
            return {1: "failed", 5: "infeasible"}.get(number, "succeeded")

        results = []
        for workers in (1, 3):
            home = new_installation()
            submit(home)
            crew = [FakeWorker(home.database, f"w{n}", trial_state=state) for n in range(workers)]
            results.append(home.run(*crew))
        assert results[0] == results[1]
        counts = results[0]["trials"]
        assert (counts["succeeded"], counts["failed"], counts["infeasible"]) == (6, 1, 1)

    def test_an_exhausted_space_ends_the_proposals_and_not_the_search(self, installation: Installation) -> None:
        submit(installation, search={"algorithm": "random", "trials": 20, "random_attempts": 8})
        result = installation.run()
        assert result["search"]["state"] == "succeeded"
        assert result["trials"]["exhausted"]
        assert 0 < result["trials"]["succeeded"] < 20


class TestBudget:
    def test_the_search_ends_when_the_device_time_is_spent(self, installation: Installation) -> None:
        submit(installation, budget={"gpu_hours": 1})
        worker = FakeWorker(installation.database)
        installation.run_until(lambda: len(installation.jobs(JobKind.EVALUATE)) >= 1, worker)
        with installation.database.write_session() as session:
            longer = {JobAttempt.created_at: JobAttempt.created_at - 1900.0}
            session.execute(update(JobAttempt).values(longer))  # two of them
        installation.step()
        search = installation.summary()["search"]
        assert search["state"] == "failed"
        assert search["reason"].startswith("the budget of 1 device hours is spent: 1.05")
        assert all(job.state.ended or job.cancel_requested for job in installation.jobs())
        before = len(installation.jobs())
        installation.step()
        assert len(installation.jobs()) == before

    def test_a_budget_that_suffices_changes_nothing(self, installation: Installation) -> None:
        submit(installation, budget={"gpu_hours": 1})
        assert installation.run()["search"]["state"] == "succeeded"


class TestSharedSupernets:
    def _trainings(self, installation: Installation, search_id: int) -> list[str]:
        with installation.database.read_session() as session:
            jobs = JobRepository(session).of_search(search_id)
        return [job.purpose for job in jobs if job.kind is JobKind.TRAIN_SUPERNET]

    def test_a_second_search_reuses_what_the_first_has_trained(self, installation: Installation) -> None:
        submit(installation)
        first = installation.run()
        second_id = submit(installation, name="again")
        second = installation.run()
        assert self._trainings(installation, 1) == ["supernet", "baseline"]
        assert self._trainings(installation, second_id) == []
        assert second["best"] == first["best"]
        assert second["verdict"] == first["verdict"]
        assert second["supernet"] == first["supernet"]

    def test_reuse_never_trains_its_own(self, installation: Installation) -> None:
        submit(installation)
        installation.run()
        second = submit(installation, supernet={**SPEC["supernet"], "reuse": "never"})
        installation.run()
        assert self._trainings(installation, second) == ["supernet", "baseline"]

    def test_a_supernet_is_reused_by_its_number(self, installation: Installation) -> None:
        submit(installation)
        installation.run()
        second = submit(installation, supernet={**SPEC["supernet"], "reuse": 1})
        assert installation.run()["search"]["state"] == "succeeded"
        assert self._trainings(installation, second) == []

    @pytest.mark.parametrize(
        ("number", "changes", "reason"),
        [
            (99, {}, "supernet.reuse: there is no supernet 99; use auto to train one"),
            (2, {}, "its detector is"),
            (
                1,
                {"epochs": 777},
                "supernet.reuse: supernet 1 does not fit, its epochs is 2 where this search says 777; write the "
                "supernet's own recipe or use auto",
            ),
            (
                1,
                {"image_size": [64, 64], "learning_rate": 0.5},
                "its image_size is [96, 128] where this search says [64, 64] and its learning_rate is 0.005 where",
            ),
        ],
    )
    def test_a_number_that_does_not_fit_is_refused(
        self, installation: Installation, number: int, changes: JsonDict, reason: str
    ) -> None:
        submit(installation)
        installation.run_until(lambda: self._stage(installation) is Stage.SEARCH, FakeWorker(installation.database))
        submit(installation, supernet={**SPEC["supernet"], **changes, "reuse": number})
        worker = FakeWorker(installation.database)
        while installation.state() is SearchState.RUNNING:
            installation.step()
            worker.advance()
        assert reason in installation.summary()["search"]["reason"]

    def test_a_training_that_failed_elsewhere_is_tried_again(self, installation: Installation) -> None:
        submit(installation)
        installation.run(FakeWorker(installation.database, break_job=breaks("supernet")))
        submit(installation, name="again")
        assert installation.run()["search"]["state"] == "succeeded"

    def test_a_waiting_search_survives_the_end_of_the_one_that_trains(self, installation: Installation) -> None:
        first = submit(installation)
        worker = FakeWorker(installation.database)
        installation.run_until(lambda: self._stage(installation) is Stage.SUPERNET, worker)
        second = submit(installation, name="waits")
        for _ in range(20):
            installation.step(second)
            if installation.jobs(JobKind.CHECK_DATASET)[0].state is WorkState.SUCCEEDED:
                break
            worker.advance()
        installation.step(second)
        with installation.database.write_session() as session:
            JobRepository(session).cancel_search(first)
        assert installation.run(worker)["search"]["state"] == "succeeded"

    def _stage(self, installation: Installation) -> Stage:
        return Stage(installation.summary()["search"]["stage"])


class TestFinalists:
    def test_the_best_of_several_winners_is_shown_with_a_word_of_doubt(self, installation: Installation) -> None:
        submit(installation, final={"top": 3, "epochs": 1, "seeds": 1})
        result = installation.run()
        assert len(result["finalists"]) == 3
        assert result["final"]["box_map"] == max(entry["box_map"] for entry in result["finalists"])
        assert "It is the best of 3 on test, which flatters it a little." in result["verdict"]
        assert "one seed: the spread over seeds is unknown" in result["verdict"]

    def test_from_scratch_uses_the_other_channel_split_and_no_weights(self, installation: Installation) -> None:
        submit(installation, final={"epochs": 1, "start": "scratch", "control": False})
        result = installation.run()
        jobs = {job.purpose: job.payload for job in installation.jobs(JobKind.TRAIN_DETECTOR)}
        assert set(jobs) == {"final/winner/0/0", "final/baseline/0/0"}
        winner, baseline = jobs["final/winner/0/0"], jobs["final/baseline/0/0"]
        assert winner["start"] is None
        assert winner["space"]["backbone"]["split"] == "even_odd"
        assert baseline["start"]["genotype"] == []
        assert baseline["space"]["backbone"]["split"] == "shuffle"
        assert result["final"]["architecture_id"] != result["best"]["architecture_id"]
        assert result["control"] is None

    def test_the_baseline_is_tuned_while_the_search_goes_on(self, installation: Installation) -> None:
        submit(installation)
        crew = [FakeWorker(installation.database, f"worker-{n}") for n in range(2)]
        installation.run_until(lambda: bool(installation.jobs(JobKind.TRAIN_DETECTOR)), *crew)
        assert installation.summary()["search"]["stage"] == "search"
        assert {job.payload["role"] for job in installation.jobs(JobKind.TRAIN_DETECTOR)} == {"baseline"}

    def test_payloads_carry_everything_that_decides_a_result(self, installation: Installation) -> None:
        submit(installation, final={"epochs": 1, "seeds": 3})
        installation.run()
        with installation.database.read_session() as session:
            weights = SupernetRepository(session).get(1).weights
        for job in installation.jobs():
            if job.kind is JobKind.CHECK_DATASET:
                continue
            common = {"dataset", "dataset_version", "manifest", "class_names", "space", "supernet_recipe", "seed"}
            assert common <= set(job.payload)
            assert job.payload["supernet_recipe"]["epochs"] == 2
        evaluation = installation.jobs(JobKind.EVALUATE)[0].payload
        assert evaluation["supernet_weights"] == weights
        assert evaluation["evaluation"]["recalibration"]["images"] == 128
        winner = next(job.payload for job in installation.jobs() if job.purpose == "final/winner/0/2")
        assert (winner["seed"], winner["role"]) == (2, "winner")
        assert winner["start"]["weights"] == weights
        assert winner["start"]["genotype"] == winner["space"]["backbone"]["genotype"]
        baseline = next(job.payload for job in installation.jobs() if job.purpose == "baseline")
        assert baseline["architecture_id"] == installation.summary()["baseline"]["architecture_id"]
