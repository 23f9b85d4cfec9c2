"""The embedded model of shapes in ComfyUI's own classes, so that stock nodes encode, sample, decode and patch it.

It comes as what it was trained as, with v prediction, and as a flow model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import comfy.diffusers_convert
import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.model_sampling
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ...dspo_train.models.ldm_layout import original_names
from .playground_files import MODEL, PRECISION, read, weights
from .playground_text import TextEncoder, Words, clip

SHIFT = 3.0  # of the flow's noise levels: half are above 0.75 then, as half of the UNet's steps are above 0.77
GROUPS = 32  # of every norm in core's UNet and VAE, which have no setting for it
BETAS = {"linear": "sqrt_linear", "scaled_linear": "linear"}  # diffusers' names -> core's
TYPES = {"epsilon": comfy.model_base.ModelType.EPS, "v_prediction": comfy.model_base.ModelType.V_PREDICTION}


def load(name: str = "shapes") -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """MODEL, CLIP and VAE, as a checkpoint loader returns them.

    Args:
        name: in `MODELS`.
    """
    offload = mm.unet_offload_device()
    model = MODELS[name](offload)
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=mm.get_torch_device(), offload_device=offload)
    return patcher, clip(), _vae()


def _unet(device: torch.device) -> comfy.model_base.BaseModel:
    settings = Shapes(read(MODEL / "unet"), read(MODEL / "vae"), read(MODEL / "scheduler"))
    return _with_weights(comfy.model_base.BaseModel(settings, model_type=settings.model_type({}), device=device))


def _flow(device: torch.device) -> comfy.model_base.BaseModel:
    settings = ShapesFlow(read(MODEL / "unet"), read(MODEL / "vae"), read(MODEL / "scheduler"))
    network = partial(FlowUNet, levels=flow_levels(read(MODEL / "scheduler")))
    kind = comfy.model_base.ModelType.FLOW
    return _with_weights(comfy.model_base.BaseModel(settings, model_type=kind, device=device, unet_model=network))


# By the name that the node offers.
MODELS: Mapping[str, Callable[[torch.device], comfy.model_base.BaseModel]] = {"shapes": _unet, "shapes-flow": _flow}


def _with_weights(model: comfy.model_base.BaseModel) -> comfy.model_base.BaseModel:
    config, state = read(MODEL / "unet"), weights(MODEL / "unet")
    names = original_names(state, config)
    for module in model.diffusion_model.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = config["norm_num_groups"]
    model.load_model_weights({names[key]: value for key, value in state.items()})
    return model


class ShapesLatent(comfy.latent_formats.LatentFormat):
    """Latents of the embedded VAE; the factors come from its config."""

    def __init__(self, vae: dict[str, Any]) -> None:
        self.latent_channels = vae["latent_channels"]
        self.scale_factor = vae["scaling_factor"]
        self.shift_factor = vae.get("shift_factor") or 0.0

    def process_in(self, latent: Tensor) -> Tensor:
        return (latent - self.shift_factor) * self.scale_factor

    def process_out(self, latent: Tensor) -> Tensor:
        return latent / self.scale_factor + self.shift_factor


class Shapes(comfy.supported_models.SD15):
    """Stable Diffusion 1.x in small. Written for ComfyUI's detection, which does not know a model of this size."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - core's own attribute; SD 1.x has eight heads here

    def __init__(self, unet: dict[str, Any], vae: dict[str, Any], scheduler: dict[str, Any]) -> None:
        super().__init__(_unet_config(unet))
        self.latent_format = ShapesLatent(vae)
        self.prediction = TYPES[scheduler["prediction_type"]]
        self.sampling_settings = _schedule(scheduler)
        self.set_inference_dtype(PRECISION, None)

    def model_type(self, state_dict: dict[str, Tensor], prefix: str = "") -> comfy.model_base.ModelType:
        return self.prediction

    def inpaint_model(self) -> bool:
        return False  # core takes every model with more than four channels for one

    def clip_target(self, state_dict: dict[str, Tensor] | None = None) -> comfy.supported_models_base.ClipTarget:
        return comfy.supported_models_base.ClipTarget(Words, TextEncoder)


