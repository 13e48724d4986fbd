"""`python -m services.worker --home DIR --name worker-0 --url http://127.0.0.1:PORT [--threads N] [--slots N]`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

import pydantic

from nasdet_core.errors import NasDetError
from services.common.logging import configure_logging
from services.common.parent_watch import watch_parent
from services.common.settings import WorkerSettings
from services.worker.supervisor import Supervisor

HARD_STOP_SECONDS = 4.5
BAD_USAGE = 2


def read_settings(arguments: list[str] | None = None) -> WorkerSettings:
    """Arguments win over NASDET_* variables. Unless told otherwise a worker computes with half of the
    cores."""
    parser = argparse.ArgumentParser(
        prog="python -m services.worker", description="One worker: a supervisor, and an executor for each device."
    )
    parser.add_argument("--home", type=Path, help="folder of the installation")
    parser.add_argument("--name", help="name of this worker; one of a name at a time")
    parser.add_argument("--url", help="address of the API")
    parser.add_argument("--threads", type=int, help="threads of the executor; part of what repeats a result")
    parser.add_argument("--device", help="auto, cpu or cuda")
    parser.add_argument("--slots", type=int, help="executors: at most one per GPU, or so many on the CPU")
    parser.add_argument("--broker", dest="broker_url", help="address of Celery's broker; none: the worker polls")
    parser.add_argument("--token-file", dest="worker_token_file", type=Path, help="file with the worker's token")
    parser.add_argument("--data-root", type=Path, help="folder of the datasets, mounted alike on every machine")
    given = {key: value for key, value in vars(parser.parse_args(arguments)).items() if value is not None}
    settings = WorkerSettings(**given)
    if "threads" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"threads": max(1, (os.cpu_count() or 2) // 2)})


def main() -> int:
    try:
        settings = read_settings()
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        sys.stderr.write(f"setting {place} (argument or NASDET_{place.upper()}): {first['msg']}\n")
        return BAD_USAGE
    watch_parent(settings.parent_pipe)
    configure_logging("worker", log_format=settings.log_format, level=settings.log_level)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every poll says nothing
    try:
        supervisor = Supervisor(settings)

        def stop(_signal: int, _frame: object) -> None:
            # A request that the API never answers may not hold us: the executor notices our end by itself.
            timer = threading.Timer(HARD_STOP_SECONDS, os._exit, args=(0,))
            timer.daemon = True
            timer.start()
            supervisor.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        supervisor.run()
    except NasDetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
