"""Giving memory back after an allocation failed. Imports no torch that is not there already."""

from __future__ import annotations

import gc
import sys


def free_memory() -> None:
    """Collect what failed work held, on the device too: the next piece may need all of it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
