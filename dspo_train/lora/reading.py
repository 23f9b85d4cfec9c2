"""Reading a LoRA file in the dialects of kohya, diffusers and peft, for a given network."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..exceptions import LoraFileError
from ..files.tensor_file import TensorHeader, read_header
from ..files.words import many
from ..models.families import FAMILIES, UNET_PREFIX
from ..models.foreign import LYCORIS, what_else
from .formats import unet_names
from .keys import Part, describe, split_key
from .layers import LoraLayer, adaptable_layers, fitted

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_MIDDLE = ".lora_mid.weight"
_TEXT_KEYS = ("attn2.to_k", "attn2_to_k", "attn2.processor.to_k")

_Groups = dict[str, dict[Part, str]]
_Alphas = Callable[[str, int], float]


@dataclass(frozen=True)
class LoadedLora:
    """A LoRA read for one network.

    Attributes:
        weights: float32 on the CPU, in the network's own order.
        unused: keys of the file that do not apply to the network.
        metadata: the file's own.
    """

    weights: dict[str, LoraLayer]
    unused: tuple[str, ...]
    metadata: dict[str, str]

    @property
    def unused_summary(self) -> str:
        """The unused tensors by kind, '264 tensors of the text encoder, 1 of DoRA'; empty when all were used."""
        kinds = Counter(describe(key) for key in self.unused)
        ordered = enumerate(kinds.most_common())
        return ", ".join(f"{count if place else many(count, 'tensor')} {kind}" for place, (kind, count) in ordered)


def load_lora(path: Path, unet: nn.Module) -> LoadedLora:
    """Read a LoRA under kohya's, diffusers' or peft's names, in float16, bfloat16 or float32, for a diffusers UNet.

    A layer without an alpha has a scale of 1, as in every other reader, unless diffusers' metadata gives the alpha.

    Raises:
        LoraFileError: the file is truncated, not safetensors or not a LoRA; or the LoRA was made for another kind of
            base, or is not finite.
    """
    path = Path(path)
    header, data = _read(path)
    layers = adaptable_layers(unet)
    tensors = _tensors(path, data)
    _check_text_width(path, tensors, layers)
    found = _grouped(path, header.tensors, unet_names(unet))
    used = {key for keys in found.values() for key in keys.values()}
    if not found:
        kinds = LoadedLora({}, tuple(header.tensors), {}).unused_summary
        raise LoraFileError(f"{path}: no layer of this LoRA fits this base; the file holds {kinds}")
    alphas = _noted_alphas(path, header.metadata)
    weights = {
        layer: _layer(path, layer, found[layer], tensors, alphas, base)
        for layer, base in layers.items()
        if layer in found
    }
    return LoadedLora(weights, tuple(key for key in header.tensors if key not in used), header.metadata)


def refuse_no_lora(path: Path) -> TensorHeader:
    """Refuse a file that is no LoRA, by its header alone. -> the header

    Raises:
        LoraFileError: it cannot be read, or it says what the file is.
    """
    if path.is_dir():
        inside = next(iter(sorted(path.glob("*.safetensors"))), None)
        hint = f"; give the file in it, {inside}" if inside else ""
        raise LoraFileError(f"{path}: the LoRA cannot be read: it is a folder{hint}")
    try:
        header = read_header(path, LoraFileError)
    except OSError as error:
        raise LoraFileError(f"{path}: the LoRA cannot be read: {error.strerror or error}") from error
    if any(split_key(key) for key in header.tensors):
        return header
    if any(part in key for key in header.tensors for part in LYCORIS):
        raise LoraFileError(f"{path} is a LyCORIS adapter (LoHa, LoKr or OFT), which is not read; give a LoRA")
    if not header.tensors:
        raise LoraFileError(f"{path}: this is not a LoRA; it holds no tensors")
    shapes = {key: tensor.shape for key, tensor in header.tensors.items()}
    if any(key.startswith(UNET_PREFIX) for key in shapes):
        raise LoraFileError(f"{path}: this is not a LoRA but a whole checkpoint; give it as the base")
    if what := what_else(shapes):
        raise LoraFileError(f"{path}: this is not a LoRA but {what}")
    raise LoraFileError(f"{path}: this is not a LoRA; its first tensors are {', '.join(list(shapes)[:3])}")


def _read(path: Path) -> tuple[TensorHeader, bytes]:
    """The header and the whole file; a file whose header is not a LoRA's is refused before its gigabytes are read."""
    header = refuse_no_lora(path)
    try:
        return header, path.read_bytes()
    except OSError as error:
        raise LoraFileError(f"{path}: the LoRA cannot be read: {error.strerror or error}") from error


