"""From what a file holds at its top to tensors by name; alike for what it claims and for what its reader gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nasdet_core.importers.foreign_file import Refused
from nasdet_core.importers.pickle_values import TensorClaim, word_for

WRAPPERS = ("model", "state_dict")  # under which training code keeps the weights, beside optimizer and schedule
PARALLEL_PREFIX = "module."  # of every name, when the model was saved from within torch's data parallelism
SHOWN = 3  # names in a message that says that something is wrong with many
LISTED = 100  # names in a message that lists what is wrong
SHOWN_LENGTH = 80  # characters of a name in a message

Weights = dict[str, Tensor]
Leaf = TensorClaim | Tensor | npt.NDArray[Any] | np.generic
_LEAVES = (TensorClaim, Tensor, np.ndarray, np.generic)


def weights_of(top: object) -> tuple[Weights, tuple[str, ...]]:
    """The tensors by name, and the names of what the file holds beside them. Claims become tensors without values.

    The weights are the top mapping, or what it has under `model` or `state_dict`. Refused unless all of them are
    tensors or arrays.
    """
    if not isinstance(top, dict):
        raise Refused(f"holds a {word_for(top)}, where a mapping from names to tensors is expected")
    wrapper = next((key for key in WRAPPERS if isinstance(top.get(key), dict)), None)
    inner = top if wrapper is None else top[wrapper]
    beside = () if wrapper is None else tuple(_text(key) for key in top if key != wrapper)
    others = [_text(name) for name, value in inner.items() if not isinstance(value, _LEAVES)]
    if others:
        raise Refused(f"holds {few(others)} among its weights, where tensors are expected")
    if not inner:
        raise Refused("holds no tensors")
    named = {_text(name): _tensor(value) for name, value in inner.items()}
    if len(named) < len(inner):
        raise Refused("has two tensors of one name")
    if all(name.startswith(PARALLEL_PREFIX) for name in named):
        named = {name.removeprefix(PARALLEL_PREFIX): tensor for name, tensor in named.items()}
    return named, beside


def few(names: list[str], most: int = SHOWN) -> str:
    """The first names, shortened, and how many there are besides."""
    shown = ", ".join(name[:SHOWN_LENGTH] for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _text(name: str | bytes | int) -> str:
    return name.decode("latin-1") if isinstance(name, bytes) else str(name)


def _tensor(value: Leaf) -> Tensor:
    if isinstance(value, TensorClaim):
        return torch.empty(value.shape, dtype=value.dtype, device="meta")
    if isinstance(value, Tensor):
        return value.detach()
    array = np.asarray(value)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
