"""How long a client may take to say what it wants: a connection that does not get to the end of a request's header is
closed, so that nobody holds all of them by saying nothing.

The server itself has a limit only for connections that are idle between two requests; `BodyLimitMiddleware` has one for
bodies.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEADER_SECONDS = 15.0  # from its first byte, or from the connection's begin, to its last


class PatientProtocol(H11Protocol):
    """One connection, and the time until its next header must be complete."""

    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        super().connection_made(transport)
        self._cut = self.loop.call_later(HEADER_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle  # typed as if there always were one
        served = cycle is not None and not cycle.response_complete
        if served and self._cut is not None:
            self._cut.cancel()
            self._cut = None
        elif not served and self._cut is None:  # the first part of the next header
            self._cut = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
        super().connection_lost(exc)
