"""Search specifications: what a user asks for, read, checked and resolved. Torch-free."""

from services.common.specification.body import SpecificationBody
from services.common.specification.errors import FieldError, SpecificationError
from services.common.specification.parse import Specification, parse_specification, recipe_json
from services.common.specification.resolve import (
    ResolvedSearch,
    check_at_submit,
    limit_name,
    resolve,
    resolve_stored,
)

__all__ = [
    "FieldError",
    "ResolvedSearch",
    "Specification",
    "SpecificationBody",
    "SpecificationError",
    "check_at_submit",
    "limit_name",
    "parse_specification",
    "recipe_json",
    "resolve",
    "resolve_stored",
]
