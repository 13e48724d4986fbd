"""`nasdet spaces` and `nasdet cost`: what can be searched, and what a choice costs. Nothing has to run for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from nasdet_client.cli.options import JsonOption, image_size_of
from nasdet_client.cli.output import command, print_json, say

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
    """Show one space: its settings, choice blocks and candidates; of a published network the reported figures."""
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
    if space["published"]:
        _say_published(space["published"])


def _say_published(figures: Mapping[str, Any]) -> None:
    """What the authors report, each figure with its source."""
    say(
        f'reported: {_short(figures["macs"])} MACs (there "FLOPs") and {_short(figures["params"])} parameters with '
        f"ImageNet classifier, errors {figures['top1_error_percent']:.1f} % (top-1) and "
        f"{figures['top5_error_percent']:.1f} % (top-5); {figures['source']}"
    )
    for ap in figures["ap"]:
        say(f"reported: {ap['metric']} {ap['value']:.3f} on {ap['data']}; {ap['source']}")
    if figures["remark"]:
        say(f"remark: {figures['remark']}")


def _short(count: float) -> str:
    return f"{count / 1e9:g}G" if count >= 1e9 else f"{count / 1e6:g}M"


@command
def cost(
    target: Annotated[
        str,
        typer.Argument(
            metavar="SPACE_OR_MODEL",
            help="A backbone of `nasdet spaces list`, a detector file, or a specification (SPEC.yaml).",
        ),
    ],
    genotype: Annotated[
        str | None,
        typer.Option(help='Choices in network order, e.g. "2 1 2 0 ..."; `all-0` takes candidate 0 everywhere.'),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(metavar="H,W", help="Pixels (default: 224,224 of a backbone, else the detector's own input)."),
    ] = None,
    width: Annotated[float | None, typer.Option(help="Factor on all channels of a backbone (default: 1).")] = None,
    last_conv: Annotated[
        int | None,
        typer.Option(
            min=1, max=16384, help="Channels of the ImageNet form's last convolution (default: the network's own)."
        ),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Object classes of the data; needed for a specification.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print multiply-accumulates and parameters of a backbone, or of a whole detector and its parts."""
    from nasdet_client.local.cost import CostOptions, cost_of

    size = None if image_size is None else image_size_of(image_size)
    result = cost_of(target, CostOptions(genotype, size, width, last_conv, classes))
    if as_json:
        print_json(result)
        return
    height, pixels = result["image_size"]
    if "space" in result:
        _say_space(result, f"{height}x{pixels}")
        return
    for role, part in result["parts"].items():
        _say_cost(role, part, f"{height}x{pixels}")
    if len(result["parts"]) > 1:
        _say_cost(f"total ({result['classes']} classes)", result, f"{height}x{pixels}")
    if "classifier" in result["parts"]["backbone"]:
        _say_cost("ImageNet net", result["parts"]["backbone"]["classifier"], "224x224")


def _say_space(result: Mapping[str, Any], size: str) -> None:
    say(f"{result['space']}: {result['blocks']} blocks, {result['genotypes']:.3g} genotypes; give one with --genotype")
    for word in ("smallest", "largest"):
        say(f"{word:18} {result['macs'][word]:>17,} MACs at {size}  {result['params'][word]:>13,} parameters")
    if result["supernet"] is not None:
        say(f"{'supernet':18} {'':>17} {'':{len(size) + 8}}  {result['supernet']['params']:>13,} parameters")


def _say_cost(name: str, cost: Mapping[str, Any], size: str) -> None:
    say(f"{name:18} {cost['macs']:>17,} MACs at {size}  {cost['params']:>13,} parameters")
