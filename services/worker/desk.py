"""Where a doorbell meets an idle slot. Knows no broker: the bell's thread calls `ring`, each slot `wait`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

GLANCE_SECONDS = 0.5  # how often somebody who waits looks whether the worker was asked to stop


@dataclass
class _Seat:
    """One slot as the desk sees it."""

    idle: bool = False
    rung: bool = False
    rounds: int = 0  # how often it became idle: whoever rang for it waits for the next time
    left: bool = False  # it ended, or holds still


class Desk:
    """Hands each bell to one idle slot, and tells the bell when that slot has nothing to do any more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seats: dict[int, _Seat] = {}

    def wait(self, slot: int, seconds: float, stopped: Callable[[], bool]) -> bool:
        """Be idle until a bell rings (True), the time is over or the worker stops."""
        deadline = time.monotonic() + seconds
        with self._changed:
            seat = self._seats.setdefault(slot, _Seat())
            seat.idle, seat.rung, seat.left = True, False, False
            seat.rounds += 1
            self._changed.notify_all()
            while not seat.rung and not stopped():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, GLANCE_SECONDS))
            seat.idle = False
            return seat.rung

    def leave(self, slot: int) -> None:
        """This slot takes no bells for now; whoever rang for it goes."""
        with self._changed:
            self._seats.setdefault(slot, _Seat()).left = True
            self._changed.notify_all()

    def ring(self, patience: float, stopped: Callable[[], bool]) -> bool:
        """Wake an idle slot and return once it has nothing to do any more; False when none was idle for so long."""
        deadline = time.monotonic() + patience
        with self._changed:
            while True:
                seat = next((seat for seat in self._seats.values() if seat.idle and not seat.rung), None)
                if seat is not None:
                    break
                left = deadline - time.monotonic()
                if left <= 0 or stopped():
                    return False
                self._changed.wait(min(left, GLANCE_SECONDS))
            seat.rung = True
            before = seat.rounds
            self._changed.notify_all()
            while seat.rounds == before and not seat.left and not stopped():
                self._changed.wait(GLANCE_SECONDS)
            return True
