"""Settings of the processes: typed, read once at start, from arguments or from NASDET_* variables.

No other module reads the environment (the parent's pipe in parent_watch.py comes through here as well).
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.errors import SettingError

PROTOCOL = 2  # what worker and API say to each other; raised with every incompatible change
PROTOCOL_HEADER = "Nasdet-Protocol"  # every request of a worker carries it

Port = Annotated[int, Field(ge=0, le=65535)]


def host_name() -> str:
    """The name of this machine, as far as it may be a worker's name."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip(".-")
    return name[:180] or "worker"


class HomeSettings(BaseSettings):
    """What every process of an installation knows: where it lives and how leases work."""

    model_config = SettingsConfigDict(env_prefix="NASDET_", extra="ignore", frozen=True, env_ignore_empty=True)

    home: Path
    database_url: str | None = None  # default: SQLite in the home
    database_password_file: Path | None = None  # a secret is a file: variables show up in listings and logs
    database_wait_seconds: Annotated[float, Field(ge=0, le=3600)] = 60.0  # at start, for a database server that is away
    broker_url: str | None = None  # Celery's broker, which rings for jobs; none: workers look by themselves
    broker_password_file: Path | None = None
    data_root: Path | None = None  # each folder in it is a dataset of its name; mounted alike in every worker
    operator_token_file: Path | None = None  # default: HOME/token
    worker_token_file: Path | None = None  # default: HOME/worker-token
    lease_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    max_crashes: Annotated[int, Field(ge=1, le=100)] = 3
    log_tail: Annotated[int, Field(ge=1024, le=1 << 20)] = 65536  # bytes of an attempt's log that are kept
    platform: str | None = None  # one start of an embedded platform; a new start has another
    parent_pipe: int | None = None  # descriptor whose end of file means that the parent is gone
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def resolved_database_url(self) -> str:
        if self.database_url is None:
            return f"sqlite:///{self.home.resolve() / 'nasdet.db'}"
        return _with_password(self.database_url, self.database_password_file)

    @property
    def resolved_broker_url(self) -> str | None:
        return None if self.broker_url is None else _with_password(self.broker_url, self.broker_password_file)

    @property
    def heartbeat_seconds(self) -> float:
        return self.lease_seconds / 3

    @property
    def operator_token_path(self) -> Path:
        return self.operator_token_file or self.home / "token"

    @property
    def worker_token_path(self) -> Path:
        return self.worker_token_file or self.home / "worker-token"

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts"

    @property
    def datasets(self) -> Path:
        """Folder of NAME.json files {"path": …}: written by the operator, never by a client."""
        return self.home / "datasets"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def scratch(self) -> Path:
        return self.home / "scratch"


class ApiSettings(HomeSettings):
    host: str = "127.0.0.1"
    port: Port = 8765
    fd: int | None = None  # a listening socket inherited from the parent; wins over host and port
    allowed_hosts: str = ""  # comma-separated names that a Host header may have besides this machine's
    metrics_port: Port | None = None  # of /metrics, on an address of its own; none: no metrics are served
    metrics_host: str = "127.0.0.1"
    metrics_token_file: Path | None = None  # what a scraper must send; needed where metrics_host lets others in
    artifacts_url: str | None = None  # where artifacts are kept, e.g. s3://bucket/prefix; none: HOME/artifacts
    threads: Annotated[int, Field(ge=2, le=200)] = 40  # of sync endpoints; the pool is of the same size
    transfers: Annotated[int, Field(ge=1, le=200)] = 20  # artifacts that are on their way at once; others wait
    max_body: Annotated[int, Field(ge=1024)] = 16 << 20  # bytes of a JSON body
    max_artifact: Annotated[int, Field(ge=1024)] = 8 << 30  # bytes of one artifact
    max_archive: Annotated[int, Field(ge=1024)] = 200 << 30  # bytes of one dataset's archive
    max_chunk: Annotated[int, Field(ge=1024)] = 64 << 20  # bytes of an archive that one request may bring
    unfinished_seconds: Annotated[float, Field(gt=0)] = 7 * 86400.0  # how long a dataset's upload may take
    upload_seconds: Annotated[float, Field(gt=0)] = 3600.0  # how long an artifact nobody uses is kept
    collect_seconds: Annotated[float, Field(gt=0)] = 60.0  # between looks for files nobody needs


class SearcherSettings(HomeSettings):
    poll_seconds: Annotated[float, Field(gt=0, le=60)] = 0.5
    ring_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0  # a queued job is rung for again after so long
    forget_seconds: Annotated[float, Field(gt=0)] = 3600.0  # a worker not seen for so long is gone


class WorkerSettings(HomeSettings):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=180)] = Field(
        default_factory=host_name  # with several slots -0, -1, … is added
    )
    url: str = "http://127.0.0.1:8765"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    slots: Annotated[int, Field(ge=1, le=64)] | None = None  # executors: one per GPU, or so many on the CPU
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    poll_seconds: Annotated[float, Field(gt=0, le=60)] = 0.3  # between looks for work where no broker rings
    unrung_poll_seconds: Annotated[float, Field(gt=0, le=600)] = 15.0  # the same where a broker does: it may be away
    cache_bytes: Annotated[int, Field(ge=1 << 20)] = 20 << 30  # artifacts and unpacked archives kept on this disk
    no_progress_seconds: Annotated[float, Field(gt=0)] = 300.0
    job_seconds: Annotated[float, Field(gt=0)] | None = None  # time limit of one attempt; none: only hangs end it
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 15.0
    job_plugin: str | None = None  # importable module that wraps the job functions; used by tests of the platform


def _with_password(url: str, file: Path | None) -> str:
    """The address with the password from a file; raises SettingError when it cannot be read."""
    if file is None:
        return url
    try:
        password = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingError(
            f"expected the password for {_hidden(url)} in {file}, but it cannot be read ({error.strerror}); "
            "check the path and who may read it"
        ) from error
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    name = user.partition(":")[0] if at else ""
    return urlunsplit(parts._replace(netloc=f"{name}:{quote(password, safe='')}@{place}"))


def _hidden(url: str) -> str:
    """The address as it may be shown: without a password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