class ShapesFlow(Shapes):
    """The same network as a flow model: see `FlowUNet`."""

    def __init__(self, unet: dict[str, Any], vae: dict[str, Any], scheduler: dict[str, Any]) -> None:
        super().__init__(unet, vae, scheduler)
        self.sampling_settings = {"shift": SHIFT, "multiplier": 1.0}  # times are noise levels, 0 to 1


class FlowUNet(UNetModel):
    """A UNet trained with v prediction, given and asked what a rectified flow is: the same denoiser in other words.

    A flow's latents are (1 - sigma) clean + sigma noise. Divided by the root of (1 - sigma)^2 + sigma^2 they are the
    UNet's, of the step with that ratio of noise to signal, and its prediction tells noise and clean apart.

    Args:
        levels: sigma of each of the UNet's steps, rising.
    """

    def __init__(self, *args: Any, levels: Tensor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.levels = levels  # no buffer: core counts and moves the weights that it loaded

    def _forward(self, x: Tensor, timesteps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """-> noise - clean"""
        sigma = timesteps.view(-1, 1, 1, 1)
        scale = torch.hypot(1 - sigma, sigma)
        signal, spread = (1 - sigma) / scale, sigma / scale
        predicted = super()._forward(x / scale, self._steps(timesteps), *args, **kwargs)
        return (spread - signal) * (x / scale) + (signal + spread) * predicted

    def _steps(self, sigma: Tensor) -> Tensor:
        """The UNet's steps, between whole ones too. (N,) -> (N,)"""
        levels = self.levels.to(sigma)
        above = torch.searchsorted(levels, sigma).clamp(1, len(levels) - 1)
        low, high = levels[above - 1], levels[above]
        return (above - 1 + (sigma - low) / (high - low)).clamp(0, len(levels) - 1)


def flow_levels(scheduler: dict[str, Any]) -> Tensor:
    """A schedule's ratios of noise to signal as a flow's noise levels, sigma. -> (steps,), rising"""
    sampling = comfy.model_sampling.ModelSamplingDiscrete(SimpleNamespace(sampling_settings=_schedule(scheduler)))
    return sampling.sigmas / (1 + sampling.sigmas)


def _schedule(scheduler: dict[str, Any]) -> dict[str, Any]:
    """A diffusers config in core's words."""
    return {
        "beta_schedule": BETAS[scheduler["beta_schedule"]],
        "linear_start": scheduler["beta_start"],
        "linear_end": scheduler["beta_end"],
        "timesteps": scheduler["num_train_timesteps"],
        "zsnr": scheduler["rescale_betas_zero_snr"],
    }


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


def _vae() -> comfy.sd.VAE:
    """Core's VAE, built wider than the embedded one, because its 32 groups do not divide 16 channels."""
    config = read(MODEL / "vae")
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
    state = comfy.diffusers_convert.convert_vae_state_dict(weights(MODEL / "vae"))
    _replace(vae.first_stage_model, state, config["norm_num_groups"])
    vae.latent_channels = channels
    vae.size, vae.patcher.size = None, 0  # both are measured again when asked for
    return vae


def _replace(model: nn.Module, state: dict[str, Tensor], groups: int) -> None:
    """Give every layer its weights, of whatever width, and every norm its number of groups."""
    if state.keys() != model.state_dict().keys():
        raise ValueError(f"{sorted(state.keys() ^ model.state_dict().keys())} are not in both models")
    for key, value in state.items():
        path, _, name = key.rpartition(".")
        layer = model.get_submodule(path)
        old = getattr(layer, name)
        setattr(layer, name, nn.Parameter(value.to(old.device, old.dtype), requires_grad=False))
        if name == "weight" and isinstance(layer, nn.GroupNorm):
            layer.num_groups, layer.num_channels = groups, len(value)
        elif name == "weight" and isinstance(layer, nn.Conv2d):
            layer.out_channels, layer.in_channels = value.shape[:2]
