"""Which files lie where in a dataset, and the one that an annotation file means.

Annotation files travel between systems: letter case, the form of accented letters (NFC, NFD), backslashes and the
picture's suffix come to differ from what is on disk. A folder is read once, when it is first asked for; after
that a look-up costs no access to the disk, which 120,000 names need.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from nasdet_core.data.pictures import SUFFIXES, inside

MAX_NAME_LENGTH = 4096  # the longest path that Linux takes
MAX_DEPTH = 32
_OTHER_SUFFIXES = (".gif", ".jpe", ".jfif", ".heic")  # formats that people convert from


class Found(NamedTuple):
    """A file below the dataset's root, and what differs between its name and the one asked for."""

    file: str
    remark: str | None


class _Names:
    """Names of one kind in one folder."""

    def __init__(self, names: Iterable[str], key: Callable[[str], str]) -> None:
        self._names = frozenset(names)
        self._key = key
        self._groups: dict[str, list[str]] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def alike(self, name: str) -> list[str]:
        """Those whose key is that of `name` but for letter case and unicode form; the closest first."""
        if self._groups is None:  # most folders never need it
            self._groups = _grouped((_alike(self._key(other)), other) for other in self)
        form = unicodedata.normalize("NFC", name)
        group = self._groups.get(_alike(name), [])
        return sorted(group, key=lambda other: (unicodedata.normalize("NFC", self._key(other)) != form, other))


