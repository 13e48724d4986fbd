"""`nasdet import`: published checkpoints into files of ours. Nothing has to run for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from nasdet_client.cli.options import JsonOption, image_size_of
from nasdet_client.cli.output import command, error_console, print_json, say, visible

MOST_NAMES = 20  # of what a checkpoint holds beside its weights
FORMS = {
    "body": "DetNAS backbone without its ImageNet head",
    "classifier": "DetNAS ImageNet classifier",
    "faster-rcnn": "DetNAS Faster R-CNN with FPN",
    "retinanet": "DetNAS RetinaNet",
}


class Split(StrEnum):
    even_odd = "even_odd"
    shuffle = "shuffle"


@command
def import_checkpoint(
    family: Annotated[str, typer.Argument(help="Whose checkpoint it is: detnas.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint as its authors publish it.")],
    out: Annotated[
        Path | None, typer.Option(help="What to write (default: FILE with the suffix .safetensors).")
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option(help="How blocks split their channels (default: even_odd, shuffle for supernets)."),
    ] = None,
    space: Annotated[str | None, typer.Option(help="Search space of the backbone (default: found by looking).")] = None,
    width: Annotated[float | None, typer.Option(help="Factor on its channels (default: found by looking).")] = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="NAMES.txt", help="Class names of a detector, one a line (default for 80: COCO's)."),
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(metavar="H,W", help="Pixels of the input (default: 224,224; a detector's 800,1344).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what was written before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read a published checkpoint, check every tensor, and write it as a backbone or detector file.

    A checkpoint is refused, with a list of the differences, unless it holds exactly the tensors of the network that it
    is found to be.
    """
    from nasdet_client.local.importing import ImportOptions
    from nasdet_client.local.importing import import_checkpoint as local_import

    options = ImportOptions(
        out=out,
        split=split,
        space=space,
        width=width,
        classes=classes,
        image_size=None if image_size is None else image_size_of(image_size),
        force=force,
    )
    with error_console().status("reading the checkpoint"):
        result = local_import(family, file, options)
    if as_json:
        print_json(result)
        return
    for line in _lines(result):
        say(line)


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    height, width = result["input"]["image_size"]
    keys = result["keys"]
    scale = "" if result["width"] == 1 else f" of width {result['width']:g}"
    yield f"{result['file']}: {FORMS[result['form']]}{', supernet' if result['supernet'] else ''} ({result['format']})"
    yield f"{'backbone':12} {result['space']}{scale}, channels split by {result['split']}"
    if result["encoding"] is not None:
        yield f"{'encoding':12} {' '.join(map(str, result['encoding']))}"
    yield f"{'input':12} {height}x{width}, {result['input']['pixel_format']}"
    if result["classes"] is not None:
        yield f"{'classes':12} {result['classes']}"
    yield f"{'tensors':12} {keys['consumed']} used of {keys['present']}"
    macs = "" if result["macs"] is None else f"{result['macs']:,} MACs at {height}x{width}, "
    yield f"{'cost':12} {macs}{result['params']:,} parameters"
    if result["not_used"]:
        shown = ", ".join(visible(name[:40]) for name in result["not_used"][:MOST_NAMES])
        more = len(result["not_used"]) - MOST_NAMES
        yield f"{'not used':12} {shown}{f' and {more:,} more (--json)' if more > 0 else ''}"
    for note in result["notes"]:
        yield f"{'note':12} {note}"
    yield f"{'written':12} {result['out']} (sha256 {result['out_sha256']})"
