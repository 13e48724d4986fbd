"""The executor: the process that computes. `python -m services.worker.executor`, started by the supervisor
only.

It reads jobs from its stdin and answers on its stdout, one JSON object a line; everything it prints goes to
the log. It lands results and checkpoints at the API by itself, and leaves claims, heartbeats and the end of
a job to its supervisor. When its stdin ends, the supervisor is dead and the lease with it: it exits at
once.
"""

from __future__ import annotations

import importlib
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nasdet_core.errors import NasDetError
from services.worker.api_client import ApiClient
from services.worker.artifact_cache import ArtifactCache
from services.worker.channel import Message, MessageWriter, read_messages
from services.worker.context import ExecutorFacts, JobContext
from services.worker.errors import JobStoppedError, StaleAttemptError
from services.worker.memory import free_memory
from services.worker.reasons import failure_reason, is_out_of_memory, out_of_memory_reason
from services.worker.resident import Resident
from services.worker.work import JobOutcome, JobRequest

JobFunction = Callable[[JobRequest, JobContext], JobOutcome]
JobTable = Mapping[str, JobFunction]

PARENT_DIED = 3


def real_jobs() -> JobTable:
    """Kind -> function. Imports torch, which takes seconds."""
    from services.worker.jobs.table import JOBS

    return JOBS


def load_job_table(plugin: str | None) -> JobTable:
    """The jobs of this version, or what an importable test module makes of them."""
    if plugin is None:
        return real_jobs()
    table: JobTable = importlib.import_module(plugin).job_table(real_jobs)
    return table


class Executor:
    """Runs one job at a time in the main thread; a second thread listens to the supervisor."""

    def __init__(self, writer: MessageWriter) -> None:
        self._writer = writer
        self._jobs: queue.SimpleQueue[JobRequest] = queue.SimpleQueue()
        self._current: JobContext | None = None
        self._stopped: set[tuple[int, int]] = set()  # asked to stop, perhaps before they were begun
        self._lock = threading.Lock()
        self._resident = Resident()
        self._cache: ArtifactCache | None = None

    def prepare(self, configuration: Message) -> None:
        """The slow part: import what the jobs need, find the device, say that we are ready."""
        self._table = load_job_table(configuration["job_plugin"])
        device, device_name, facts = describe_device(configuration["device"], configuration["threads"])
        self._facts = ExecutorFacts(
            home=Path(configuration["home"]),
            device=device,
            threads=configuration["threads"],
            checkpoint_seconds=configuration["checkpoint_seconds"],
            data_root=None if configuration.get("data_root") is None else Path(configuration["data_root"]),
        )
        cache_bytes: int | None = configuration.get("cache_bytes")
        if cache_bytes is not None:
            self._cache = ArtifactCache(self._facts.home / "cache", cache_bytes)
        if "torch" in sys.modules:
            from nasdet_core.training.determinism import set_deterministic

            set_deterministic(self._facts.threads)
        self._api = ApiClient(configuration["url"], configuration["token"], on_wait=self._tick)
        self._writer.send({"type": "ready", "device_class": device, "device_name": device_name, "facts": facts})

    def hear(self, message: Message) -> None:
        """A message of the supervisor, in the listening thread."""
        if message["type"] == "job":
            self._jobs.put(JobRequest.from_json(message["job"]))
        elif message["type"] == "stop":
            with self._lock:
                current = self._current
                self._stopped.add((message["job"], message["attempt"]))
            if current is not None and (current.job.id, current.job.attempt) in self._stopped:
                current.stop()

    def run_forever(self) -> None:
        while True:
            self._run(self._jobs.get())

    def _run(self, job: JobRequest) -> None:
        def send_progress(counter: int, shown: Mapping[str, Any]) -> None:
            self._answer(job, "progress", counter=counter, progress=dict(shown))

        context = JobContext(
            job,
            api=self._api,
            facts=self._facts,
            resident=self._resident,
            send_progress=send_progress,
            cache=self._cache,
        )
        with self._lock:
            self._current = context
            if (job.id, job.attempt) in self._stopped:
                context.stop()
        try:
            outcome = self._outcome(job, context)
            done = outcome.to_json(job.attempt)
            self._answer(job, "done", done=done, resident=self._resident.hashes())
        except StaleAttemptError as error:
            context.log(f"job {job.id}, attempt {job.attempt} belongs to somebody else now: {error}")
            self._answer(job, "stale", resident=self._resident.hashes())
        except JobStoppedError:
            context.log(f"job {job.id}, attempt {job.attempt} was stopped")
            self._answer(job, "stopped", resident=self._resident.hashes())
        finally:
            with self._lock:
                self._current = None
                self._stopped.clear()

    def _outcome(self, job: JobRequest, context: JobContext) -> JobOutcome:
        """Run the job's function; an error becomes an outcome with a reason, its traceback goes to the
        log."""
        function = self._table.get(job.kind)
        if function is None:
            known = ", ".join(sorted(self._table))
            return JobOutcome("failed", f"this worker cannot do jobs of kind {job.kind!r}; it knows {known}")
        context.log(f"job {job.id}, attempt {job.attempt}: {job.kind} begins")
        try:
            outcome = function(job, context)
        except (StaleAttemptError, JobStoppedError):
            raise
        except Exception as error:  # the process is fine: the next job may run in it
            traceback.print_exc()
            if is_out_of_memory(error):
                outcome = JobOutcome("infeasible", out_of_memory_reason(error))
            else:
                outcome = JobOutcome("failed", failure_reason(error))
        if outcome.outcome == "infeasible":
            self._resident.clear()
            free_memory()
        context.log(f"job {job.id}, attempt {job.attempt}: {outcome.outcome}")
        return outcome

    def _answer(self, job: JobRequest, kind: str, **values: Any) -> None:
        sys.stderr.flush()
        self._writer.send({"type": kind, "job": job.id, "attempt": job.attempt, **values})

    def _tick(self) -> None:
        """While the API is away: we are waiting, not hanging."""
        if self._current is not None:
            self._current.tick()


