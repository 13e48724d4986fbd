"""How often workers shall be heard of."""

from __future__ import annotations

from services.api.workers.pace import Pace


def test_few_workers_beat_fast_and_many_share_a_hundred_a_second() -> None:
    pace = Pace(lease_seconds=30)
    assert pace.of(1) == 1.5
    assert pace.of(150) == 1.5
    assert pace.of(500) == 5.0
    assert pace.of(1000) == 10.0


def test_never_less_than_thrice_a_lease() -> None:
    assert Pace(lease_seconds=30).of(5000) == 10.0
    assert Pace(lease_seconds=3).of(1) == 1.0
