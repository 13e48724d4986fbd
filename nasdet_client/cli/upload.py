"""`nasdet data upload`: a dataset that lies here becomes the platform's, wherever that runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from nasdet_client.cli.connection import connect
from nasdet_client.cli.options import HomeOption, JsonOption, TokenOption, UrlOption
from nasdet_client.cli.output import command, error_console, print_json, say, stop_in_order_when_told_to
from nasdet_client.errors import CommandError
from nasdet_client.local.archive import SUFFIXES, open_archive, sha256_of
from nasdet_client.local.home import DATASET_NAME, MOST_NAME_CHARACTERS
from nasdet_client.sdk.upload import UploadRefusedError, send_archive


@command
def upload(
    source: Annotated[
        Path, typer.Argument(metavar="DIR_OR_ARCHIVE", help="A dataset folder, or a tar, tar.gz or zip file of one.")
    ],
    name: Annotated[
        str | None, typer.Option(help="The name for specifications (default: made from the folder's name).")
    ] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a dataset to the platform, which then knows it under a name.

    A folder is packed on the way, without a copy of it on this disk. Stopped or cut off, the same command goes on
    where it was. A new upload under the same name is a new version; searches that run keep theirs.
    """
    stop_in_order_when_told_to()
    named = _name(name, source)
    with connect(url, token, home) as client, _bar() as show:
        archive = open_archive(source)
        digest = sha256_of(archive, lambda done: show("reading", done, archive.size))
        try:
            done = send_archive(
                client,
                named,
                archive,
                digest,
                progress=lambda state: show(
                    "checking" if state["state"] == "checking" else "sending", state["offset"], archive.size
                ),
            )
        except UploadRefusedError as error:
            raise CommandError(str(error), exit_code=1) from error
        result = {"name": named, "archive": digest, "bytes": archive.size, "upload": done["id"], "platform": client.url}
    if as_json:
        print_json(result)
        return
    say(f"sent {archive.size:,} bytes as {named} to {result['platform']}")
    say(f"next: write `dataset: {named}` into SPEC.yaml, then: nasdet search submit SPEC.yaml")


def _name(given: str | None, source: Path) -> str:
    if given is None:
        base = source.expanduser().resolve().name.lower()
        suffix = next((suffix for suffix in SUFFIXES if source.is_file() and base.endswith(suffix)), "")
        made = re.sub(r"[^a-z0-9._-]+", "-", base.removesuffix(suffix)).strip("-.")
        return made[:MOST_NAME_CHARACTERS] or "dataset"
    if not DATASET_NAME.fullmatch(given) or len(given) > MOST_NAME_CHARACTERS:
        raise CommandError(
            f"expected a dataset name of at most {MOST_NAME_CHARACTERS} letters, digits, dots, dashes and underscores "
            f"that begins with a letter, digit or underscore, got {given!r}; choose another --name"
        )
    return given


@contextmanager
def _bar() -> Iterator[Any]:
    """A bar on stderr: what is being done, how many bytes of how many."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=error_console(), transient=True) as bars:
        task = bars.add_task("reading", total=None)
        yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total)
