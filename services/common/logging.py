"""Structured logs on stderr: events with fields, not sentences. JSON lines, or text on a terminal."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# What must never be in a log: the password of an address, and tokens of ours or of others.
_SECRETS = (
    (re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*):[^\s@]*@"), r"\1:***@"),
    (re.compile(r"\bnasdet_[A-Za-z0-9_-]{16,}"), "nasdet_***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 ***"),
)


_state = {"text": True}  # until `configure_logging`: what goes to stderr is for people


def logs_are_text() -> bool:
    """Whether this process writes lines for people; JSON lines otherwise."""
    return _state["text"]


def redact(text: str) -> str:
    """The text without passwords in addresses and without access tokens."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def configure_logging(
    service: str,
    *,
    log_format: Literal["auto", "json", "text"] = "auto",
    level: Literal["debug", "info", "warning", "error"] = "info",
) -> None:
    """Set structlog and the standard library's logging up once, at the start of a process.

    Records of libraries (uvicorn, alembic, celery) go through the same renderer, so that stderr holds one kind of
    line, and through the same `redact`.
    """
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    _state["text"] = as_text
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _ServiceName(service),
    ]
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # tracebacks come as text already
        )
        if as_text
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _without_secrets,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(LEVELS[level])
    # A line for each request: with its query, or with the signature that opens an object store.
    for library in ("alembic", "httpx", "httpcore", "botocore", "aiobotocore", "s3fs", "fsspec", "urllib3", "aiohttp"):
        logging.getLogger(library).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


class _ServiceName:
    """Puts the name of the process on every line."""

    def __init__(self, service: str) -> None:
        self.service = service

    def __call__(
        self, _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        event["service"] = self.service
        return event


def _without_secrets(
    _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    return {key: _redacted(value) for key, value in event.items()}


def _redacted(value: Any) -> Any:
    """Text at any depth; what JSON cannot write becomes text here already, as it would in the renderer."""
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _redacted(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redacted(inner) for inner in value]
    return redact(repr(value))
