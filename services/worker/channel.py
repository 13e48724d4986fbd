"""JSON lines between supervisor and executor. Own descriptors, so that no print or warning can break a
message."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from typing import IO, Any

Message = dict[str, Any]


class MessageWriter:
    """Writes whole lines; several threads may write."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises OSError when the other side is gone."""
        line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()


def read_messages(stream: IO[bytes]) -> Iterator[Message]:
    """Until the other side closes or dies. A line cut off by its death is no message."""
    for line in stream:
        if not line.endswith(b"\n"):
            return
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError(f"expected a JSON object from the other process, got {line[:80]!r}")
        yield message
