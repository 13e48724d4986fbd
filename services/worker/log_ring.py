"""The last bytes of what an executor wrote, read from its pipe by one thread."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import sys
import termios
import threading
import time

import structlog

from services.common.logging import logs_are_text

LONGEST_LINE = 8192  # bytes of a line that is passed on; the kept tail has all of it

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class LogRing:
    """Keeps the tail of a pipe; what passes through also goes on to our own stderr.

    A child that floods its output never waits for us, and never fills our memory.
    """

    def __init__(self, descriptor: int, *, limit: int, echo: bool = True) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._echo = echo
        self._tail = bytearray()
        self._total = 0
        self._ids: dict[str, int] = {}
        self._rest = b""  # of a line that has not ended yet
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, name="executor-log", daemon=True)
        self._thread.start()

    def clear(self, **ids: int) -> None:
        """Forget what belongs to the attempt before; `ids` are told with every line that is passed on from now on."""
        self._ids = ids
        with self._lock:
            self._tail.clear()
            self._total = 0

    def written(self) -> int:
        """Bytes since the last `clear`; says whether the log changed."""
        with self._lock:
            return self._total

    def text(self) -> str:
        """The tail, cut at a character's boundary. NUL has no place in a database's text."""
        with self._lock:
            data = bytes(self._tail[-self._limit :])
        return data.decode("utf-8", errors="replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")

    def settle(self, timeout: float = 1.0) -> None:
        """Wait until everything that the child has written so far is in the tail."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._thread.is_alive():
            with self._lock:  # the reader takes bytes out of the pipe under this lock
                if self._pending() == 0:
                    return
            time.sleep(0.005)

    def join(self, timeout: float = 1.0) -> None:
        """Wait for the end of the pipe, after the child has died."""
        self._thread.join(timeout)

    def _pass_on(self, chunk: bytes) -> None:
        """As it came on a terminal; elsewhere each line as an event, with the job that it belongs to."""
        if logs_are_text():
            sys.stderr.buffer.write(chunk)
            sys.stderr.buffer.flush()
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            log.info("executor.said", text=line[:LONGEST_LINE].decode(errors="replace"), **self._ids)
        self._rest = self._rest[-LONGEST_LINE:]

    def _pending(self) -> int:
        try:
            answer = fcntl.ioctl(self._descriptor, termios.FIONREAD, struct.pack("i", 0))
        except OSError:  # closed: nothing will come any more
            return 0
        (count,) = struct.unpack("i", answer)
        return int(count)

    def _read(self) -> None:
        try:
            while True:
                select.select([self._descriptor], [], [])
                with self._lock:
                    chunk = os.read(self._descriptor, 65536)
                    self._tail += chunk
                    self._total += len(chunk)
                    if len(self._tail) > 2 * self._limit:
                        del self._tail[: -self._limit]
                if not chunk:
                    return
                if self._echo:
                    self._pass_on(chunk)
        except (OSError, ValueError):  # the pipe, or our stderr at exit, was closed under us
            return
