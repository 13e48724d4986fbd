"""What is told of an API process: health, log lines, metrics; while its database and its broker are there, and not."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.api.metrics import RequestMetrics, serving_metrics
from services.common.db.models import Search
from services.common.db.repositories import JobRepository, SearchRepository, TrialRepository
from services.common.db.session import Database
from services.common.db.states import SearchState
from services.common.settings import PROTOCOL, PROTOCOL_HEADER
from tests.support import stores
from tests.support.api_process import START_SECONDS, ApiProcess, started_api
from tests.support.processes import children, kill
from tests.support.servers import PostgresServer, RedisServer, started_postgres, started_redis

pytestmark = pytest.mark.integration

MOST_SECONDS = 5.0  # the promise is three, or two for a scrape; the machine may be busy


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with started_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with started_redis() as server:
        yield server


@pytest.fixture(scope="module")
def database_url(postgres: PostgresServer) -> str:
    return postgres.create()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer, database_url: str) -> Iterator[ApiProcess]:
    home = tmp_path_factory.mktemp("api") / "home"
    with started_api(home, database_url=database_url, broker_url=redis.create()) as process:
        yield process


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The exposition as Prometheus reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(api: ApiProcess, name: str, **labels: str) -> float | None:
    return samples(api.metrics()).get((name, frozenset(labels.items())))


def request_lines(api: ApiProcess, request_id: str) -> list[dict[str, Any]]:
    """What the log says of a request; its last line comes just after its answer."""
    deadline = time.monotonic() + 10
    while True:
        lines = [line for line in api.log() if line.get("request_id") == request_id]
        if any(line["event"] == "request" for line in lines) or time.monotonic() > deadline:
            return lines
        time.sleep(0.02)


class TestLog:
    def test_one_line_tells_how_a_request_ended(self, api: ApiProcess) -> None:
        with api.client(api.operator_token) as client:
            answer = client.get("/v1/searches/12345/measurements?metric=hunter2", headers={"X-Request-ID": "mine-1"})
        assert answer.status_code == 404
        assert answer.headers["x-request-id"] == "mine-1"
        (line,) = request_lines(api, "mine-1")
        told = {
            key: line[key] for key in ("event", "method", "route", "status", "token", "service", "level", "search_id")
        }
        assert told == {
            "event": "request", "method": "GET", "route": "/v1/searches/{search_id}/measurements", "status": 404,
            "token": "token", "service": "api", "level": "info", "search_id": 12345,
        }  # fmt: skip
        assert line["ms"] >= 0
        assert isinstance(line["account"], int)

    def test_a_number_is_made_where_none_came(self, api: ApiProcess) -> None:
        with api.client() as client:
            answer = client.get("/v1/searches", headers={"Authorization": "Bearer nasdet_" + "x" * 43})
        number = answer.headers["x-request-id"]
        assert len(number) == 16
        assert [line["status"] for line in request_lines(api, number)] == [401]

    @pytest.mark.parametrize("number", ["", "x" * 65, "two words", "umläut", "tab\tbed"])
    def test_a_number_that_is_none_is_replaced(self, api: ApiProcess, number: str) -> None:
        with api.client() as client:
            answer = client.get("/healthz", headers={b"X-Request-ID": number.encode("latin-1")})
        assert answer.headers["x-request-id"] not in ("", number)

    def test_polls_are_quiet_and_no_secret_is_told(
        self, api: ApiProcess, redis: RedisServer, database_url: str
    ) -> None:
        with api.client(api.operator_token) as client:
            polled = client.get("/v1/searches").headers["x-request-id"]
            made = client.post("/v1/tokens", json={"name": "logged", "scopes": ["read"]})
        assert request_lines(api, polled)[-1]["level"] == "debug"
        assert request_lines(api, made.headers["x-request-id"])[-1]["level"] == "info"
        text = api.log_file.read_text()
        secrets = [api.operator_token, made.json()["token"], redis.password, "hunter2", database_url.split(":")[2][:32]]
        assert not [secret for secret in secrets if secret in text]


class TestMetrics:
    def test_a_scraper_from_elsewhere_needs_its_token(self) -> None:
        registry = RequestMetrics().registry
        with serving_metrics(registry, "127.0.0.1", 0, "x" * 40) as port:
            for given, status in (
                ("Bearer " + "x" * 39, 401),
                ("Bearer " + "x" * 40, 200),
            ):
                headers = {"Authorization": given} if given else {}
                answer = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers, trust_env=False)
                assert answer.status_code == status, given
                assert ("python_info" in answer.text) == (status == 200)

    def test_requests_are_counted_by_route_template(self, api: ApiProcess) -> None:
        labels = {"method": "GET", "route": "/v1/searches/{search_id}", "status": "404"}
        before = value(api, "nasdet_http_requests_total", **labels) or 0.0
        with api.client(api.operator_token) as client:
            for number in range(5):
                client.get(f"/v1/searches/{77_000 + number}")
            for number in range(3):
                client.request("BREW", f"/wp-admin/{number}")
        assert value(api, "nasdet_http_requests_total", **labels) == before + 5
        assert value(api, "nasdet_http_requests_total", method="other", route="none", status="404") == 3
        assert value(api, "nasdet_http_request_seconds_count", method="other", route="none") == 3
        text = api.metrics()
        assert "wp-admin" not in text
        assert "/v1/searches/77" not in text

    def test_the_store_is_counted_at_each_scrape(self, api: ApiProcess, database_url: str) -> None:
        database = Database(database_url)
        with database.write_session() as session:
            rows = stores.new_rows(session, "measured")
            stores.new_evaluation(session, rows, 3)
            worker = stores.new_worker(session, "measured")
        assert value(api, "nasdet_trials", state="queued") == 3
        assert value(api, "nasdet_jobs", kind="evaluate", state="queued") == 1
        assert (value(api, "nasdet_oldest_queued_seconds") or 0) > 0
        assert value(api, "nasdet_workers", device_class="cpu") == 1
        with database.write_session() as session:
            jobs = JobRepository(session)
            job = jobs.claim(worker, "cpu", [])
            assert job is not None
            trials = [trial.id for trial in TrialRepository(session).open_of_job(job.id)]
            jobs.land_result(job.id, job.attempt, trials[0], stores.success(0.25))
            stores.expire_lease(session, job.id)
            jobs.reap()
        assert value(api, "nasdet_lease_expiries_total") == 1
        assert value(api, "nasdet_candidates_last_hour") == 1
        assert value(api, "nasdet_best_box_map", search=str(rows.search_id)) == 0.25
        assert value(api, "nasdet_fenced_results_total") == 0
        assert value(api, "nasdet_database_up") == 1
        assert (value(api, "process_resident_memory_bytes") or 0) > 0
        with database.write_session() as session:
            SearchRepository(session).set(rows.search_id, state=SearchState.SUCCEEDED)
            assert session.get(Search, rows.search_id) is not None
        assert value(api, "nasdet_best_box_map", search=str(rows.search_id)) is None
        database.close()

    def test_they_are_on_their_own_port_only(self, api: ApiProcess) -> None:
        with api.client(api.operator_token) as client:
            assert client.get("/metrics").status_code == 404
        other = httpx.get(api.metrics_url.replace("/metrics", "/v1/searches"), trust_env=False)
        assert other.status_code == 404
        assert httpx.post(api.metrics_url, trust_env=False).status_code == 501


class TestLogOfAJob:
    def test_lines_lead_to_what_they_are_about(self, api: ApiProcess, database_url: str) -> None:
        """Each event of the store is a line, with the ids of its search, trial, job and attempt, and its request's."""
        database = Database(database_url)
        with database.write_session() as session:
            rows = stores.new_rows(session, "told")
            stores.new_evaluation(session, rows, 1)
        me = {"incarnation": "a", "device_class": "cpu", "protocol": PROTOCOL}
        with api.client(api.worker_token) as client:
            client.headers[PROTOCOL_HEADER] = str(PROTOCOL)
            worker = client.post("/v1/workers", json={"name": "told", "device_name": "test", **me}).json()["id"]
            job = client.post("/v1/jobs/claim", json={"worker": worker, "resident": [], **me}).json()["job"]
            assert job is not None
            trial = job["trials"][0]["id"]
            body = {"attempt": job["attempt"], "trial": trial, **stores.success(0.5)}
            landed = client.post(f"/v1/jobs/{job['id']}/results", json=body)
        assert landed.json() == {"status": "accepted"}
        lines = request_lines(api, landed.headers["x-request-id"])
        told = {line["event"]: line for line in lines}
        about = {"trial_id": trial, "job_id": job["id"], "attempt": job["attempt"]}
        assert about.items() <= told["trial.succeeded"].items()
        assert told["trial.succeeded"]["search_id"] == rows.search_id
        assert told["request"]["job_id"] == job["id"]


