"""A TCP proxy between workers and the API that does to connections what networks do. Seeded, switched at run time.

It knows nothing of HTTP. A worker has one request on a connection at a time, so that the first bytes of an answer mean
that the request was committed: an answer that is dropped there is a commit whose reply is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

CHUNK = 65536
CONNECT_SECONDS = 2.0
Fate = Literal["pass", "reset", "lose_reply", "half_open"]


@dataclass(frozen=True)
class Weather:
    """What happens from now on. `latency_s` to every chunk; the others are the share of requests that they meet."""

    latency_s: float = 0.0
    reset: float = 0.0  # the connection is reset before the request is forwarded
    lose_reply: float = 0.0  # the request is done, the connection is reset before the answer
    half_open: float = 0.0  # nothing comes through and nobody is told, until the weather changes


CALM = Weather()


class _Connection:
    """One client with one API behind it."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._losing = False
        self._upstream: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        try:
            backend, answers, self._upstream = await self._connect()
        except OSError:
            self.reset()
            return
        down = asyncio.create_task(self._answers(answers))
        try:
            await self._requests(backend)
        except OSError:
            pass  # one of the two ends is gone; so is the connection
        finally:
            down.cancel()
            self.reset()

    async def _connect(self) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
        """The next API in turn, or another one where that is down."""
        order = self._proxy.turn()
        for backend in order[:-1]:
            try:
                return backend, *await self._open(backend)
            except (OSError, TimeoutError):
                continue
        return order[-1], *await self._open(order[-1])

    async def _open(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.open_connection("127.0.0.1", port)

    async def _requests(self, backend: int) -> None:
        assert self._upstream is not None
        while data := await self._reader.read(CHUNK):
            fate = self._proxy.fate(backend)
            if fate == "reset":
                return
            if fate == "half_open":
                await self._proxy.change_of_weather()
                return
            self._losing = fate == "lose_reply"
            await asyncio.sleep(self._proxy.weather.latency_s)
            self._upstream.write(data)
            await self._upstream.drain()

    async def _answers(self, answers: asyncio.StreamReader) -> None:
        try:
            while data := await answers.read(CHUNK):
                if self._losing:
                    break
                await asyncio.sleep(self._proxy.weather.latency_s)
                self._writer.write(data)
                await self._writer.drain()
        except OSError:
            pass
        self.reset()

    def reset(self) -> None:
        """Both ends at once, the client's with a RST."""
        raw = self._writer.get_extra_info("socket")
        if raw is not None and not self._writer.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for writer in (self._writer, self._upstream):
            if writer is not None:
                writer.transport.abort()


class FaultProxy:
    """Listens on `port` of 127.0.0.1 and passes each connection to one of the APIs' ports, in turn.

    A context manager; runs in a thread of its own. `requests` counts what was passed to each API, `faults` what was
    done to requests.
    """

    def __init__(self, backends: Sequence[int], *, seed: int = 0) -> None:
        self._backends = list(backends)
        self._random = random.Random(f"proxy {seed}")
        self._next = itertools.count()
        self.weather = CALM
        self.requests: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, weather: Weather) -> None:
        """From now on; connections that were half open are reset."""

        def change() -> None:
            self.weather = weather
            self._changed.set()
            self._changed = asyncio.Event()

        self._call(change)

    def _call(self, function: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            function()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait()

    # in the loop

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=256)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Connection(self, reader, writer).run()

    async def _close(self) -> None:
        self._server.close()
        own = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not own]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def turn(self) -> list[int]:
        """The APIs' ports, whose turn it is first."""
        first = next(self._next) % len(self._backends)
        return self._backends[first:] + self._backends[:first]

    def fate(self, backend: int) -> Fate:
        """What becomes of the request that just came."""
        drawn = self._random.random()
        for fate, share in (
            ("reset", self.weather.reset),
            ("lose_reply", self.weather.lose_reply),
            ("half_open", self.weather.half_open),
        ):
            if drawn < share:
                self.faults[fate] += 1
                if fate == "lose_reply":
                    self.requests[backend] += 1
                return fate  # type: ignore[return-value]
            drawn -= share
        self.requests[backend] += 1
        return "pass"

    async def change_of_weather(self) -> None:
        await self._changed.wait()
