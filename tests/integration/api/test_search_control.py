"""Steering searches over HTTP: pause, resume, retry, clone, priority, deadline; and tags on what is polled."""

from __future__ import annotations

from typing import Any

import pytest

from services.searcher.stages import step
from tests.support.api_platform import SPECIFICATION, Platform, claim, evaluation, register


def submit(platform: Platform, *, priority: int | None = None, **changes: Any) -> int:
    params = {} if priority is None else {"priority": priority}
    response = platform.user.post("/v1/searches", json={**SPECIFICATION, **changes}, params=params)
    assert response.status_code == 201, response.text
    number: int = response.json()["search"]["id"]
    return number


def act(platform: Platform, search_id: int, what: str, body: Any = None, status: int = 200) -> Any:
    response = platform.user.post(f"/v1/searches/{search_id}/{what}", json=body)
    assert response.status_code == status, response.text
    return response.json()


def steps(platform: Platform, search_id: int) -> None:
    with platform.api.database.write_session() as session:
        step(session, search_id)


class TestPause:
    def test_nothing_is_handed_out_until_it_is_resumed(self, platform: Platform) -> None:
        search_id = submit(platform)
        steps(platform, search_id)
        worker_id = register(platform)
        paused = act(platform, search_id, "pause")
        assert (paused["search"]["state"], paused["search"]["reason"]) == ("paused", "paused on request")
        assert "somebody to resume it" in paused["progress"]["waits_for"]
        assert claim(platform, worker_id) is None
        assert platform.user.get("/v1/searches").json()["items"][0]["state"] == "paused"
        assert act(platform, search_id, "resume")["search"]["state"] == "running"
        assert claim(platform, worker_id) is not None

    def test_an_ended_search_is_refused_with_its_state(self, platform: Platform) -> None:
        search_id = submit(platform)
        act(platform, search_id, "cancel")
        for what in ("pause", "resume"):
            assert "is cancelled" in act(platform, search_id, what, status=409)["detail"]


@pytest.mark.parametrize("path", ["searches/1/pause", "searches/1/resume", "searches/1/cancel", "workers/1/pause"])
def test_a_body_that_would_do_nothing_is_refused(platform: Platform, path: str) -> None:
    submit(platform)
    register(platform)
    for content in (b'{"force": true}', b"please"):
        response = platform.user.post(f"/v1/{path}", content=content)
        assert response.status_code == 422
        assert "takes none" in response.json()["detail"]
    assert platform.user.get("/v1/searches/1").json()["search"]["state"] == "running"
    assert platform.user.post(f"/v1/{path}", json={}).status_code == 200


class TestPriority:
    def test_the_higher_one_is_claimed_first_even_when_it_was_raised_later(self, platform: Platform) -> None:
        first, second = submit(platform), submit(platform, seed=1)
        for search_id in (first, second):
            steps(platform, search_id)
        response = platform.user.patch(f"/v1/searches/{second}", json={"priority": 10})
        assert response.status_code == 200
        job = claim(platform, register(platform))
        assert job is not None
        assert platform.user.get(f"/v1/jobs/{job['id']}").json()["search"] == second

    def test_it_may_be_given_at_submission_and_is_listed(self, platform: Platform) -> None:
        submit(platform, priority=-5)
        assert platform.user.get("/v1/searches").json()["items"][0]["priority"] == -5

    @pytest.mark.parametrize("priority", [101, -101, 1.5, True, "1", None])
    def test_what_is_no_priority_is_refused(self, platform: Platform, priority: Any) -> None:
        search_id = submit(platform)
        assert platform.user.patch(f"/v1/searches/{search_id}", json={"priority": priority}).status_code == 422


