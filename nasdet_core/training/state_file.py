"""The state of an interrupted training: weights, optimiser tensors and the step.

All randomness of a step is derived from (seed, step), so no generator state is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasdet_core.errors import CheckpointError
from nasdet_core.training.tensor_file import pack_tensors, unpack_tensors

SCHEMA = 1
_KIND = "nasdet training state"


@dataclass(frozen=True)
class TrainingState:
    """What is known after `step` steps are done."""

    step: int
    run: Mapping[str, Any]  # what the state belongs to: recipe, seed, space
    history: list[dict[str, float]]
    window: list[float]  # losses since the last entry of the history


def pack_state(state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer) -> bytes:
    """Everything needed to go on after `state.step` steps."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        moments = optimizer.state.get(parameter, {})
        tensors |= {f"optimizer.{key}.{name}": value for key, value in moments.items() if value is not None}
    header = {
        "schema": SCHEMA,
        "kind": _KIND,
        "step": state.step,
        "run": dict(state.run),
        "history": state.history,
        "window": state.window,
    }
    return pack_tensors(tensors, header)


def unpack_state(
    source: bytes | Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: Mapping[str, Any]
) -> TrainingState:
    """Load a state into `model` and `optimizer`; refuses one that belongs to another run."""
    tensors, header = unpack_tensors(source, kind=_KIND, schema=SCHEMA)
    for key, expected in run.items():
        if header["run"].get(key) != expected:
            raise CheckpointError(
                f"this training state belongs to another run: expected {key} {expected!r}, "
                f"got {header['run'].get(key)!r}; start without it"
            )
    weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"the training state does not fit the model: {error}") from error
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, key, parameter_name = name.split(".", 2)
            parameter = parameters[parameter_name]
            optimizer.state[parameter][key] = _like_parameter(tensor, parameter)
    return TrainingState(header["step"], header["run"], header["history"], header["window"])


def _like_parameter(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Moments lie in memory like their parameter (channels last); step counters are single numbers."""
    if tensor.shape != parameter.shape:
        return tensor.to(parameter.device)
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)
