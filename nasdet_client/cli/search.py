"""`nasdet search ...`: searches of a running platform, over REST."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nasdet_client.cli.connection import connect
from nasdet_client.cli.options import HomeOption, JsonOption, TokenOption, UrlOption, default_home
from nasdet_client.cli.output import command, error_console, exit_unless_succeeded, print_json, say
from nasdet_client.cli.progress import follow
from nasdet_client.cli.report import print_report
from nasdet_client.local.spec_file import read_specification

app = typer.Typer(help="Submit, watch and cancel searches of a running platform.", no_args_is_help=True)

IdArgument = Annotated[int, typer.Argument(metavar="ID", min=1, help="The search's number.")]


@app.command()
@command
def submit(
    specification: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The search specification.")],
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a search and print its number. `dataset:` names a dataset of the installation (`nasdet up --data DIR`)."""
    body = read_specification(specification)
    with connect(url, token, home) as client:
        summary = client.submit_search(body)
    if as_json:
        print_json(summary)
    else:
        number = summary["search"]["id"]
        say(f"search {number} is {summary['search']['state']}; follow it with: nasdet search watch {number}")


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
    print_json(summary) if as_json else say(_line(summary["search"]))


def _line(entry: dict[str, Any]) -> str:
    reason = f"  {entry['reason']}" if entry.get("reason") else ""
    return f"{entry['id']:>5}  {entry['state']:9}  {entry['stage']:9}  {entry.get('name', '')}{reason}"
