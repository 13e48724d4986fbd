"""Which XML file of a Pascal VOC dataset describes which picture."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple

from nasdet_core.data.pictures import SUFFIXES
from nasdet_core.data.readers.picture_index import Found, PictureIndex
from nasdet_core.data.readers.voc_layout import VocFolder


class Stem(NamedTuple):
    """A name without suffix, as on disk, and what differs from the name in the list."""

    name: str
    remark: str | None


class VocPairs:
    """Pairs by name, the exact ones first, so that no picture belongs to two XML files."""

    def __init__(self, index: PictureIndex, folder: VocFolder) -> None:
        self.folder = folder
        self._index = index
        self.xml_files = index.files(folder.xml, ".xml")
        self.xml_of = {PurePosixPath(file).stem: file for file in reversed(self.xml_files)}
        pictures = index.by_stem(folder.pictures)
        self._found = {xml: pictures[stem] for stem, xml in self.xml_of.items() if stem in pictures}
        self._taken = {found.file for found in self._found.values()}
        for xml in self.xml_files:
            if xml not in self._found:
                self._take(xml, index.find_stem(folder.pictures, PurePosixPath(xml).stem))

    def picture_of(self, xml: str) -> Found | None:
        """The picture named like the XML file."""
        return self._found.get(xml)

    def named_inside(self, xml: str, filename: str) -> Found | None:
        """The picture that <filename> names, unless it belongs to another XML file."""
        base = PurePosixPath(filename.replace("\\", "/")).name
        return self._take(xml, self._index.find(self.folder.pictures, base) if base else None)

    def without_xml(self) -> tuple[str, ...]:
        """Pictures that no XML file describes; asked once all `named_inside` have been."""
        stems = self._index.by_stem(self.folder.pictures).values()
        return tuple(found.file for found in stems if found.file not in self._taken)

    def picture_named(self, stem: str) -> Found | None:
        """The picture of exactly that stem."""
        return self._index.by_stem(self.folder.pictures).get(stem)

    def listed(self, line: str) -> Stem:
        """What a line of a split list means: NAME, NAME with a suffix, or NAME and a number ('cat_train.txt')."""
        for name in (line, line.split()[0]):
            if self._known(name):
                return Stem(name, None)
        name = line.split()[0]
        stem, _, suffix = name.rpartition(".")
        if f".{suffix.lower()}" in (*SUFFIXES, ".xml") and self._known(stem):
            return Stem(stem, f"{name!r} is listed, used as {stem}")
        found = self._index.find_file(self.folder.xml, f"{name}.xml")
        if found is None:
            return Stem(name, None)
        there = PurePosixPath(found.file).stem
        return Stem(there, f"{name!r} is listed, used as {there}")

    def _known(self, stem: str) -> bool:
        return stem in self.xml_of or self.picture_named(stem) is not None

    def _take(self, xml: str, found: Found | None) -> Found | None:
        if found is None or found.file in self._taken:
            return None
        self._taken.add(found.file)
        self._found[xml] = found
        return found
