"""Progress, stopping and checkpoints as a job sees them."""

from __future__ import annotations

import threading

import pytest

from services.worker.checkpoints import CheckpointUploader
from services.worker.errors import ApiRefusedError, JobStoppedError, StaleAttemptError
from services.worker.resident import LastUsed, Resident
from tests.unit.services.worker.recording import RecordingApi, Reports, make_context, make_job


class TestProgress:
    def test_values_stay_until_they_change_and_the_counter_moves(self) -> None:
        reports = Reports()
        context = make_context(make_job(), RecordingApi(), reports=reports)
        context.progress(stage="data")
        context.progress(pictures=8)  # too soon for a message of its own
        context.progress(stage="supernet", loss=2.0)
        assert reports == [(1, {"stage": "data"}), (3, {"stage": "supernet", "pictures": 8, "loss": 2.0})]

    def test_many_ticks_are_few_messages(self) -> None:
        reports = Reports()
        context = make_context(make_job(), RecordingApi(), reports=reports)
        for step in range(10_000):
            context.progress(stage="supernet", step=step)
        assert 1 <= len(reports) < 100

    def test_json_gets_no_infinity(self) -> None:
        reports = Reports()
        make_context(make_job(), RecordingApi(), reports=reports).progress(stage="s", loss=float("nan"))
        assert reports[0][1]["loss"] is None

    def test_a_stopped_job_ends_at_its_next_sign_of_life(self) -> None:
        context = make_context(make_job(), RecordingApi())
        context.stop()
        with pytest.raises(JobStoppedError):
            context.tick()


class TestCheckpoints:
    def test_offering_does_not_wait_and_only_the_newest_waits(self) -> None:
        gate = threading.Event()

        class SlowApi(RecordingApi):
            def put_artifact(self, data: bytes) -> str:
                gate.wait(5)
                return super().put_artifact(data)

        api = SlowApi()
        with CheckpointUploader(make_context(make_job(), api)) as uploader:
            uploader.offer(b"one", 1)
            while uploader._waiting is not None:  # taken by the thread
                pass
            uploader.offer(b"two", 2)
            uploader.offer(b"three", 3)
            gate.set()
            while len(api.checkpoints) < 2:
                pass
        assert [step for step, _ in api.checkpoints] == [1, 3]

    def test_nothing_is_sent_after_the_end(self) -> None:
        api = RecordingApi()
        with CheckpointUploader(make_context(make_job(), api)) as uploader:
            uploader.offer(b"one", 1)
        before = list(api.checkpoints)
        uploader.offer(b"two", 2)
        assert api.checkpoints == before

    def test_a_stale_attempt_ends_the_training(self) -> None:
        context = make_context(make_job(), RecordingApi(refuse=StaleAttemptError("gone", status=409)))
        with CheckpointUploader(context) as uploader:
            uploader.offer(b"one", 1)
            with pytest.raises(StaleAttemptError, match="gone"):  # noqa: PT012 - it comes from the thread, soon
                while True:
                    context.check()

    def test_a_full_disk_costs_the_checkpoint_only(self, capfd: pytest.CaptureFixture[str]) -> None:
        api = RecordingApi(refuse=ApiRefusedError("the disk is full", status=507))
        context = make_context(make_job(), api)
        with CheckpointUploader(context) as uploader:
            uploader.offer(b"one", 1)
            while not api.checkpoints:
                pass
        context.check()
        assert "checkpoint of step 1 was not stored: the disk is full" in capfd.readouterr().err


class TestResident:
    def test_the_one_used_last_stays(self) -> None:
        kept: LastUsed[str] = LastUsed(2)
        built: list[str] = []

        def get(key: str) -> str:
            def build() -> str:
                built.append(key)
                return key

            return kept.get(key, build)

        for key in ("a", "b", "a", "c", "a", "b"):
            assert get(key) == key
        assert built == ["a", "b", "c", "b"]
        assert len(kept) == 2

    def test_hashes_are_named_for_the_next_claim(self) -> None:
        resident = Resident()
        for digest in ("f", "a", "f"):
            resident.note(digest)
        assert resident.hashes() == ["a", "f"]
        resident.clear()
        assert resident.hashes() == []
