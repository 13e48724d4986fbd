"""`python -m services.api --home DIR` with `--fd N` (an inherited listening socket) or `--host H --port P`."""

from __future__ import annotations

import argparse
import resource
import socket
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pydantic
import structlog
import uvicorn

from nasdet_core.errors import NasDetError
from services.api.binding import check_binding
from services.api.main import Application, create_app, prepare
from services.api.metrics import serving_metrics
from services.api.patience import PatientProtocol
from services.api.state import ApiState
from services.common.db.waiting import check_database_url
from services.common.errors import DatabaseAwayError
from services.common.logging import configure_logging, redact
from services.common.parent_watch import watch_parent
from services.common.settings import ApiSettings
from services.common.tokens import read_metrics_token

FAILED, BAD_USAGE = 1, 2
MAX_CONNECTIONS = 4000  # each worker and each dashboard keeps one open
OWN_DESCRIPTORS = 500
GRACE_SECONDS = 5

log = structlog.get_logger()


def read_settings(arguments: list[str] | None = None) -> ApiSettings:
    """Arguments win over NASDET_* variables."""
    parser = argparse.ArgumentParser(prog="python -m services.api", description=__doc__)
    parser.add_argument("--home", type=Path, help="folder of the installation")
    parser.add_argument("--fd", type=int, help="descriptor of a listening socket that the parent opened")
    parser.add_argument(
        "--host", help="address to listen on; another than this machine's needs a token and allowed hosts"
    )
    parser.add_argument("--port", type=int, help="port to listen on")
    given: dict[str, Any] = {
        key: value for key, value in vars(parser.parse_args(arguments)).items() if value is not None
    }
    return ApiSettings(**given)


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; returns the exit code: 2 for what the user can mend, 1 for a database that is away."""
    try:
        settings = read_settings(arguments)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        sys.stderr.write(f"setting {place} (argument or NASDET_{place.upper()}): {first['msg']}\n")
        return BAD_USAGE
    watch_parent(settings.parent_pipe)
    configure_logging("api", log_format=settings.log_format, level=settings.log_level)
    with ExitStack() as stack:
        try:
            check_binding(settings)
            check_database_url(settings.resolved_database_url)
            settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            app = create_app(settings)
            prepare(app.state.api)  # here, so that a refusal is one sentence and not a server's traceback
            stack.enter_context(_metrics(app.state.api))
        except DatabaseAwayError as error:
            return _refuse(str(error), FAILED)
        except NasDetError as error:
            return _refuse(str(error))
        except OSError as error:
            return _refuse(f"cannot use {settings.home} as home: {error.strerror}; choose another folder with --home")
        _serve(app, settings)
    return 0


def _refuse(sentence: str, status: int = BAD_USAGE) -> int:
    sys.stderr.write(redact(" ".join(sentence.split())) + "\n")
    return status


def _metrics(api: ApiState) -> AbstractContextManager[object]:
    settings = api.settings
    if settings.metrics_port is None:
        return nullcontext()
    token = read_metrics_token(settings)
    return serving_metrics(api.metrics.registry, settings.metrics_host, settings.metrics_port, token)


def _serve(app: Application, settings: ApiSettings) -> None:
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=PatientProtocol,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here depends on a client's address
        server_header=False,
        limit_concurrency=_most_connections(),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    # The parent keeps its own descriptor of an inherited socket: requests wait there while we are restarted.
    inherited = None if settings.fd is None else [socket.socket(fileno=settings.fd)]
    uvicorn.Server(config).run(sockets=inherited)


def _most_connections() -> int:
    """Of clients, as many as this process may have open beside its database and its files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OWN_DESCRIPTORS
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(100, min(MAX_CONNECTIONS, soft - OWN_DESCRIPTORS))


if __name__ == "__main__":
    sys.exit(main())
