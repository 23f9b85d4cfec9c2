"""Load a base model from a diffusers folder or a single file, offline, ready to be aligned."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from ..exceptions import ModelError
from . import single_file
from .encoder import DiffusersEncoder, tensor_digest
from .families import Family, Prediction, family_of
from .process import Process, from_scheduler_config, is_flow
from .single_file import UnetWeights
from .tokenizers import load_tokenizers, read_tokenizer

WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:-\d+-of-\d+)?(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?"
    r"\.(?P<kind>safetensors|bin)"
)


@dataclass(eq=False)
class Base:
    """A frozen model with everything it needs.

    Attributes:
        name: of the file or folder, without path and suffix.
        unet: in eval mode, without gradients, on the requested device and in the requested precision.
        scheduler_config: as diffusers writes it, with the prediction type in use.
    """

    name: str
    family: Family
    unet: UNet2DConditionModel
    encoder: DiffusersEncoder
    process: Process
    scheduler_config: dict[str, Any]
    _fingerprint: str | None = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the frozen weights; adapters may have another."""
        return self.unet.conv_in.weight.dtype

    def release(self) -> None:
        """Move the whole model to the CPU to free its device memory."""
        self.encoder.release()
        self.unet.to("cpu")  # type: ignore[arg-type]

    def fingerprint(self) -> str:
        """sha256 over the UNet's own tensors in the loaded precision, unaffected by adapters; computed once."""
        if self._fingerprint is None:
            state = self.unet.state_dict().items()
            own = [(key.replace(".base_layer.", "."), value) for key, value in state if ".lora_" not in key]
            self._fingerprint = tensor_digest(own)
        return self._fingerprint


def load_base(
    path: Path | str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    tokenizer: Path | None = None,
    prediction: Prediction | None = None,
    unet: UnetWeights | None = None,
) -> Base:
    """Load an SD 1.x, SD 2.x or SDXL model, or a reduced variant of one.

    Args:
        path: a diffusers folder, or a `.safetensors` file in the original layout.
        tokenizer: folder with vocab.json and merges.txt; found automatically if it is with the model.
        prediction: overrides the prediction type that the model declares.
        unet: replaces the UNet of a single file.

    Raises:
        ModelError: the model is missing, damaged, incomplete or unsupported; the message says what to do.
    """
    path = Path(path)
    refuse_absent(path)
    if path.is_dir():
        if unet is not None:
            raise ModelError(f"{path} is a folder; a UNet in memory needs a single .safetensors checkpoint")
        family, model, vae, text_encoders, tokenizers, scheduler = _load_folder(path, dtype, tokenizer)
    else:
        family, model, vae, text_encoders, tokenizers, scheduler = _load_file(path, dtype, tokenizer, unet)
    _refuse_mismatch(path, model, vae, text_encoders)
    if unet is not None:
        own = {"prediction_type": unet.prediction, "rescale_betas_zero_snr": unet.zero_snr}
        scheduler = {**scheduler, **own}
    if prediction is not None:
        zero_snr = scheduler.get("rescale_betas_zero_snr", False) and prediction == "v_prediction"
        scheduler = {**scheduler, "prediction_type": prediction, "rescale_betas_zero_snr": zero_snr}
    if family.vae_in_float32 and dtype == torch.float16 and vae.config.get("force_upcast"):
        vae.float()  # the published VAE overflows in float16, and its config says so
    encoder = DiffusersEncoder(family, vae, text_encoders, tokenizers, device=device)
    model.to(device)  # type: ignore[arg-type]
    name = path.resolve().name if path.is_dir() else path.stem
    return Base(name, family, model, encoder, from_scheduler_config(scheduler), scheduler)


def refuse_absent(path: Path) -> None:
    """Raise a ModelError if there is no such file or folder."""
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder; give a diffusers folder or a .safetensors checkpoint")


Parts = tuple[Family, UNet2DConditionModel, AutoencoderKL, list[nn.Module], list[CLIPTokenizer], dict[str, Any]]


def _load_file(path: Path, dtype: torch.dtype, tokenizer: Path | None, weights: UnetWeights | None) -> Parts:
    file = single_file.open_single_file(path)
    if weights is not None:
        file = single_file.with_unet(file, weights)
    tokenizers = load_tokenizers(file.family, path, tokenizer)  # first: it fails fast, the weights load slowly
    text_encoders = single_file.load_text_encoders(file, dtype)
    vae, unet = single_file.load_vae(file, dtype), single_file.load_unet(file, dtype)
    return file.family, unet, vae, text_encoders, tokenizers, single_file.scheduler_config(file)


