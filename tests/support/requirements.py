"""What an installation of nasdet brings with it, read from the metadata of what is installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ALL_EXTRAS = ("embedded", "dev")


def installed_closure(root: str, extras: Iterable[str]) -> dict[str, str]:
    """Canonical name -> version of everything `root[extras]` needs here, without `root` itself.

    A requirement whose marker does not hold on this platform is left out.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(canonicalize_name(root), extra) for extra in ("", *extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        distribution = metadata.distribution(name)
        found[name] = distribution.version
        for line in distribution.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                child = canonicalize_name(requirement.name)
                todo.extend((child, wanted) for wanted in ("", *requirement.extras))
    del found[canonicalize_name(root)]
    return found
