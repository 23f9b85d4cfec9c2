"""What is wired, as a run trains it: ComfyUI's own MODEL, CLIP and VAE."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import torch
from PIL import Image
from torch import Tensor, nn

from ...dspo_train.config import TrainConfig
from ...dspo_train.exceptions import ConfigError, ModelError, RunError
from ...dspo_train.lora.formats import LoraFormat
from ...dspo_train.lora.layers import TargetTable
from ...dspo_train.lora.reading import LoadedLora
from ...dspo_train.models.conditioning import Conditioning
from ...dspo_train.models.process import Process
from ...dspo_train.training.devices import DTYPES
from ...dspo_train.training.model import OnSampling
from . import lora_files, memory
from .draw import drawn
from .encoder import ComfyEncoder
from .families import ComfyFamily, family_of, refuse_old_core
from .fingerprint import digest_of
from .gradients import differentiable
from .predict import conds_of, raw_prediction
from .process import process_of, scaled, sigmas

_STEP_DISTILLED = re.compile(
    r"turbo|lightning|schnell|lcm|distill|dmd|flash|hyper[-_ ]?(?:sd|flux)|klein(?!.*base)|[48][-_ ]?steps?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Wired:
    """The objects on a node's sockets, and what is known of the MODEL's files.

    Attributes:
        name: of the file that the MODEL was loaded from; empty if unknown.
        loras: names of the LoRAs that it carries.
    """

    model: Any
    clip: Any
    vae: Any
    name: str = ""
    loras: tuple[str, ...] = ()

    def fingerprint(self) -> dict[str, str]:
        """What tells these objects from others, in a second or two."""
        encoder = self.encoder()
        return {
            "model": digest_of(self.model, *self.process.identity().values()),
            "clip": encoder.prompt_id,
            "vae": encoder.image_id,
        }

    @cached_property
    def family(self) -> ComfyFamily:
        return family_of(self.model)

    @cached_property
    def process(self) -> Process:
        return process_of(self.model.get_model_object("model_sampling"))

    def checked(self) -> tuple[ComfyFamily, Process]:
        """
        Raises:
            ModelError: the model cannot be trained, a part is missing, or the VAE is another model's.
        """
        family, process = self.matched()
        if process.prediction == "flow":
            refuse_old_core(family)
        if getattr(self.model, "injections", None):
            raise ModelError(
                "the wired model carries a LoRA that bypasses its weights, through which no gradient flows; load that "
                "LoRA without bypass"
            )
        return family, process

    def matched(self) -> tuple[ComfyFamily, Process]:
        """
        Raises:
            ModelError: it is no model of images, a part is missing, or the VAE is another model's.
        """
        for part, what in ((self.clip, "CLIP"), (self.vae, "VAE")):
            if part is None:
                raise ModelError(f"the wire of the {what} is empty, because its file holds none; wire another loader's")
        family, process = self.family, self.process
        wanted, found = self.model.model.latent_format.latent_channels, self.vae.latent_channels
        if wanted != found:
            raise ModelError(
                f"the wired VAE makes latents of {found} channels, but the {family.title} model takes {wanted}; wire "
                "the VAE that belongs to it"
            )
        return family, process

    def encoder(self) -> ComfyEncoder:
        return ComfyEncoder(self.model, self.clip, self.vae)

    @property
    def grain(self) -> int:
        """Pixels of which a side must be a multiple: the VAE's, and of the patches that flow models make of latents."""
        patch = 2 if self.process.prediction == "flow" else 1
        return self.encoder().factor * patch

    @property
    def precision(self) -> str:
        """In which the MODEL computes."""
        cast = self.model.get_model_object("manual_cast_dtype")
        dtype = self.model.model.get_dtype() if cast is None else cast
        return next((name for name, known in DTYPES.items() if known == dtype), "fp32")

    def remarks(self) -> list[str]:
        """What to expect of a model that was made to draw in a few steps."""
        config = type(self.model.model.model_config).__name__
        if not _STEP_DISTILLED.search(self.name) and config != "FluxSchnell":
            return []
        name = self.name or self.family.title
        return [
            f"{name} draws in a few steps by distillation, which training undoes little by little: keep the run short, "
            "or train on its base model and use the LoRA with this one"
        ]


@dataclass(frozen=True)
class WiredSource:
    """Implements `training.model.ModelSource`.

    Attributes:
        room: bytes of device memory to leave beside the weights.
    """

    wired: Wired
    room: int = 0

    def load(self, config: TrainConfig, precision: str, device: torch.device) -> ComfyModel:
        """See `ModelSource.load`."""
        if config.method == "full":
            raise _not_whole()
        family, process = self.wired.checked()
        return ComfyModel(self.wired, _private(self.wired, precision), family, process, self.room)


