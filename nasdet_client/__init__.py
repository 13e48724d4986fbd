"""The user's side of nasdet: a typed REST client, the `nasdet` command, and the embedded platform."""
