"""Settings of the processes: typed, read once at start, from arguments or from NASDET_* variables.

No other module reads the environment (the parent's pipe in parent_watch.py comes through here as well).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PROTOCOL = 1  # what worker and API say to each other; raised with every incompatible change

Port = Annotated[int, Field(ge=0, le=65535)]


class HomeSettings(BaseSettings):
    """What every process of an installation knows: where it lives and how leases work."""

    model_config = SettingsConfigDict(env_prefix="NASDET_", extra="ignore", frozen=True)

    home: Path
    database_url: str | None = None  # default: SQLite in the home
    lease_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    max_crashes: Annotated[int, Field(ge=1, le=100)] = 3
    log_tail: Annotated[int, Field(ge=1024, le=1 << 20)] = 65536  # bytes of an attempt's log that are kept
    platform: str | None = None  # one start of an embedded platform; a new start has another
    parent_pipe: int | None = None  # descriptor whose end of file means that the parent is gone
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home.resolve() / 'nasdet.db'}"

    @property
    def heartbeat_seconds(self) -> float:
        return self.lease_seconds / 3

    @property
    def token_file(self) -> Path:
        return self.home / "token"

    @property
    def worker_token_file(self) -> Path:
        return self.home / "worker-token"

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
    threads: Annotated[int, Field(ge=2, le=200)] = 40  # of sync endpoints; the pool is of the same size
    max_body: Annotated[int, Field(ge=1024)] = 16 << 20  # bytes of a JSON body
    max_artifact: Annotated[int, Field(ge=1024)] = 8 << 30  # bytes of one artifact
    upload_seconds: Annotated[float, Field(gt=0)] = 3600.0  # how long an artifact nobody uses is kept
    collect_seconds: Annotated[float, Field(gt=0)] = 60.0  # between looks for files nobody needs


class SearcherSettings(HomeSettings):
    poll_seconds: Annotated[float, Field(gt=0, le=60)] = 0.5


class WorkerSettings(HomeSettings):
    name: Annotated[str, Field(min_length=1, max_length=200)] = "worker-0"
    url: str = "http://127.0.0.1:8765"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    poll_seconds: Annotated[float, Field(gt=0, le=60)] = 0.3
    no_progress_seconds: Annotated[float, Field(gt=0)] = 300.0
    job_seconds: Annotated[float, Field(gt=0)] | None = None  # time limit of one attempt; none: only hangs end it
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 15.0
    job_plugin: str | None = None  # importable module that wraps the job functions; used by tests of the platform
