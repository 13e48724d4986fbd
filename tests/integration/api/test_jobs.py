"""The worker's side: claims, results, ends and late words."""

from __future__ import annotations

from typing import Any

import pytest

from services.common.db.states import JobKind
from services.common.settings import PROTOCOL
from tests.support import stores
from tests.support.api_platform import Platform, claim, evaluation, register


def result(trial: int, value: float = 0.5, attempt: int = 1) -> dict[str, Any]:
    return {"attempt": attempt, "trial": trial, **stores.success(value)}


class TestWorkers:
    def test_another_protocol_is_426_with_a_sentence(self, platform: Platform) -> None:
        body = {
            "name": "worker-0",
            "incarnation": "a",
            "protocol": PROTOCOL + 1,
            "device_class": "cpu",
            "device_name": "x",
        }
        response = platform.worker.post("/v1/workers", json=body)
        assert response.status_code == 426
        assert "same nasdet version" in response.json()["detail"]
        assert platform.user.get("/v1/workers").json()["items"] == []

    def test_an_older_incarnation_gets_no_more_jobs(self, platform: Platform) -> None:
        evaluation(platform, 1)
        worker = register(platform, incarnation="old")
        assert register(platform, incarnation="new") == worker
        body = {"worker": worker, "incarnation": "old", "device_class": "cpu", "protocol": PROTOCOL}
        response = platform.worker.post("/v1/jobs/claim", json=body)
        assert response.status_code == 409
        assert claim(platform, worker, "new") is not None

    def test_workers_are_listed_with_when_they_were_seen(self, platform: Platform, worker_id: int) -> None:
        (worker,) = platform.user.get("/v1/workers").json()["items"]
        assert (worker["id"], worker["name"]) == (worker_id, "worker-0")
        assert 0 <= worker["seconds_since_seen"] < 60


