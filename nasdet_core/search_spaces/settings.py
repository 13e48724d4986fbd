"""Reading the settings of a description: every key is known or refused by name, every value is checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nasdet_core.errors import GenotypeError, SettingError, UnknownNameError
from nasdet_core.search_spaces.base import Genotype

ALL_OF_ONE = re.compile(r"all-([0-9]{1,4})")
CHOICE = re.compile(r"[0-9]{1,4}")
MAX_GENOTYPE_TEXT = 10_000


def refuse_unknown_keys(what: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise UnknownNameError for the first key that `what` does not have."""
    for key in given:
        if key not in known:
            listed = ", ".join(known) if known else "none"
            raise UnknownNameError(f"{what}: unknown key {key!r}; known keys are {listed}")


def whole_number(what: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SettingError(f"{what}: a whole number from {low} to {high} was expected, but {value!r} came")
    return value


def real_number(what: str, value: object, low: float, high: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return float(value)  # comparisons with NaN are false, so it does not get here
    raise SettingError(f"{what}: a number from {low:g} to {high:g} was expected, but {value!r} came")


def one_of(what: str, value: object, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise SettingError(f"{what}: one of {', '.join(known)} was expected, but {value!r} came")
    return value


def names(what: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(item, str) for item in value):
        raise SettingError(f"{what}: a list of level names was expected, e.g. [c3, c4, c5], but {value!r} came")
    return tuple(value)


def parse_genotype(text_or_choices: object, length: int) -> Genotype:
    """Read `[2, 1, ...]`, `"2 1 2 0 ..."` (spaces, commas or slashes between choices) or `all-K`.

    Only the form is checked here; the part itself checks length and range.
    """
    if isinstance(text_or_choices, str):
        return _parse_genotype_text(text_or_choices, length)
    if isinstance(text_or_choices, list | tuple):
        for choice in text_or_choices:
            if isinstance(choice, bool) or not isinstance(choice, int):
                raise GenotypeError(f"genotype: whole numbers were expected, but {choice!r} came")
        return tuple(text_or_choices)
    raise GenotypeError(
        "genotype: a list of whole numbers, a text such as '2 1 2 0 ...' or 'all-0' was expected, "
        f"but {text_or_choices!r} came"
    )


def _parse_genotype_text(text: str, length: int) -> Genotype:
    if len(text) > MAX_GENOTYPE_TEXT:
        raise GenotypeError(f"genotype: at most {MAX_GENOTYPE_TEXT} characters were expected, but {len(text)} came")
    same = ALL_OF_ONE.fullmatch(text.strip())
    if same:
        return (int(same.group(1)),) * length
    words = re.split(r"[\s,/]+", text.strip(" \t\n,/"))
    for word in words:
        if not CHOICE.fullmatch(word):
            raise GenotypeError(
                f"genotype: whole numbers such as '2 1 2 0 ...' or 'all-0' were expected, but {word[:40]!r} came"
            )
    return tuple(int(word) for word in words)
