"""Workers over HTTP: what people tell them, their goodbye, and one version of their protocol."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI

from services.common.settings import PROTOCOL, PROTOCOL_HEADER
from tests.support.api_platform import Platform, claim, evaluation, register

pytestmark = pytest.mark.integration


def ask(platform: Platform, worker_id: int, incarnation: str = "a") -> dict[str, Any]:
    body = {"worker": worker_id, "incarnation": incarnation, "device_class": "cpu", "protocol": PROTOCOL}
    response = platform.worker.post("/v1/jobs/claim", json=body)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def tell(platform: Platform, worker_id: int, what: str, **body: Any) -> dict[str, Any]:
    response = platform.user.post(f"/v1/workers/{worker_id}/{what}", json=body if what == "drain" else None)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def beat(platform: Platform, job: dict[str, Any]) -> dict[str, Any]:
    body = {"attempt": job["attempt"], "counter": 1}
    response = platform.worker.post(f"/v1/jobs/{job['id']}/heartbeat", json=body)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


class TestToldByPeople:
    def test_a_paused_worker_finishes_and_holds_still_until_it_is_resumed(
        self, platform: Platform, worker_id: int
    ) -> None:
        evaluation(platform, 1)
        job = claim(platform, worker_id)
        assert job is not None
        shown = tell(platform, worker_id, "pause")
        assert (shown["mode"], shown["jobs"]) == ("paused", [job["id"]])
        assert beat(platform, job)["release"] is False
        done = {"attempt": job["attempt"], "outcome": "failed", "reason": "it has to end"}
        assert platform.worker.post(f"/v1/jobs/{job['id']}/done", json=done).status_code == 200
        assert ask(platform, worker_id) == {"job": None, "directive": "hold"}
        tell(platform, worker_id, "resume")
        assert ask(platform, worker_id)["directive"] == "work"

    def test_a_paused_worker_gets_no_job_that_waits(self, platform: Platform, worker_id: int) -> None:
        evaluation(platform, 1)
        tell(platform, worker_id, "pause")
        assert ask(platform, worker_id)["job"] is None
        tell(platform, worker_id, "resume")
        assert ask(platform, worker_id)["job"] is not None

    def test_a_draining_worker_ends_after_its_job(self, platform: Platform, worker_id: int) -> None:
        evaluation(platform, 1)
        job = claim(platform, worker_id)
        assert job is not None
        assert tell(platform, worker_id, "drain")["mode"] == "draining"
        assert beat(platform, job)["release"] is False
        assert ask(platform, worker_id) == {"job": None, "directive": "end"}

    def test_drained_now_it_gives_back_what_it_holds(self, platform: Platform, worker_id: int) -> None:
        evaluation(platform, 1)
        job = claim(platform, worker_id)
        assert job is not None
        assert tell(platform, worker_id, "drain", now=True)["mode"] == "leaving"
        reply = beat(platform, job)
        assert (reply["release"], reply["cancel"]) == (True, False)
        assert ask(platform, worker_id) == {"job": None, "directive": "end"}

    def test_a_worker_that_is_not_there_is_404(self, platform: Platform, worker_id: int) -> None:
        for what in ("pause", "resume"):
            assert platform.user.post(f"/v1/workers/{worker_id + 7}/{what}").status_code == 404
        assert platform.user.post(f"/v1/workers/{worker_id + 7}/drain", json={}).status_code == 404

    def test_a_workers_token_tells_nobody_anything(self, platform: Platform, worker_id: int) -> None:
        assert platform.worker.post(f"/v1/workers/{worker_id}/pause").status_code == 403


class TestGoodbye:
    def test_it_is_listed_no_more_and_what_it_held_is_queued(self, platform: Platform, worker_id: int) -> None:
        evaluation(platform, 1)
        job = claim(platform, worker_id)
        assert job is not None
        for _ in range(2):  # the reply may be lost
            response = platform.worker.delete(f"/v1/workers/{worker_id}", params={"incarnation": "a"})
            assert response.status_code == 204
        assert platform.user.get("/v1/workers").json()["items"] == []
        found = platform.user.get(f"/v1/jobs/{job['id']}").json()
        assert (found["state"], found["charged"], found["attempts"][0]["outcome"]) == ("queued", 0, "graceful")

    def test_asked_after_it_the_claim_says_register(self, platform: Platform, worker_id: int) -> None:
        platform.worker.delete(f"/v1/workers/{worker_id}", params={"incarnation": "a"})
        body = {"worker": worker_id, "incarnation": "a", "device_class": "cpu", "protocol": PROTOCOL}
        response = platform.worker.post("/v1/jobs/claim", json=body)
        assert response.status_code == 404
        assert "register" in response.json()["detail"]
        assert register(platform) == worker_id
        assert ask(platform, worker_id)["directive"] == "work"

    def test_another_incarnation_may_not_say_it(self, platform: Platform, worker_id: int) -> None:
        response = platform.worker.delete(f"/v1/workers/{worker_id}", params={"incarnation": "b"})
        assert response.status_code == 409


class TestProtocol:
    @pytest.mark.parametrize("header", [None, "1", str(PROTOCOL + 1), "x"])
    def test_every_call_of_a_worker_of_another_version_is_426(self, shared: Platform, header: str | None) -> None:
        """Also the end of a job that it claimed before the API was replaced."""
        token = shared.worker.headers["authorization"]
        headers = {"Authorization": token, **({} if header is None else {PROTOCOL_HEADER: header})}
        for call, body in (
            ("/v1/jobs/1/heartbeat", {"attempt": 1, "counter": 1}),
            ("/v1/jobs/1/release", {"attempt": 1, "kind": "graceful"}),
            ("/v1/jobs/1/done", {"attempt": 1, "outcome": "succeeded"}),
            ("/v1/jobs/claim", {"worker": 1, "incarnation": "a", "device_class": "cpu", "protocol": PROTOCOL}),
        ):
            response = shared.anonymous.post(call, json=body, headers=headers)
            assert response.status_code == 426, call
            assert "same nasdet version" in response.json()["detail"]

    def test_no_route_of_workers_goes_without(self, shared: Platform) -> None:
        app = shared.anonymous.app  # type: ignore[attr-defined]  # a TestClient
        assert isinstance(app, FastAPI)
        spoken = {
            (method, path)
            for path, methods in app.openapi()["paths"].items()
            if path.startswith(("/v1/jobs", "/v1/workers"))
            for method, operation in methods.items()
            if any(parameter["name"] == PROTOCOL_HEADER for parameter in operation.get("parameters", []))
        }
        assert ("delete", "/v1/workers/{worker_id}") in spoken
        assert {path for method, path in spoken if method == "post"} == {
            "/v1/workers", "/v1/jobs/claim", *(f"/v1/jobs/{{job_id}}/{name}" for name in (
                "heartbeat", "results", "checkpoint", "done", "release", "log")),
        }  # fmt: skip


class TestPace:
    def test_the_api_says_how_often(self, platform: Platform, worker_id: int) -> None:
        evaluation(platform, 1)
        job = claim(platform, worker_id)
        assert job is not None
        assert job["heartbeat_seconds"] == 1.5
        assert beat(platform, job)["heartbeat_seconds"] == 1.5


class TestText:
    def test_no_nul_reaches_the_database(self, platform: Platform, worker_id: int) -> None:
        evaluation(platform, 1)
        job = claim(platform, worker_id)
        assert job is not None
        body = {"attempt": job["attempt"], "outcome": "failed", "reason": "a\x00b"}
        assert (
            platform.worker.post(f"/v1/jobs/{job['id']}/done", json=body).json()["reason"]
            == "a\N{REPLACEMENT CHARACTER}b"
        )
        named = {
            "name": "nul", "incarnation": "a\x00", "protocol": PROTOCOL, "device_class": "cpu", "device_name": "x",
        }  # fmt: skip
        assert platform.worker.post("/v1/workers", json=named).status_code == 422
        assert (
            platform.worker.post("/v1/workers", json={**named, "incarnation": "a", "device_name": "\x00"}).status_code
            == 422
        )

    def test_an_attempt_fits_its_column(self, platform: Platform, worker_id: int) -> None:
        del worker_id
        for attempt, status in ((2**31, 422), (2**31 - 1, 404)):
            body = {"attempt": attempt, "counter": 1}
            assert platform.worker.post("/v1/jobs/12345/heartbeat", json=body).status_code == status
