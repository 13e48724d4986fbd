"""Where the installation's datasets lie: HOME/datasets/NAME.json (written by the operator) and folders of DATA_ROOT.

API and workers decide it in the same way, each by what it sees itself. A client names a dataset, never a path.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from nasdet_core.errors import NasDetError
from services.common.settings import HomeSettings

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}\Z")


class DatasetFolderError(NasDetError):
    """A name leads to something that is no folder of the installation."""


def root_folder(data_root: Path | None, name: str) -> Path | None:
    """The real path of DATA_ROOT/NAME; None where there is none. Raises DatasetFolderError when it leads outside."""
    if data_root is None or not _NAME.match(name):
        return None
    root = data_root.resolve()
    try:
        folder = (root / name).resolve(strict=True)
    except (OSError, RuntimeError):  # not there, or a link to itself
        return None
    if folder == root or not folder.is_relative_to(root):
        raise DatasetFolderError(
            f"dataset {name!r} leads out of the folder of all datasets ({data_root}, NASDET_DATA_ROOT); put the folder "
            "itself there, or a link to another one in it"
        )
    return folder if folder.is_dir() else None


def has_folder(settings: HomeSettings, name: str) -> bool:
    """Whether the installation itself has a dataset of this name; raises DatasetFolderError."""
    entry = settings.datasets / f"{name}.json"
    return bool(_NAME.match(name) and entry.is_file()) or root_folder(settings.data_root, name) is not None


def folder_names(settings: HomeSettings) -> dict[str, Literal["registered", "data_root"]]:
    """Name → "registered" or "data_root", sorted by name; their paths are nobody's business."""
    found: dict[str, Literal["registered", "data_root"]] = {}
    if settings.data_root is not None and settings.data_root.is_dir():
        for path in settings.data_root.iterdir():
            try:
                if root_folder(settings.data_root, path.name) is not None:
                    found[path.name] = "data_root"
            except DatasetFolderError:
                continue  # named in full where somebody asks for it
    if settings.datasets.is_dir():
        for path in settings.datasets.glob("*.json"):
            if _NAME.match(path.stem):
                found[path.stem] = "registered"
    return dict(sorted(found.items()))
