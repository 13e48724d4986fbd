"""`nasdet search ...`: searches of a running platform, over REST."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from nasdet_client.cli.connection import connect
from nasdet_client.cli.options import HomeOption, JsonOption, TokenOption, UrlOption, default_home
from nasdet_client.cli.output import command, error_console, exit_unless_succeeded, print_json, say
from nasdet_client.cli.progress import follow
from nasdet_client.cli.report import print_report
from nasdet_client.errors import CommandError
from nasdet_client.local.spec_file import read_specification

app = typer.Typer(help="Submit, watch and steer searches of a running platform.", no_args_is_help=True)

IdArgument = Annotated[int, typer.Argument(metavar="ID", min=1, help="The search's number.")]
PriorityOption = Annotated[
    int, typer.Option("--priority", min=-100, max=100, help="Searches of a higher priority go first.")
]


@app.command()
@command
def submit(
    specification: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The search specification.")],
    priority: PriorityOption = 0,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a search and print its number. `dataset:` names a dataset of the installation (`nasdet up --data DIR`)."""
    body = read_specification(specification)
    with connect(url, token, home) as client:
        summary = client.submit_search(body, priority=priority)
    _say_submitted(summary, as_json)


@app.command("list")
@command
def list_searches(
    url: UrlOption = None, token: TokenOption = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """List the searches, newest first."""
    with connect(url, token, home) as client:
        searches = client.searches()
    if as_json:
        print_json(searches)
        return
    if not searches:
        say("no searches yet; start one with: nasdet search submit SPEC.yaml")
    for entry in searches:
        say(_line(entry.get("search", entry)))


@app.command()
@command
def show(
    search_id: IdArgument,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a search has found so far."""
    with connect(url, token, home) as client:
        summary = client.search(search_id)
    if as_json:
        print_json(summary)
        return
    print_report(summary, home or default_home())
    if summary["search"]["reason"]:
        say(summary["search"]["reason"])
    waits_for = (summary.get("progress") or {}).get("waits_for")
    if waits_for:
        say(f"waits for {waits_for}")


@app.command()
@command
def watch(
    search_id: IdArgument,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow a search to its end, then print what it found. Exit code 1 when it did not succeed."""
    with connect(url, token, home) as client:
        summary = follow(client, search_id, error_console())
    print_json(summary) if as_json else print_report(summary, home or default_home())
    exit_unless_succeeded(summary["search"])


@app.command()
@command
def cancel(
    search_id: IdArgument,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a search for good. What it has measured stays."""
    with connect(url, token, home) as client:
        summary = client.cancel_search(search_id)
    _say_state(summary, as_json)


@app.command()
@command
def pause(
    search_id: IdArgument,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand out nothing more of a search until it is resumed. Running jobs go on to their end."""
    with connect(url, token, home) as client:
        summary = client.pause_search(search_id)
    _say_state(summary, as_json)


@app.command()
@command
def resume(
    search_id: IdArgument,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a paused search."""
    with connect(url, token, home) as client:
        summary = client.resume_search(search_id)
    _say_state(summary, as_json)


@app.command()
@command
def retry(
    search_id: IdArgument,
    gpu_hours: Annotated[
        float | None, typer.Option(min=0, help="A larger device budget, what was used included.")
    ] = None,
    wall_hours: Annotated[float | None, typer.Option(min=0, help="A new deadline, counted from now.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a failed or cancelled search again from where it ended. What succeeded stays."""
    for option, hours in (("--gpu-hours", gpu_hours), ("--wall-hours", wall_hours)):
        if hours is not None and not (math.isfinite(hours) and hours > 0):
            raise CommandError(f"{option}: expected a number of hours above 0, but got {hours}")
    with connect(url, token, home) as client:
        summary = client.retry_search(search_id, gpu_hours=gpu_hours, wall_hours=wall_hours)
    _say_state(summary, as_json)


@app.command()
@command
def clone(
    search_id: IdArgument,
    changes: Annotated[
        Path | None,
        typer.Option("--changes", metavar="SPEC.yaml", help="Sections that replace the old ones; null removes one."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the new search.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the new search.")] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Default: that of the old one.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a search's specification again, with changes."""
    given = {} if changes is None else read_specification(changes)
    given |= {key: value for key, value in (("name", name), ("seed", seed)) if value is not None}
    with connect(url, token, home) as client:
        summary = client.clone_search(search_id, given, priority=priority)
    _say_submitted(summary, as_json)


@app.command(context_settings={"ignore_unknown_options": True})  # -5 is a priority, and no option
@command
def priority(
    search_id: IdArgument,
    value: Annotated[int, typer.Argument(metavar="PRIORITY", min=-100, max=100, help="Higher goes first.")],
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what goes first: it holds from the next job that a worker takes."""
    with connect(url, token, home) as client:
        summary = client.set_priority(search_id, value)
    _say_state(summary, as_json)


def _say_submitted(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    number = summary["search"]["id"]
    say(f"search {number} is {summary['search']['state']}; follow it with: nasdet search watch {number}")


def _say_state(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    say(_line(summary["search"]))
    waits_for = (summary.get("progress") or {}).get("waits_for")
    if waits_for:
        say(f"waits for {waits_for}")


def _line(entry: dict[str, Any]) -> str:
    reason = f"  {entry['reason']}" if entry.get("reason") else ""
    return f"{entry['id']:>5}  {entry['state']:9}  {entry['stage']:9}  {entry.get('name', '')}{reason}"