class TestDeadline:
    def test_a_search_ends_at_its_deadline_and_says_so(self, platform: Platform) -> None:
        search_id = submit(platform, budget={"wall_hours": 1e-9})
        steps(platform, search_id)
        search = platform.user.get(f"/v1/searches/{search_id}").json()["search"]
        assert search["state"] == "failed"
        assert "budget.wall_hours" in search["reason"]
        retried = act(platform, search_id, "retry", {"wall_hours": 5})
        assert retried["search"]["state"] == "running"
        assert retried["spec"]["budget"] == {"wall_hours": 5.0}
        steps(platform, search_id)
        assert platform.user.get(f"/v1/searches/{search_id}").json()["search"]["state"] == "running"

    def test_a_paused_search_has_one_too(self, platform: Platform) -> None:
        search_id = submit(platform, budget={"wall_hours": 1e-9})
        act(platform, search_id, "pause")
        steps(platform, search_id)
        assert platform.user.get(f"/v1/searches/{search_id}").json()["search"]["state"] == "failed"


class TestRetryAndClone:
    def test_a_cancelled_search_goes_on(self, platform: Platform) -> None:
        search_id = submit(platform)
        steps(platform, search_id)
        job = platform.user.get("/v1/jobs").json()["items"][0]["id"]
        waiting = platform.user.get(f"/v1/jobs/{job}").json()
        assert (waiting["needs_somebody"], waiting["deadline_at"]) == (True, None)
        assert "start one with `nasdet worker`" in waiting["waits_for"]
        act(platform, search_id, "cancel")
        assert platform.user.get(f"/v1/jobs/{job}").json()["waits_for"] is None
        assert act(platform, search_id, "retry", {})["search"]["state"] == "running"
        assert claim(platform, register(platform)) is not None
        kinds = [event["kind"] for event in platform.user.get(f"/v1/searches/{search_id}/events").json()["items"]]
        assert "search.retried" in kinds

    def test_a_running_one_is_refused(self, platform: Platform) -> None:
        detail = act(platform, submit(platform), "retry", {}, status=409)["detail"]
        assert "only a failed or cancelled search" in detail

    def test_a_clone_has_the_specification_with_the_changes(self, platform: Platform) -> None:
        search_id = submit(platform, budget={"gpu_hours": 3}, priority=7)
        changes = {"seed": 5, "name": "again", "budget": None}
        cloned = act(platform, search_id, "clone", {"changes": changes}, status=201)
        assert cloned["search"]["id"] == search_id + 1
        original = platform.user.get(f"/v1/searches/{search_id}").json()["spec"]
        expected = {key: value for key, value in original.items() if key != "budget"} | {"seed": 5, "name": "again"}
        assert cloned["spec"] == expected
        assert [item["priority"] for item in platform.user.get("/v1/searches").json()["items"]] == [7, 7]

    def test_a_wrong_change_is_named(self, platform: Platform) -> None:
        detail = act(platform, submit(platform), "clone", {"changes": {"sede": 1}}, status=422)["detail"]
        assert "sede" in detail
        assert "did you mean seed" in detail

    @pytest.mark.parametrize("what", ["pause", "resume", "retry", "clone", "cancel"])
    def test_an_unknown_search_is_404(self, platform: Platform, what: str) -> None:
        act(platform, 99, what, {} if what in ("retry", "clone") else None, status=404)


@pytest.mark.parametrize("path", ["", "/1", "/1/trials", "/1/front", "/1/events"])
def test_everything_that_is_polled_has_a_tag_that_changes_with_it(platform: Platform, path: str) -> None:
    evaluation(platform, 2)
    url = f"/v1/searches{path}"
    tag = platform.user.get(url).headers["etag"]
    unchanged = platform.user.get(url, headers={"If-None-Match": f'"else", W/{tag}'})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
    assert claim(platform, register(platform)) is not None
    changed = platform.user.get(url, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_events_after_the_last_one_seen(platform: Platform) -> None:
    search_id = submit(platform)
    seen = platform.user.get(f"/v1/searches/{search_id}/events").json()["items"][-1]["id"]
    act(platform, search_id, "pause")
    new = platform.user.get(f"/v1/searches/{search_id}/events", params={"after": seen}).json()["items"]
    assert [event["kind"] for event in new] == ["search.paused"]
