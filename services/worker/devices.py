"""Which devices a worker has, found without torch: one slot for each GPU, or several on the CPU."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from services.common.settings import WorkerSettings
from services.worker.errors import WorkerError

SMI_SECONDS = 30.0  # the driver may have to wake up
VISIBLE = "CUDA_VISIBLE_DEVICES"

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """One executor: its number, the worker's name it registers under, and the device it will see as the only one."""

    index: int
    name: str
    device: str  # auto, cpu or cuda, as the executor understands it
    environment: Mapping[str, str] = field(default_factory=dict)  # added to the executor's before its Python starts


def plan_slots(settings: WorkerSettings, environment: Mapping[str, str]) -> list[SlotPlan]:
    """The slots of this worker. Raises WorkerError with one sentence when there are not as many devices as asked for.

    `environment` is the one we inherited: a CUDA_VISIBLE_DEVICES in it is obeyed, entry by entry.
    """
    gpus = [] if settings.device == "cpu" else visible_gpus(environment)
    count = settings.slots or 1
    if gpus:
        wanted = len(gpus) if settings.slots is None else settings.slots
        if wanted > len(gpus):
            raise WorkerError(
                f"expected at most one slot per GPU, but got {wanted} slots and {len(gpus)} GPUs "
                f"({', '.join(gpus)}); give fewer with --slots or NASDET_SLOTS"
            )
        return [_slot(settings, index, wanted, "cuda", gpus[index]) for index in range(wanted)]
    if settings.device == "cuda":
        return [_unlisted_gpu(settings, count, gpus)]
    device = settings.device if count == 1 else "cpu"  # several on a GPU that we did not see would share it
    return [_slot(settings, index, count, device, None) for index in range(count)]


def _slot(settings: WorkerSettings, index: int, count: int, device: str, gpu: str | None) -> SlotPlan:
    name = settings.name if count == 1 else f"{settings.name}-{index}"
    return SlotPlan(index, name, device, {} if gpu is None else {VISIBLE: gpu})


def _unlisted_gpu(settings: WorkerSettings, count: int, gpus: list[str] | None) -> SlotPlan:
    """--device cuda where no GPU can be listed: perhaps torch finds one all the same."""
    if gpus is not None or count > 1:
        raise WorkerError(
            f"expected {count} GPUs for --device cuda, but none is to be seen here; check `nvidia-smi -L` and "
            f"{VISIBLE}, or start with --device cpu"
        )
    log.warning(
        "worker.gpus_not_listed",
        reason="nvidia-smi does not answer, so one executor is started on the GPU that CUDA shows first",
    )
    return _slot(settings, 0, 1, "cuda", None)


def visible_gpus(environment: Mapping[str, str]) -> list[str] | None:
    """What each executor gets as its CUDA_VISIBLE_DEVICES; empty where GPUs are hidden, None where nobody can tell.

    Inherited entries are passed on as they are: an index means CUDA's order, which only CUDA knows.
    """
    inherited = environment.get(VISIBLE)
    if inherited is not None:
        return _entries(inherited)
    listed = _smi_uuids()
    if not listed:
        return listed
    # In a container its runtime has already applied NVIDIA_VISIBLE_DEVICES, and numbered what is left anew: only
    # UUIDs still mean the same.
    granted = _entries(environment.get("NVIDIA_VISIBLE_DEVICES", ""))
    if granted and all(entry.startswith("GPU-") for entry in granted):
        return [uuid for uuid in listed if any(uuid.startswith(entry) for entry in granted)]
    if granted and all(entry.startswith("MIG-") for entry in granted):
        return granted  # nvidia-smi lists whole GPUs only
    return listed


def _entries(text: str) -> list[str]:
    """As CUDA reads it: everything from the first entry that is none is ignored."""
    found: list[str] = []
    for entry in (part.strip() for part in text.split(",")):
        if not (entry.isdigit() or entry.startswith(("GPU-", "MIG-"))):
            break
        found.append(entry)
    return found


def _smi_uuids() -> list[str] | None:
    """UUIDs of the GPUs that the driver knows; None where it cannot be asked."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--query-gpu=uuid", "--format=csv,noheader"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SMI_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("worker.nvidia_smi_failed", reason=str(error))
        return None
    return _entries(",".join(done.stdout.split()))
