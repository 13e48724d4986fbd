"""The form of a search specification: which keys exist, their types and bounds.

Sections that belong to the core (the detector's parts, the recipes, the algorithm's options) are only checked
to be mappings here; the core reads them and refuses what it does not know.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from services.common.specification.errors import FieldError, SpecificationError

SCHEMA = 1
MAX_SEED = 2**32 - 1
MAX_IMAGE_SIDE = 16_384
MAX_LIST = 8

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
DatasetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$")]
Side = Annotated[int, Field(ge=1, le=MAX_IMAGE_SIDE)]
Settings = Annotated[dict[str, Any], Field(max_length=100)]


class Section(BaseModel):
    """Strict: `true` is no number, `"12"` is no number, an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DetectorBody(Section):
    backbone: Settings
    neck: Settings
    head: Settings


class LimitBody(Section):
    """Without `part` the whole detector is counted; without `image_size` at the supernet's."""

    metric: Literal["macs", "params"]
    max: Annotated[float, Field(gt=0, le=1e18)]
    part: Literal["backbone", "neck", "head"] | None = None
    image_size: tuple[Side, Side] | None = None


class BudgetBody(Section):
    gpu_hours: Annotated[float, Field(gt=0, le=1e6)] | None = None  # hours of one worker's device, CPU or GPU
    wall_hours: Annotated[float, Field(gt=0, le=1e6)] | None = None  # from the submission on, pauses included


class SpecificationBody(Section):
    """The body of `POST /v1/searches`, and the YAML file of `nasdet run`."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    name: Name | None = None
    dataset: DatasetName
    detector: DetectorBody
    objectives: Annotated[list[Any], Field(min_length=1, max_length=MAX_LIST)] = ["box_map"]
    limits: Annotated[list[LimitBody], Field(max_length=MAX_LIST)] = []
    supernet: Settings = {}
    search: Settings
    evaluation: Settings = {}
    final: Settings = {}
    budget: BudgetBody | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0


_SECTIONS: Mapping[tuple[str, ...], type[Section]] = {
    (): SpecificationBody,
    ("detector",): DetectorBody,
    ("limits",): LimitBody,
    ("budget",): BudgetBody,
}


def read_body(body: Mapping[str, Any]) -> SpecificationBody:
    """Check the form; raises SpecificationError with one sentence per field."""
    if not isinstance(body, Mapping):
        raise SpecificationError(
            [FieldError("", f"a mapping with {_known(SpecificationBody)} was expected, but {body!r:.80} came")]
        )
    try:
        text = json.dumps(dict(body), allow_nan=False, default=_refuse_value)
    except (ValueError, RecursionError) as error:
        if isinstance(error, SpecificationError):
            raise
        message = f"values of JSON were expected (no NaN, no endless nesting), but: {error}"
        raise SpecificationError([FieldError("", message)]) from error
    try:
        return SpecificationBody.model_validate_json(text)
    except ValidationError as error:
        raise SpecificationError([_sentence(detail) for detail in error.errors()]) from error


def refuse_unknown_keys(loc: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise SpecificationError for every key of a section that it does not have."""
    errors = [FieldError(f"{loc}.{key}", _unknown(key, known)) for key in given if key not in known]
    if errors:
        raise SpecificationError(errors)


def _refuse_value(value: object) -> NoReturn:
    message = (
        f"texts, numbers, lists and mappings were expected, but {value!r:.80} came; put it in quotes if it is a text"
    )
    raise SpecificationError([FieldError("", message)])


def _sentence(detail: Any) -> FieldError:
    """One of pydantic's errors as a sentence of ours."""
    path: tuple[str | int, ...] = detail["loc"]
    loc = ".".join(str(step) for step in path)
    kind = detail["type"]
    if kind == "extra_forbidden":
        section = _SECTIONS[tuple(step for step in path[:-1] if isinstance(step, str))]
        return FieldError(loc, _unknown(str(path[-1]), _keys(section)))
    if kind == "missing":
        return FieldError(loc, "is missing; every specification needs it")
    message = str(detail["msg"]).removeprefix("Input ").removeprefix("should be ").removeprefix("should ")
    return FieldError(loc, f"expected {message}, got {detail['input']!r:.80}")


def _unknown(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"is not a known key{hint}; known: {', '.join(known)}"


def _keys(section: type[Section]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in section.model_fields.items())


def _known(section: type[Section]) -> str:
    return ", ".join(_keys(section))
