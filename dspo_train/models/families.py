"""Everything that differs between model families: one frozen row of `FAMILIES` each.

A new family is a row here with what recognises it, and its published configs in `configs/NAME/`. Nothing else asks
which family a model belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .conditioning import Frame

Prediction = Literal["epsilon", "v_prediction", "flow"]
BlockNames = Literal["diffusers", "ldm"]
Named = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]

# As written in `modelspec.prediction_type`.
PREDICTION_NAMES: Mapping[Prediction, str] = {"epsilon": "epsilon", "v_prediction": "v", "flow": "flow"}

UNET_PREFIX = "model.diffusion_model."  # prefix of the UNet's keys in an original checkpoint
TOKENS = 77  # CLIP's context
END, ZERO = "<|endoftext|>", "!"  # "!" has id 0, with which open_clip pads


@dataclass(frozen=True)
class TextPart:
    """A text encoder of a family.

    Attributes:
        config: its folder in a diffusers pipeline and in `configs/`.
        prefixes: of its keys in a single file; the first one found counts.
        open_clip: whether the single file uses open_clip's names.
        pad: the token that fills short prompts, as in the encoder's training.
        unused_layers: at its end; SD 2.x conditions on the penultimate layer.
    """

    config: str
    prefixes: tuple[str, ...]
    open_clip: bool
    pad: str
    unused_layers: int = 0

    @property
    def tokenizer(self) -> str:
        """Its tokenizer's folder in a diffusers pipeline."""
        return self.config.replace("text_encoder", "tokenizer")


@dataclass(frozen=True)
class LoraLabels:
    """How LoRA files of a family are labelled, so that A1111, Forge and LoRA browsers recognise them.

    Attributes:
        blocks: the block names that kohya's own trainer writes; every reader accepts them.
        base_version: `ss_base_model_version`.
        v2: `ss_v2`.
        architecture: `modelspec.architecture`, by what the model predicts.
        implementation: `modelspec.implementation`, whose names the layers have.
    """

    blocks: BlockNames
    base_version: str
    v2: bool
    architecture: Mapping[Prediction, str]
    implementation: str = "https://github.com/huggingface/diffusers"


@dataclass(frozen=True, eq=False)  # a row equals only itself, and can be a key
class Family:
    """A model family that is trained through diffusers.

    Attributes:
        name: in settings, run folders and the names of `configs/`.
        title: for display.
        in_file: whether a single file's shapes, by full key, are of this family; asked in the table's order.
        in_folder: the same for a diffusers UNet's config.
        text_parts: its text encoders.
        text_width: width of the text embedding, which distinguishes the families' LoRAs.
        resolution: of the published training, pixels.
        guidance: usual classifier-free guidance.
        text: from the outputs of its text encoders to named tensors.
        frame: from the images' frames to named tensors; empty if the model takes no sizes.
        shapes: of its named tensors for one image, without the batch axis, by the UNet's diffusers config.
        inputs: from named tensors to the UNet's keyword arguments, floating tensors in the given precision.
        lora: how its LoRA files are labelled.
        vae_in_float32: whether its VAE overflows in float16.
        prediction_markers: whether its single files declare a v prediction by the tensors `v_pred` and `ztsnr`.
        prediction_of: the prediction type of a single file that does not declare it, given a reader of tensors by
            prefix.
    """

    name: str
    title: str
    in_file: Callable[[Shapes], bool]
    in_folder: Callable[[Mapping[str, Any]], bool]
    text_parts: tuple[TextPart, ...]
    text_width: int
    resolution: int
    guidance: float
    text: Callable[[Sequence[Any]], Named]
    frame: Callable[[Sequence[Frame]], Named]
    shapes: Callable[[Mapping[str, Any]], Shapes]
    inputs: Callable[[Named, torch.dtype], dict[str, Any]]
    lora: LoraLabels
    vae_in_float32: bool = False
    prediction_markers: bool = False
    prediction_of: Callable[[Callable[[str], Named]], Prediction] = lambda tensors: "epsilon"


def _last_layer(outputs: Sequence[Any]) -> Named:
    """The last hidden state, normalised: (N, 77, D)."""
    return {"context": outputs[0].last_hidden_state}


def _penultimate_layers(outputs: Sequence[Any]) -> Named:
    """The penultimate hidden states of both encoders side by side, and the second's pooled embedding."""
    context = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return {"context": context, "pooled": outputs[-1].text_embeds}


def _no_sizes(frames: Sequence[Frame]) -> Named:
    return {}


def _micro_conditioning(frames: Sequence[Frame]) -> Named:
    """SDXL's size conditioning, in the order of `Frame`'s fields (Podell et al. 2023, section 2.2): (N, 6) float32."""
    return {"time_ids": torch.tensor(frames, dtype=torch.float32)}


