"""What chaos does to an installation, drawn from a seed. Every fault heals by itself after a while."""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.chaos.crew import Crew, Member
from tests.support.fault_proxy import CALM, Weather

Heal = Callable[[], None]


class Faults:
    """`strike` does the next fault; `heal_due` ends those whose time is over. `struck` counts them by name."""

    def __init__(self, crew: Crew, seed: int, *, lease_seconds: float) -> None:
        self._crew = crew
        self._random = random.Random(f"faults {seed}")
        self._past_lease = lease_seconds + 1.0
        self._heals: list[tuple[float, int, Heal]] = []
        self._order = itertools.count()
        self.struck: Counter[str] = Counter()
        self._kinds = self._all_kinds()
        self._next = self._schedule()

    def _all_kinds(self) -> dict[str, tuple[int, Callable[[], bool]]]:
        """Name → how often among all, and what it does; False where it cannot be done just now."""
        kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "kill-executor": (3, self._kill_executor),
            "kill-worker": (2, lambda: self._kill("worker")),
            "freeze-worker": (3, self._freeze_worker),
            "freeze-executor": (1, self._freeze_executor),
            "kill-searcher": (2, lambda: self._kill("searcher")),
            "freeze-searcher": (1, lambda: self._freeze("searcher", 1.5)),
            "kill-api": (1, lambda: self._kill("api")),
            "freeze-api": (1, lambda: self._freeze("api", 2.0)),
            "latency": (1, lambda: self._weather(Weather(latency_s=0.15), 2.0)),
            "reset": (1, lambda: self._weather(Weather(reset=0.3), 2.0)),
            "lost-reply": (2, lambda: self._weather(Weather(lose_reply=0.3), 2.0)),
            "half-open": (1, lambda: self._weather(Weather(half_open=0.3), self._past_lease)),
        }
        if self._crew.postgres is not None:
            kinds["kill-postgres"] = (1, lambda: self._kill_postgres(signal.SIGKILL))
            kinds["stop-postgres"] = (1, lambda: self._kill_postgres(signal.SIGQUIT))  # "immediate" shutdown
        if self._crew.redis is not None:
            kinds["kill-redis"] = (1, self._kill_redis)
            kinds["empty-redis"] = (1, self._empty_redis)
        return kinds

    def _schedule(self) -> Iterator[str]:
        """Each kind once, in an order of chance, then by their weights."""
        first = list(self._kinds)
        self._random.shuffle(first)
        yield from first
        weights = [weight for weight, _ in self._kinds.values()]
        while True:
            yield self._random.choices(list(self._kinds), weights)[0]

    def strike(self) -> None:
        """One fault; it counts only where it found somebody."""
        name = next(self._next)
        if self._kinds[name][1]():
            self.struck[name] += 1

    def heal_due(self, *, all_of_them: bool = False) -> None:
        """End the faults whose time is over."""
        while self._heals and (all_of_them or self._heals[0][0] <= time.monotonic()):
            heapq.heappop(self._heals)[2]()

    def missing(self) -> list[str]:
        """Kinds that have not been struck yet."""
        return [name for name in self._kinds if not self.struck[name]]

    def _later(self, seconds: float, heal: Heal) -> None:
        heapq.heappush(self._heals, (time.monotonic() + seconds, next(self._order), heal))

    def _pick(self, prefix: str) -> Member | None:
        able = [member for member in self._crew.named(prefix) if member.pid is not None and not member.frozen]
        return self._random.choice(able) if able else None

    def _kill(self, prefix: str) -> bool:
        member = self._pick(prefix)
        return member is not None and member.signal(signal.SIGKILL)

    def _kill_executor(self) -> bool:
        member = self._pick("worker")
        return member is not None and member.signal(signal.SIGKILL, executor=True)

    def _freeze(self, prefix: str, seconds: float) -> bool:
        member = self._pick(prefix)
        if member is None or not member.freeze():
            return False
        self._later(seconds, member.thaw)
        return True

    def _freeze_worker(self) -> bool:
        return self._freeze("worker", self._past_lease)

    def _freeze_executor(self) -> bool:
        """Its supervisor keeps the lease: this is a pause, not a loss."""
        member = self._pick("worker")
        if member is None or not member.signal(signal.SIGSTOP, executor=True):
            return False
        self._later(1.0, lambda: _ignore(member.signal(signal.SIGCONT, executor=True)))
        return True

    def _weather(self, weather: Weather, seconds: float) -> bool:
        self._crew.proxy.set(weather)
        self._later(seconds, lambda: self._calm(weather))
        return True

    def _calm(self, weather: Weather) -> None:
        if self._crew.proxy.weather is weather:  # else another weather has come since
            self._crew.proxy.set(CALM)

    def _kill_postgres(self, number: signal.Signals) -> bool:
        assert self._crew.postgres is not None
        self._crew.postgres.kill(number)
        time.sleep(0.3)
        self._crew.postgres.start()
        return True

    def _kill_redis(self) -> bool:
        """It comes back empty."""
        redis = self._crew.redis
        assert redis is not None
        redis.kill()
        time.sleep(0.3)
        redis.start()
        return True

    def _empty_redis(self) -> bool:
        assert self._crew.redis is not None
        self._crew.redis.empty()
        return True


def _ignore(_result: bool) -> None:
    pass
