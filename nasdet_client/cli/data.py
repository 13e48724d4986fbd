"""`nasdet data ...`: look at a dataset before a search does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasdet_client.cli.options import JsonOption
from nasdet_client.cli.output import command, error_console, print_json, say
from nasdet_client.cli.report import check_lines
from nasdet_client.local.data import check_directory

app = typer.Typer(help="Check datasets.", no_args_is_help=True)


@app.command()
@command
def check(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder in Pascal VOC or COCO format.")],
    as_json: JsonOption = False,
) -> None:
    """Count pictures, boxes and classes, and name the defects."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("checking pictures"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=error_console(), transient=True) as bar:
        task = bar.add_task("check", total=None)
        report = check_directory(directory, lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        print_json(report)
        return
    for line in check_lines(report):
        say(line)