class TestJobs:
    def test_a_list_from_claim_to_done(self, platform: Platform, worker_id: int) -> None:
        _, job_id, trials = evaluation(platform, 2)
        job = claim(platform, worker_id)
        assert job is not None
        assert (job["id"], job["kind"], job["attempt"], job["lease_seconds"]) == (job_id, "evaluate", 1, 30)
        assert [trial["id"] for trial in job["trials"]] == trials
        assert job["trials"][1] == {"id": trials[1], "number": 1, "genotype": [1, 1]}
        beat = {"attempt": 1, "counter": 3, "progress": {"stage": "evaluate"}, "log": "working"}
        assert platform.worker.post(f"/v1/jobs/{job_id}/heartbeat", json=beat).json()["cancel"] is False
        for trial in trials:
            assert platform.worker.post(f"/v1/jobs/{job_id}/results", json=result(trial)).status_code == 200
        done = {"attempt": 1, "outcome": "succeeded", "result": {"trials": 2}, "reason": None}
        for _ in range(2):  # the reply may be lost
            assert platform.worker.post(f"/v1/jobs/{job_id}/done", json=done).json()["state"] == "succeeded"
        assert claim(platform, worker_id) is None
        shown = platform.user.get(f"/v1/jobs/{job_id}").json()
        assert shown["attempts"][0]["outcome"] == "succeeded"
        assert platform.user.get(f"/v1/jobs/{job_id}/log").text == "working"
        assert [job["id"] for job in platform.user.get("/v1/jobs?search=1").json()["items"]] == [job_id]

    def test_a_repeated_result_is_success_and_another_one_409(self, platform: Platform, worker_id: int) -> None:
        _, job_id, trials = evaluation(platform, 1)
        claim(platform, worker_id)
        path = f"/v1/jobs/{job_id}/results"
        assert platform.worker.post(path, json=result(trials[0])).json() == {"status": "accepted"}
        assert platform.worker.post(path, json=result(trials[0])).json() == {"status": "repeated"}
        other = platform.worker.post(path, json=result(trials[0], 0.6))
        assert (other.status_code, other.json()["type"]) == (409, "urn:nasdet:problem:result-conflict")

    def test_late_words_of_an_older_attempt_are_409_and_audited(self, platform: Platform, worker_id: int) -> None:
        _, job_id, trials = evaluation(platform, 1)
        claim(platform, worker_id)
        with platform.api.database.write_session() as session:
            stores.expire_lease(session, job_id)
            assert platform.api.jobs(session).reap() == [job_id]
        assert claim(platform, register(platform, "worker-1")) is not None
        late = platform.worker.post(f"/v1/jobs/{job_id}/results", json=result(trials[0]))
        assert (late.status_code, late.json()["type"]) == (409, "urn:nasdet:problem:stale-attempt")
        events = platform.user.get("/v1/searches/1/events?limit=500").json()["items"]
        refused = [event for event in events if event["kind"] == "result.refused"]
        assert [(event["job"], event["attempt"], event["trial"]) for event in refused] == [(job_id, 1, trials[0])]
        # The log still belongs to its attempt.
        log = {"attempt": 1, "text": "Traceback of the first attempt"}
        assert platform.worker.post(f"/v1/jobs/{job_id}/log", json=log).status_code == 204
        assert "first attempt" in platform.user.get(f"/v1/jobs/{job_id}/log?attempt=1").text
        assert platform.user.get(f"/v1/jobs/{job_id}/log?attempt=9").status_code == 404

    def test_a_release_requeues_and_keeps_the_log(self, platform: Platform, worker_id: int) -> None:
        _, job_id, _ = evaluation(platform, 2)
        claim(platform, worker_id)
        body = {"attempt": 1, "kind": "crash", "reason": "signal 9", "log": "x" * 70_000 + "the end"}
        for _ in range(2):  # sent again after a lost reply
            response = platform.worker.post(f"/v1/jobs/{job_id}/release", json=body)
            assert (response.status_code, response.json()["state"]) == (200, "queued")
        log = platform.user.get(f"/v1/jobs/{job_id}/log").text
        assert len(log) == 65536
        assert log.endswith("the end")
        assert len(platform.user.get("/v1/jobs").json()["items"]) == 2  # halved

    def test_done_without_all_results_is_refused(self, platform: Platform, worker_id: int) -> None:
        _, job_id, _ = evaluation(platform, 2)
        claim(platform, worker_id)
        response = platform.worker.post(
            f"/v1/jobs/{job_id}/done", json={"attempt": 1, "outcome": "succeeded", "result": {}}
        )
        assert (response.status_code, response.json()["type"]) == (409, "urn:nasdet:problem:incomplete-job")

    @pytest.mark.parametrize(
        "change",
        [
            {"value": None},
            {"value": "0.5"},
            {"state": "running"},
            {"attempt": 0},
            {"attempt": True},
            {"extra": 1},
            {"trial": 2**70},
            {"measurements": [{"metric": "box_map"}]},
            {"reason": "x" * 30_000},
        ],
    )
    def test_a_malformed_result_is_422_and_changes_nothing(
        self, platform: Platform, worker_id: int, change: dict[str, Any]
    ) -> None:
        _, job_id, trials = evaluation(platform, 1)
        claim(platform, worker_id)
        response = platform.worker.post(f"/v1/jobs/{job_id}/results", json={**result(trials[0]), **change})
        assert response.status_code == 422, response.text
        (trial,) = platform.user.get("/v1/searches/1/trials").json()["items"]
        assert trial["state"] == "running"

    def test_an_unknown_job_is_404(self, platform: Platform) -> None:
        for path, body in [
            ("heartbeat", {"attempt": 1, "counter": 1}),
            ("results", result(1)),
            ("done", {"attempt": 1, "outcome": "failed"}),
            ("release", {"attempt": 1, "kind": "graceful"}),
            ("log", {"attempt": 1, "text": ""}),
        ]:
            assert platform.worker.post(f"/v1/jobs/5/{path}", json=body).status_code == 404

    def test_a_training_job_resumes_from_its_checkpoint(self, platform: Platform, worker_id: int) -> None:
        with platform.api.database.write_session() as session:
            rows = stores.new_rows(session)
            job = platform.api.jobs(session).create(
                rows.search_id, JobKind.TRAIN_SUPERNET, "supernet", {"role": "x"}, supernet_id=rows.supernet_id
            )
        claim(platform, worker_id)
        digest = stores.digest_of("state")
        assert platform.worker.put(f"/v1/artifacts/{digest}", content=b"state").status_code == 201
        saved = {"attempt": 1, "digest": digest, "step": 40}
        assert platform.worker.post(f"/v1/jobs/{job.id}/checkpoint", json=saved).status_code == 204
        platform.worker.post(f"/v1/jobs/{job.id}/release", json={"attempt": 1, "kind": "graceful"})
        again = claim(platform, worker_id)
        assert again is not None
        assert (again["attempt"], again["checkpoint"], again["checkpoint_step"]) == (2, digest, 40)
        weights = stores.digest_of("weights")
        platform.worker.put(f"/v1/artifacts/{weights}", content=b"weights")
        done = {"attempt": 2, "outcome": "succeeded", "result": {"weights": weights, "steps": 80}}
        assert platform.worker.post(f"/v1/jobs/{job.id}/done", json=done).status_code == 200
        assert platform.api.collector.collect() in ([], [digest])  # the collector's thread may have been first
        assert platform.worker.get(f"/v1/artifacts/{digest}").status_code == 404
        assert platform.worker.get(f"/v1/artifacts/{weights}").content == b"weights"
