"""Bells meet idle slots."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from services.worker.desk import Desk


def never() -> bool:
    return False


class Started:
    """A call in a thread, and what it gave."""

    def __init__(self, call: Callable[[], bool]) -> None:
        self.result: bool | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.result = self._call()

    def ended(self, seconds: float = 5.0) -> bool | None:
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        return self.result

    def runs(self) -> bool:
        time.sleep(0.15)
        return self._thread.is_alive()


def test_a_bell_wakes_one_slot_and_lasts_until_it_is_idle_again() -> None:
    desk = Desk()
    slots = [Started(lambda number=number: desk.wait(number, 10, never)) for number in range(2)]  # type: ignore[misc]
    time.sleep(0.05)
    bell = Started(lambda: desk.ring(1, never))
    assert bell.runs()
    (woken,) = [number for number, slot in enumerate(slots) if slot.result is True]
    again = Started(lambda: desk.wait(woken, 0.01, never))
    assert bell.ended() is True
    assert again.ended() is False


def test_a_second_bell_goes_to_the_other_slot() -> None:
    desk = Desk()
    slots = [Started(lambda number=number: desk.wait(number, 10, never)) for number in range(2)]  # type: ignore[misc]
    time.sleep(0.05)
    bells = [Started(lambda: desk.ring(1, never)) for _ in range(2)]
    assert [slot.ended() for slot in slots] == [True, True]
    desk.leave(0)
    desk.leave(1)
    assert [bell.ended() for bell in bells] == [True, True]


def test_a_bell_waits_a_while_for_a_slot_and_then_goes_back() -> None:
    desk = Desk()
    assert desk.ring(0.05, never) is False
    waiting = Started(lambda: desk.ring(5, never))
    assert waiting.runs()
    assert desk.wait(0, 5, never) is True
    desk.leave(0)
    assert waiting.ended() is True


def test_nobody_waits_once_the_worker_stops() -> None:
    desk = Desk()
    stopping = threading.Event()
    slot = Started(lambda: desk.wait(0, 60, stopping.is_set))
    time.sleep(0.05)
    bell = Started(lambda: desk.ring(1, stopping.is_set))
    assert slot.ended() is True
    idle = Started(lambda: desk.wait(1, 60, stopping.is_set))
    early = Started(lambda: desk.ring(60, stopping.is_set) if idle.runs() else False)
    stopping.set()
    assert idle.ended() is not None
    assert early.ended() is not None
    assert bell.ended() is True


def test_a_slot_looks_by_itself_when_no_bell_comes() -> None:
    assert Desk().wait(0, 0.02, never) is False
