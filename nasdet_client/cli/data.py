"""`nasdet data ...`: look at a dataset before a search does, give it another form, make it known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from nasdet_client.cli.check_report import EFFECTS, print_check, print_short_check
from nasdet_client.cli.connection import connect
from nasdet_client.cli.options import HomeOption, JsonOption, TokenOption, UrlOption, default_home
from nasdet_client.cli.output import (
    INTERRUPTED,
    command,
    console,
    error_console,
    print_json,
    say,
    stop_in_order_when_told_to,
)
from nasdet_client.cli.upload import upload
from nasdet_client.errors import CommandError
from nasdet_client.local.data import (
    Pictures,
    Progress,
    SplitRequest,
    check_directory,
    convert_directory,
    register_directory,
    split_directory,
)
from nasdet_client.local.home import Home

app = typer.Typer(help="Check, convert, split and register datasets.", no_args_is_help=True)
app.command()(upload)

MOST_CLASSES = 20
LAYOUTS = "A folder in Pascal VOC, COCO or YOLO format."

DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help=LAYOUTS)]
OutOption = Annotated[Path, typer.Option("--out", metavar="OUT", help="A new or an empty folder for the result.")]
PicturesOption = Annotated[
    Pictures,
    typer.Option(
        help="Copy the pictures, make hard links to them, or write the annotation files alone (none).",
        show_default=True,
    ),
]


@app.command()
@command
def check(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help=f"{LAYOUTS[:-1]}, or one COCO file.")],
    annotations_only: Annotated[
        bool, typer.Option("--annotations-only", help="Check COCO files alone; the pictures need not be there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Count pictures, boxes and classes, and name the defects."""
    with _progress() as progress:
        report = check_directory(directory, progress, annotations_only=annotations_only)
    print_json(report) if as_json else print_check(report)


@app.command()
@command
def convert(
    directory: DirectoryArgument, out: OutOption, pictures: PicturesOption = "copy", as_json: JsonOption = False
) -> None:
    """Write a dataset of any known layout in COCO form. What cannot be used is left out and said."""
    with _nothing_half_done(out), _progress() as progress:
        result = convert_directory(directory, out, pictures, progress)
    print_json(result) if as_json else _print_written(result)


@app.command()
@command
def split(
    directory: DirectoryArgument,
    out: OutOption,
    train: Annotated[float | None, typer.Option(min=0, max=1, help="Fraction of all pictures for train.")] = None,
    val: Annotated[float | None, typer.Option(min=0, max=1, help="Fraction of all pictures for val.")] = None,
    test: Annotated[float | None, typer.Option(min=0, max=1, help="Fraction of all pictures for test.")] = None,
    search: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Take N pictures out of train to search on (DetNAS: 5000 on COCO)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 0,
    plain: Annotated[
        bool, typer.Option("--random", help="Draw by lot alone, as DetNAS did; without it classes are balanced.")
    ] = False,
    pictures: PicturesOption = "copy",
    as_json: JsonOption = False,
) -> None:
    """Write a dataset in COCO form with splits drawn by seed.

    A dataset of one set is divided 60 : 20 : 20 into train, val and test. --train, --val and --test deal out all
    pictures anew, whatever splits there are. --search takes pictures out of train and leaves the other splits.
    """
    fractions = {"train": train, "val": val, "test": test}
    given = any(value is not None for value in fractions.values())
    if given and search is not None:
        raise CommandError(
            "give either --search N, which leaves the splits as they are, or --train, --val and --test, which draw all "
            "pictures anew"
        )
    wanted = {name: value or 0.0 for name, value in fractions.items()} if given else None
    request = SplitRequest(wanted, search, seed, stratified=not plain)
    with _nothing_half_done(out), _progress() as progress:
        result = split_directory(directory, out, request, pictures, progress)
    if as_json:
        print_json(result)
        return
    if result["dissolved"]:
        say(f"the splits {', '.join(result['dissolved'])} are dissolved: all their pictures were dealt out anew")
    how = "balanced by class" if result["stratified"] else "by lot alone"
    say(f"drawn with seed {result['seed']}, {how}")
    _print_written(result)