class _Folder:
    def __init__(self, files: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
        self.files = _Names(files, str)
        self.folders = _Names(folders, str)
        self.pictures = _Names(filter(is_picture, self.files), _stem)


class PictureIndex:
    """The files below `root`. Nothing outside it is ever looked up; folders that lead back to one around them
    are left out, and so are names that cannot be written with forward slashes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = os.fspath(root)
        self._scanned: dict[str, _Folder] = {}
        self._stems: dict[str, dict[str, Found]] = {}
        self._places: dict[tuple[str, str], str | None] = {}

    def find(self, folder: str, name: str) -> Found | None:
        """The picture that an annotation file calls `name`, seen from `folder` (below root; '' is root itself).

        An exact match wins, and a leading './' is none the less exact. Otherwise backslashes, letter case and
        unicode form may differ, and at last the suffix; then there is a remark. None where nothing fits, and for
        names that leave the dataset.
        """
        return self._find(folder, name, any_suffix=True)

    def find_file(self, folder: str, name: str) -> Found | None:
        """As `find`, for a file of any kind; another suffix is another file."""
        return self._find(folder, name, any_suffix=False)

    def find_stem(self, folder: str, stem: str) -> Found | None:
        """The picture in `folder` whose name without suffix is `stem`; with a remark where that is not exact."""
        exact = self.by_stem(folder).get(stem)
        return exact or _closest(folder, stem, self._folder(folder).pictures.alike(stem))

    def by_stem(self, folder: str) -> dict[str, Found]:
        """Stem -> picture in `folder`. Of several with one stem the first by name is taken; the remark says so."""
        if folder not in self._stems:
            groups = _grouped((_stem(name), name) for name in self._folder(folder).pictures)
            self._stems[folder] = {stem: _first(folder, names) for stem, names in groups.items()}
        return self._stems[folder]

    def pictures(self, folder: str) -> tuple[str, ...]:
        """Pictures in `folder` itself by name, as paths below root; hidden files are none."""
        return tuple(_join(folder, name) for name in self._folder(folder).pictures)

    def pictures_below(self, folder: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(folder, its pictures) for `folder` and every one below it, by name; each folder once."""
        seen: set[str] = set()
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            real = os.path.realpath(os.path.join(self._base, current))
            if real in seen or current.count("/") >= MAX_DEPTH:
                continue
            seen.add(real)
            yield current, self.pictures(current)
            waiting.extend(_join(current, name) for name in reversed(self.folders(current)))

    def files(self, folder: str, suffix: str) -> tuple[str, ...]:
        """Files in `folder` itself with that suffix in any letter case, by name; hidden files are left out."""
        names = self._folder(folder).files
        return tuple(_join(folder, name) for name in names if name.lower().endswith(suffix) and name[:1] != ".")

    def folders(self, folder: str) -> tuple[str, ...]:
        """Names of the folders in `folder`, sorted; hidden ones are left out."""
        return tuple(self._folder(folder).folders)

    def place(self, folder: str, path: str) -> str | None:
        """The folder `path` seen from `folder`, spelled as on disk; letter case and unicode form may differ."""
        key = (folder, path)
        if key not in self._places:
            self._places[key] = self._walk(folder, path)
        return self._places[key]

    def _find(self, folder: str, name: str, *, any_suffix: bool) -> Found | None:
        if name in self._folder(folder).files:
            return Found(_join(folder, name), None)
        path = _normal(name)
        if path is None:
            return None
        parent, _, base = path.rpartition("/")
        where = self.place(folder, parent) if parent else folder
        if where is None:
            return None
        listing = self._folder(where)
        if base in listing.files:
            file = _join(where, base)
            same = "\\" not in name and file == _join(folder, path)
            return Found(file, None if same else f"{name!r} is listed, found as {file}")
        fitting = listing.files.alike(base) or (listing.pictures.alike(_stem(base)) if any_suffix else [])
        return _closest(where, name, fitting)

    def _walk(self, folder: str, path: str) -> str | None:
        normal = _normal(path)
        if normal is None:
            return None
        current = folder
        for part in filter(None, normal.split("/")):
            names = self._folder(current).folders
            fitting = [part] if part in names else names.alike(part)
            if not fitting:
                return None
            current = _join(current, fitting[0])
        return current

    def _folder(self, folder: str) -> _Folder:
        if folder not in self._scanned:
            self._scanned[folder] = self._scan(folder)
        return self._scanned[folder]

    def _scan(self, folder: str) -> _Folder:
        if folder and not inside(folder):
            return _Folder()
        path = os.path.join(self._base, folder)
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    kind = _kind(entry, path)
                    if kind is not None:
                        (files if kind == "file" else folders).append(entry.name)
        except (OSError, ValueError):  # not there, not readable, no name for a file: it holds nothing for us
            return _Folder()
        return _Folder(files, folders)


def _kind(entry: os.DirEntry[str], folder: str) -> Literal["file", "folder"] | None:
    if "\\" in entry.name:
        return None
    try:
        if entry.is_file():
            return "file"
        if not entry.is_dir() or entry.name.startswith("."):
            return None
        return None if entry.is_symlink() and _leads_back(entry.path, folder) else "folder"
    except OSError:  # a link to itself
        return None


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its name; '._x.jpg' and other hidden files are not."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _normal(name: str) -> str | None:
    """A path with forward slashes and without './' ('' for '.'); None where it leaves the dataset or is too long."""
    if len(name) > MAX_NAME_LENGTH:
        return None
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts:
        return ""
    return str(path) if len(path.parts) <= MAX_DEPTH and inside(str(path)) else None


def _leads_back(link: str, folder: str) -> bool:
    target, here = os.path.realpath(link), os.path.realpath(folder)
    return here == target or here.startswith(target.rstrip(os.sep) + os.sep)


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _stem(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and (dot + suffix).lower() in (*SUFFIXES, *_OTHER_SUFFIXES) else name


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _first(folder: str, names: list[str]) -> Found:
    file = _join(folder, names[0])
    return Found(file, f"{', '.join(names)} have the same name, {file} is used" if len(names) > 1 else None)


def _closest(folder: str, name: str, fitting: list[str]) -> Found | None:
    if not fitting:
        return None
    several = f", the first of {len(fitting)} files that fit" if len(fitting) > 1 else ""
    file = _join(folder, fitting[0])
    return Found(file, f"{name!r} is listed, found as {file}{several}")


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
