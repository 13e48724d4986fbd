"""`nasdet spaces` and `nasdet cost`: what can be searched, and what a choice costs. Nothing has to run for them."""

from __future__ import annotations

from typing import Annotated

import typer

from nasdet_client.cli.options import JsonOption
from nasdet_client.cli.output import command, print_json, say
from nasdet_client.errors import CommandError

MAXIMUM_SIDE = 16384  # pixels of a picture that a cost is asked for

app = typer.Typer(help="Search spaces: choice blocks, candidates, size.", no_args_is_help=True)


@app.command("list")
@command
def list_spaces(as_json: JsonOption = False) -> None:
    """List the search spaces and fixed models that a specification can name."""
    from nasdet_client.local.spaces import list_spaces as local_spaces

    entries = local_spaces()
    if as_json:
        print_json(entries)
        return
    for entry in entries:
        say(f"{entry['role']:9} {entry['kind'] + ':':7} {entry['name']:28} {entry['summary']}")


@app.command()
@command
def show(
    name: Annotated[str, typer.Argument(help="A name of `nasdet spaces list`.")], as_json: JsonOption = False
) -> None:
    """Show one space: its settings, choice blocks and candidates."""
    from nasdet_client.local.spaces import show_space

    space = show_space(name)
    if as_json:
        print_json(space)
        return
    say(f"{space['name']} ({space['role']}): {space['summary']}")
    say("settings: " + ", ".join(f"{key} {value}" for key, value in space["settings"].items()))
    if space["genotype"]:
        say(f"genotype: {' '.join(map(str, space['genotype']))}")
    if space["blocks"]:
        say(f"{space['genotypes']:.3g} genotypes over {len(space['blocks'])} choice blocks")
    for number, block in enumerate(space["blocks"]):
        choices = ", ".join(f"{index} {candidate}" for index, candidate in enumerate(block["candidates"]))
        say(f"{number:>4}  {block['name']:12} stride {block['stride']:<3} {choices}")


@command
def cost(
    name: Annotated[str, typer.Argument(metavar="SPACE_OR_MODEL", help="A backbone of `nasdet spaces list`.")],
    genotype: Annotated[
        str | None,
        typer.Option(help='Choices in network order, e.g. "2 1 2 0 ..."; `all-0` takes candidate 0 everywhere.'),
    ] = None,
    image_size: Annotated[str | None, typer.Option(metavar="H,W", help="Pixels (default: 224,224).")] = None,
    width: Annotated[float | None, typer.Option(help="Factor on all channels (default: 1).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print multiply-accumulates and parameters of a backbone."""
    from nasdet_client.local.spaces import backbone_cost

    result = backbone_cost(name, genotype, None if image_size is None else _size(image_size), width)
    if as_json:
        print_json(result)
        return
    height, pixels = result["image_size"]
    backbone = result["parts"]["backbone"]
    say(f"{'backbone':12} {backbone['macs']:>15,} MACs at {height}x{pixels}  {backbone['params']:>12,} parameters")
    if "classifier" in backbone:
        whole = backbone["classifier"]
        say(f"{'ImageNet net':12} {whole['macs']:>15,} MACs at 224x224  {whole['params']:>12,} parameters")


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in text.split(","))
    except ValueError as error:
        raise CommandError(f"--image-size: expected H,W in pixels such as 800,1088, but got {text!r}") from error
    if not 1 <= min(height, width) <= max(height, width) <= MAXIMUM_SIDE:
        raise CommandError(f"--image-size: expected H,W of 1 to {MAXIMUM_SIDE} pixels, but got {text!r}")
    return height, width
