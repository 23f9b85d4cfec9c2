"""Load Stable Diffusion 1.x, 2.x and XL from one `.safetensors` file in the original LDM / SGM layout, offline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
from . import ldm_layout
from .families import FAMILIES, UNET_PREFIX, Family, Prediction, Shapes, TextPart

CONFIGS = Path(__file__).with_name("configs")
VAE_PREFIX = "first_stage_model."


FOREIGN = (  # a part of some key -> what the file is; the first match counts
    (("lora_up.", "lora_down.", "lora_A.", "lora_B.", "lora.up.", "lora.down."), "a LoRA, not a base model"),
    (("hada_w1", "lokr_w"), "a LyCORIS adapter, not a base model"),
    (("joint_blocks.",), "a Stable Diffusion 3 model, which is not supported"),
    (("double_blocks.", "double_stream"), "a Flux model, which is not supported"),
    (("control_model.", "controlnet_", "input_hint_block."), "a ControlNet, not a base model"),
    (("emb_params", "string_to_param"), "a textual-inversion embedding, not a base model"),
    (
        ("down_blocks.",),
        "one component with diffusers' names; give the folder that holds unet/, vae/ and the rest",
    ),
    (("input_blocks.0.0.weight",), "a UNet alone; the VAE and the text encoder are missing"),
    (("decoder.conv_in.weight",), "a VAE alone"),
    (("text_model.", "resblocks."), "a text encoder alone"),
)
PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "v-prediction": "v_prediction",
}
NOT_SAFETENSORS = (".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")


@dataclass(frozen=True)
class SingleFile:
    """A recognised checkpoint; tensors are read on request, and stay on disk until touched."""

    path: Path
    family: Family
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]
    memory: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix, from memory or else from disk."""
        wanted = [key for key in self.shapes if key.startswith(prefix)]
        with safe_open(str(self.path), framework="pt") as file:
            return {key: self.memory[key] if key in self.memory else file.get_tensor(key) for key in wanted}

    def shapes_under(self, prefix: str) -> dict[str, tuple[int, ...]]:
        return {key[len(prefix) :]: shape for key, shape in self.shapes.items() if key.startswith(prefix)}