def describe_device(wanted: str, threads: int) -> tuple[str, str, dict[str, Any]]:
    """Device class, its name, and the facts that are stored beside a worker."""
    facts: dict[str, Any] = {"python": ".".join(map(str, sys.version_info[:3])), "threads": threads}
    facts["cpu_cores"] = os.cpu_count()
    if "torch" not in sys.modules and wanted == "cpu":  # only a test's job table can do without torch
        return "cpu", "cpu", facts
    import torch

    facts["torch"] = torch.__version__
    has_cuda = wanted != "cpu" and torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise NasDetError(
            f"expected a CUDA device as the settings say, but torch {torch.__version__} finds none; "
            f"check the driver, or set NASDET_DEVICE=cpu"
        )
    if not has_cuda:
        return "cpu", "cpu", facts
    properties = torch.cuda.get_device_properties(0)
    facts["device_memory_bytes"] = int(properties.total_memory)
    facts["cuda"] = torch.version.cuda
    return "cuda", properties.name, facts


def _own_streams() -> tuple[Any, Any]:
    """Take stdin and stdout for messages; what anybody prints from now on goes to stderr, the log."""
    commands = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return commands, answers


def main() -> None:
    commands, answers = _own_streams()
    messages = read_messages(commands)
    configuration = next(messages, None)
    if configuration is None:
        os._exit(PARENT_DIED)
    writer = MessageWriter(answers)
    executor = Executor(writer)

    def listen() -> None:
        try:
            for message in messages:
                executor.hear(message)
        finally:
            os._exit(PARENT_DIED)

    # Before the slow imports: a supervisor that dies meanwhile leaves nobody behind.
    threading.Thread(target=listen, name="supervisor", daemon=True).start()
    try:
        executor.prepare(configuration)
    except NasDetError as error:
        sys.stderr.write(f"{error}\n")
        writer.send({"type": "unable", "reason": str(error)})
        sys.exit(1)
    executor.run_forever()


if __name__ == "__main__":
    main()
