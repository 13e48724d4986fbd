"""What every database behind the store must do; a subclass supplies the `database` fixture."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from services.common.db.models import Finalist, Job, Measurement, Supernet, Trial
from services.common.db.repositories import (
    ArtifactRepository,
    EventRepository,
    FinalistRepository,
    JobRepository,
    MeasurementRepository,
    SearchRepository,
    SupernetRepository,
    TrialRepository,
)
from services.common.db.repositories.job_base import checkpoint_owner
from services.common.db.session import Database
from services.common.db.states import FinalistRole, JobKind, ReleaseKind, SearchState, Stage, WorkState
from services.common.errors import (
    ConflictError,
    IncompleteJobError,
    InvalidRequestError,
    NotFoundError,
    ResultConflictError,
    StaleAttemptError,
)
from tests.support import stores
from tests.support.stores import Rows, success


def late_calls(jobs: JobRepository, job_id: int) -> dict[str, Callable[[], object]]:
    """What a worker whose first attempt was taken away may still send."""
    return {
        "heartbeat": lambda: jobs.heartbeat(job_id, 1, {}, 1),
        "checkpoint": lambda: jobs.save_checkpoint(job_id, 1, stores.digest_of("weights"), 5),
        "done": lambda: jobs.done(job_id, 1, WorkState.FAILED, {}, "broken"),
        "release": lambda: jobs.release(job_id, 1, ReleaseKind.CRASH),
    }


class StoreContract:
    @pytest.fixture
    def rows(self, database: Database) -> Rows:
        with database.write_session() as session:
            return stores.new_rows(session)

    @pytest.fixture
    def worker(self, database: Database) -> int:
        with database.write_session() as session:
            return stores.new_worker(session)

    def claim(self, database: Database, worker: int) -> Job:
        with database.write_session() as session:
            job = JobRepository(session).claim(worker, "cpu", [])
        assert job is not None
        return job

    def evaluation(self, database: Database, rows: Rows, count: int) -> tuple[int, list[int]]:
        with database.write_session() as session:
            return stores.new_evaluation(session, rows, count)

    def trial(self, database: Database, trial_id: int) -> Trial:
        with database.read_session() as session:
            return TrialRepository(session).get(trial_id)

    def job(self, database: Database, job_id: int) -> Job:
        with database.read_session() as session:
            return JobRepository(session).get(job_id)

    def event_kinds(self, database: Database, search_id: int) -> list[str]:
        with database.read_session() as session:
            return [event.kind for event in EventRepository(session).of_search(search_id, limit=1000)]

    # -- claims ---------------------------------------------------------------------------------------------

    def test_claim_takes_a_job_once_and_counts_the_attempt(self, database: Database, rows: Rows, worker: int) -> None:
        job_id, trials = self.evaluation(database, rows, 2)
        with database.write_session() as session:
            other = stores.new_worker(session, "worker-1")
        job = self.claim(database, worker)
        assert (job.id, job.attempt, job.state, job.worker_id) == (job_id, 1, WorkState.RUNNING, worker)
        assert {self.trial(database, trial).state for trial in trials} == {WorkState.RUNNING}
        with database.write_session() as session:
            assert JobRepository(session).claim(other, "cpu", []) is None

    def test_many_workers_at_once_never_share_a_job(self, database: Database, rows: Rows) -> None:
        with database.write_session() as session:
            for first in range(0, 12, 2):
                stores.new_evaluation(session, rows, 2, first=first)
            workers = [stores.new_worker(session, f"worker-{index}") for index in range(8)]

        def claim(worker_id: int) -> int | None:
            with database.write_session() as session:
                job = JobRepository(session).claim(worker_id, "cpu", [])
                return None if job is None else job.id

        with ThreadPoolExecutor(max_workers=8) as pool:
            claimed = [job_id for job_id in pool.map(claim, workers) if job_id is not None]
        assert len(claimed) == len(set(claimed)) == 6

    def test_claim_prefers_priority_then_fair_share_then_what_is_resident(self, database: Database) -> None:
        with database.write_session() as session:
            first, second = stores.new_rows(session, "first"), stores.new_rows(session, "second")
            jobs = JobRepository(session)

            def create(rows: Rows, purpose: str, priority: int = 0, resident: str | None = None) -> int:
                return jobs.create(
                    rows.search_id, JobKind.EVALUATE, purpose, {}, priority=priority, resident=resident
                ).id

            plain = create(first, "plain")
            held = create(first, "held", resident="e" * 64)
            other_search = create(second, "other search")
            urgent = create(first, "urgent", priority=9)
            gpu = jobs.create(first.search_id, JobKind.EVALUATE, "gpu", {}, priority=99, device_class="cuda").id
            order = []
            for index in range(4):
                job = jobs.claim(stores.new_worker(session, f"worker-{index}"), "cpu", ["e" * 64])
                assert job is not None
                order.append(job.id)
            assert order == [urgent, other_search, held, plain]
            assert jobs.claim(stores.new_worker(session, "cpu"), "cpu", []) is None
            on_gpu = jobs.claim(stores.new_worker(session, "gpu"), "cuda", [])
            assert on_gpu is not None
            assert on_gpu.id == gpu

    def test_a_claim_whose_reply_was_lost_goes_back_uncharged(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        job_id, trials = self.evaluation(database, rows, 3)
        self.claim(database, worker)
        again = self.claim(database, worker)
        assert (again.id, again.attempt) == (job_id, 2)
        with database.read_session() as session:
            assert len(TrialRepository(session).open_of_job(job_id)) == len(trials)
            assert [a.outcome for a in JobRepository(session).attempts(job_id)] == ["graceful", None]

    def test_a_purpose_makes_one_job(self, database: Database, rows: Rows) -> None:
        with database.write_session() as session:
            jobs = JobRepository(session)
            first = jobs.create(rows.search_id, JobKind.CHECK_DATASET, "check", {"a": 1})
            assert jobs.create(rows.search_id, JobKind.CHECK_DATASET, "check", {"a": 2}).id == first.id

    def test_a_trial_held_by_an_open_job_is_not_given_to_another(self, database: Database, rows: Rows) -> None:
        _, trials = self.evaluation(database, rows, 2)
        with pytest.raises(ConflictError, match="only 0 of them are free"), database.write_session() as session:
            JobRepository(session).create(rows.search_id, JobKind.EVALUATE, "again", {}, trials=trials)
        with database.read_session() as session:
            assert len(JobRepository(session).of_search(rows.search_id)) == 1

    # -- heartbeats and results --------------------------------------------------------------------------------

    def test_a_heartbeat_renews_the_lease_and_shows_progress(self, database: Database, rows: Rows, worker: int) -> None:
        self.evaluation(database, rows, 1)
        job = self.claim(database, worker)
        with database.write_session() as session:
            stores.expire_lease(session, job.id)
            before = stores.revision(session, rows.search_id)
            reply = JobRepository(session, lease_seconds=30).heartbeat(job.id, 1, {"epoch": 3}, 7)
            assert (reply.cancel, reply.lease_seconds) == (False, 30)
            assert JobRepository(session).reap() == []
        with database.read_session() as session:
            assert stores.revision(session, rows.search_id) > before
        assert self.job(database, job.id).progress == {"epoch": 3, "counter": 7}

    def test_a_result_lands_with_its_measurements(self, database: Database, rows: Rows, worker: int) -> None:
        _, trials = self.evaluation(database, rows, 2)
        job = self.claim(database, worker)
        with database.write_session() as session:
            assert JobRepository(session).land_result(job.id, 1, trials[0], success(0.25)) == "accepted"
        trial = self.trial(database, trials[0])
        assert (trial.state, trial.value, trial.seconds) == (WorkState.SUCCEEDED, 0.25, {"evaluate": 1.5})
        with database.read_session() as session:
            (row,) = MeasurementRepository(session).of_trials(trials)[trials[0]]
        assert (row.value, row.attempt, row.job_id) == (0.25, 1, job.id)
        assert (row.dataset_version_id, row.supernet_digest) == (rows.dataset_version_id, "e" * 64)
        assert row.protocol_hash == "p" * 64

    def test_the_same_result_again_is_success_and_counts_once(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        _, trials = self.evaluation(database, rows, 1)
        job = self.claim(database, worker)
        for expected in ("accepted", "repeated", "repeated"):
            with database.write_session() as session:
                assert JobRepository(session).land_result(job.id, 1, trials[0], success()) == expected
        with database.read_session() as session:
            assert len(session.scalars(select(Measurement)).all()) == 1

    def test_another_result_is_refused_and_audited(self, database: Database, rows: Rows, worker: int) -> None:
        _, trials = self.evaluation(database, rows, 1)
        job = self.claim(database, worker)
        with database.write_session() as session:
            JobRepository(session).land_result(job.id, 1, trials[0], success(0.5))
        with pytest.raises(ResultConflictError), database.write_session() as session:
            JobRepository(session).land_result(job.id, 1, trials[0], success(0.6))
        assert self.trial(database, trials[0]).value == 0.5
        assert "result.refused" in self.event_kinds(database, rows.search_id)

    def test_a_late_result_of_an_older_attempt_is_refused_and_audited(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        job_id, trials = self.evaluation(database, rows, 1)
        self.claim(database, worker)
        with database.write_session() as session:
            stores.expire_lease(session, job_id)
            assert JobRepository(session).reap() == [job_id]
        assert self.claim(database, worker).attempt == 2
        with pytest.raises(StaleAttemptError, match="attempt 2 holds it"), database.write_session() as session:
            JobRepository(session).land_result(job_id, 1, trials[0], success())
        assert self.trial(database, trials[0]).state is WorkState.RUNNING
        assert self.event_kinds(database, rows.search_id).count("result.refused") == 1
        with database.read_session() as session:
            assert session.scalars(select(Measurement)).all() == []

    @pytest.mark.parametrize("what", ["heartbeat", "checkpoint", "done", "release"])
    def test_nothing_of_an_older_attempt_is_taken(self, database: Database, rows: Rows, worker: int, what: str) -> None:
        job_id, _ = self.evaluation(database, rows, 1)
        self.claim(database, worker)
        with database.write_session() as session:
            stores.expire_lease(session, job_id)
            JobRepository(session).reap()
            stores.uploaded(session, rows.owner, "weights")
        self.claim(database, worker)
        with pytest.raises(StaleAttemptError), database.write_session() as session:
            late_calls(JobRepository(session), job_id)[what]()
        job = self.job(database, job_id)
        assert (job.state, job.attempt, job.checkpoint) == (WorkState.RUNNING, 2, None)

    @pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
    def test_a_success_without_a_finite_value_is_refused(
        self, database: Database, rows: Rows, worker: int, value: float | None
    ) -> None:
        _, trials = self.evaluation(database, rows, 1)
        job = self.claim(database, worker)
        payload = {**success(), "value": value, "measurements": []}
        with pytest.raises((InvalidRequestError, ValueError)), database.write_session() as session:
            JobRepository(session).land_result(job.id, 1, trials[0], payload)
        assert self.trial(database, trials[0]).state is WorkState.RUNNING

    def test_a_list_is_done_only_when_each_trial_has_a_result(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        job_id, trials = self.evaluation(database, rows, 2)
        self.claim(database, worker)
        with database.write_session() as session:
            JobRepository(session).land_result(job_id, 1, trials[0], success())
        with pytest.raises(IncompleteJobError, match="1 of its trials"), database.write_session() as session:
            JobRepository(session).done(job_id, 1, WorkState.SUCCEEDED, {})
        with database.write_session() as session:
            JobRepository(session).land_result(job_id, 1, trials[1], success())
            JobRepository(session).done(job_id, 1, WorkState.SUCCEEDED, {})
        assert self.job(database, job_id).state is WorkState.SUCCEEDED

    def test_a_failed_list_takes_its_unfinished_trials_along(self, database: Database, rows: Rows, worker: int) -> None:
        job_id, trials = self.evaluation(database, rows, 2)
        self.claim(database, worker)
        with database.write_session() as session:
            JobRepository(session).land_result(job_id, 1, trials[0], success())
            JobRepository(session).done(job_id, 1, WorkState.FAILED, {}, "picture 3.png has changed")
        assert self.trial(database, trials[0]).state is WorkState.SUCCEEDED
        left = self.trial(database, trials[1])
        assert (left.state, left.reason) == (WorkState.FAILED, "picture 3.png has changed")

    def test_done_again_is_success_and_another_end_is_refused(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        job_id, _ = self.evaluation(database, rows, 1)
        self.claim(database, worker)
        for _ in range(2):
            with database.write_session() as session:
                job = JobRepository(session).done(job_id, 1, WorkState.INFEASIBLE, {}, "out of memory")
                assert job.state is WorkState.INFEASIBLE
        with pytest.raises(ResultConflictError), database.write_session() as session:
            JobRepository(session).done(job_id, 1, WorkState.FAILED, {}, "something else")
        assert self.event_kinds(database, rows.search_id).count("job.ended") == 1

    # -- recovery -----------------------------------------------------------------------------------------------

    def test_a_graceful_release_is_free_and_keeps_the_list_whole(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        job_id, trials = self.evaluation(database, rows, 4)
        for attempt in range(1, 8):
            self.claim(database, worker)
            with database.write_session() as session:
                JobRepository(session).release(job_id, attempt, ReleaseKind.GRACEFUL, "stopping")
        with database.read_session() as session:
            assert len(JobRepository(session).of_search(rows.search_id)) == 1
            assert [t.id for t in TrialRepository(session).open_of_job(job_id)] == trials
        assert self.job(database, job_id).charged == 0

    def test_a_crashing_list_is_halved_until_the_culprit_is_alone(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        """Trial 5 of 8 kills its executor: it alone is charged, and all others get their results."""
        _, trials = self.evaluation(database, rows, 8)
        culprit, crashes = trials[5], 0
        for _ in range(30):  # one for each list that there can be, and some more
            with database.write_session() as session:
                jobs = JobRepository(session, max_crashes=3)
                job = jobs.claim(worker, "cpu", [])
                if job is None:
                    break
                held = [trial.id for trial in TrialRepository(session).open_of_job(job.id)]
                for trial_id in held[: held.index(culprit)] if culprit in held else held:
                    jobs.land_result(job.id, job.attempt, trial_id, success())
                if culprit in held:
                    crashes += 1
                    jobs.release(job.id, job.attempt, ReleaseKind.CRASH, "killed by signal 9")
                else:
                    jobs.done(job.id, job.attempt, WorkState.SUCCEEDED, {})
        states = [self.trial(database, trial).state for trial in trials]
        assert states.count(WorkState.SUCCEEDED) == 7
        blamed = self.trial(database, culprit)
        assert (blamed.state, blamed.crashes) == (WorkState.FAILED, 3)
        assert blamed.reason is not None
        assert "3 attempts" in blamed.reason
        assert "signal 9" in blamed.reason
        assert sum(self.trial(database, trial).crashes for trial in trials) == 3
        assert crashes <= 3 + 3  # halvings of 8, then alone
        assert "job.split" in self.event_kinds(database, rows.search_id)

    def test_an_expired_lease_is_requeued_once_by_two_reapers(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        job_id, _ = self.evaluation(database, rows, 1)
        self.claim(database, worker)
        with database.write_session() as session:
            stores.expire_lease(session, job_id)

        def reap(_index: int) -> list[int]:
            with database.write_session() as session:
                return JobRepository(session).reap()

        with ThreadPoolExecutor(max_workers=2) as pool:
            reaped = sorted(pool.map(reap, range(2)))
        assert reaped == [[], [job_id]]
        job = self.job(database, job_id)
        assert (job.state, job.charged) == (WorkState.QUEUED, 1)
        with database.read_session() as session:
            assert [a.outcome for a in JobRepository(session).attempts(job_id)] == ["lease_expired"]

    def test_a_trial_nobody_brings_back_is_lost_not_failed(self, database: Database, rows: Rows, worker: int) -> None:
        job_id, (trial_id,) = self.evaluation(database, rows, 1)
        for _ in range(3):
            self.claim(database, worker)
            with database.write_session() as session:
                stores.expire_lease(session, job_id)
                JobRepository(session).reap()
        trial, job = self.trial(database, trial_id), self.job(database, job_id)
        assert trial.state is job.state is WorkState.LOST
        assert trial.reason is not None
        assert "(1, 2, 3)" in trial.reason

    def test_a_death_after_the_last_result_ends_the_job_as_succeeded(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        job_id, (trial_id,) = self.evaluation(database, rows, 1)
        self.claim(database, worker)
        with database.write_session() as session:
            JobRepository(session).land_result(job_id, 1, trial_id, success())
            JobRepository(session).release(job_id, 1, ReleaseKind.CRASH)
        assert self.job(database, job_id).state is WorkState.SUCCEEDED
        assert self.trial(database, trial_id).crashes == 0

    def test_a_new_incarnation_frees_what_the_old_one_held(self, database: Database, rows: Rows, worker: int) -> None:
        job_id, _ = self.evaluation(database, rows, 2)
        self.claim(database, worker)
        with database.write_session() as session:
            assert stores.new_worker(session, incarnation="b") == worker
            assert JobRepository(session).get(job_id).state is WorkState.QUEUED
            stores.new_worker(session, incarnation="b")  # registering again changes nothing

    def test_a_new_start_of_the_platform_frees_its_jobs_and_charges_nobody(
        self, database: Database, rows: Rows
    ) -> None:
        job_id, trials = self.evaluation(database, rows, 1)
        with database.write_session() as session:
            worker = stores.new_worker(session, name="of the platform", platform="first start")
        for _ in range(5):  # more often than a job may crash
            self.claim(database, worker)
            with database.write_session() as session:
                assert JobRepository(session).release_other_platforms("first start") == 0
                assert JobRepository(session).release_other_platforms("second start") == 1
        assert self.job(database, job_id).state is WorkState.QUEUED
        assert self.job(database, job_id).charged == 0
        assert self.trial(database, trials[0]).crashes == 0

    # -- training jobs --------------------------------------------------------------------------------------------

    def training(self, database: Database, rows: Rows) -> int:
        with database.write_session() as session:
            return (
                JobRepository(session)
                .create(rows.search_id, JobKind.TRAIN_SUPERNET, "supernet", {}, supernet_id=rows.supernet_id)
                .id
            )

    def supernet(self, database: Database, rows: Rows) -> Supernet:
        with database.read_session() as session:
            return SupernetRepository(session).get(rows.supernet_id)

    def test_a_checkpoint_that_advances_clears_the_charges(self, database: Database, rows: Rows, worker: int) -> None:
        job_id = self.training(database, rows)
        for attempt in range(1, 6):  # more crashes than are allowed without progress
            self.claim(database, worker)
            with database.write_session() as session:
                digest = stores.uploaded(session, rows.owner, f"checkpoint {attempt}")
                JobRepository(session).save_checkpoint(job_id, attempt, digest, attempt * 10)
                JobRepository(session).release(job_id, attempt, ReleaseKind.CRASH)
        job = self.job(database, job_id)
        assert (job.state, job.charged, job.checkpoint_step) == (WorkState.QUEUED, 1, 50)
        assert self.supernet(database, rows).state is WorkState.QUEUED

    def test_crashes_without_progress_fail_the_job_and_its_supernet(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        job_id = self.training(database, rows)
        for attempt in range(1, 4):
            self.claim(database, worker)
            with database.write_session() as session:
                JobRepository(session).release(job_id, attempt, ReleaseKind.HANG, "no progress for 300 s")
        supernet = self.supernet(database, rows)
        assert self.job(database, job_id).state is supernet.state is WorkState.FAILED
        assert supernet.reason is not None
        assert "no progress for 300 s" in supernet.reason

    def test_a_newer_checkpoint_replaces_the_older_file(self, database: Database, rows: Rows, worker: int) -> None:
        job_id = self.training(database, rows)
        self.claim(database, worker)
        with database.write_session() as session:
            artifacts, jobs = ArtifactRepository(session), JobRepository(session)
            old, new = (stores.uploaded(session, rows.owner, text) for text in ("old", "new"))
            assert artifacts.references(old)[0].startswith("upload:")
            jobs.save_checkpoint(job_id, 1, old, 1)
            assert artifacts.references(old) == [checkpoint_owner(job_id)]
            assert artifacts.unreferenced() == []
            assert not artifacts.forget(old)
            jobs.save_checkpoint(job_id, 1, new, 2)
            assert artifacts.references(old) == []
            assert artifacts.unreferenced() == [old]
            assert artifacts.forget(old)
            assert artifacts.absent([old, new]) == [old]
            with pytest.raises(ConflictError, match="is older"):
                jobs.save_checkpoint(job_id, 1, new, 1)

    def test_a_checkpoint_nobody_uploaded_is_refused(self, database: Database, rows: Rows, worker: int) -> None:
        job_id = self.training(database, rows)
        self.claim(database, worker)
        with pytest.raises(ConflictError, match="send it with PUT"), database.write_session() as session:
            JobRepository(session).save_checkpoint(job_id, 1, "f" * 64, 1)
        assert self.job(database, job_id).checkpoint is None

    def test_done_fills_the_supernet_and_keeps_its_weights(self, database: Database, rows: Rows, worker: int) -> None:
        job_id = self.training(database, rows)
        self.claim(database, worker)
        assert self.supernet(database, rows).state is WorkState.RUNNING
        with database.write_session() as session:
            weights = stores.uploaded(session, rows.owner, "weights")
            result = {"weights": weights, "steps": 10, "losses": [1.0]}
            JobRepository(session).done(job_id, 1, WorkState.SUCCEEDED, result, measurements=[stores.measurement(0.4)])
        supernet = self.supernet(database, rows)
        assert (supernet.state, supernet.weights, supernet.result) == (WorkState.SUCCEEDED, weights, result)
        with database.read_session() as session:
            assert ArtifactRepository(session).references(weights) == [f"supernet:{supernet.id}:weights"]
            (row,) = MeasurementRepository(session).of_supernet(supernet.id)
        assert (row.value, row.dataset_version_id) == (0.4, rows.dataset_version_id)

    def test_done_fills_the_finalist_with_its_measurements(self, database: Database, rows: Rows, worker: int) -> None:
        with database.write_session() as session:
            jobs, finalists = JobRepository(session), FinalistRepository(session)
            finalist, _ = finalists.get_or_create(
                rows.owner,
                rows.search_id,
                FinalistRole.WINNER,
                rank=0,
                seed=1,
                genotype=[1],
                architecture_id="a",
                macs=1,
                params=1,
            )
            job = jobs.create(rows.search_id, JobKind.TRAIN_DETECTOR, "final/winner/0/1", {})
            finalists.set_job(finalist.id, job.id)
        self.claim(database, worker)
        with database.write_session() as session:
            weights = stores.uploaded(session, rows.owner, "weights")
            jobs = JobRepository(session)
            jobs.done(job.id, 1, WorkState.SUCCEEDED, {"weights": weights}, measurements=[stores.measurement(0.4)])
        with database.read_session() as session:
            ended = session.get(Finalist, finalist.id)
            assert ended is not None
            assert (ended.state, ended.weights) == (WorkState.SUCCEEDED, weights)
            assert ended.finished_at is not None
            (row,) = MeasurementRepository(session).of_finalist(finalist.id)
            assert row.architecture_id == "a"

    def test_a_dataset_check_makes_one_version(self, database: Database, rows: Rows, worker: int) -> None:
        versions = []
        for number in range(2):
            with database.write_session() as session:
                jobs = JobRepository(session)
                job = jobs.create(rows.search_id, JobKind.CHECK_DATASET, f"check-{number}", {"dataset": "cells"})
                claimed = jobs.claim(worker, "cpu", [])
                assert claimed is not None
                result = {
                    "digest": "d" * 64,
                    "manifest": stores.uploaded(session, rows.owner, "manifest"),
                    "class_names": ["a"],
                    "splits": {"train": 1},
                    "split_names": {"search": "val"},
                    "report": {"defects": []},
                }
                jobs.done(job.id, 1, WorkState.SUCCEEDED, result)
                ended = jobs.get(job.id)
                assert ended.result is not None
                versions.append(ended.result["dataset_version_id"])
        assert versions[0] == versions[1] != rows.dataset_version_id

    def test_a_success_without_its_weights_is_refused(self, database: Database, rows: Rows, worker: int) -> None:
        job_id = self.training(database, rows)
        self.claim(database, worker)
        with pytest.raises(InvalidRequestError, match="weights"), database.write_session() as session:
            JobRepository(session).done(job_id, 1, WorkState.SUCCEEDED, {"steps": 3})
        assert self.job(database, job_id).state is WorkState.RUNNING

    # -- ends of searches ---------------------------------------------------------------------------------------------

    def test_cancel_ends_queued_work_and_asks_running_work_to_stop(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        running_job, running = self.evaluation(database, rows, 2)
        self.claim(database, worker)
        with database.write_session() as session:
            queued_job, queued = stores.new_evaluation(session, rows, 2, first=2)
            JobRepository(session).cancel_search(rows.search_id)
        assert self.job(database, queued_job).state is WorkState.CANCELLED
        assert {self.trial(database, trial).state for trial in queued} == {WorkState.CANCELLED}
        with database.write_session() as session:
            jobs = JobRepository(session)
            assert jobs.heartbeat(running_job, 1, {}, 1).cancel is True
            jobs.land_result(running_job, 1, running[0], success())
            jobs.release(running_job, 1, ReleaseKind.GRACEFUL)
            assert jobs.claim(worker, "cpu", []) is None
        assert self.job(database, running_job).state is WorkState.CANCELLED
        assert self.trial(database, running[0]).state is WorkState.SUCCEEDED
        assert self.trial(database, running[1]).state is WorkState.CANCELLED

    def test_cancel_again_is_fine_and_an_ended_search_is_not_cancelled(self, database: Database, rows: Rows) -> None:
        with database.write_session() as session:
            other = stores.new_search(session, rows.owner, rows.dataset_id)
            jobs = JobRepository(session)
            assert jobs.cancel_search(rows.search_id).state is SearchState.CANCELLED
            assert jobs.cancel_search(rows.search_id).state is SearchState.CANCELLED
            assert SearchRepository(session).succeed(other) is True
            with pytest.raises(ConflictError, match="only a running search"):
                jobs.cancel_search(other)
            with pytest.raises(NotFoundError):
                jobs.cancel_search(10_000)

    def test_a_supernet_that_another_search_waits_for_is_trained_on(self, database: Database, rows: Rows) -> None:
        job_id = self.training(database, rows)
        with database.write_session() as session:
            other = stores.new_search(session, rows.owner, rows.dataset_id)
            SearchRepository(session).set(other, supernet_id=rows.supernet_id)
            JobRepository(session).cancel_search(rows.search_id)
        assert self.job(database, job_id).state is WorkState.QUEUED
        with database.write_session() as session:
            JobRepository(session).cancel_search(other)
        assert self.job(database, job_id).state is WorkState.CANCELLED  # nobody needs it any more

    def test_stages_leave_times_and_events(self, database: Database, rows: Rows) -> None:
        with database.write_session() as session:
            searches = SearchRepository(session)
            searches.begin_stage(rows.search_id, Stage.SUPERNET)
            search = searches.get(rows.search_id)
            assert search.stage is Stage.SUPERNET
            assert None not in search.stage_times["check"]
            assert search.stage_times["supernet"][1] is None
        assert self.event_kinds(database, rows.search_id).count("stage.entered") == 2

    def test_every_change_that_shows_raises_the_revision(self, database: Database, rows: Rows, worker: int) -> None:
        """Written when a transaction settles: whoever looks in between sees the old one with the old rows."""
        job_id, trials = self.evaluation(database, rows, 2)
        changes: list[Callable[[JobRepository], object]] = [
            lambda jobs: jobs.claim(worker, "cpu", []),
            lambda jobs: jobs.heartbeat(job_id, 1, {"step": 1}, 1),
            lambda jobs: jobs.land_result(job_id, 1, trials[0], success()),
            lambda jobs: jobs.release(job_id, 1, ReleaseKind.GRACEFUL),
            lambda jobs: jobs.cancel_search(rows.search_id),
        ]
        revisions = []
        for change in changes:
            with database.write_session() as session:
                revisions.append(stores.revision(session, rows.search_id))
                change(JobRepository(session))
        with database.read_session() as session:
            revisions.append(stores.revision(session, rows.search_id))
        assert revisions == sorted(set(revisions))

    def test_the_log_keeps_its_end_and_may_come_late(self, database: Database, rows: Rows, worker: int) -> None:
        job_id, _ = self.evaluation(database, rows, 1)
        self.claim(database, worker)
        with database.write_session() as session:
            jobs = JobRepository(session)
            jobs.release(job_id, 1, ReleaseKind.CRASH)
            jobs.write_log(job_id, 1, "x" * 100 + "\u00e9\x00 the end", limit=20)
            (attempt,) = jobs.attempts(job_id)
            assert attempt.log.endswith("\u00e9\ufffd the end")
            assert len(attempt.log.encode()) <= 20
            with pytest.raises(NotFoundError):
                jobs.write_log(job_id, 2, "no such attempt")