def _load_folder(path: Path, dtype: torch.dtype, tokenizer: Path | None) -> Parts:
    family = folder_family(path)
    names = [part.config for part in family.text_parts]
    tokenizers = _folder_tokenizers(path, family, tokenizer)
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    text_encoders = [_component(kind, path / name, dtype) for kind, name in zip(kinds, names, strict=False)]
    vae, unet = _component(AutoencoderKL, path / "vae", dtype), _component(UNet2DConditionModel, path / "unet", dtype)
    scheduler = read_json(path / "scheduler" / "scheduler_config.json")
    if scheduler.get("trained_betas") or ("beta_start" not in scheduler and not is_flow(scheduler)):
        raise ModelError(f"{path}: the noise process of its {scheduler.get('_class_name')} is not supported")
    return family, unet, vae, text_encoders, tokenizers, scheduler


def folder_family(path: Path) -> Family:
    """Identify the family by the UNet's config and refuse what cannot be trained."""
    _refuse_missing(path, ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"))
    config = read_json(path / "unet" / "config.json")
    if config.get("in_channels", 4) != config.get("out_channels", 4):  # a model that takes more than noisy latents
        single_file.refuse_input_channels(str(path), config.get("in_channels", 4))
    if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
        raise ModelError(f"{path}: its UNet takes class labels (unCLIP or upscaler), which is not supported")
    family = family_of(config)
    parts = [part.config for part in family.text_parts]
    if len(parts) > 1 and [part for part in parts if (path / part).is_dir()] == parts[1:]:
        raise ModelError(f"{path} is the SDXL refiner, which is not supported; give the SDXL base model")
    _refuse_missing(path, tuple(f"{part}/config.json" for part in parts))
    return family


def _refuse_mismatch(path: Path, unet: Any, vae: Any, text_encoders: list[Any]) -> None:
    """Refuse parts of different models here, not at the first step."""
    if vae.config.get("latents_mean") is not None:
        raise ModelError(f"{path}: its VAE shifts each channel (Playground 2.5), which is not supported")
    if vae.config["latent_channels"] != unet.config["in_channels"]:
        raise ModelError(
            f"{path}: the VAE has {vae.config['latent_channels']} latent channels but the UNet takes "
            f"{unet.config['in_channels']}; use this model's own VAE"
        )
    width = sum(encoder.config.hidden_size for encoder in text_encoders)
    if width != unet.config["cross_attention_dim"]:
        raise ModelError(
            f"{path}: the text encoders give {width} features but the UNet takes {unet.config['cross_attention_dim']}; "
            "use this model's own text encoders"
        )


def _refuse_missing(path: Path, files: tuple[str, ...]) -> None:
    missing = [name for name in files if not (path / name).is_file()]
    if not missing:
        return
    if (path / "transformer").is_dir():
        raise ModelError(f"{path} holds a transformer model (SD3, Flux, ...), which is not supported")
    if not any(path.iterdir()):
        raise ModelError(f"{path} is an empty folder; give a diffusers folder or a .safetensors checkpoint")
    inside = sorted(p.name for p in path.glob("*.safetensors"))
    hint = f"; did you mean the file {inside[0]} in it?" if inside else ""
    raise ModelError(f"{path} is not a complete diffusers pipeline: {', '.join(missing)} missing{hint}")


def read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} cannot be read: {error}; download it again") from error


def _folder_tokenizers(path: Path, family: Family, given: Path | None) -> list[CLIPTokenizer]:
    own = [path / part.tokenizer for part in family.text_parts]
    if given is None and all(folder.is_dir() for folder in own):
        return [read_tokenizer(folder) for folder in own]
    return load_tokenizers(family, path, given)


def _component(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load one model; refuse missing weights, which the libraries would fill with random numbers."""
    variant, ending = weight_files(folder)
    options: dict[str, Any] = {"local_files_only": True, "output_loading_info": True}
    options |= {"variant": variant, "use_safetensors": ending == "safetensors", "torch_dtype": dtype}
    try:
        with _no_progress_bars():
            model, info = kind.from_pretrained(str(folder), **options)
    except MemoryError:
        raise
    except Exception as error:  # each library has its own exceptions for damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder} cannot be loaded: {reason}; download it again") from error
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
    if missing:
        raise ModelError(f"{folder} lacks {len(missing)} tensors, such as {missing[0]!r}; download it again")
    return model.eval().requires_grad_(False)


def weight_files(folder: Path) -> tuple[str | None, str]:
    """Which of a folder's weight files to read: (variant, `safetensors` or `bin`), no variant if possible."""
    found = {
        (match["kind"] != "safetensors", match["variant"] or "")
        for match in map(WEIGHTS.fullmatch, (p.name for p in folder.iterdir()))
        if match
    }
    if not found:
        raise ModelError(f"{folder} holds no weights (.safetensors or .bin); download it again")
    pickled, variant = min(found)
    return variant or None, "bin" if pickled else "safetensors"


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    libraries = [lib for lib in (diffusers_logging, transformers_logging) if lib.is_progress_bar_enabled()]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()
