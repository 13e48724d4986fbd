"""`nasdet token ...`: access tokens of a running platform, over REST with a token of the scope admin."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from nasdet_client.cli.connection import connect
from nasdet_client.cli.options import HomeOption, JsonOption, TokenOption, UrlOption
from nasdet_client.cli.output import command, error_console, print_json, say

app = typer.Typer(help="Make, list and revoke access tokens of a running platform.", no_args_is_help=True)


class Scope(StrEnum):
    """What a token may do. None includes another."""

    READ = "read"
    WRITE = "write"
    WORKER = "worker"
    ADMIN = "admin"


@app.command()
@command
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it, e.g. alice or node-3.")],
    scopes: Annotated[
        list[Scope],
        typer.Option(
            "--scope",
            help="read: look; write: submit and steer; worker: do jobs; admin: tokens, audit. May be repeated.",
        ),
    ],
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it. It is shown this once: the platform keeps only its hash."""
    with connect(url, token, home) as client:
        made = client.create_token(name, list(dict.fromkeys(scopes)))
    if as_json:
        print_json(made)
        return
    say(made["token"])
    error_console().print(
        f"this is token {made['id']} ('{name}', {', '.join(made['scopes'])}); it is not shown again. "
        f"End it with: nasdet token revoke {made['id']}"
    )


@app.command("list")
@command
def list_tokens(
    url: UrlOption = None, token: TokenOption = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """List the tokens: what each may do and when it was last used. Never the tokens themselves."""
    with connect(url, token, home) as client:
        tokens = client.tokens()
    if as_json:
        print_json(tokens)
        return
    for entry in tokens:
        say(_line(entry))


@app.command()
@command
def revoke(
    token_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="The token's number, as `list` shows it.")],
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a token: the next request with it is refused."""
    with connect(url, token, home) as client:
        client.revoke_token(token_id)
    print_json({"id": token_id, "revoked": True}) if as_json else say(f"token {token_id} opens nothing any more")


def _line(entry: dict[str, Any]) -> str:
    state = "revoked" if entry["revoked_at"] else f"last used {_moment(entry['last_used_at'])}"
    return f"{entry['id']:>4}  {entry['name']:20}  {','.join(entry['scopes']):23}  {state}"


def _moment(seconds: float | None) -> str:
    return "never" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