class ComfyModel:
    """Implements `training.model.Model` with a private copy of the wired patcher, whose weights are the user's own."""

    def __init__(self, wired: Wired, patcher: Any, family: ComfyFamily, process: Process, room: int = 0) -> None:
        self.wired, self.patcher, self.family, self.process, self.room = wired, patcher, family, process, room
        self.encoder = ComfyEncoder(patcher, wired.clip, wired.vae)
        self.lora = lora_format(patcher.model, family)
        self.encoded: dict[str, Any] = {}  # prompts of previews
        self._refresh: Callable[[], None] = lambda: None

    def read_lora(self, path: Path) -> LoadedLora:
        """See `Model.read_lora`."""
        return lora_files.read(path, self.patcher.model, self.network)

    @property
    def name(self) -> str:
        return self.wired.name or self.family.title

    @property
    def title(self) -> str:
        return self.family.title

    @property
    def network(self) -> nn.Module:
        return self.patcher.model.diffusion_model

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    @property
    def targets(self) -> TargetTable:
        return self.family.targets

    @cached_property
    def _fingerprint(self) -> str:
        return digest_of(self.wired.model)

    def fingerprint(self) -> str:
        """See `Model.fingerprint`; `fingerprint` says what it covers."""
        return self._fingerprint

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """See `Model.predict`."""
        place = noisy.device
        # of several GPUs not always the first
        noisy, conditioning = noisy.to(self.device), conditioning.to(self.device)
        sigma = sigmas(self.process, t.to(self.device))
        latents = scaled(self.process, noisy, sigma)
        if self.family.frames:
            latents = latents[:, :, None]
        rows = conds_of(self.patcher.model, self.family, conditioning, latents)
        raw = raw_prediction(self.patcher, latents, sigma, rows)
        return (raw[:, :, 0] if self.family.frames else raw).to(place)

    @contextmanager
    def training(self, *, checkpointing: bool) -> Iterator[None]:
        """See `Model.training`."""
        memory.load([self.patcher], self.room)
        self.patcher.pre_run()
        try:
            with differentiable(self.network, device=self.device, checkpointing=checkpointing) as self._refresh:
                yield
        finally:
            self.patcher.cleanup()
            memory.clear()

    def draw(self, prompt: str, seed: int, side: int, on_progress: OnSampling) -> Image.Image:
        """See `Model.draw`: as KSampler would, at the family's usual settings."""
        try:
            return drawn(self, prompt, seed, side, on_progress)
        finally:
            self.encoder.release()
            self._reload()

    def _reload(self) -> None:
        """Load what had to make room for a preview.

        Raises:
            RunError: there is no room any more; without its network a run cannot go on.
        """
        try:
            memory.load([self.patcher], self.room)
        except mm.OOM_EXCEPTION as error:
            raise RunError("no memory is left to go on after a preview; set `previews` to 0 and queue again") from error
        self.patcher.pre_run()
        self._refresh()

    def save_whole(self, path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """See `Model.save_whole`."""
        raise _not_whole()


def _not_whole() -> ConfigError:
    return ConfigError("`method` full does not train a wired model; set it to lora")


def _private(wired: Wired, precision: str) -> Any:
    """A patcher of our own over the same weights, or over weights of its own where they are paged by the driver."""
    model = wired.model
    if getattr(model, "is_dynamic", bool)():
        try:
            model = model.clone(disable_dynamic=True)
        except RuntimeError as error:
            raise ModelError(
                "the wired model pages its weights in and cannot be loaded whole; start ComfyUI with "
                "--disable-dynamic-vram, or wire one of core's own loaders"
            ) from error
    else:
        model = model.clone()
    if precision != wired.precision:
        model.set_model_compute_dtype(DTYPES[precision])
    return model


def lora_format(model: Any, family: ComfyFamily) -> LoraFormat:
    """kohya's names of a MODEL's layers: diffusers' block names where its family's files have them."""
    labels = family.lora_labels()
    mapped = comfy.utils.unet_to_diffusers(model.model_config.unet_config) if labels.blocks == "diffusers" else {}
    names = {key.removesuffix(".weight"): name.removesuffix(".weight") for name, key in mapped.items()}
    return LoraFormat(lambda path: "lora_unet_" + names.get(path, path).replace(".", "_"), labels)
