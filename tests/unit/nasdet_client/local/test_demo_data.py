"""The demo's pictures: a folder that is somebody else's stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdet_client.errors import CommandError
from nasdet_client.local.home import Home
from nasdet_client.local.runs import DEMO_DATA, prepare_demo_data


def test_a_foreign_folder_of_that_name_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / DEMO_DATA).mkdir()
    (tmp_path / DEMO_DATA / "mine.txt").write_text("mine")

    with pytest.raises(CommandError, match=DEMO_DATA) as refused:
        prepare_demo_data(Home(tmp_path), lambda _text: None)

    assert refused.value.exit_code == 2
    assert (tmp_path / DEMO_DATA / "mine.txt").read_text() == "mine"
