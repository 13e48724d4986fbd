"""`python -m nasdet_client` is the `nasdet` command."""

from nasdet_client.cli.main import app

app(prog_name="nasdet")
