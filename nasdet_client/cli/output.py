"""How results reach a person or a program: JSON on stdout, or tables; errors as one sentence on stderr."""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console

from nasdet_client.errors import CommandError
from nasdet_client.sdk import ApiError, NasdetClientError

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130  # what shells report for a process ended by Ctrl-C


WIDTH_OF_FILES = 120  # characters of a table that goes to a pipe or a file


def console() -> Console:
    """For results."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_FILES)


def error_console() -> Console:
    """For progress and errors, so that stdout holds results alone. Prints text as it is: paths may look like markup."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=not sys.stderr.isatty())


def print_json(value: Any) -> None:
    """Escaped where stdout has another encoding than UTF-8."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=plain) + "\n")


def say(text: str) -> None:
    """Print a line to stdout as it is, without wrapping."""
    sys.stdout.write(text + "\n")


def write_anything() -> None:
    """Let stdout and stderr escape what their encoding does not have, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def visible(text: str) -> str:
    """A name from a file for a table: control characters, with which it could write over a terminal, are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def exit_unless_succeeded(search: Mapping[str, Any]) -> None:
    """End the command with the search's reason. What the check refused is bad input, the rest is failed work."""
    if search["state"] != "succeeded":
        sentence = f"search {search['id']} {search['state']}: {search['reason']}"
        raise _end(sentence, 2 if search["state"] == "failed" and search["stage"] == "check" else 1)


def stop_in_order_when_told_to() -> None:
    """SIGTERM ends a command as Ctrl-C does: what it holds is given back, and nothing is left half done."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def command(function: Callable[P, R]) -> Callable[P, R]:
    """End with the design's exit codes: 2 for bad usage or input, 1 for failed work, with one sentence on stderr."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = function(*args, **kwargs)
            sys.stdout.flush()
            return result
        except CommandError as error:
            raise _end(str(error), error.exit_code) from error
        except ApiError as error:
            raise _end(str(error), 2 if error.about_input else 1) from error
        except NasdetClientError as error:
            raise _end(str(error), 1) from error
        except KeyboardInterrupt as interrupt:
            raise _end("stopped; what is finished is kept, and the same command goes on from there", INTERRUPTED) from (
                interrupt
            )
        except BrokenPipeError:
            raise typer.Exit(1) from None  # the reader of our output went away, e.g. `nasdet ... | head`
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
            raise _end(f"cannot write the output: {error.strerror}; make room and try again", 1) from error

    return guarded


def _end(sentence: str, exit_code: int) -> typer.Exit:
    sys.stderr.write(f"nasdet: {sentence}\n")
    return typer.Exit(exit_code)
