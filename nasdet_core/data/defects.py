"""Collects defects without letting a badly broken dataset fill the report."""

from __future__ import annotations

from nasdet_core.data.in_memory import Defect, Effect
from nasdet_core.errors import printable

SENTENCES_PER_KIND = 1000  # a report is stored with each dataset version

KINDS: dict[str, Effect] = {
    # annotation files
    "broken_json": "left out",  # an entry, or the rest of a file, that is no JSON
    "broken_annotation": "left out",  # an XML or label file that cannot be read
    "broken_split_line": "left out",
    "empty_split": "noted",
    "broken_category": "left out",
    "repeated_category": "repaired",
    "category_ids_differ": "repaired",
    "class_count_differs": "noted",  # YOLO: nc is not the number of names
    "unused_class": "noted",
    "category_ids_mapped": "noted",
    "foreign_path": "noted",  # <path> of somebody else's computer in a VOC file
    # entries of pictures
    "broken_image_entry": "left out",
    "repeated_image_id": "left out",
    "picture_listed_twice": "left out",
    "picture_in_two_splits": "left out",
    "missing_picture": "left out",
    "missing_annotation": "left out",
    "picture_name_differs": "repaired",  # case, unicode form, backslashes
    "picture_without_boxes": "noted",
    # objects
    "broken_box": "left out",
    "box_not_finite": "left out",
    "zero_area_box": "left out",
    "box_outside": "left out",
    "box_over_border": "noted",
    "repeated_box": "noted",
    "repeated_annotation_id": "noted",
    "annotation_without_picture": "left out",
    "unknown_class": "left out",
    "broken_area": "repaired",
    "shared_label": "noted",  # YOLO: two pictures with one label file
    "polygon_label": "repaired",  # YOLO: the box around a polygon
    # pictures
    "empty_picture": "left out",
    "truncated_picture": "left out",
    "undecodable_picture": "left out",
    "picture_too_large": "left out",
    "size_missing": "repaired",
    "wrong_size": "repaired",
    "wrong_size_and_boxes": "left out",
    "annotated_before_turning": "repaired",  # boxes made without regard to the EXIF orientation
    "exif_turned": "noted",
    "format_differs_from_name": "noted",
    "grey_picture": "noted",
    "palette_picture": "noted",
    "alpha_picture": "noted",
    "deep_picture": "noted",  # 16 bits a channel
    "other_colours": "noted",  # CMYK and the like
    "extreme_shape": "noted",
    # between splits
    "repeated_picture": "noted",
    "same_picture_in_two_splits": "noted",
    "similar_picture_in_two_splits": "noted",
    "class_in_one_split_only": "noted",
    "class_missing_in_a_split": "noted",
}
"""Every kind of defect, and what becomes of the thing that has it."""


class DefectLog:
    """Keeps the first sentences of each kind in full and counts the rest."""

    def __init__(self) -> None:
        self._sentences: dict[str, list[Defect]] = {}
        self._unsaid: dict[str, int] = {}

    def add(self, kind: str, message: str, count: int = 1) -> None:
        """`kind` is one of KINDS; a message is one sentence, whatever bytes a file's name holds."""
        said = self._sentences.setdefault(kind, [])
        if len(said) < SENTENCES_PER_KIND:
            said.append(Defect(kind, printable(message), count, KINDS[kind]))
        else:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + count

    def extend(self, defects: tuple[Defect, ...]) -> None:
        for defect in defects:
            self.add(defect.kind, defect.message, defect.count)

    def first(self) -> str | None:
        """The first sentence about something left out, to explain why nothing is left."""
        for kind, defects in self._sentences.items():
            if KINDS[kind] == "left out":
                return defects[0].message
        return None

    def defects(self) -> tuple[Defect, ...]:
        found: list[Defect] = []
        for kind, said in self._sentences.items():
            found.extend(said)
            if kind in self._unsaid:
                more = f"and {self._unsaid[kind]:,} more of this kind ({kind})"
                found.append(Defect(kind, more, self._unsaid[kind], KINDS[kind]))
        return tuple(found)
