"""What tells wired objects apart, in a second or two: names, types, shapes and a sample of the values of every tensor.

From each tensor 512 values are taken, at four places, so that a model that still lies on a disk is not read whole; of
the patches (LoRAs, merges) all of that and their strengths. Two fine-tunes or quantisations of a model differ in nearly
every value, so a sample tells them apart; a change of single values between the samples would not be seen.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

PLACES, AT_EACH = 4, 128  # of each tensor, values at each place
DEEPEST = 8
_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype)
_UNSET = "text_projection.weight"  # of CLIP: core leaves it to chance where a file has none, and then does not use it
_WHOLE = {"ModelPatcher", "ModelPatcherDynamic", "module"}  # which lead to everything


def digest_of(patcher: Any, *more: object) -> str:
    """sha256 over a ModelPatcher's own weights, its patches and options, and what else is given."""
    patched = [module for value in patcher.object_patches.values() for module in _modules(value)]
    total = _Total({id(module) for module in patcher.model.modules()} - {id(module) for module in patched})
    with torch.inference_mode():  # as in core, so that nothing that it holds becomes another kind of tensor
        for name, value in _weights(patcher):
            total.add(name, value)
        for kind in ("patches", "object_patches", "model_options", "injections", "weight_wrapper_patches", "wrappers"):
            total.add(kind, getattr(patcher, kind, None))
        total.add("more", more)
    return total.hexdigest()


def _weights(patcher: Any) -> Iterator[tuple[str, Any]]:
    """The unpatched weights by name, whatever is loaded: what patches replaced is kept aside meanwhile."""
    replaced: dict[str, Any] = dict(patcher.object_patches_backup)
    found = dict(_tensors(patcher.model))
    for name, original in replaced.items():
        found = {key: value for key, value in found.items() if not f"{key}.".startswith(f"{name}.")}
        if isinstance(original, nn.Module):
            found |= {f"{name}.{key}": value for key, value in _tensors(original)}
    for name in sorted(name for name in found if not name.endswith(_UNSET)):
        kept = patcher.backup.get(name)
        yield name, found[name] if kept is None else kept.weight


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


class _Total:
    """A hash of whatever a patcher may hold: values by their content, functions by their code and what they close
    over, other objects by their class and attributes; nothing by its address.

    Args:
        within: ids of objects that count by their class alone: the model's modules, whose weights are hashed elsewhere.
    """

    def __init__(self, within: set[int]) -> None:
        self._hash = hashlib.sha256()
        self._within = within  # and what is being hashed: a circle ends there

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def add(self, name: str, value: Any, depth: int = 0) -> None:
        self._hash.update(f"\n{name}:{type(value).__qualname__} ".encode())
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, _PLAIN):
            self._hash.update(repr(value).encode())
        elif depth < DEEPEST and type(value).__name__ not in _WHOLE and id(value) not in self._within:
            self._within.add(id(value))
            for key, part in _parts(value):
                self.add(key, part, depth + 1)
            self._within.discard(id(value))

    def _tensor(self, tensor: Tensor) -> None:
        self._hash.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        stored = getattr(tensor, "_qdata", tensor)  # of a quantised tensor
        scale = getattr(getattr(tensor, "_params", None), "scale", None)
        if isinstance(scale, Tensor):
            self._tensor(scale)
        flat = stored.detach().reshape(-1) if stored.is_contiguous() else stored.detach().flatten()
        for place in range(PLACES if flat.numel() and not flat.is_meta else 0):
            start = place * max(0, flat.numel() - AT_EACH) // (PLACES - 1)
            part = flat[start : start + AT_EACH].to("cpu").contiguous()
            self._hash.update(part.view(torch.uint8).numpy().data)


def _modules(value: Any) -> list[nn.Module]:
    return list(value.modules()) if isinstance(value, nn.Module) else []


def _parts(value: Any) -> list[tuple[str, Any]]:
    """What an object consists of, in an order that does not depend on chance."""
    if isinstance(value, Mapping):
        return sorted(((str(key), part) for key, part in value.items()), key=lambda pair: pair[0])
    if isinstance(value, (list, tuple)):
        return [("", part) for part in value]
    if isinstance(value, (set, frozenset)):
        return [("", part) for part in sorted(value, key=str)]
    if inspect.ismethod(value):
        return [("function", value.__func__), ("self", value.__self__)]
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        code = value.__code__
        return [(value.__qualname__, (code.co_code.hex(), code.co_consts, value.__defaults__, cells))]
    if isinstance(value, nn.Module):
        own = {name: part for name, part in vars(value).items() if isinstance(part, _PLAIN)}
        return [("", own), *_tensors(value)]
    return sorted(getattr(value, "__dict__", {}).items())


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - the name may not be bound yet
    except ValueError:
        return False
    return True
