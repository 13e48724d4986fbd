"""Addresses of databases that cannot be used are refused without their password."""

from __future__ import annotations

import pytest

from services.common.db.waiting import check_database_url
from services.common.errors import SettingError


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql+psycopg://u:se@cretpw@127.0.0.1:1/db", "%40"),
        ("postgresql+psycopg://u:secretpw@127.0.0.1:port/db", "no number"),
        ("oracle+nothing://u:secretpw@127.0.0.1/db", "cannot be used"),
    ],
)
def test_no_part_of_a_password_is_in_the_sentence(url: str, reason: str) -> None:
    with pytest.raises(SettingError, match=reason) as refused:
        check_database_url(url)
    assert "cretpw" not in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite:///nasdet.db", "postgresql+psycopg://u:se%40cret@127.0.0.1:5432/db"])
def test_what_can_be_used_passes(url: str) -> None:
    check_database_url(url)
