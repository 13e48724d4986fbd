"""From options, environment and home to a client of a running platform."""

from __future__ import annotations

import os
from pathlib import Path

from nasdet_client.cli.options import default_home
from nasdet_client.errors import CommandError
from nasdet_client.local.home import Home
from nasdet_client.sdk import NasdetClient


def connect(url: str | None, token: str | None, home: Path | None) -> NasdetClient:
    """Raises CommandError when neither options, environment nor home name a platform."""
    folder = Home(home or default_home())
    address = url or os.environ.get("NASDET_URL") or folder.address()
    if address is None:
        raise CommandError(
            f"no platform is running on the home {folder.path}; start one with `nasdet up`, or name one with --url"
        )
    secret = token or os.environ.get("NASDET_TOKEN") or folder.token()
    if secret is None:
        raise CommandError(f"no token in {folder.token_file}; give one with --token or in NASDET_TOKEN")
    return NasdetClient(address, secret, patience_s=10.0)
