"""Datasets on this machine: what a check of them finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nasdet_client.errors import CommandError


def check_directory(directory: Path, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """The check's report. Raises CommandError when nothing below the directory can be used, or a package is missing."""
    try:
        from nasdet_core.data.check import check_dataset
        from nasdet_core.errors import NasDetError
    except ModuleNotFoundError as error:
        raise CommandError(
            f"reading pictures needs the package {error.name}; install it with: pip install 'nasdet[worker]'"
        ) from error
    try:
        return check_dataset(directory, progress)
    except NasDetError as error:
        raise CommandError(str(error)) from error
