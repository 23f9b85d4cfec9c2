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
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from ..exceptions import ModelError
from ..files.tensor_file import read_header
from ..files.words import many
from . import single_file
from .declared import scheduler_config
from .encoder import DiffusersEncoder
from .families import Family, Prediction, family_of
from .locate import located, name_of, refuse_incomplete
from .process import Process, from_scheduler_config, is_flow
from .tokenizers import load_tokenizers, read_tokenizer
from .unet import refuse_unsupplied
from .weights import fill, has_weights, named_like, read_weights, refuse_non_finite, tensor_digest, weight_files


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
            self._fingerprint = tensor_digest(self.unet.state_dict().items())
        return self._fingerprint


def load_base(
    path: Path | str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    tokenizer: Path | None = None,
    prediction: Prediction | None = None,
) -> Base:
    """Load an SD 1.x, SD 2.x or SDXL model, or a reduced variant of one.

    Args:
        path: a diffusers folder, a `.safetensors` file in the original layout, or the name of a model in the Hugging
            Face cache.
        tokenizer: folder with vocab.json and merges.txt; found automatically if it is with the model.
        prediction: overrides the prediction type that the model declares.

    Raises:
        ModelError: the model is missing, damaged, incomplete or unsupported; the message says what to do.
    """
    path = located(Path(path))
    if path.is_dir():
        family, model, vae, text_encoders, tokenizers, scheduler = _load_folder(path, dtype, tokenizer)
    else:
        family, model, vae, text_encoders, tokenizers, scheduler = _load_file(path, dtype, tokenizer)
    _refuse_mismatch(path, model, vae, text_encoders)
    if prediction is not None:
        zero_snr = scheduler.get("rescale_betas_zero_snr", False) and prediction == "v_prediction"
        scheduler = {**scheduler, "prediction_type": prediction, "rescale_betas_zero_snr": zero_snr}
    if family.vae_in_float32 and dtype == torch.float16 and vae.config.get("force_upcast"):
        vae.float()  # the published VAE overflows in float16, and its config says so
    encoder = DiffusersEncoder(family, vae, text_encoders, tokenizers, device=device)
    model.to(device)  # type: ignore[arg-type]
    try:
        process = from_scheduler_config(scheduler)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    return Base(name_of(path), family, model, encoder, process, scheduler)


Parts = tuple[Family, UNet2DConditionModel, AutoencoderKL, list[nn.Module], list[CLIPTokenizer], dict[str, Any]]


def _load_file(path: Path, dtype: torch.dtype, tokenizer: Path | None) -> Parts:
    file = single_file.open_single_file(path)
    single_file.refuse_without_parts(file)  # what fails fast goes first; the weights load slowly
    tokenizers, scheduler = load_tokenizers(file.family, path, tokenizer), scheduler_config(file)
    text_encoders = single_file.load_text_encoders(file, dtype)
    vae, unet = single_file.load_vae(file, dtype), single_file.load_unet(file, dtype)
    return file.family, unet, vae, text_encoders, tokenizers, scheduler


def _load_folder(path: Path, dtype: torch.dtype, tokenizer: Path | None) -> Parts:
    family = folder_family(path)
    names = [part.config for part in family.text_parts]
    if empty := [name for name in ("unet", "vae", *names) if not has_weights(path / name)]:
        hold = f"{' and '.join(empty)} {'holds' if len(empty) == 1 else 'hold'}"
        raise ModelError(f"{path}: {hold} no weights (.safetensors or .bin); download the model again")
    tokenizers = _folder_tokenizers(path, family, tokenizer)
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    text_encoders = [_text_encoder(kind, path / name, dtype) for kind, name in zip(kinds, names, strict=False)]
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
    for part, wanted in _CLASSES.items():
        _refuse_other_class(path / part, wanted)
    refuse_unsupplied(f"{path}: its UNet", config)
    family = family_of(config)
    parts = [part.config for part in family.text_parts]
    if len(parts) > 1 and [part for part in parts if (path / part).is_dir()] == parts[1:]:
        raise ModelError(f"{path} is the SDXL refiner, which is not supported; give the SDXL base model")
    _refuse_missing(path, tuple(f"{part}/config.json" for part in parts))
    return family


_CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}


def _refuse_other_class(folder: Path, wanted: str) -> None:
    config = read_json(folder / "config.json")
    if (found := config.get("_class_name", wanted)) != wanted:
        raise ModelError(f"{folder} is of class {found}, which is not supported; {wanted} is")
    if how := config.get("quantization_config"):
        raise ModelError(
            f"{folder} is quantised ({how.get('quant_method', how)}), and such weights are not read; give the model in "
            "fp16, bf16 or fp32"
        )


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
    if missing:
        refuse_incomplete(path, missing)


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
    """Load one diffusers model; refuse missing weights, which the library would fill with random numbers."""
    variant, ending = weight_files(folder)
    options: dict[str, Any] = {"local_files_only": True, "output_loading_info": True}
    options |= {"variant": variant, "use_safetensors": ending == "safetensors", "torch_dtype": dtype}
    try:
        with _no_progress_bars():
            model, info = kind.from_pretrained(str(folder), **options)
    except MemoryError:
        raise
    except Exception as error:  # the library has many exceptions for damaged files
        raise ModelError(_unloadable(folder, error)) from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(f"{folder} lacks {many(len(missing), 'tensor')}, such as {missing[0]!r}; download it again")
    refuse_non_finite(model, str(folder))
    return model.eval().requires_grad_(False)


def _unloadable(folder: Path, error: Exception) -> str:
    """Why diffusers could not load a component, in words that do not speak of its arguments."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            read_header(path, ModelError)
        except ModelError as broken:
            return str(broken)
    reason = " ".join(str(error).split()) or type(error).__name__
    if "nable to load weights" in reason:
        return f"{folder} cannot be loaded: a weight file is damaged or not fully downloaded; download it again"
    if shape := re.search(r"([\w.]+) expected shape", reason):
        return f"{folder} does not match its config.json ({shape[1]} has another shape); download both again"
    return f"{folder} cannot be loaded: {reason[:200]}; download it again"


def _text_encoder(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load one text encoder under whichever names the version of transformers that saved it gave its tensors."""
    config = read_json(folder / "config.json")
    saved = next(iter(config.get("architectures") or [kind.__name__]))
    if not str(saved).startswith("CLIP"):
        raise ModelError(f"{folder} is a {saved}, which is not supported; give a Stable Diffusion 1.x, 2.x or XL model")
    with init_empty_weights():
        model = kind(CLIPTextConfig(**config))
    return fill(model, named_like(model, read_weights(folder)), dtype, str(folder))


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
