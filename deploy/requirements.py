"""`python requirements.py EXTRA...`: the packages that nasdet with these extras asks for, one a line.

An image installs them in a layer of its own, so that a change of nasdet's code reinstalls nothing else.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

PYPROJECT = Path("pyproject.toml")
_OWN = re.compile(r"nasdet\[(?P<extras>[^\]]+)\]")


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """Sorted and without repeats; an extra that names other extras of ours brings theirs. Raises KeyError for a
    name that is no extra."""
    known: dict[str, list[str]] = project["optional-dependencies"]
    wanted: set[str] = set(project["dependencies"])
    for extra in extras:
        for entry in known[extra]:
            own = _OWN.fullmatch(entry)
            if own is None:
                wanted.add(entry)
            else:
                wanted.update(requirements(project, own["extras"].split(",")))
    return sorted(wanted)


def main(extras: list[str]) -> int:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    try:
        lines = requirements(project, extras)
    except KeyError as error:
        sys.stderr.write(f"expected names of extras in {PYPROJECT}, got {error}; see [project.optional-dependencies]\n")
        return 2
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