def open_single_file(path: Path) -> SingleFile:
    """Read the header and recognise the family.

    Raises:
        ModelError: the file is damaged, not safetensors, or not a model that this library trains.
    """
    if path.suffix.lower() in NOT_SAFETENSORS:
        raise ModelError(
            f"{path}: {path.suffix} files are not read (a pickle can run code); convert it to .safetensors"
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            keys = list(file.keys())
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: {_damage(path)} ({error}); download it again") from error
    _refuse_foreign(path, shapes)
    family = _family(path, shapes)
    return SingleFile(path, family, shapes, metadata)


@dataclass(frozen=True)
class UnetWeights:
    """A UNet in memory that replaces the one in a checkpoint.

    Attributes:
        tensors: under `model.diffusion_model.`, in the original layout, on the CPU, of any floating type.
        zero_snr: does its noise process end in pure noise?
    """

    tensors: Mapping[str, Tensor]
    prediction: Prediction
    zero_snr: bool = False


def with_unet(file: SingleFile, weights: UnetWeights) -> SingleFile:
    """The checkpoint with its UNet replaced; its text encoders and its VAE stay.

    Raises:
        ModelError: the UNet is of another family than the checkpoint, or of an unsupported kind.
    """
    unet = {key: value for key, value in weights.tensors.items() if key.startswith(UNET_PREFIX)}
    shapes = {key: tuple(value.shape) for key, value in unet.items()}
    if f"{UNET_PREFIX}input_blocks.0.0.weight" not in shapes:
        raise ModelError("the model to train is not a Stable Diffusion 1.x, 2.x or XL model; only these can be trained")
    family = _family(Path("the model to train"), shapes)
    if family is not file.family:
        raise ModelError(
            f"the model to train is of the {family.name} family, but the checkpoint {file.path.name} is "
            f"{file.family.name}; choose the checkpoint that the model was made from"
        )
    others = {key: shape for key, shape in file.shapes.items() if not key.startswith(UNET_PREFIX)}
    return replace(file, shapes={**others, **shapes}, memory=unet)


def template(family: Family, part: str) -> dict[str, Any]:
    """The published config of one component of a family."""
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    return json.loads((CONFIGS / family.name / part / name).read_text(encoding="utf-8"))


def unet_config(file: SingleFile) -> dict[str, Any]:
    """The UNet's config as diffusers writes it, from the shapes alone.

    Raises:
        ModelError: parts of the UNet are missing.
    """
    return _inferred(
        ldm_layout.infer_unet_config, file, UNET_PREFIX, template(file.family, "unet"), f"{file.path}: UNet"
    )


def vae_config(file: SingleFile) -> dict[str, Any]:
    """The VAE's config as diffusers writes it, from the shapes alone.

    Raises:
        ModelError: the VAE or parts of it are missing.
    """
    where = f"{file.path}: VAE"
    if not any(key.startswith(VAE_PREFIX) for key in file.shapes):
        raise ModelError(f"{where} is missing (no {VAE_PREFIX}* keys); give a checkpoint with the VAE baked in")
    return _inferred(ldm_layout.infer_vae_config, file, VAE_PREFIX, template(file.family, "vae"), where)


def load_unet(file: SingleFile, dtype: torch.dtype) -> UNet2DConditionModel:
    where, config = f"{file.path}: UNet", unet_config(file)
    with init_empty_weights():
        unet = UNet2DConditionModel.from_config(config)
    state = convert_ldm_unet_checkpoint(file.tensors(UNET_PREFIX), config)
    return _filled(unet, state, dtype, where)  # type: ignore[return-value]


def load_vae(file: SingleFile, dtype: torch.dtype) -> AutoencoderKL:
    where, config = f"{file.path}: VAE", vae_config(file)
    with init_empty_weights():
        vae = AutoencoderKL.from_config(config)
    state = convert_ldm_vae_checkpoint(file.tensors(VAE_PREFIX), config)
    return _filled(vae, state, dtype, where)  # type: ignore[return-value]


def load_text_encoders(file: SingleFile, dtype: torch.dtype) -> list[nn.Module]:
    """One text encoder, or SDXL's two."""
    return [_load_text_encoder(file, part, dtype) for part in file.family.text_parts]


def _load_text_encoder(file: SingleFile, part: TextPart, dtype: torch.dtype) -> nn.Module:
    where = f"{file.path}: {part.config}"
    prefix = next((p for p in part.prefixes if any(k.startswith(p) for k in file.shapes)), None)
    if prefix is None:
        raise ModelError(f"{where} is missing (no {part.prefixes[0]}* keys); give a checkpoint that holds it")
    base = template(file.family, part.config)
    if part.open_clip:
        settings = _inferred(
            lambda shapes, t: ldm_layout.infer_open_clip_config(shapes, t, unused_layers=part.unused_layers),
            *(file, prefix, base, where),
        )
        skipped = f"{prefix}transformer.resblocks.{settings['num_hidden_layers']}."
        tensors = {k: v for k, v in file.tensors(prefix).items() if not k.startswith(skipped)}
        if part.unused_layers:
            tensors.pop(prefix + "text_projection", None)
        elif prefix + "text_projection.weight" in tensors:  # some exporters write a Linear's weight
            tensors[prefix + "text_projection"] = tensors.pop(prefix + "text_projection.weight").T
        state = convert_open_clip_checkpoint(SimpleNamespace(config=CLIPTextConfig(**settings)), tensors, prefix)
    else:
        state = {k[len(prefix) :]: v for k, v in file.tensors(prefix).items()}
        bare = {k.removeprefix("text_model."): tuple(v.shape) for k, v in state.items()}
        settings = _checked(ldm_layout.infer_clip_config, bare, base, where)
        state.pop("text_projection.weight", None)
        state.pop("logit_scale", None)
    kind = CLIPTextModelWithProjection if part.config == "text_encoder_2" else CLIPTextModel
    with init_empty_weights():
        model = kind(CLIPTextConfig(**settings))
    return _filled(model, _named_like(model, state), dtype, where)


def scheduler_config(file: SingleFile) -> dict[str, Any]:
    """The published schedule with the file's prediction type.

    The type is taken from the marker tensors `v_pred` and `ztsnr` of SDXL checkpoints, else from
    `modelspec.prediction_type` in the metadata, else from the family's own guess.
    """
    config = template(file.family, "scheduler")
    declared = PREDICTIONS.get(file.metadata.get("modelspec.prediction_type", "").lower())
    if "v_pred" in file.shapes:
        config["prediction_type"] = "v_prediction"
        config["rescale_betas_zero_snr"] = "ztsnr" in file.shapes
    elif declared is not None:
        config["prediction_type"] = declared
        config["rescale_betas_zero_snr"] = declared == "v_prediction" and "ztsnr" in file.shapes
    else:
        config["prediction_type"] = file.family.prediction_of(file.tensors)
    return config


def _refuse_foreign(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    adapters = FOREIGN[:2]
    complete = f"{UNET_PREFIX}input_blocks.0.0.weight" in shapes
    for parts, what in adapters if complete else FOREIGN:
        if any(part in key for key in shapes for part in parts):
            raise ModelError(f"{path} is {what}; a Stable Diffusion 1.x, 2.x or XL checkpoint is needed")
    if not complete:
        example = next(iter(shapes), "nothing")
        raise ModelError(
            f"{path} holds no Stable Diffusion UNet: no {UNET_PREFIX}input_blocks.0.0.weight among its tensors "
            f"({example!r}, ...); a Stable Diffusion 1.x, 2.x or XL checkpoint is needed"
        )


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


def _filled(model: nn.Module, state: dict[str, Tensor], dtype: torch.dtype, where: str) -> nn.Module:
    """Put weights into an empty model without a second copy; a tensor of the right type stays mapped from disk."""
    wanted = model.state_dict().keys()
    state = {key: value for key, value in state.items() if not key.endswith("position_ids")}
    missing, unexpected = sorted(wanted - state.keys()), sorted(state.keys() - wanted)
    if missing or unexpected:
        kind, names = ("lacks", missing) if missing else ("has unknown", unexpected)
        raise ModelError(
            f"{where} {kind} {len(names)} tensors, such as {names[0]!r}; it is not the expected kind of model"
        )
    for key in state:
        state[key] = state[key].to(dtype)
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{where} does not have the expected shapes: {str(error).splitlines()[-1].strip()}") from error
    return model.eval().requires_grad_(False)


def _named_like(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give CLIP's keys the model's prefix: `text_model.` depends on the version of transformers, and on old merges."""
    wanted = model.state_dict().keys()
    bare = {key.removeprefix("text_model."): value for key, value in state.items()}
    return {f"text_model.{key}" if f"text_model.{key}" in wanted else key: v for key, v in bare.items()}


def _damage(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(40)
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the file itself"
    return f"cannot be read as safetensors: {path.stat().st_size:,} bytes, damaged or not fully downloaded"
