"""Weights under the names of DetNAS's public code -> our DetNAS backbones (Chen et al. 2019, arXiv:1903.10979).

The reference's own loader matches names by longest suffix and leaves what it does not find at random values without a
word. Here every tensor of the body must be found with the right shape; only the ImageNet head (`last_conv`, `fc`) and
the batch counters of the norms may be absent, and the head may be left over.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nasdet_core.backbones.classifier import DetNasClassifier
from nasdet_core.backbones.shufflenet import DetNasBackboneNet, ElasticDetNasBackbone
from nasdet_core.errors import CheckpointError
from nasdet_core.search_spaces.base import Genotype
from nasdet_core.search_spaces.shufflenet_chain import CANDIDATES, XCEPTION, ChainLayer, DetNasBackbone

REFERENCE_CANDIDATES = ("shufflenet_3x3", "shufflenet_5x5", "shufflenet_7x7", "xception_3x3")
NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")
BATCH_COUNTER = "num_batches_tracked"
IMAGENET_HEAD = ("last_conv.", "fc.")
_BLOCK_KEY = re.compile(r"features\.(\d+)\.conv\.0\.interstellar\d[a-z]+_(\w+?)_branch2a\.weight")

LayerNames = tuple[str, str, str]  # our layer, the reference's convolution, its norm


def load_backbone(part: DetNasBackbone, checkpoint: Mapping[str, Any]) -> DetNasBackboneNet | ElasticDetNasBackbone:
    """A backbone of `part` (elastic when it is searched) with the weights of a loaded reference checkpoint."""
    with torch.device("meta"):
        backbone = DetNasBackboneNet(part) if part.genotype is not None else ElasticDetNasBackbone(part)
    _fill(backbone, reference_names(part), reference_tensors(checkpoint))
    return backbone


def load_classifier(part: DetNasBackbone, checkpoint: Mapping[str, Any]) -> DetNasClassifier:
    """The ImageNet form of a fixed backbone; widths of the head are those of the checkpoint's tensors."""
    tensors = reference_tensors(checkpoint)
    for name in ("last_conv.conv.weight", "fc.fc.weight"):
        if name not in tensors:
            raise CheckpointError(f"an ImageNet checkpoint of '{part.name}' must hold {name}, but it is missing")
    last_channels = tensors["last_conv.conv.weight"].shape[0]
    num_classes = tensors["fc.fc.weight"].shape[0]
    with torch.device("meta"):
        network = DetNasClassifier(DetNasBackboneNet(part), last_channels=last_channels, num_classes=num_classes)
    names = {f"body.{ours}": reference for ours, reference in reference_names(part).items()}
    names |= dict(_conv_norm_names("last_conv", "last_conv.conv", "last_conv.bn"))
    names |= {"last_conv.conv.bias": "last_conv.conv.bias"}
    names |= {f"classifier.{tensor}": f"fc.fc.{tensor}" for tensor in ("weight", "bias")}
    _fill(network, names, tensors)
    return network


