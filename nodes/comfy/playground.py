"""The embedded model of shapes in ComfyUI's own classes, so that stock nodes encode, sample, decode and patch it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.diffusers_convert
import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from torch import Tensor, nn

from ...dspo_train import demo
from ...dspo_train.models.ldm_layout import original_names

MODEL = Path(demo.__file__).parent / "model"
PRECISION = torch.float32  # the model is so small that half precision would save nothing

GROUPS = 32  # of every norm in core's UNet and VAE, which have no setting for it
BETAS = {"linear": "sqrt_linear", "scaled_linear": "linear"}  # diffusers' names -> core's
TYPES = {"epsilon": comfy.model_base.ModelType.EPS, "v_prediction": comfy.model_base.ModelType.V_PREDICTION}


def load() -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """MODEL, CLIP and VAE, as a checkpoint loader returns them."""
    return _model(), _clip(), _vae()


def _model() -> comfy.model_patcher.ModelPatcher:
    config, weights = _read("unet"), _weights("unet/diffusion_pytorch_model.safetensors")
    names = original_names(weights, config)
    offload = mm.unet_offload_device()
    settings = Shapes(config, _read("vae"), _read("scheduler"))
    model = comfy.model_base.BaseModel(settings, model_type=settings.model_type({}), device=offload)
    for module in model.diffusion_model.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = config["norm_num_groups"]
    model.load_model_weights({names[key]: value for key, value in weights.items()})
    return comfy.model_patcher.ModelPatcher(model, load_device=mm.get_torch_device(), offload_device=offload)


class ShapesLatent(comfy.latent_formats.LatentFormat):
    """Latents of the embedded VAE; the factors come from its config."""

    def process_in(self, latent: Tensor) -> Tensor:
        return (latent - self.shift_factor) * self.scale_factor

    def process_out(self, latent: Tensor) -> Tensor:
        return latent / self.scale_factor + self.shift_factor


class Shapes(comfy.supported_models.SD15):
    """Stable Diffusion 1.x in small. Written for ComfyUI's detection, which does not know a model of this size."""

    latent_format = ShapesLatent
    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - core's own attribute; SD 1.x has eight heads here

    def __init__(self, unet: dict[str, Any], vae: dict[str, Any], scheduler: dict[str, Any]) -> None:
        super().__init__(_unet_config(unet))
        self.latent_format.latent_channels = vae["latent_channels"]
        self.latent_format.scale_factor = vae["scaling_factor"]
        self.latent_format.shift_factor = vae.get("shift_factor") or 0.0
        self.prediction = TYPES[scheduler["prediction_type"]]
        self.sampling_settings = {
            "beta_schedule": BETAS[scheduler["beta_schedule"]],
            "linear_start": scheduler["beta_start"],
            "linear_end": scheduler["beta_end"],
            "timesteps": scheduler["num_train_timesteps"],
            "zsnr": scheduler["rescale_betas_zero_snr"],
        }
        self.set_inference_dtype(PRECISION, None)

    def model_type(self, state_dict: dict[str, Tensor], prefix: str = "") -> comfy.model_base.ModelType:
        return self.prediction

    def inpaint_model(self) -> bool:
        return False  # core takes every model with more than four channels for one

    def clip_target(self, state_dict: dict[str, Tensor] | None = None) -> comfy.supported_models_base.ClipTarget:
        return comfy.supported_models_base.ClipTarget(Words, TextEncoder)


def _unet_config(config: dict[str, Any]) -> dict[str, Any]:
    """A diffusers config in core's words, for a UNet with attention everywhere."""
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    depth = config["transformer_layers_per_block"]
    return {
        "image_size": 32,  # core requires it and reads it nowhere
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": widths[0],
        "channel_mult": [Multiple(width / widths[0]) for width in widths],
        "num_res_blocks": [layers] * len(widths),
        "transformer_depth": [depth] * layers * len(widths),
        "transformer_depth_output": [depth] * (layers + 1) * len(widths),
        "transformer_depth_middle": depth,
        "context_dim": config["cross_attention_dim"],
        "num_heads": config["attention_head_dim"],  # diffusers' name for their number
        "num_head_channels": -1,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": config["use_linear_projection"],
        "adm_in_channels": None,
        "use_checkpoint": False,
        "legacy": False,
    }


class Multiple(float):
    """How many times wider a level is than the first; core multiplies with it and expects a whole width."""

    def __mul__(self, width: int) -> int:  # type: ignore[override]
        return round(float(self) * width)

    __rmul__ = __mul__  # type: ignore[assignment]