class TestHealth:
    """Last in this file: servers are killed here, and started again."""

    def test_ready_says_what_was_looked_at(self, api: ApiProcess) -> None:
        with api.client() as client:
            assert client.get("/healthz").json() == {"status": "ok"}
            answer = client.get("/readyz")
        assert answer.json() == {"status": "ready", "checks": {"database": "ok", "schema": "ok", "broker": "ok"}}

    def test_a_broker_that_is_away_is_named(self, api: ApiProcess, redis: RedisServer) -> None:
        redis.kill()
        with api.client() as client:
            answer = client.get("/readyz")
            assert client.get("/healthz").status_code == 200
        redis.start()
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        checks = answer.json()["checks"]
        assert (checks["database"], checks["schema"]) == ("ok", "ok")
        assert "no answer" in checks["broker"]
        assert redis.password not in answer.text
        with api.client() as client:
            assert client.get("/readyz").status_code == 200

    def test_a_database_that_hangs_holds_up_neither_readiness_nor_a_scrape(
        self, api: ApiProcess, postgres: PostgresServer
    ) -> None:
        assert postgres.process is not None
        group = [postgres.pid, *children(postgres.pid)]
        for pid in group:
            kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with api.client() as client:
                answer = client.get("/readyz")
                assert client.get("/healthz").status_code == 200
            assert time.monotonic() - began < MOST_SECONDS
            assert answer.status_code == 503
            assert "no answer" in answer.json()["checks"]["database"]
            began = time.monotonic()
            assert value(api, "nasdet_database_up") == 0
            assert (value(api, "process_resident_memory_bytes") or 0) > 0
            assert time.monotonic() - began < 2 * MOST_SECONDS
        finally:
            for pid in group:
                kill(pid, signal.SIGCONT)

    def test_requests_get_503_while_the_database_is_away_and_200_when_it_is_back(
        self, api: ApiProcess, postgres: PostgresServer
    ) -> None:
        postgres.kill()
        with api.client(api.operator_token) as client:
            began = time.monotonic()
            answer = client.get("/v1/searches")
            ready = client.get("/readyz")
            assert time.monotonic() - began < 2 * MOST_SECONDS
            postgres.start()
            assert answer.status_code == 503
            assert answer.json()["type"] == "urn:nasdet:problem:unavailable"
            assert ready.status_code == 503
            assert client.get("/v1/searches").status_code == 200
            assert client.get("/readyz").status_code == 200
        (line,) = [line for line in request_lines(api, answer.headers["x-request-id"]) if line["event"] != "request"]
        assert line["event"] == "database.away"
        assert "exception" not in line


def test_a_database_that_is_away_at_the_start_is_waited_for(tmp_path: Path, postgres: PostgresServer) -> None:
    url = postgres.create()
    postgres.kill()
    home = tmp_path / "home"

    def start_when_it_waits() -> None:
        log = home / "api.log"
        deadline = time.monotonic() + START_SECONDS
        while not (log.exists() and "database.away" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        postgres.start()

    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(start_when_it_waits)
        with started_api(home, database_url=url) as api:
            later.result()
            with api.client(api.operator_token) as client:
                assert client.get("/v1/searches").status_code == 200
            assert postgres.password not in api.log_file.read_text()
