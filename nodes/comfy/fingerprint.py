"""What tells wired objects apart, in a second or two: names, types, shapes and a sample of the values of every tensor.

From each tensor 512 values are taken, at four places, so that a model that still lies on a disk is not read whole; of
the patches (LoRAs, merges) all of that and their strengths. Two fine-tunes or quantisations of a model differ in nearly
every value, so a sample tells them apart; a change of single values between the samples would not be seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

PLACES, AT_EACH = 4, 128


def digest_of(patcher: Any, *more: object) -> str:
    """sha256 over a ModelPatcher's own weights, its patches, and what else is given."""
    total = hashlib.sha256(repr(more).encode())
    with torch.inference_mode():  # as in core, so that nothing that it holds becomes another kind of tensor
        for name, value in _weights(patcher):
            _add(total, name, value)
        for key in sorted(patcher.patches, key=str):
            for patch in patcher.patches[key]:
                _add(total, str(key), patch)
        for name in sorted(map(str, patcher.object_patches)):
            _add(total, name, patcher.object_patches.get(name))
        _add(total, "options", _plain_options(patcher))
    return total.hexdigest()


def _weights(patcher: Any) -> Iterator[tuple[str, Any]]:
    """The unpatched weights by name; those of a loaded model are kept aside where a patch replaced them."""
    for name, value in [*patcher.model.named_parameters(), *patcher.model.named_buffers()]:
        kept = patcher.backup.get(name)
        yield name, value if kept is None else kept.weight


def _plain_options(patcher: Any) -> list[str]:
    """The names of what changes predictions besides patches: hooks into attention and wrappers."""
    options = patcher.model_options.get("transformer_options", {})
    return sorted(str(name) for name, value in options.items() if value)


def _add(total: Any, name: str, value: Any) -> None:
    total.update(f"\n{name}:".encode())
    if isinstance(value, Tensor):
        _add_tensor(total, value)
    elif isinstance(value, (list, tuple)):
        for part in value:
            _add(total, "", part)
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            _add(total, str(key), value[key])
    elif isinstance(value, torch.nn.Module):
        total.update(type(value).__qualname__.encode())
        for key, tensor in [*value.named_parameters(), *value.named_buffers()]:
            _add(total, key, tensor)
        _add(total, "", {k: v for k, v in vars(value).items() if isinstance(v, (int, float, str))})
    elif isinstance(value, (int, float, str, bool, type(None), torch.dtype)):
        total.update(repr(value).encode())
    else:  # a weight adapter, whose tensors count, or something that only its class describes
        total.update(type(value).__qualname__.encode())
        for key in sorted(getattr(value, "__dict__", {})):
            if key != "loaded_keys" and isinstance(part := vars(value)[key], (Tensor, list, tuple, int, float, str)):
                _add(total, key, part)


def _add_tensor(total: Any, tensor: Tensor) -> None:
    total.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    stored = getattr(tensor, "_qdata", tensor)  # of a quantised tensor
    scale = getattr(getattr(tensor, "_params", None), "scale", None)
    if isinstance(scale, Tensor):
        _add_tensor(total, scale)
    flat = stored.detach().reshape(-1) if stored.is_contiguous() else stored.detach().flatten()
    if flat.numel():
        starts = [place * max(0, flat.numel() - AT_EACH) // (PLACES - 1) for place in range(PLACES)]
        for start in starts:
            total.update(flat[start : start + AT_EACH].to("cpu").contiguous().view(torch.uint8).numpy().data)
