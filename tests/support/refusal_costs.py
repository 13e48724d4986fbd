"""What refusing a file costs: `python -m tests.support.refusal_costs FILE...` prints a line of JSON for each.

Every file is read in a process of its own, forked after the imports, so that its peak of memory is measured against
what the reader takes anyway. A read that does not end is ended.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from nasdet_core.errors import CheckpointError
from nasdet_core.importers.detnas import import_checkpoint

LONGEST = 20  # seconds
MEASURE_ITSELF = "measure itself"


def _measure(read: Callable[[], object]) -> dict[str, object]:
    """In the forked process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read()
        outcome = "accepted"
    except CheckpointError as error:
        outcome = f"refused: {error}"
    except BaseException:  # what a reader must never let out; the test shows it
        outcome = traceback.format_exc()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"outcome": outcome, "grown_mib": grown / 1024}


def _in_a_fork(read: Callable[[], object]) -> dict[str, object]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(LONGEST)
        os.write(writer, json.dumps(_measure(read)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    ended = {"outcome": f"killed after {LONGEST} s or by a crash", "grown_mib": 0}
    return dict(json.loads(answer)) if answer else ended


def main(files: Sequence[str]) -> None:
    """First the measure itself is measured, at 300 MiB: a limit that nothing can break would prove nothing."""
    reads: dict[str, Callable[[], object]] = {MEASURE_ITSELF: lambda: bytearray(300 * 2**20)}
    reads |= {file: partial(import_checkpoint, Path(file)) for file in files}
    for file, read in reads.items():
        sys.stdout.write(json.dumps({"file": Path(file).name, **_in_a_fork(read)}) + "\n")
        sys.stdout.flush()  # else the next fork would print it again


if __name__ == "__main__":
    main(sys.argv[1:])