def _clip() -> comfy.sd.CLIP:
    weights = _weights("text_encoder/model.safetensors")
    place = "clip_l.transformer."
    state = {f"{place}text_model.{key.removeprefix('text_model.')}": value for key, value in weights.items()}
    state[f"{place}text_projection.weight"] = torch.eye(_read("text_encoder")["hidden_size"])  # the model has none
    target = comfy.supported_models_base.ClipTarget(Words, TextEncoder)
    parameters = comfy.utils.calculate_parameters(state)
    return comfy.sd.CLIP(target, parameters=parameters, state_dict=state, model_options={"dtype": PRECISION})


class TextEncoder(comfy.sd1_clip.SD1ClipModel):
    """Holds the encoder under the name that LoRA files give it."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
        super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=ShapesText)


class ShapesText(comfy.sd1_clip.SDClipModel):
    """The embedded text encoder, which takes 16 tokens at once."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
        config = _read("text_encoder")
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=model_options or {},
            max_length=config["max_position_embeddings"],
            textmodel_json_config=config,
            model_class=SmallVocabulary,
            special_tokens={name: config[f"{key}_token_id"] for name, key in SPECIAL.items()},
            return_projected_pooled=False,
        )


SPECIAL = {"start": "bos", "end": "eos", "pad": "pad"}  # core's names -> those in the config


class SmallVocabulary(comfy.clip_model.CLIPTextModel):
    """Core's text model, which has CLIP's vocabulary whatever the config says."""

    def __init__(self, config: dict[str, Any], dtype: Any, device: Any, operations: Any) -> None:
        super().__init__(config, dtype, device, operations)
        size = (config["vocab_size"], config["hidden_size"])
        self.set_input_embeddings(operations.Embedding(*size, dtype=dtype, device=device))


class Words(comfy.sd1_clip.SD1Tokenizer):
    """Core's tokenizer with the embedded vocabulary; textual inversions are of other models' width."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None) -> None:
        super().__init__(tokenizer_data=tokenizer_data or {}, tokenizer=ShapesTokenizer)


class ShapesTokenizer(comfy.sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None) -> None:
        config = _read("text_encoder")
        super().__init__(
            str(MODEL / "tokenizer"),
            max_length=config["max_position_embeddings"],
            embedding_directory=embedding_directory,
            embedding_size=config["hidden_size"],
            tokenizer_data=tokenizer_data or {},
        )


def _vae() -> comfy.sd.VAE:
    """Core's VAE, built wider than the embedded one, because its 32 groups do not divide 16 channels."""
    config = _read("vae")
    widths, channels = config["block_out_channels"], config["latent_channels"]
    layout = {
        "ch": GROUPS,
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config["layers_per_block"],
        "z_channels": channels,
        "in_channels": config["in_channels"],
        "out_ch": config["out_channels"],
        "resolution": config["sample_size"],
        "attn_resolutions": [],
        "double_z": True,
    }
    params = {"ddconfig": layout, "embed_dim": channels}
    placeholder = AutoencoderKL(**params).state_dict()  # without it, core warns of missing weights
    vae = comfy.sd.VAE(sd=placeholder, config={"params": params}, dtype=PRECISION)
    weights = comfy.diffusers_convert.convert_vae_state_dict(_weights("vae/diffusion_pytorch_model.safetensors"))
    _replace(vae.first_stage_model, weights, config["norm_num_groups"])
    vae.latent_channels = channels
    vae.size, vae.patcher.size = None, 0  # both are measured again when asked for
    return vae


def _replace(model: nn.Module, weights: dict[str, Tensor], groups: int) -> None:
    """Give every layer its weights, of whatever width, and every norm its number of groups."""
    if weights.keys() != model.state_dict().keys():
        raise ValueError(f"{sorted(weights.keys() ^ model.state_dict().keys())} are not in both models")
    for key, value in weights.items():
        path, _, name = key.rpartition(".")
        layer = model.get_submodule(path)
        old = getattr(layer, name)
        setattr(layer, name, nn.Parameter(value.to(old.device, old.dtype), requires_grad=False))
        if name == "weight" and isinstance(layer, nn.GroupNorm):
            layer.num_groups, layer.num_channels = groups, len(value)
        elif name == "weight" and isinstance(layer, nn.Conv2d):
            layer.out_channels, layer.in_channels = value.shape[:2]


def _read(part: str) -> dict[str, Any]:
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    return json.loads((MODEL / part / name).read_text(encoding="utf-8"))


def _weights(file: str) -> dict[str, Tensor]:
    return {key: value.to(PRECISION) for key, value in comfy.utils.load_torch_file(str(MODEL / file)).items()}
