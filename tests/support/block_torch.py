"""A pytest plugin (`-p tests.support.block_torch`) under which torch cannot be imported.

API and searcher run in an environment without torch. This stands in for such an environment without the
minutes that installing one takes; `make test-no-torch` makes the real one.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

BLOCKED = frozenset({"torch", "torchvision", "pycocotools", "safetensors", "triton"})


class BlockTorch(importlib.abc.MetaPathFinder):
    """Answers an import of a blocked package as Python answers one that is not installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        package = fullname.partition(".")[0]
        if package in BLOCKED:
            raise ModuleNotFoundError(f"No module named {package!r} (blocked for this run)", name=package)
        return None


def _install() -> None:
    loaded = sorted(BLOCKED & set(sys.modules))
    if loaded:
        raise RuntimeError(f"{', '.join(loaded)} imported before the block: load this plugin with -p, first")
    sys.meta_path.insert(0, BlockTorch())


_install()
