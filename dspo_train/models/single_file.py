"""Load Stable Diffusion 1.x, 2.x and XL from one `.safetensors` file in the original LDM / SGM layout, offline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from ..exceptions import ModelError
from ..files.content import damage
from ..files.words import many
from . import ldm_layout
from .families import FAMILIES, UNET_PREFIX, Family, Shapes, TextPart
from .foreign import holds_pipeline, refuse_foreign
from .unet import refuse_unsupplied
from .weights import fill, named_like

CONFIGS = Path(__file__).with_name("configs")
VAE_PREFIX = "first_stage_model."


@dataclass(frozen=True)
class SingleFile:
    """A recognised checkpoint; tensors are read on request, and stay on disk until touched."""

    path: Path
    family: Family
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix, from disk."""
        wanted = [key for key in self.shapes if key.startswith(prefix)]
        with safe_open(str(self.path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in wanted}

    def shapes_under(self, prefix: str) -> dict[str, tuple[int, ...]]:
        return {key[len(prefix) :]: shape for key, shape in self.shapes.items() if key.startswith(prefix)}


def open_single_file(path: Path) -> SingleFile:
    """Read the header and recognise the family.

    Raises:
        ModelError: the file is damaged, not safetensors, or not a model that this library trains.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
            dtypes = {key: part.get_dtype() for key, part in slices.items()}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} {damage(path)}{_whole_folder(path)}") from error
    refuse_foreign(path, shapes, dtypes)
    family = _family(path, shapes)
    return SingleFile(path, family, shapes, metadata)


def template(family: Family, part: str) -> dict[str, Any]:
    """The published config of one component of a family."""
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    return json.loads((CONFIGS / family.name / part / name).read_text(encoding="utf-8"))


def unet_config(file: SingleFile) -> dict[str, Any]:
    """The UNet's config as diffusers writes it, from the shapes alone.

    Raises:
        ModelError: parts of the UNet are missing, or it takes inputs that are never supplied.
    """
    where = f"{file.path}: UNet"
    config = _inferred(ldm_layout.infer_unet_config, file, UNET_PREFIX, template(file.family, "unet"), where)
    refuse_unsupplied(where, config)
    return config


def _whole_folder(path: Path) -> str:
    """What to give instead of a file of a pipeline that holds no weights; empty for other files."""
    if path.suffix.lower() in (".safetensors", ".bin"):
        return ""
    above = (folder for folder in path.absolute().parents[:2] if holds_pipeline(folder))
    return next((f"; give the whole folder, {folder}" for folder in above), "")


def vae_config(file: SingleFile) -> dict[str, Any]:
    """The VAE's config as diffusers writes it, from the shapes alone.

    Raises:
        ModelError: the VAE or parts of it are missing.
    """
    where = f"{file.path}: VAE"
    if not any(key.startswith(VAE_PREFIX) for key in file.shapes):
        raise ModelError(f"{where} is missing (no {VAE_PREFIX}* keys); give a checkpoint with the VAE baked in")
    return _inferred(ldm_layout.infer_vae_config, file, VAE_PREFIX, template(file.family, "vae"), where)


def refuse_without_parts(file: SingleFile) -> None:
    """Refuse a file that lacks its VAE, a text encoder or a part of its UNet, by its header alone.

    Raises:
        ModelError: it names the part.
    """
    problems = []
    for check in (unet_config, vae_config, *(partial(_prefix_of, part=part) for part in file.family.text_parts)):
        try:
            check(file)
        except ModelError as error:
            problems.append(str(error))
    if problems:
        raise ModelError("\n".join(problems))


def load_unet(file: SingleFile, dtype: torch.dtype) -> UNet2DConditionModel:
    where, config = f"{file.path}: UNet", unet_config(file)
    with init_empty_weights():
        unet = UNet2DConditionModel.from_config(config)
    tensors = file.tensors(UNET_PREFIX)
    state = convert_ldm_unet_checkpoint(tensors, config)
    taken = set(map(id, state.values()))
    if left := sorted(key for key, tensor in tensors.items() if id(tensor) not in taken):
        raise ModelError(
            f"{where} has {many(len(left), 'tensor')} that no known UNet has, such as {left[0]!r}; it is not the "
            "expected kind of model"
        )
    return fill(unet, state, dtype, where)  # type: ignore[return-value]


def load_vae(file: SingleFile, dtype: torch.dtype) -> AutoencoderKL:
    where, config = f"{file.path}: VAE", vae_config(file)
    with init_empty_weights():
        vae = AutoencoderKL.from_config(config)
    state = convert_ldm_vae_checkpoint(file.tensors(VAE_PREFIX), config)
    return fill(vae, state, dtype, where)  # type: ignore[return-value]


def load_text_encoders(file: SingleFile, dtype: torch.dtype) -> list[nn.Module]:
    """One text encoder, or SDXL's two."""
    return [_load_text_encoder(file, part, dtype) for part in file.family.text_parts]


def _load_text_encoder(file: SingleFile, part: TextPart, dtype: torch.dtype) -> nn.Module:
    where, prefix = f"{file.path}: {part.config}", _prefix_of(file, part)
    base = template(file.family, part.config)
    if part.open_clip:
        settings = _inferred(
            lambda shapes, t: ldm_layout.infer_open_clip_config(shapes, t, unused_layers=part.unused_layers),
            *(file, prefix, base, where),
        )
        skipped = f"{prefix}transformer.resblocks.{settings['num_hidden_layers']}."
        tensors = {k: v for k, v in file.tensors(prefix).items() if not k.startswith(skipped)}
        if prefix + "text_projection.weight" in tensors:  # some exporters write a Linear's weight
            tensors[prefix + "text_projection"] = tensors.pop(prefix + "text_projection.weight").T
        # Older versions of diffusers read the width off the projection, so that it goes only afterwards.
        state = convert_open_clip_checkpoint(SimpleNamespace(config=CLIPTextConfig(**settings)), tensors, prefix)
        if part.unused_layers:
            state.pop("text_projection.weight", None)
    else:
        state = {k[len(prefix) :]: v for k, v in file.tensors(prefix).items()}
        bare = {k.removeprefix("text_model."): tuple(v.shape) for k, v in state.items()}
        settings = _checked(ldm_layout.infer_clip_config, bare, base, where)
        state.pop("text_projection.weight", None)
        state.pop("logit_scale", None)
    kind = CLIPTextModelWithProjection if part.config == "text_encoder_2" else CLIPTextModel
    with init_empty_weights():
        model = kind(CLIPTextConfig(**settings))
    return fill(model, named_like(model, state), dtype, where)


def _prefix_of(file: SingleFile, part: TextPart) -> str:
    for prefix in part.prefixes:
        if any(key.startswith(prefix) for key in file.shapes):
            return prefix
    where = f"{file.path}: {part.config}"
    raise ModelError(f"{where} is missing (no {part.prefixes[0]}* keys); give a checkpoint that holds it")


def _family(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Family:
    refuse_input_channels(str(path), shapes[f"{UNET_PREFIX}input_blocks.0.0.weight"][1])
    if "edm_mean" in shapes or "edm_vpred.sigma_max" in shapes:
        raise ModelError(f"{path} is an EDM model (Playground 2.5, CosXL), whose noise process is not supported")
    sized = f"{UNET_PREFIX}label_emb.0.0.weight" in shapes  # SDXL's micro-conditioning
    if sized and any(key.startswith("conditioner.embedders.0.model.") for key in shapes):
        raise ModelError(f"{path} is the SDXL refiner, which is not supported; give the SDXL base model")
    if sized and any(key.startswith("cond_stage_model.") for key in shapes):
        raise ModelError(f"{path} is an unCLIP model, which is not supported")
    return next(family for family in FAMILIES.values() if family.in_file(shapes))


def refuse_input_channels(where: str, channels: int) -> None:
    """Raise a ModelError unless a UNet takes just the four channels of a latent."""
    if channels != 4:
        kinds = {9: "an inpainting model", 8: "an instruct-pix2pix model", 5: "a depth-conditioned model"}
        kind = kinds.get(channels, "a model of an unknown kind")
        raise ModelError(f"{where} is {kind} ({channels} input channels); give a text-to-image model, which has 4")


def _inferred(infer: Any, file: SingleFile, prefix: str, base: dict[str, Any], where: str) -> dict[str, Any]:
    return _checked(infer, file.shapes_under(prefix), base, where)


def _checked(infer: Any, shapes: Shapes, base: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        return infer(shapes, base)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(f"{where} is incomplete (key {error} is missing); download the file again") from error
