"""The home folder: lock, versions, registered datasets."""

from __future__ import annotations

import errno
import json
import os
from collections import namedtuple
from pathlib import Path

import pytest

from nasdet_client.errors import CommandError
from nasdet_client.local.home import HOME_SCHEMA, Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


class TestOpen:
    def test_makes_the_folder_readable_by_its_owner_alone(self, home: Home) -> None:
        home.open()
        home.close()

        assert home.path.stat().st_mode & 0o777 == 0o700
        assert json.loads((home.path / "home.json").read_text()) == {"schema": HOME_SCHEMA}

    def test_a_second_holder_is_refused_with_the_first_ones_process(self, home: Home) -> None:
        home.open()
        try:
            with pytest.raises(CommandError, match=rf"already open in process {os.getpid()}"):
                Home(home.path).open()
        finally:
            home.close()

    def test_closed_it_can_be_opened_again(self, home: Home) -> None:
        home.open()
        home.close()
        again = Home(home.path)
        again.open()
        again.close()

    def test_a_home_of_a_newer_version_is_refused_and_not_touched(self, home: Home) -> None:
        home.path.mkdir()
        text = json.dumps({"schema": HOME_SCHEMA + 1})
        (home.path / "home.json").write_text(text)

        with pytest.raises(CommandError, match="newer nasdet") as refused:
            home.open()

        assert refused.value.exit_code == 2
        assert (home.path / "home.json").read_text() == text

    def test_a_folder_with_another_home_json_is_refused(self, home: Home) -> None:
        home.path.mkdir()
        (home.path / "home.json").write_text("[]")

        with pytest.raises(CommandError, match=r'"schema" in .*home\.json, but it holds none; .*--home'):
            home.open()

    def test_a_schema_that_is_no_number_is_not_called_newer(self, home: Home) -> None:
        home.path.mkdir()
        (home.path / "home.json").write_text('{"schema": "x"}')

        with pytest.raises(CommandError, match='a whole number as "schema"'):
            home.open()

    def test_a_file_in_the_way_is_one_sentence(self, home: Home) -> None:
        home.path.write_text("a file")

        with pytest.raises(CommandError, match=r"cannot use .* as home.*--home"):
            home.open()

    def test_a_full_disk_is_said_before_anything_starts(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(100, 99, 1))

        with pytest.raises(CommandError, match=r"disk .* is full") as refused:
            home.open()

        assert refused.value.exit_code == 1

    def test_a_disk_that_fills_up_while_opening_is_failed_work(
        self, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_path: Path, **_options: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "mkdir", full)

        with pytest.raises(CommandError, match=r"disk .* is full") as refused:
            home.open()

        assert refused.value.exit_code == 1


class TestRegisterDataset:
    def test_the_name_is_the_directorys(self, home: Home, tmp_path: Path) -> None:
        home.open()
        (tmp_path / "Blood Cells").mkdir()

        assert home.register_dataset(tmp_path / "Blood Cells") == "blood-cells"
        stored = json.loads((home.path / "datasets" / "blood-cells.json").read_text())
        assert stored == {"path": str(tmp_path / "Blood Cells")}
        home.close()

    def test_another_directory_of_that_name_gets_a_name_of_its_own(self, home: Home, tmp_path: Path) -> None:
        home.open()
        for parent in ("a", "b"):
            (tmp_path / parent / "cells").mkdir(parents=True)

        first = home.register_dataset(tmp_path / "a" / "cells")
        second = home.register_dataset(tmp_path / "b" / "cells")

        assert first == "cells"
        assert second.startswith("cells-")
        assert home.register_dataset(tmp_path / "a" / "cells") == first
        assert home.register_dataset(tmp_path / "b" / "cells") == second
        home.close()

    def test_a_missing_directory_is_named(self, home: Home, tmp_path: Path) -> None:
        home.open()
        with pytest.raises(CommandError, match=r"nowhere does not exist; check --data"):
            home.register_dataset(tmp_path / "nowhere")
        home.close()

    def test_a_broken_entry_of_that_name_is_named(self, home: Home, tmp_path: Path) -> None:
        home.open()
        (tmp_path / "cells").mkdir()
        (home.path / "datasets" / "cells.json").write_text("{")

        with pytest.raises(CommandError, match=r"JSON in .*cells\.json.*delete that file") as refused:
            home.register_dataset(tmp_path / "cells")

        assert refused.value.exit_code == 2
        home.close()

    def test_a_name_that_was_given_is_kept(self, home: Home, tmp_path: Path) -> None:
        """In a home that no platform was ever opened on."""
        (tmp_path / "cells").mkdir()

        assert home.register_dataset(tmp_path / "cells", "Blood_Cells.v2") == "Blood_Cells.v2"
        assert home.register_dataset(tmp_path / "cells", "Blood_Cells.v2") == "Blood_Cells.v2"
        assert [path.name for path in (home.path / "datasets").iterdir()] == ["Blood_Cells.v2.json"]
        assert home.path.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("name", ["", "../cells", ".cells", "a b", "zellen-ü", "a/b", "-x", "x" * 201])
    def test_a_name_that_the_api_would_not_take_is_refused(self, name: str, home: Home, tmp_path: Path) -> None:
        (tmp_path / "cells").mkdir()

        with pytest.raises(CommandError, match="expected a dataset name") as refused:
            home.register_dataset(tmp_path / "cells", name)

        assert refused.value.exit_code == 2
        assert not list(home.path.rglob("*.json"))

    def test_a_name_of_another_directory_is_refused(self, home: Home, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        home.register_dataset(tmp_path / "a", "cells")

        with pytest.raises(CommandError, match=rf"'cells' already is that of {tmp_path / 'a'}.*another --name"):
            home.register_dataset(tmp_path / "b", "cells")

        assert json.loads((home.path / "datasets" / "cells.json").read_text()) == {"path": str(tmp_path / "a")}

    def test_registering_in_a_home_of_a_newer_version_is_refused(self, home: Home, tmp_path: Path) -> None:
        home.path.mkdir()
        (home.path / "home.json").write_text(json.dumps({"schema": HOME_SCHEMA + 1}))
        (tmp_path / "cells").mkdir()

        with pytest.raises(CommandError, match="newer nasdet"):
            home.register_dataset(tmp_path / "cells", "cells")

    def test_a_home_that_cannot_be_made_is_one_sentence(self, home: Home, tmp_path: Path) -> None:
        home.path.write_text("a file")
        (tmp_path / "cells").mkdir()

        with pytest.raises(CommandError, match=r"cannot use .* as home"):
            home.register_dataset(tmp_path / "cells", "cells")
