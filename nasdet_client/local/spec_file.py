"""Search specifications as YAML 1.2 files (so that `80e6` is a number)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from nasdet_client.errors import CommandError

MAXIMUM_BYTES = 1 << 20


def read_specification(file: Path) -> dict[str, Any]:
    """Raises CommandError when the file is missing, too large, no YAML, or no mapping."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        if file.stat().st_size > MAXIMUM_BYTES:
            raise CommandError(f"expected a specification of at most 1 MiB, but {file} has {file.stat().st_size} bytes")
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot read the specification {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"expected UTF-8 text in {file}, but byte {error.start} is something else") from error
    try:
        body = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "an unknown line"
        raise CommandError(f"{file}, {where}: {error.problem or 'this is not YAML'}") from error
    except YAMLError as error:
        raise CommandError(f"{file} is not YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise CommandError(f"{file} is nested too deeply for a specification") from error
    if not isinstance(body, dict):
        raise CommandError(f"expected a mapping of keys such as `detector:` in {file}, but got {type(body).__name__}")
    try:
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CommandError(f"{file} holds a value that JSON cannot carry: {error}") from error
    return body


def specification_key(specification: dict[str, Any]) -> str:
    """The same text gives the same key: run again in the same home, a search is resumed and not started twice."""
    canonical = json.dumps(specification, sort_keys=True, separators=(",", ":"))
    return f"run-{hashlib.sha256(canonical.encode()).hexdigest()}"
