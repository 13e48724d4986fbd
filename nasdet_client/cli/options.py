"""Options that several commands share, written once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nasdet_client.errors import CommandError

HOME_HELP = "Folder of the embedded platform (default: $NASDET_HOME, else ~/.nasdet)."

HomeOption = Annotated[Path | None, typer.Option("--home", help=HOME_HELP)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=64, help="Worker processes (default: 2, at most one per core)."),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        max=256,
        help="Threads per worker (default: half of the cores). Part of what repeats a run.",
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="Address of the API (default: $NASDET_URL, else the home's running platform)."),
]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", help="Access token (default: $NASDET_TOKEN, else the home's token file)."),
]


MAXIMUM_SIDE = 16384  # pixels


def image_size_of(text: str) -> tuple[int, int]:
    """(height, width) of the text of --image-size."""
    try:
        height, width = (int(side) for side in text.split(","))
    except ValueError as error:
        raise CommandError(f"--image-size: expected H,W in pixels such as 800,1088, but got {text!r}") from error
    if not 1 <= min(height, width) <= max(height, width) <= MAXIMUM_SIDE:
        raise CommandError(f"--image-size: expected H,W of 1 to {MAXIMUM_SIDE} pixels, but got {text!r}")
    return height, width


def default_home() -> Path:
    return Path(os.environ.get("NASDET_HOME") or Path.home() / ".nasdet")
