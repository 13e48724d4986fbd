"""A child that notices the death of its parent: no process of an installation outlives `nasdet up`.

The parent keeps the writing end of a pipe open and never writes; the child inherits the reading end.
However the parent dies, the kernel closes its end, and the read returns.
"""

from __future__ import annotations

import os
import threading

EXIT_PARENT_GONE = 3


def watch_parent(descriptor: int | None) -> threading.Thread | None:
    """Exit this process at once when the other end of `descriptor` closes; None = no parent to watch.

    `os._exit` on purpose: a process whose parent was killed must not hang in somebody's clean-up. Nothing
    is lost by it, since leases and transactions are made for a kill at any moment.
    """
    if descriptor is None:
        return None
    os.set_inheritable(descriptor, False)
    thread = threading.Thread(target=_wait_for_end, args=(descriptor,), name="parent-watch", daemon=True)
    thread.start()
    return thread


def _wait_for_end(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass  # a byte means nothing; only the end of file does
    os._exit(EXIT_PARENT_GONE)
