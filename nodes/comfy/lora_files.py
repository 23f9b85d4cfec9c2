"""LoRA files read for a wired MODEL by core's own rules: what its loader takes, a run can start from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.utils
import torch
from comfy.weight_adapter import LoRAAdapter
from torch import nn

from ...dspo_train.exceptions import LoraFileError
from ...dspo_train.lora.layers import LoraLayer, adaptable_layers, fitted
from ...dspo_train.lora.reading import LoadedLora, refuse_no_lora

PREFIX = "diffusion_model."
_Part = tuple[LoraLayer, int | None]  # an update, and the first row that it changes; None for all rows


def read(path: Path, model: Any, network: nn.Module) -> LoadedLora:
    """Files that name parts of a fused layer (q, k and v) give it one update of their ranks together.

    Raises:
        LoraFileError: the file is no LoRA, fits no layer of the model, or holds values that are not finite.
    """
    header = refuse_no_lora(path)
    tensors = comfy.lora_convert.convert_lora(comfy.utils.load_torch_file(str(path), safe_load=True))
    patches = comfy.lora.load_lora(tensors, comfy.lora.model_lora_keys_unet(model, {}), log_missing=False)
    modules, parts = adaptable_layers(network), defaultdict[str, list[_Part]](list)
    used: set[str] = set()
    for target, patch in patches.items():
        found = _part(target, patch)
        if found is not None and found[0] in modules:
            layer, part = found
            parts[layer].append(part)
            used |= set(patch.loaded_keys)
    weights = {name: _together(path, name, some, modules[name]) for name, some in sorted(parts.items())}
    if not weights:
        raise LoraFileError(f"{path}: no layer of this LoRA fits the wired model; choose one made for its kind")
    return LoadedLora(weights, tuple(key for key in tensors if key not in used), header.metadata)


def _part(target: Any, patch: Any) -> tuple[str, _Part] | None:
    """A layer's path and an update of it; None for what is no plain product of two factors."""
    key, rows = (target, None) if isinstance(target, str) else target[:2]
    if not isinstance(patch, LoRAAdapter) or any(part is not None for part in patch.weights[3:]):
        return None
    if not isinstance(target, str) and (len(target) > 2 or rows[0] != 0):
        return None
    up, down, alpha = patch.weights[:3]
    layer = LoraLayer(down.float(), up.float(), float(down.shape[0] if alpha is None else alpha))
    return key.removeprefix(PREFIX).removesuffix(".weight"), (layer, None if rows is None else rows[1])


def _together(path: Path, name: str, parts: list[_Part], module: Any) -> LoraLayer:
    """One update of a layer: the downs below each other, each up in its own rows and columns."""
    for layer, _ in parts:
        if not (layer.down.isfinite().all() and layer.up.isfinite().all()):
            raise LoraFileError(f"{path}: {name} holds values that are not finite; this LoRA is broken")
    try:
        if len(parts) == 1 and parts[0][1] is None:
            return fitted(name, parts[0][0], module)
        rank = sum(layer.rank for layer, _ in parts)
        up = torch.zeros(module.out_features, rank)
        for layer, row, column in _placed(parts):
            up[row : row + layer.up.shape[0], column : column + layer.rank] = layer.up * (layer.alpha / layer.rank)
        return fitted(name, LoraLayer(torch.cat([layer.down for layer, _ in parts]), up, float(rank)), module)
    except (LoraFileError, RuntimeError) as error:
        raise LoraFileError(f"{path}: {error}") from error


def _placed(parts: list[_Part]) -> Iterator[tuple[LoraLayer, int, int]]:
    column = 0
    for layer, row in parts:
        yield layer, row or 0, column
        column += layer.rank
