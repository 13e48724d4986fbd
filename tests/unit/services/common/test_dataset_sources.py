"""Names of datasets and the folders they lead to: below the data root, whatever spelling and whatever links."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.dataset_sources import DatasetFolderError, folder_names, has_folder, root_folder
from services.common.settings import HomeSettings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for folder in ("scenes", "more/inner", "more/.git"):
        (root / folder).mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to("..")
    (root / "self").symlink_to(".")
    (root / "loop").symlink_to("loop")
    (root / "other-name").symlink_to("scenes")
    (root / "file").write_text("")
    return root


def test_a_folder_or_a_link_to_one_beside_it(root: Path) -> None:
    assert root_folder(root, "scenes") == (root / "scenes").resolve()
    assert root_folder(root, "other-name") == (root / "scenes").resolve()
    assert root_folder(None, "scenes") is None
    for name in ("nothing", "file", "loop"):
        assert root_folder(root, name) is None


@pytest.mark.parametrize("name", ["out", "up", "self"])
def test_what_leads_outside_is_refused_by_name(root: Path, name: str) -> None:
    with pytest.raises(DatasetFolderError, match=f"'{name}' leads out of"):
        root_folder(root, name)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.one_of(
        st.lists(
            st.sampled_from(
                ["..", ".", "/", "\\", "scenes", "more", "inner", "out", "secret", "%2e", "\0", ";", "\n", " "]
            ),
            max_size=5,
        ).map("".join),
        st.text(max_size=12),
    )
)
def test_no_spelling_leads_out_of_the_root(root: Path, name: str) -> None:
    try:
        found = root_folder(root, name)
    except DatasetFolderError:
        return
    assert found is None or found in {(root / folder).resolve() for folder in ("scenes", "more")}


def test_names_of_the_installation(root: Path, tmp_path: Path) -> None:
    home = HomeSettings(home=tmp_path / "home", data_root=root)
    assert folder_names(home) == dict.fromkeys(("more", "other-name", "scenes"), "data_root")
    (tmp_path / "home" / "datasets").mkdir(parents=True)
    for name in ("scenes", "cells", ".hidden", "with space"):
        (tmp_path / "home" / "datasets" / f"{name}.json").write_text(json.dumps({"path": "/nowhere"}))
    assert folder_names(home) == {
        "cells": "registered", "more": "data_root", "other-name": "data_root", "scenes": "registered",
    }  # fmt: skip
    assert [has_folder(home, name) for name in ("cells", "scenes", "more", "file", "../data", "")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
