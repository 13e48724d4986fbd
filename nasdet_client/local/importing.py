"""Published checkpoints into files of ours. Torch is needed, and only loaded when something is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdet_client.errors import CommandError
from nasdet_client.local.model_file import SUFFIX
from nasdet_core.errors import NasDetError

if TYPE_CHECKING:
    from nasdet_core.importers.detnas import Imported

Json = dict[str, Any]

FAMILIES = ("detnas",)
MAX_CLASS_FILE_BYTES = 2**20


@dataclass(frozen=True)
class ImportOptions:
    """What an import is asked for with; None where nothing was said."""

    out: Path | None = None
    split: str | None = None
    space: str | None = None
    width: float | None = None
    classes: Path | None = None  # a text file, one name a line
    image_size: tuple[int, int] | None = None  # (height, width) in pixels
    force: bool = False  # overwrite


def import_checkpoint(family: str, file: Path, options: ImportOptions) -> Json:
    """Read a checkpoint of a family, write it as a file of ours, and say what it is.

    Raises CommandError where the family is unknown, the checkpoint is refused, or the file cannot be written.
    """
    if family not in FAMILIES:
        raise CommandError(f"unknown family {family!r}; known families are {', '.join(FAMILIES)}")
    if not file.name:
        raise CommandError(f"expected a checkpoint file, but {file} is a folder")
    out = options.out or file.with_suffix(SUFFIX)
    _check_out(file, out, options.force)
    names = None if options.classes is None else _class_names(options.classes)
    imported = _read(file, options, names)
    return {**_description(imported), "out": str(out), "out_sha256": _write(imported, out)}


def _read(file: Path, options: ImportOptions, class_names: Sequence[str] | None) -> Imported:
    try:
        from nasdet_core.importers.detnas import import_checkpoint as import_detnas
    except ModuleNotFoundError as error:
        raise CommandError(
            f"importing needs the package {error.name}; install it with: pip install 'nasdet[worker]'"
        ) from error
    try:
        return import_detnas(
            file,
            split=options.split,
            space=options.space,
            width=options.width,
            class_names=class_names,
            image_size=options.image_size,
        )
    except NasDetError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot read the checkpoint {file}: {error.strerror or error}") from error


def _write(imported: Imported, out: Path) -> str:
    from nasdet_core.importers.detnas import save_imported

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return save_imported(imported, out)
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror or error}", exit_code=1) from error


def _check_out(file: Path, out: Path, force: bool) -> None:
    if out.exists() and file.exists() and out.samefile(file):
        raise CommandError(f"expected another file to write than the checkpoint {file} itself; give --out FILE")
    if out.exists() and not (force and out.is_file()):
        kind = "exists already" if out.is_file() else "is no file"
        raise CommandError(f"{out} {kind}; give --out FILE{', or --force to overwrite it' if out.is_file() else ''}")


def _class_names(file: Path) -> list[str]:
    try:
        if not file.is_file():
            raise CommandError(f"expected a text file of class names, but {file} is none")
        if file.stat().st_size > MAX_CLASS_FILE_BYTES:
            raise CommandError(f"expected class names of at most {MAX_CLASS_FILE_BYTES:,} bytes, but {file} has more")
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise CommandError(f"cannot read the class names {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"expected class names in UTF-8, but {file} is something else") from error
    while names and not names[-1]:
        names.pop()
    empty = [number for number, name in enumerate(names, start=1) if not name]
    if empty or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), "")
        wrong = f"line {empty[0]} is empty" if empty else f"{twice!r} is there twice"
        raise CommandError(f"expected one class name a line in {file}, each once, but {wrong}")
    return names


def _description(imported: Imported) -> Json:
    contents = imported.contents
    part = contents.part
    return {
        "family": imported.source["family"],
        "file": imported.source["file"],
        "sha256": imported.source["sha256"],
        "format": imported.file_format,
        "form": contents.form,
        "supernet": contents.supernet,
        "space": part.name,
        "width": part.width,
        "encoding": None if part.genotype is None else list(part.genotype),
        "split": part.split,
        "input": imported.input.to_json(),
        "classes": contents.num_classes,
        "class_names": list(imported.class_names),
        "last_channels": contents.last_channels,
        "keys": {"present": imported.present, "consumed": len(imported.consumed)},
        "not_used": list(imported.not_used),
        "notes": list(imported.notes),
        **_cost(imported),
    }


def _cost(imported: Imported) -> Json:
    """For one image of the input's size. A supernet has the parameters of all its candidates, and no MACs of its own:
    they hang on the path."""
    macs = None if imported.cost is None else imported.cost.macs
    params = sum(parameter.numel() for parameter in imported.model.parameters())
    return {"macs": macs, "params": params, "image_size": list(imported.input.image_size)}
