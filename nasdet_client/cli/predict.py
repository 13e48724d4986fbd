"""`nasdet predict`: boxes on pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from nasdet_client.cli.options import JsonOption
from nasdet_client.cli.output import command, error_console, print_json, say


@command
def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A detector file, e.g. the winner's weights that a search prints.")
    ],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Pictures, or folders: all pictures directly in them.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the drawn pictures, made where needed: NAME.detections.png or .jpg.")
    ] = Path("detections"),
    score: Annotated[float, typer.Option(help="Lowest score that is shown, 0 to 1.")] = 0.3,
    force: Annotated[bool, typer.Option("--force", help="Overwrite drawn pictures.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find objects on pictures, print what was found and draw it into copies.

    Exit code 1 when a picture could not be read; the others are done all the same.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from nasdet_client.local.predict import PredictOptions
    from nasdet_client.local.predict import predict as local_predict

    columns = (TextColumn("looking at pictures"), BarColumn(), MofNCompleteColumn())
    notes = error_console()
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task("predict", total=None)
        found, unread = local_predict(
            model,
            images,
            PredictOptions(out, score, force),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            complain=lambda sentence: notes.print(f"nasdet: {sentence}"),
        )
    print_json(found) if as_json else _report(found, unread, score)
    if unread:
        raise typer.Exit(1)


def _report(found: Sequence[Mapping[str, Any]], unread: int, score: float) -> None:
    for picture in found:
        say(_line(picture))
    count = sum(len(picture["detections"]) for picture in found)
    failed = f"; {_counted(unread, 'picture')} could not be read" if unread else ""
    say(f"{_counted(len(found), 'picture')}, {_counted(count, 'detection')} of score {score:g} or more{failed}")


def _line(picture: Mapping[str, Any]) -> str:
    detections = picture["detections"]
    what = "nothing"
    if detections:
        best = detections[0]
        what = f"{_counted(len(detections), 'detection')}, best {best['class']} {best['score']:.2f}"
    return f"{picture['file']}: {what} -> {picture['drawn']}"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
