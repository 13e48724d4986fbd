"""The growing file of an upload: held by one at a time, never a link, never outside of its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from services.api.datasets.drafts import ArchiveDraft, DraftBusyError, draft_names, draft_size

NAME = "a" * 32


def test_one_at_a_time_holds_it(tmp_path: Path) -> None:
    with ArchiveDraft(tmp_path, NAME, create=True), pytest.raises(DraftBusyError):
        ArchiveDraft(tmp_path, NAME, create=True)
    with ArchiveDraft(tmp_path, NAME, create=False) as draft:
        draft.close()
        draft.close()


def test_it_goes_on_where_it_is_told(tmp_path: Path) -> None:
    with ArchiveDraft(tmp_path, NAME, create=True) as draft:
        draft.write(b"0123456789")
        assert draft.sync() == 10
    with ArchiveDraft(tmp_path, NAME, create=False) as draft:
        draft.go_on_at(4)
        draft.write(b"abc")
        assert (draft.sync(), draft.size) == (7, 7)
        assert draft.sha256() == hashlib.sha256(b"0123abc").hexdigest()
    assert draft_size(tmp_path, NAME) == 7
    assert list(draft_names(tmp_path)) == [NAME]
    with ArchiveDraft(tmp_path, NAME, create=False) as draft:
        draft.remove()
    assert draft_size(tmp_path, NAME) == 0
    with pytest.raises(FileNotFoundError):
        ArchiveDraft(tmp_path, NAME, create=False)


@pytest.mark.parametrize("name", ["", "..", "../" + "a" * 29, "A" * 32, "a" * 33, "a" * 32 + "\n"])
def test_only_a_name_of_ours_is_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        ArchiveDraft(tmp_path, name, create=True)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    (tmp_path / NAME).symlink_to(tmp_path / "token")
    with pytest.raises(OSError, match="symbolic link"):
        ArchiveDraft(tmp_path, NAME, create=True)
    assert (tmp_path / "token").read_text() == "secret"
