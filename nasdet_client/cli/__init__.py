"""The `nasdet` command: arguments in, text or JSON out. What the commands do lives in `sdk` and `local`."""
