"""What `nasdet doctor` looks at in a process of server mode: whatever its NASDET_* variables name.

The API's and searcher's containers have a database, the worker's has the address of the API; all have a broker and a
data root. Secrets are read from their files and never shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nasdet_client.local.finding import Finding

TIMEOUT_S = 5
OLDEST_POSTGRES = 15
SHORTEST_TOKEN = 32
SHOWN_NAMES = 8


class _Trouble(Exception):
    """A sentence for a finding that fails."""


class ServerMode:
    """The settings of one process of server mode, as far as they are given."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._given = {key.upper(): value for key, value in environment.items() if value}

    @classmethod
    def here(cls) -> ServerMode:
        return cls(os.environ)

    @property
    def keeps_the_record(self) -> bool:
        """API or searcher: the processes that have a database, and no need of torch."""
        return "NASDET_DATABASE_URL" in self._given

    @property
    def is_given(self) -> bool:
        return self.keeps_the_record or "NASDET_BROKER_URL" in self._given or self.is_worker

    @property
    def is_worker(self) -> bool:
        """A worker knows where the API is and with which token, and no database."""
        return not self.keeps_the_record and {"NASDET_URL", "NASDET_WORKER_TOKEN_FILE"} <= self._given.keys()

    @property
    def wants_cuda(self) -> bool:
        return self._given.get("NASDET_DEVICE") == "cuda"

    def examine(self) -> list[Finding]:
        """A finding for everything that is named; nothing is changed."""
        checks: dict[str, tuple[str, Callable[[str], Finding]]] = {
            "NASDET_DATABASE_URL": ("database", self._database),
            "NASDET_BROKER_URL": ("broker", self._broker),
            "NASDET_DATA_ROOT": ("data root", _data_root),
            "NASDET_OPERATOR_TOKEN_FILE": ("operator token", _token_file),
            "NASDET_WORKER_TOKEN_FILE": ("worker token", _token_file),
        }
        if self.is_worker:
            checks["NASDET_URL"] = ("API", _api)
        found = []
        for variable, (subject, check) in checks.items():
            if variable not in self._given:
                continue
            try:
                found.append(check(self._given[variable]))
            except _Trouble as trouble:
                found.append(Finding(subject, "fails", str(trouble)))
        return found

    def _password(self, variable: str) -> str | None:
        """The secret in a file, where one is named."""
        file = self._given.get(variable)
        return None if file is None else _secret(Path(file), variable)

    def _database(self, url: str) -> Finding:
        place = _shown(url)
        if url.startswith("sqlite"):
            return Finding("database", "ok", f"SQLite, {place}")
        password = self._password("NASDET_DATABASE_PASSWORD_FILE")
        try:
            import psycopg
        except ImportError as error:
            raise _Trouble(f"{place} needs psycopg: pip install 'nasdet[server]' ({error})") from error
        plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
        try:
            with psycopg.connect(plain, connect_timeout=TIMEOUT_S, password=password) as connection:
                version = connection.info.server_version // 10000
                connection.execute("SELECT 1")
        except psycopg.Error as error:
            raise _away(place, error, "NASDET_DATABASE_URL") from error
        if version < OLDEST_POSTGRES:
            raise _Trouble(f"expected PostgreSQL {OLDEST_POSTGRES} or newer, but {place} is {version}; use a newer one")
        return Finding("database", "ok", f"PostgreSQL {version}, {place}")

    def _broker(self, url: str) -> Finding:
        place = _shown(url)
        if urlsplit(url).scheme not in ("redis", "rediss"):
            return self._other_broker(url)
        try:
            import redis
        except ImportError as error:
            raise _Trouble(f"{place} needs redis: pip install 'nasdet[server]' ({error})") from error
        client = redis.Redis.from_url(
            url,
            password=self._password("NASDET_BROKER_PASSWORD_FILE"),
            socket_connect_timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
        )
        try:
            policy = client.info("memory")["maxmemory_policy"]
        except (redis.RedisError, ValueError) as error:
            raise _away(place, error, "NASDET_BROKER_URL") from error
        finally:
            client.close()
        if policy != "noeviction":
            text = f"{place} drops messages when it is full ({policy}); set maxmemory-policy to noeviction"
            return Finding("broker", "warning", text)
        return Finding("broker", "ok", place)

    def _other_broker(self, url: str) -> Finding:
        place = _shown(url)
        try:
            from kombu.connection import Connection
        except ImportError as error:
            raise _Trouble(f"{place} needs Celery: pip install 'nasdet[server]' ({error})") from error
        password = self._password("NASDET_BROKER_PASSWORD_FILE")
        connect: Any = Connection  # a class without types
        connection = connect(url, password=password, connect_timeout=TIMEOUT_S)
        try:
            connection.ensure_connection(max_retries=1, timeout=TIMEOUT_S)
        except Exception as error:  # each kind of broker has errors of its own
            raise _away(place, error, "NASDET_BROKER_URL") from error
        finally:
            connection.release()
        return Finding("broker", "ok", place)


def _data_root(folder: str) -> Finding:
    root = Path(folder)
    if not root.is_dir():
        raise _Trouble(f"expected a folder with data sets at {root}, but there is none; check NASDET_DATA_ROOT")
    try:
        names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        closed = [name for name in names if not os.access(root / name, os.R_OK | os.X_OK)]
    except OSError as error:
        raise _Trouble(f"{root} cannot be listed by user {os.geteuid()} ({error.strerror}); let it read") from error
    if closed:
        raise _Trouble(f"{root / closed[0]} cannot be read by user {os.geteuid()}; let it read, e.g. chmod -R a+rX")
    if not names:
        return Finding("data root", "warning", f"{root} has no folder yet; each folder in it is a data set of its name")
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return Finding("data root", "ok", f"{root}: {', '.join(names[:SHOWN_NAMES])}{more}")


def _token_file(file: str) -> Finding:
    subject = "worker token" if "worker" in Path(file).name else "operator token"
    token = _secret(Path(file), "the token")
    if len(token) < SHORTEST_TOKEN:
        raise _Trouble(f"expected a token of {SHORTEST_TOKEN} characters or more in {file}, got {len(token)}; make one")
    return Finding(subject, "ok", f"in {file}")


def _api(url: str) -> Finding:
    import httpx

    try:
        answer = httpx.get(f"{url.rstrip('/')}/readyz", timeout=TIMEOUT_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _Trouble(f"{url} does not answer ({_first_line(error)}); start it, and check NASDET_URL") from error
    if answer.status_code != 200:
        raise _Trouble(f"{url} is not ready (status {answer.status_code}: {answer.text[:200]}); see the API's log")
    return Finding("API", "ok", f"{url} is ready")


def _secret(file: Path, what: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _Trouble(f"{file} cannot be read by user {os.geteuid()} ({error}); check {what}") from error


def _away(place: str, error: Exception, variable: str) -> _Trouble:
    return _Trouble(f"{place} cannot be used ({_first_line(error)}); start it, and check {variable} and the password")


def _shown(url: str) -> str:
    """The address without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
