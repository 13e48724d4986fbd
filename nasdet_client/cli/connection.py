"""From options, environment and home to a client of a running platform."""

from __future__ import annotations

import os
from pathlib import Path

from nasdet_client.cli.options import default_home
from nasdet_client.errors import CommandError
from nasdet_client.local.home import Home
from nasdet_client.sdk import ConnectionSettingError, NasdetClient


def connect(url: str | None, token: str | None, home: Path | None) -> NasdetClient:
    """Raises CommandError when options, environment and home name no platform, or one that cannot be spoken to."""
    folder = Home(home or default_home())
    named = url or os.environ.get("NASDET_URL")
    address = named or folder.address()
    if address is None:
        raise CommandError(
            f"no platform is running on the home {folder.path}; start one with `nasdet up`, or name one with --url"
        )
    given = token or os.environ.get("NASDET_TOKEN")
    secret = given or folder.token()
    if secret is None:
        raise CommandError(f"no token in {folder.token_file}; give one with --token or in NASDET_TOKEN")
    try:
        return NasdetClient(address, secret, patience_s=10.0)
    except ConnectionSettingError as error:
        read = [file for file, used in ((folder.address_file, not named), (folder.token_file, not given)) if used]
        raise CommandError("; ".join([str(error), *(f"{file} was read" for file in read)])) from error
