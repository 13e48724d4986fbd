"""Submitting searches and reading about them."""

from __future__ import annotations

from typing import Any

import pytest

from services.common.db.states import ReleaseKind
from services.common.settings import PROTOCOL, PROTOCOL_HEADER
from tests.support import stores
from tests.support.api_platform import SPECIFICATION, Platform, claim, evaluation, register


def submit(platform: Platform, key: str | None = None, **changes: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return platform.user.post("/v1/searches", json={**SPECIFICATION, **changes}, headers=headers)


class TestSubmit:
    def test_a_search_is_queued_with_its_story(self, platform: Platform) -> None:
        response = submit(platform)
        assert response.status_code == 201, response.text
        search = response.json()["search"]
        assert (search["id"], search["state"], search["stage"]) == (1, "running", "check")
        assert response.headers["location"] == "/v1/searches/1"
        events = platform.user.get("/v1/searches/1/events").json()["items"]
        assert [event["kind"] for event in events] == ["search.submitted", "stage.entered"]

    def test_a_key_brings_one_search(self, platform: Platform) -> None:
        assert submit(platform, "key-1").status_code == 201
        again = submit(platform, "key-1")
        assert (again.status_code, again.json()["search"]["id"]) == (200, 1)
        other = submit(platform, "key-1", seed=1)
        assert other.status_code == 409
        assert "key-1" in other.json()["detail"]
        assert len(platform.user.get("/v1/searches").json()["items"]) == 1

    def test_an_unknown_key_of_the_specification_is_named(self, platform: Platform) -> None:
        response = submit(platform, supernet={**SPECIFICATION["supernet"], "epoch": 3})
        assert response.status_code == 422
        assert "epoch" in response.json()["detail"]
        assert response.json()["errors"][0]["loc"][0] == "supernet"

    def test_an_unknown_dataset_is_a_field_error(self, platform: Platform) -> None:
        response = submit(platform, dataset="moon")
        assert response.status_code == 422
        assert response.json()["errors"] == [{"loc": ["dataset"], "msg": response.json()["errors"][0]["msg"]}]
        assert "known: cells" in response.json()["detail"]

    def test_a_limit_nothing_satisfies_says_what_is_reachable(self, platform: Platform) -> None:
        response = submit(platform, limits=[{"metric": "macs", "max": 10}])
        assert response.status_code == 422
        assert "the space reaches from" in response.json()["detail"]
        assert platform.user.get("/v1/searches").json()["items"] == []


class TestRead:
    def test_the_tag_is_the_revision(self, platform: Platform) -> None:
        rows, _, _ = evaluation(platform, 1)
        first = platform.user.get(f"/v1/searches/{rows.search_id}")
        tag = first.headers["etag"]
        unchanged = platform.user.get(f"/v1/searches/{rows.search_id}", headers={"If-None-Match": tag})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
        assert claim(platform, register(platform)) is not None
        changed = platform.user.get(f"/v1/searches/{rows.search_id}", headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag

    def test_trials_come_with_measurements_page_by_page(self, platform: Platform) -> None:
        rows, job_id, trials = evaluation(platform, 5)
        job = claim(platform, register(platform))
        assert job is not None
        body = {"attempt": 1, "trial": trials[0], **stores.success(0.25)}
        assert platform.worker.post(f"/v1/jobs/{job_id}/results", json=body).json() == {"status": "accepted"}
        seen, cursor = [], None
        while True:
            query = "limit=2" + (f"&cursor={cursor}" if cursor else "")
            page = platform.user.get(f"/v1/searches/{rows.search_id}/trials?{query}").json()
            seen += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert [trial["number"] for trial in seen] == [0, 1, 2, 3, 4]
        assert (seen[0]["state"], seen[0]["value"]) == ("succeeded", 0.25)
        assert seen[0]["measurements"][0]["protocol_hash"] == "p" * 64
        assert seen[0]["measurements"][0]["dataset_version"] == rows.dataset_version_id
        measured = platform.user.get(f"/v1/searches/{rows.search_id}/measurements?metric=box_map").json()["items"]
        assert [row["value"] for row in measured] == [0.25]
        front = platform.user.get(f"/v1/searches/{rows.search_id}/front").json()["items"]
        assert [point["trial"] for point in front] == [0]
        best = platform.user.get(f"/v1/searches/{rows.search_id}").json()["best"]
        assert best["box_map"] == 0.25

    def test_events_continue_after_the_last_one_seen(self, platform: Platform) -> None:
        rows, _, _ = evaluation(platform, 3)
        everything = platform.user.get(f"/v1/searches/{rows.search_id}/events").json()["items"]
        after = everything[1]["id"]
        rest = platform.user.get(f"/v1/searches/{rows.search_id}/events?after={after}").json()["items"]
        assert rest == everything[2:]

    @pytest.mark.parametrize("rest", ["", "/trials", "/front", "/events", "/measurements"])
    def test_an_unknown_search_is_404(self, shared: Platform, rest: str) -> None:
        response = shared.user.get(f"/v1/searches/77{rest}")
        assert (response.status_code, response.json()["detail"]) == (404, "there is no search 77")

    def test_another_projects_search_is_404(self, platform: Platform) -> None:
        evaluation(platform, 1)
        from services.common.db.repositories import TokenRepository

        with platform.api.database.write_session() as session:
            stranger = TokenRepository(session).ensure_owner("stranger", "another project")
            TokenRepository(session).add(stranger, "theirs", "t" * 40, ["read", "write", "worker"])
        theirs = {"Authorization": "Bearer " + "t" * 40}
        for method, path in [
            ("GET", "/v1/searches/1"),
            ("GET", "/v1/searches/1/events"),
            ("POST", "/v1/searches/1/cancel"),
            ("GET", "/v1/jobs/1"),
            ("GET", "/v1/jobs/1/log"),
        ]:
            assert platform.anonymous.request(method, path, headers=theirs).status_code == 404
        late = {"attempt": 1, "kind": "crash"}
        spoken = {**theirs, PROTOCOL_HEADER: str(PROTOCOL)}
        assert platform.anonymous.post("/v1/jobs/1/release", json=late, headers=spoken).status_code == 404
        for path in ("/v1/searches", "/v1/jobs", "/v1/datasets", "/v1/workers"):
            assert platform.anonymous.get(path, headers=theirs).json()["items"] == []


class TestCancel:
    def test_cancel_ends_the_search_and_tells_its_worker(self, platform: Platform) -> None:
        rows, job_id, _ = evaluation(platform, 2)
        claim(platform, register(platform))
        response = platform.user.post(f"/v1/searches/{rows.search_id}/cancel")
        assert (response.status_code, response.json()["search"]["state"]) == (200, "cancelled")
        beat = platform.worker.post(f"/v1/jobs/{job_id}/heartbeat", json={"attempt": 1, "counter": 1})
        assert beat.json()["cancel"] is True
        released = platform.worker.post(
            f"/v1/jobs/{job_id}/release", json={"attempt": 1, "kind": ReleaseKind.GRACEFUL.value}
        )
        assert released.json()["state"] == "cancelled"
        assert platform.user.post(f"/v1/searches/{rows.search_id}/cancel").status_code == 200


class TestDatasetsAndSpaces:
    def test_only_names_of_the_installation_can_be_registered(self, platform: Platform) -> None:
        assert platform.user.post("/v1/datasets", json={"name": "cells"}).status_code == 201
        assert platform.user.post("/v1/datasets", json={"name": "cells"}).status_code == 200
        unknown = platform.user.post("/v1/datasets", json={"name": "moon"})
        assert unknown.status_code == 404
        assert "nowhere" not in unknown.text  # paths stay inside
        assert platform.user.get("/v1/datasets/cells").json()["versions"] == []
        assert platform.user.get("/v1/datasets/moon").status_code == 404

    @pytest.mark.parametrize("name", ["../token", "a/b", "..", ".x", "", "a\x00b", "a%2fb", "x" * 300, "a;b", "a?b"])
    def test_a_name_is_no_path(self, shared: Platform, name: str) -> None:
        assert shared.user.post("/v1/datasets", json={"name": name}).status_code == 422

    def test_spaces_show_blocks_and_candidates(self, shared: Platform) -> None:
        names = [space["name"] for space in shared.user.get("/v1/spaces").json()["items"]]
        assert {"detnas-300m", "fpn", "fcos"} <= set(names)
        space = shared.user.get("/v1/spaces/detnas-300m").json()
        assert (len(space["blocks"]), space["size"]) == (20, 4.0**20)
        assert shared.user.get("/v1/spaces/nothing").status_code == 404
