"""`python -m services.api --home DIR` with `--fd N` (an inherited listening socket) or `--host H --port P`."""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys
from pathlib import Path
from typing import Any

import pydantic
import structlog
import uvicorn

from nasdet_core.errors import NasDetError
from services.api.main import create_app, prepare
from services.common.logging import configure_logging
from services.common.parent_watch import watch_parent
from services.common.settings import ApiSettings

BAD_USAGE = 2
MAX_CONNECTIONS = 500
GRACE_SECONDS = 5

log = structlog.get_logger()


def read_settings(arguments: list[str] | None = None) -> ApiSettings:
    """Arguments win over NASDET_* variables."""
    parser = argparse.ArgumentParser(prog="python -m services.api", description=__doc__)
    parser.add_argument("--home", type=Path, help="folder of the installation")
    parser.add_argument("--fd", type=int, help="descriptor of a listening socket that the parent opened")
    parser.add_argument("--host", help="address to listen on; this version takes loopback addresses only")
    parser.add_argument("--port", type=int, help="port to listen on")
    given: dict[str, Any] = {
        key: value for key, value in vars(parser.parse_args(arguments)).items() if value is not None
    }
    return ApiSettings(**given)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def main() -> int:
    try:
        settings = read_settings()
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        sys.stderr.write(f"setting {place} (argument or NASDET_{place.upper()}): {first['msg']}\n")
        return BAD_USAGE
    if settings.fd is None and not is_loopback(settings.host):
        sys.stderr.write(
            f"this version listens on this machine only, but the host is {settings.host}; use 127.0.0.1 (the default)\n"
        )
        return BAD_USAGE
    watch_parent(settings.parent_pipe)
    configure_logging("api", log_format=settings.log_format, level=settings.log_level)
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        app = create_app(settings)
        prepare(app.state.api)  # here, so that a refusal is one sentence and not a server's traceback
    except NasDetError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_USAGE
    except OSError as error:
        sys.stderr.write(f"cannot use {settings.home} as home: {error.strerror}; choose another folder with --home\n")
        return BAD_USAGE
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    # The parent keeps its own descriptor of an inherited socket: requests wait there while we are restarted.
    inherited = None if settings.fd is None else [socket.socket(fileno=settings.fd)]
    uvicorn.Server(config).run(sockets=inherited)
    return 0


if __name__ == "__main__":
    sys.exit(main())
