"""A base model that diffusers loaded, as a run trains it: Stable Diffusion 1.x, 2.x and XL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from ..config import TrainConfig
from ..lora.formats import LoraFormat, unet_format
from ..lora.layers import TARGETS, TargetTable
from ..lora.reading import LoadedLora, load_lora
from ..models.base import Base, load_base
from ..models.checkpoint_file import save_checkpoint
from ..models.conditioning import Conditioning
from ..models.encoder import DiffusersEncoder
from ..models.families import Prediction
from ..models.process import Process
from ..models.sampling import SampleSpec, sample
from ..models.unet import predict
from ..training.devices import DTYPES
from ..training.model import OnSampling

_PREVIEW_STEPS = 15


@dataclass(frozen=True)
class DiffusersSource:
    """Implements `training.model.ModelSource` for a diffusers folder or a single `.safetensors` checkpoint.

    Attributes:
        tokenizer: folder with the base's vocabulary, if that is not CLIP's.
        prediction: overrides the prediction type that the base declares.
    """

    path: Path
    tokenizer: Path | None = None
    prediction: Prediction | None = None

    def load(self, config: TrainConfig, precision: str, device: torch.device) -> DiffusersModel:
        """See `ModelSource.load`."""
        # full training starts from the file's own weights, not from rounded ones
        dtype = torch.float32 if config.method == "full" else DTYPES[precision]
        base = load_base(self.path, dtype=dtype, tokenizer=self.tokenizer, prediction=self.prediction)
        base.encoder.device = device  # the UNet follows once the encoders have been moved away
        return DiffusersModel(base, device, self.path)


class DiffusersModel:
    """Implements `training.model.Model`.

    Args:
        path: of the file or folder that the base was loaded from.
    """

    def __init__(self, base: Base, device: torch.device, path: Path) -> None:
        self.base, self.device, self.path = base, device, path
        self.lora: LoraFormat = unet_format(base.family, base.unet)
        self._encoded: dict[str, Conditioning] = {}  # of previews

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def title(self) -> str:
        return self.base.family.title

    @property
    def network(self) -> nn.Module:
        return self.base.unet

    @property
    def targets(self) -> TargetTable:
        return TARGETS

    def read_lora(self, path: Path) -> LoadedLora:
        """See `Model.read_lora`."""
        return load_lora(path, self.base.unet)

    @property
    def encoder(self) -> DiffusersEncoder:
        return self.base.encoder

    @property
    def process(self) -> Process:
        return self.base.process

    def fingerprint(self) -> str:
        """See `Model.fingerprint`."""
        return self.base.fingerprint()

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """See `Model.predict`."""
        return predict(self.base.family, self.base.unet, noisy, self.process.model_time(t), conditioning)

    @contextmanager
    def training(self, *, checkpointing: bool) -> Iterator[None]:
        """See `Model.training`."""
        unet = self.base.unet
        unet.to(self.device)  # type: ignore[arg-type]
        with training_modes(unet):
            if checkpointing:
                unet.enable_gradient_checkpointing()
            try:
                yield
            finally:
                self.base.release()

    def draw(self, prompt: str, seed: int, side: int, on_progress: OnSampling) -> Image.Image:
        """See `Model.draw`; a prompt is encoded once."""
        side = side // 8 * 8
        spec = SampleSpec(side, side, steps=_PREVIEW_STEPS, guidance=self.base.family.guidance)
        try:
            for text in {prompt, spec.negative_prompt} - self._encoded.keys():
                self._encoded[text] = self.encoder.prompts([text])
            self.encoder.release()
            known = self._encoded
            return sample(self.base, [prompt], [seed], spec, conditioning=known, on_progress=on_progress)[0]
        finally:
            self.encoder.release()  # frees the VAE's memory for training

    def save_whole(self, path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """See `Model.save_whole`."""
        save_checkpoint(
            path,
            self.path,
            state,
            unet_config=self.base.unet.config,
            prediction=self.process.prediction,
            zero_snr=bool(self.base.scheduler_config.get("rescale_betas_zero_snr")),
            metadata=metadata,
        )


@contextmanager
def training_modes(unet: nn.Module) -> Iterator[None]:
    """Inside, a UNet is in train mode, without which older diffusers versions do not checkpoint gradients, but the
    base's own dropout is off, so that the policy and the reference are the same network.
    """
    before = [(module, module.training) for module in unet.modules()]
    unet.train()
    for module in unet.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
