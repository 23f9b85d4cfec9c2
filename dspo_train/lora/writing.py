"""LoRA files. One format is written, which ComfyUI loads completely, and diffusers where it has a loader; several are
read.

Written is safetensors with kohya's names: `.lora_down.weight`, `.lora_up.weight` and a float32 `.alpha` per layer of
the denoiser, convolutions in four dimensions. Stable Diffusion's block names are those that Forge and A1111 load too:
LDM's for SDXL and diffusers' for SD 1.x and 2.x; the others have their native names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .. import files
from ..exceptions import LoraFileError
from ..files.published import check_metadata
from .formats import LoraFormat
from .header import tensor_hash
from .layers import LoraWeights
from .metadata import LoraFacts, lora_metadata
from .reading import LoadedLora, load_lora

__all__ = [
    "LoadedLora",
    "LoraFacts",
    "check_metadata",
    "load_lora",
    "lora_metadata",
    "save_lora",
    "storage_dtype",
    "tensor_hash",
]


def save_lora(
    path: Path,
    weights: LoraWeights,
    *,
    format: LoraFormat,
    metadata: Mapping[str, str],
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write a LoRA, read it back and compare, and only then move it into place; an earlier file stays until then.

    Args:
        path: ends in `.safetensors`; missing folders are made.
        format: of the model.
        metadata: the result of `lora_metadata`; the hashes of the tensors are added.

    Returns:
        `path`.

    Raises:
        LoraFileError: the weights are not finite or exceed `dtype`, the metadata holds a path, or the write was
            damaged.
        RunError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise LoraFileError(f"{path}: a LoRA file's name must end in .safetensors, or no interface will list it")
    check_metadata(metadata)
    meant = _named(weights, format)
    tensors = {key: _cast(key, value, dtype) for key, value in meant.items()}
    digest = tensor_hash(safetensors.torch.save(tensors))
    hashes = {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"}
    data = safetensors.torch.save(tensors, {**metadata, **hashes})

    def check(written: Path) -> None:
        if problem := _difference(written, meant, dtype):
            raise LoraFileError(f"{path}: the LoRA was not written correctly: {problem}; is the disk failing?")

    files.write_bytes(path, data, check)
    return path


def storage_dtype(weights: LoraWeights) -> torch.dtype:
    """float16, or float32 if some layer is so small (early in a slow warm-up) that float16 would hold only zeros."""
    tensors = (tensor for layer in weights.values() for tensor in (layer.down, layer.up))
    vanishes = any(bool(tensor.any()) and not bool(tensor.to(torch.float16).any()) for tensor in tensors)
    return torch.float32 if vanishes else torch.float16


def _named(weights: LoraWeights, format: LoraFormat) -> dict[str, Tensor]:
    if not weights:
        raise LoraFileError("the LoRA holds no layers; there is nothing to write")
    tensors: dict[str, Tensor] = {}
    for path, layer in weights.items():
        stem = format.stem(path)
        tensors[f"{stem}.lora_down.weight"] = layer.down.detach().to("cpu", torch.float32)
        tensors[f"{stem}.lora_up.weight"] = layer.up.detach().to("cpu", torch.float32)
        tensors[f"{stem}.alpha"] = torch.tensor(layer.alpha, dtype=torch.float32)
    return tensors


def _cast(key: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    if not value.isfinite().all():
        raise LoraFileError(
            f"{key}: the LoRA holds values that are not finite: the training diverged; lower the learning rate"
        )
    stored = value if key.endswith(".alpha") else value.to(dtype)
    if not stored.isfinite().all():
        raise LoraFileError(
            f"{key}: {value.abs().max():.3g} is more than {_dtype_name(dtype)} can hold "
            f"({torch.finfo(dtype).max:.3g}); save as float32 or bfloat16, or train with a lower learning rate"
        )
    if value.any() and not stored.any():
        raise LoraFileError(f"{key}: every value is too small for {_dtype_name(dtype)}; save as float32 or bfloat16")
    return stored.contiguous()


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _difference(path: Path, meant: Mapping[str, Tensor], dtype: torch.dtype) -> str | None:
    """Compare every value of a file with its float32 original. -> what differs by more than rounding to `dtype`"""
    limits = torch.finfo(dtype)
    try:
        read = safetensors.torch.load(path.read_bytes())
    except SafetensorError as error:
        return str(error)
    if read.keys() != meant.keys():
        return "its keys differ"
    for key, value in meant.items():
        allowed = (value.abs() + limits.smallest_normal) * (limits.eps / 2)  # half a unit in the last place
        if read[key].shape != value.shape or not ((read[key].float() - value).abs() <= allowed).all():
            return f"{key} differs"
    return None