def _text_shape(config: Mapping[str, Any]) -> Shapes:
    return {"context": (TOKENS, config["cross_attention_dim"])}


def _text_and_size_shapes(config: Mapping[str, Any]) -> Shapes:
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    return {**_text_shape(config), "pooled": (pooled,), "time_ids": (6,)}


def _text_alone(given: Named, dtype: torch.dtype) -> dict[str, Any]:
    return {"encoder_hidden_states": given["context"].to(dtype)}


def _text_and_sizes(given: Named, dtype: torch.dtype) -> dict[str, Any]:
    """Sizes stay float32, because they count pixels, which half precision would round."""
    added = {"text_embeds": given["pooled"].to(dtype), "time_ids": given["time_ids"].float()}
    return {"encoder_hidden_states": given["context"].to(dtype), "added_cond_kwargs": added}


def _sd2_prediction(tensors: Callable[[str], Named]) -> Prediction:
    """The 512 (epsilon) and 768 (v) models have the same keys and shapes, and are distinguished by the spread of one
    bias, as in ComfyUI (`supported_models.SD20`), so that trainer and host agree.
    """
    key = f"{UNET_PREFIX}output_blocks.11.1.transformer_blocks.0.norm1.bias"
    bias = tensors(key).get(key)
    return "v_prediction" if bias is not None and bias.float().std(unbiased=False).item() > 0.09 else "epsilon"


def _flat_projections(shapes: Shapes) -> bool:
    """SD 2.x projects into its transformers with linear layers, SD 1.x with 1x1 convolutions."""
    found = [
        len(shape) for key, shape in shapes.items() if key.endswith("proj_in.weight") and key.startswith(UNET_PREFIX)
    ]
    return bool(found) and found[0] == 2


_CLIP_L = TextPart("text_encoder", ("cond_stage_model.transformer.",), False, END)
_SD1_LORA = "stable-diffusion-v1/lora"
_SDXL_LORA = "stable-diffusion-xl-v1-base/lora"

_ROWS = (
    Family(
        name="sdxl",
        title="SDXL",
        in_file=lambda shapes: f"{UNET_PREFIX}label_emb.0.0.weight" in shapes,
        in_folder=lambda config: config.get("addition_embed_type") == "text_time",
        text_parts=(
            TextPart("text_encoder", ("conditioner.embedders.0.transformer.",), False, END),
            TextPart("text_encoder_2", ("conditioner.embedders.1.model.",), True, ZERO),
        ),
        text_width=2048,
        resolution=1024,
        guidance=5.0,
        text=_penultimate_layers,
        frame=_micro_conditioning,
        shapes=_text_and_size_shapes,
        inputs=_text_and_sizes,
        lora=LoraLabels("ldm", "sdxl_base_v1-0", False, {"epsilon": _SDXL_LORA, "v_prediction": _SDXL_LORA}),
        vae_in_float32=True,
        prediction_markers=True,
    ),
    Family(
        name="sd2",
        title="Stable Diffusion 2.x",
        in_file=_flat_projections,
        in_folder=lambda config: bool(config.get("use_linear_projection")),
        text_parts=(
            TextPart("text_encoder", ("cond_stage_model.model.", "conditioner.embedders.0.model."), True, ZERO, 1),
        ),
        text_width=1024,
        resolution=768,
        guidance=7.0,
        text=_last_layer,
        frame=_no_sizes,
        shapes=_text_shape,
        inputs=_text_alone,
        lora=LoraLabels(
            "diffusers",
            "sd_v2",
            True,
            {"epsilon": "stable-diffusion-v2-512/lora", "v_prediction": "stable-diffusion-v2-768-v/lora"},
        ),
        prediction_of=_sd2_prediction,
    ),
    Family(
        name="sd15",
        title="Stable Diffusion 1.x",
        in_file=lambda shapes: True,
        in_folder=lambda config: True,
        text_parts=(_CLIP_L,),
        text_width=768,
        resolution=512,
        guidance=7.0,
        text=_last_layer,
        frame=_no_sizes,
        shapes=_text_shape,
        inputs=_text_alone,
        lora=LoraLabels("diffusers", "sd_1.5", False, {"epsilon": _SD1_LORA, "v_prediction": _SD1_LORA}),
    ),
)
FAMILIES: dict[str, Family] = {row.name: row for row in _ROWS}


def family_of(unet_config: Mapping[str, Any]) -> Family:
    """The first row that recognises a diffusers UNet's config."""
    return next(family for family in FAMILIES.values() if family.in_folder(unet_config))
