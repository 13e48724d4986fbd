"""Foreign weights into our modules, every tensor or none: what is there must be what is needed, name by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from nasdet_core.errors import CheckpointError
from nasdet_core.importers.named_weights import LISTED, SHOWN_LENGTH, few

BATCH_COUNTER = "num_batches_tracked"  # of a batch norm; inference does not need it, and old files do not have it

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Loaded(Generic[M]):
    """A module with foreign weights, and what became of them."""

    module: M
    consumed: tuple[str, ...]  # foreign names, in the order of the file
    left_out: tuple[str, ...] = ()  # foreign names that this form of the network has no place for


def check_weights(module: nn.Module, names: Mapping[str, str], weights: Mapping[str, Tensor], *, what: str) -> None:
    """Compare what `module` needs with the weights that came (both may be without values).

    `names`: our name -> foreign name of every tensor of the module. Batch counters may be absent. Raises one
    CheckpointError that lists missing, unexpected and mis-shaped tensors.
    """
    needed = {names[ours]: tensor for ours, tensor in module.state_dict().items()}
    missing = [_shortened(name) for name in needed if name not in weights and not name.endswith(BATCH_COUNTER)]
    unexpected = [_shortened(name) for name in weights if name not in needed]
    misshaped = [
        _misfit(name, tensor, weights[name])
        for name, tensor in needed.items()
        if name in weights and not _fits(tensor, weights[name])
    ]
    if missing or unexpected or misshaped:
        differences = (
            _listed("missing", missing),
            _listed("unexpected", unexpected),
            _listed("of another shape or type", misshaped),
        )
        raise CheckpointError(
            f"the {len(needed)} tensors of {what} were expected, but {', '.join(filter(None, differences))}; "
            "is it another network, or another space or width?"
        )


def fill(module: M, names: Mapping[str, str], weights: Mapping[str, Tensor]) -> Loaded[M]:
    """Copies of the checked weights into `module`, in float32; its own tensors may be on the meta device."""
    infinite = [name for name, tensor in weights.items() if not bool(tensor.isfinite().all())]
    if infinite:
        raise CheckpointError(f"finite weights were expected, but {few(infinite)} hold values that are infinite or NaN")
    negative = [name for name in _variances(module, names) if name in weights and bool((weights[name] < 0).any())]
    if negative:
        raise CheckpointError(f"variances of zero or more were expected, but {few(negative)} hold negative ones")
    state = {
        ours: _copied(weights[names[ours]]) if names[ours] in weights else torch.zeros((), dtype=torch.int64)
        for ours in module.state_dict()
    }
    module.load_state_dict(state, strict=True, assign=True)
    return Loaded(module, tuple(weights))


def _variances(module: nn.Module, names: Mapping[str, str]) -> list[str]:
    return [names[ours] for ours in module.state_dict() if ours.endswith("running_var")]


def _shortened(name: str) -> str:
    return name if len(name) <= SHOWN_LENGTH else f"{name[:SHOWN_LENGTH]}..."


def _fits(wanted: Tensor, came: Tensor) -> bool:
    return came.shape == wanted.shape and came.is_floating_point() == wanted.is_floating_point()


def _misfit(name: str, wanted: Tensor, came: Tensor) -> str:
    short = _shortened(name)
    if came.shape == wanted.shape:
        return f"{short} of {came.dtype} instead of {wanted.dtype}"
    return f"{short} {tuple(came.shape)} instead of {tuple(wanted.shape)}"


def _copied(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.int64, copy=True)


def _listed(word: str, names: Iterable[str]) -> str:
    every = list(names)
    if not every:
        return ""
    shown = ", ".join(every[:LISTED]) + (f" and {len(every) - LISTED} more" if len(every) > LISTED else "")
    return f"{len(every)} {'is' if len(every) == 1 else 'are'} {word} ({shown})"
