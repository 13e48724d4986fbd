"""What an error in a job means, and how it is told. Imports no torch."""

from __future__ import annotations

from nasdet_core.errors import NasDetError

LONGEST_REASON = 2000  # characters; the log has the rest
# torch's CPU allocator raises a plain RuntimeError.
_CPU_ALLOCATOR_WORDS = ("can't allocate memory", "not enough memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory did not suffice: an answer about the candidate, not a defect."""
    if isinstance(error, MemoryError):
        return True
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(words in text for words in _CPU_ALLOCATOR_WORDS)


def out_of_memory_reason(error: BaseException) -> str:
    """One line for people."""
    lines = str(error).strip().splitlines()
    return f"out of memory ({lines[0] if lines else type(error).__name__})"[:LONGEST_REASON]


def failure_reason(error: BaseException) -> str:
    """Our own errors are sentences already; of others the kind is told as well."""
    if isinstance(error, NasDetError):
        return str(error)[:LONGEST_REASON]
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}"[:LONGEST_REASON] if lines else type(error).__name__
