"""What ends a command, and with which exit code."""

from __future__ import annotations


class CommandError(Exception):
    """One sentence for stderr. Exit code 2: bad usage or input; 1: the work itself failed."""

    def __init__(self, sentence: str, exit_code: int = 2) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
