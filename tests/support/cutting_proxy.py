"""A TCP proxy that cuts a connection after exactly so many bytes: in a request's headers, its body, or an answer."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

_RESET = struct.pack("ii", 1, 0)


class CuttingProxy:
    """`cuts` says for each connection after how many bytes of (request, answer) it is reset; afterwards none is.

    Connections go to the `ports` in turn.
    """

    def __init__(self, ports: Sequence[int], cuts: Sequence[tuple[int | None, int | None]]) -> None:
        self._ports = list(ports)
        self._cuts: Iterator[tuple[int | None, int | None]] = iter(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._number = 0
        self.cut = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed by our end
            server = socket.create_connection(("127.0.0.1", self._ports[self._number % len(self._ports)]))
            self._number += 1
            up, down = next(self._cuts, (None, None))
            for source, target, limit in ((client, server, up), (server, client, down)):
                threading.Thread(target=self._pump, args=(source, target, limit), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        left = limit
        try:
            while data := source.recv(65536 if left is None else max(1, min(65536, left))):
                if left is not None:
                    data = data[:left]
                    left -= len(data)
                target.sendall(data)
                if left == 0:
                    self.cut += 1
                    for end in (source, target):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    break
        except OSError:
            pass  # the other direction was cut
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            if left == 0:
                end.close()