def reference_tensors(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The flat tensors of a checkpoint; they may be wrapped under `state_dict` or prefixed with `module.`."""
    flat = checkpoint.get("state_dict", checkpoint)
    return {name.removeprefix("module."): tensor for name, tensor in flat.items() if isinstance(tensor, Tensor)}


def reference_names(part: DetNasBackbone) -> dict[str, str]:
    """Our name -> reference name of every tensor of a backbone (supernet when searched) but the batch counters."""
    return dict(_body_names(part))


def read_encoding(checkpoint: Mapping[str, Any]) -> Genotype:
    """The genotype of a single network, read from the names of its tensors."""
    found: dict[int, int] = {}
    for name in reference_tensors(checkpoint):
        match = _BLOCK_KEY.fullmatch(name)
        if match and match[2] in REFERENCE_CANDIDATES:
            found[int(match[1])] = REFERENCE_CANDIDATES.index(match[2])
    if not found or sorted(found) != list(range(len(found))):
        raise CheckpointError(
            "a single DetNAS network was expected, with tensors features.0.conv..., features.1.conv... and so on, but "
            f"the blocks {sorted(found)} were found; a supernet has one more index and no encoding"
        )
    return tuple(found[block] for block in range(len(found)))


def _fill(module: nn.Module, names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into `module` (on the meta device until then) by our name -> reference name, strictly."""
    state: dict[str, Tensor] = {}
    for ours, expected in module.state_dict().items():
        if ours.endswith(BATCH_COUNTER):
            state[ours] = torch.zeros((), dtype=torch.int64)
            continue
        reference = names[ours]
        tensor = tensors.get(reference)
        if tensor is None:
            raise CheckpointError(f"the checkpoint must hold {reference}, but it is missing; is it another network?")
        if tensor.shape != expected.shape:
            raise CheckpointError(
                f"{reference}: shape {tuple(expected.shape)} was expected, but {tuple(tensor.shape)} came; "
                "check the space and its width"
            )
        state[ours] = tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32), copy=True)
    used = set(names.values())
    for reference in tensors:
        if reference not in used and not reference.endswith(BATCH_COUNTER) and not reference.startswith(IMAGENET_HEAD):
            raise CheckpointError(f"the checkpoint holds {reference}, which has no place here; is it another network?")
    module.load_state_dict(state, strict=True, assign=True)


def _body_names(part: DetNasBackbone) -> Iterator[tuple[str, str]]:
    yield "stem.conv.bias", "first_conv.conv.bias"
    yield from _conv_norm_names("stem", "first_conv.conv", "first_conv.bn")
    stage_start = 0
    for index, layer in enumerate(part.layers):
        if layer.stride == 2:
            stage_start = index
        tag = f"{layer.stage}{chr(ord('a') + index - stage_start)}"
        chosen = range(len(CANDIDATES)) if part.genotype is None else [part.genotype[index]]
        for candidate in chosen:
            # A supernet has the candidate as one more index.
            place = f"{index}.{candidate}" if part.genotype is None else f"{index}"
            for ours, conv, norm in _block_names(layer, candidate, tag):
                yield from _conv_norm_names(
                    f"blocks.{place}.{ours}", f"features.{place}.{conv}", f"features.{place}.{norm}"
                )


def _block_names(layer: ChainLayer, candidate: int, tag: str) -> list[LayerNames]:
    name = f"{tag}_{REFERENCE_CANDIDATES[candidate]}"
    if candidate == XCEPTION:
        names = [
            layer_names
            for pair, letter in enumerate("abc")
            for layer_names in (
                _depthwise(f"main.{2 * pair}", f"conv.{pair}", f"{name}_branch2{letter}"),
                _pointwise(f"main.{2 * pair + 1}", f"conv.{pair}", f"{name}_branch2{letter}"),
            )
        ]
    else:
        names = [
            _pointwise("main.0", "conv.0", f"{name}_branch2a"),
            _depthwise("main.1", "conv.1", f"{name}_branch2b"),
            _pointwise("main.2", "conv.1", f"{name}_branch2b"),
        ]
    if layer.stride == 2:
        names.append(_depthwise("projection.0", "proj_conv", f"{tag}_proj"))
        names.append(_pointwise("projection.1", "proj_conv", f"{tag}_proj"))
    return names


def _depthwise(ours: str, group: str, name: str) -> LayerNames:
    return ours, f"{group}.interstellar{name}_s", f"{group}.interstellar{name}_s_bn"


def _pointwise(ours: str, group: str, name: str) -> LayerNames:
    return ours, f"{group}.interstellar{name}", f"{group}.bn{name}"


def _conv_norm_names(ours: str, conv: str, norm: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.conv.weight", f"{conv}.weight"
    for tensor in NORM_TENSORS:
        yield f"{ours}.norm.{tensor}", f"{norm}.{tensor}"