def _grouped(path: Path, keys: Collection[str], path_of: Callable[[str], str | None]) -> _Groups:
    """The complete layers: our path -> role -> key."""
    # A LoCon with a middle factor is not the product up @ down, so none of it can be used.
    middles = {key.removesuffix(_MIDDLE) for key in keys if key.endswith(_MIDDLE)}
    found: _Groups = defaultdict(dict)
    for key in keys:
        name, part = split_key(key) or ("", None)
        layer = path_of(name) if part and name not in middles else None
        if part is None or layer is None:
            continue
        if part in found[layer]:
            raise LoraFileError(f"{path}: {key} and {found[layer][part]} both give the {part} of one layer")
        found[layer][part] = key
    return {layer: parts for layer, parts in found.items() if "down" in parts and "up" in parts}


def _check_text_width(path: Path, tensors: Mapping[str, Tensor], layers: Mapping[str, nn.Module]) -> None:
    """The width of the text embedding distinguishes the model families better than names or other shapes."""
    base = {getattr(module, "in_features", 0) for name, module in layers.items() if name.endswith("attn2.to_k")}
    for key, tensor in tensors.items():
        name, part = split_key(key) or ("", None)
        if part != "down" or not name.endswith(_TEXT_KEYS) or tensor.ndim < 2:
            continue
        width = tensor.shape[1]
        if base and width not in base:
            raise LoraFileError(
                f"{path}: this LoRA was made for {_family(width)}, but this base is {_family(min(base))}; "
                "choose a LoRA and a base of the same kind"
            )


def _family(width: int) -> str:
    titles = {family.text_width: family.title for family in FAMILIES.values()}
    return titles.get(width, f"a model whose text embedding is {width} wide")


def _tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, KeyError) as error:
        raise LoraFileError(f"{path}: the file is broken ({error}); download or copy it again") from error


def _layer(
    path: Path, layer: str, keys: Mapping[Part, str], tensors: Mapping[str, Tensor], alphas: _Alphas, base: nn.Module
) -> LoraLayer:
    for key in keys.values():
        if tensors[key].dtype not in _FLOATS:
            raise LoraFileError(f"{path}: {key} is {tensors[key].dtype}; float16, bfloat16 and float32 are read")
        if not tensors[key].isfinite().all():
            raise LoraFileError(f"{path}: {key} holds values that are not finite; this LoRA is broken")
    down, up = tensors[keys["down"]].float(), tensors[keys["up"]].float()
    if down.ndim < 2 or up.ndim < 2 or down.shape[0] != up.shape[1]:
        raise LoraFileError(
            f"{path}: {keys['down']} {tuple(down.shape)} and {keys['up']} {tuple(up.shape)} are not two factors "
            "of one rank; this LoRA is broken"
        )
    alpha = tensors[keys["alpha"]] if "alpha" in keys else torch.tensor(alphas(layer, down.shape[0]))
    if alpha.numel() != 1:
        raise LoraFileError(f"{path}: {keys['alpha']} has shape {tuple(alpha.shape)}; an alpha is one number")
    try:
        return fitted(layer, LoraLayer(down, up, float(alpha)), base)
    except LoraFileError as error:
        raise LoraFileError(f"{path}: {error}") from error


def _noted_alphas(path: Path, metadata: Mapping[str, str]) -> _Alphas:
    """Layer and rank -> alpha, for layers without an alpha of their own: diffusers' from the metadata, or the rank."""
    try:
        note = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        prefix = "unet." if "unet.lora_alpha" in note else ""
        alpha: float | None = note.get(f"{prefix}lora_alpha")
        patterns: dict[str, float] = note.get(f"{prefix}alpha_pattern") or {}
        root_scaled = bool(note.get(f"{prefix}use_rslora"))
    except (ValueError, AttributeError, TypeError) as error:
        raise LoraFileError(f"{path}: the metadata lora_adapter_metadata is broken ({error})") from error

    def noted(layer: str, rank: int) -> float:
        if alpha is None:
            return float(rank)
        own = next((a for name, a in patterns.items() if f".{layer}".endswith(f".{name}")), alpha)
        return own * math.sqrt(rank) if root_scaled else float(own)  # rsLoRA scales by alpha / sqrt(rank)

    return noted
