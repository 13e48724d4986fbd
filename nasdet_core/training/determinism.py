"""Repeatability: seeds derived from a purpose, and torch switched to deterministic algorithms."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed of 63 bits for one purpose, for example `derive_seed(seed, "step", 17)`.

    Seeds of different purposes share nothing, and adding a new purpose changes no old one.
    """
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def set_deterministic(threads: int = 1) -> None:
    """Make every later computation of this process repeatable to the last digit, on the same kind of device.

    Sums in another order round differently, so the number of threads is part of what has to be the same. On
    CUDA, who starts the process also sets CUBLAS_WORKSPACE_CONFIG=:4096:8, or torch refuses matrix products.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # The default fills every fresh tensor to expose reads of uninitialised memory: a cost in time, not needed
    # here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch sets it up at run time
    torch.backends.cudnn.benchmark = False
