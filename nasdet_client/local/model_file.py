"""Detector files on this machine, as far as their header says what they hold. Torch is not needed."""

from __future__ import annotations

from pathlib import Path

from nasdet_client.errors import CommandError
from nasdet_core.errors import NasDetError
from nasdet_core.supernet.detector_header import DetectorHeader, read_detector_header

SUFFIX = ".safetensors"


def read_model_header(file: Path) -> DetectorHeader:
    """Raises CommandError when there is no such file, or it is no detector file."""
    try:
        if file.exists() and not file.is_file():  # opening a pipe would wait for a writer
            raise CommandError(f"expected a detector file, but {file} is a {'folder' if file.is_dir() else 'device'}")
        return read_detector_header(file)
    except OSError as error:
        raise CommandError(f"cannot read the detector file {file}: {error.strerror or error}") from error
    except NasDetError as error:
        raise CommandError(f"{error}; give the weights of a search's winner, or an imported detector") from error


def weights_file(home: Path, digest: str) -> Path:
    """Where the embedded platform of this home keeps the file with this SHA-256."""
    return home.expanduser().resolve() / "artifacts" / digest[:2] / digest