@app.command()
@command
def register(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help=f"{LAYOUTS} Without it, --name is one that the platform sees.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The name for specifications (default: made from the folder's name).")
    ] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a dataset and make it known under a name, which a specification then gives as `dataset: NAME`.

    A platform elsewhere sees no folder of this machine: --name alone registers one below its data root, and
    `nasdet data upload DIR` sends one there.
    """
    if directory is None:
        _register_there(name, url, token, home, as_json=as_json)
        return
    if url is not None or token is not None:
        raise CommandError(
            f"the platform at {url or 'another place'} does not see {directory} of this machine; send it with "
            "`nasdet data upload DIR`, or leave DIR out to register a folder of its data root by --name"
        )
    folder = Home(home or default_home())
    with _progress() as progress:
        result = register_directory(directory, folder, name, progress)
    if as_json:
        print_json(result)
        return
    print_short_check(result["check"])
    say(f"registered as {result['name']} in {result['home']}")
    if result["platform"] is None:
        say(f"next: write `dataset: {result['name']}` into SPEC.yaml, then: nasdet run SPEC.yaml --home {folder.path}")
    else:
        say(f"known to the platform at {result['platform']}")
        say(
            f"next: write `dataset: {result['name']}` into SPEC.yaml, then: "
            f"nasdet search submit SPEC.yaml --home {folder.path}"
        )


def _register_there(name: str | None, url: str | None, token: str | None, home: Path | None, *, as_json: bool) -> None:
    """Make a folder below the data root of a platform known to it."""
    if name is None:
        raise CommandError("expected a dataset folder, or --name with a name that the platform sees, but got neither")
    with connect(url, token, home) as client:
        dataset = client.create_dataset(name)
        address = client.url
    if as_json:
        print_json({"name": name, "platform": address, "dataset": dataset})
        return
    say(f"{name} is known to the platform at {address}")
    say(f"next: write `dataset: {name}` into SPEC.yaml, then: nasdet search submit SPEC.yaml")


@contextmanager
def _nothing_half_done(out: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM take away what was written so far."""
    stop_in_order_when_told_to()
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise CommandError(f"stopped; nothing was written to {out}", exit_code=INTERRUPTED) from interrupt


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on stderr that shows what is being done."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, console=error_console(), transient=True) as bars:
        task = bars.add_task("reading", total=None)
        yield lambda stage, done, total: bars.update(task, description=stage, completed=done, total=total)


def _print_written(result: Mapping[str, Any]) -> None:
    console().print(_splits_table(result))
    _print_class_map(result)
    _print_defects(result["defects"])
    where = {
        "copy": "pictures copied",
        "link": "pictures linked: they share their bytes with the source",
        "none": f"annotation files alone; the names of the pictures are paths below {result['source']}",
    }
    say(f"written to {result['out']} in COCO form ({where[result['pictures']]})")


def _splits_table(result: Mapping[str, Any]) -> Table:
    """Pictures and boxes of each split, then for each class the share of its boxes that each split has."""
    splits = result["splits"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(("", *splits, "all")):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for key in ("pictures", "boxes"):
        counts = [entry[key] for entry in splits.values()]
        table.add_row(key, *(f"{count:,}" for count in counts), f"{sum(counts):,}")
    names = [entry["name"] for entry in result["classes"]]
    totals = {name: sum(entry["boxes_by_class"][name] for entry in splits.values()) for name in names}
    ranked = sorted(names, key=lambda name: -totals[name])
    for name in ranked[:MOST_CLASSES]:
        total = totals[name]
        shares = (f"{entry['boxes_by_class'][name] / total:.1%}" if total else "" for entry in splits.values())
        table.add_row(f"boxes of {escape(name)}", *shares, f"{total:,}")
    if len(ranked) > MOST_CLASSES:
        table.add_row(f"and {len(ranked) - MOST_CLASSES} more classes (--json)")
    return table


def _print_class_map(result: Mapping[str, Any]) -> None:
    """Said where the ids of the classes are other ones now."""
    changed = [entry for entry in result["classes"] if entry["source_id"] != entry["category_id"]]
    if not changed:
        return
    shown = [f"{entry['name']} {entry['source_id']} -> {entry['category_id']}" for entry in changed[:MOST_CLASSES]]
    more = len(changed) - len(shown)
    say(f"class ids from 1, as COCO has them: {', '.join(shown)}{f', and {more} more (--json)' if more else ''}")


def _print_defects(defects: list[Mapping[str, Any]]) -> None:
    for effect, title in EFFECTS.items():
        for defect in defects:
            if defect["effect"] == effect:
                say(f"{title}: {defect['count']:,} x {defect['kind'].replace('_', ' ')}, first: {defect['first']}")
