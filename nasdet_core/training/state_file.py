"""The state of an interrupted training: weights, optimiser tensors and the step, in one safetensors blob.

Only tensors and JSON are in it: reading one runs no code. It holds what the loop needs to go on bit for bit; all
randomness of a step is derived from (seed, step), so no generator state is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from nasdet_core.errors import CheckpointError

SCHEMA = 1
_KIND = "nasdet-training-state"


@dataclass(frozen=True)
class TrainingState:
    """What is known after `step` steps are done."""

    step: int
    run: Mapping[str, Any]  # what the state belongs to: recipe, seed, space, steps
    history: list[dict[str, float]]
    window: list[float]  # losses since the last entry of the history


def pack_state(state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer) -> bytes:
    """Everything needed to go on after `state.step` steps."""
    tensors = {f"model.{name}": _portable(tensor) for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = _portable(value)
    metadata = {
        "schema": SCHEMA,
        "kind": _KIND,
        "step": state.step,
        "run": dict(state.run),
        "history": state.history,
        "window": state.window,
    }
    return save(tensors, metadata={"nasdet": json.dumps(metadata, sort_keys=True)})


def unpack_state(
    source: bytes | Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: Mapping[str, Any]
) -> TrainingState:
    """Load a state into `model` and `optimizer`; refuses one that belongs to another run."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    metadata = _read_metadata(data)
    for key, expected in run.items():
        found = metadata["run"].get(key)
        if found != expected:
            raise CheckpointError(
                f"this training state belongs to another run: expected {key} {expected!r}, got {found!r}; "
                f"start without it"
            )
    tensors = load(data)
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
    return TrainingState(
        step=metadata["step"], run=metadata["run"], history=metadata["history"], window=metadata["window"]
    )


def _read_metadata(data: bytes) -> dict[str, Any]:
    """The JSON beside the tensors. The header of safetensors is: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        metadata: dict[str, Any] = json.loads(header["__metadata__"]["nasdet"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError("expected a training state of nasdet in safetensors format, got other bytes") from error
    if metadata.get("kind") != _KIND or metadata.get("schema") != SCHEMA:
        raise CheckpointError(
            f"expected a {_KIND} of schema {SCHEMA}, got {metadata.get('kind')!r} of schema {metadata.get('schema')!r}"
        )
    return metadata


def _portable(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _like_parameter(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Moments lie in memory like their parameter (channels last); step counters are single numbers on the CPU."""
    if tensor.shape != parameter.shape:
        return tensor.clone()
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)
