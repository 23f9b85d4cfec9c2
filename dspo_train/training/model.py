"""The seam between a run and a model: what is trained, encoded and drawn with, whoever loaded it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from ..config import TrainConfig
from ..data.encode import Encoder
from ..lora.formats import LoraFormat
from ..lora.layers import TargetTable
from ..lora.reading import LoadedLora
from ..models.conditioning import Conditioning
from ..models.process import Process

OnSampling = Callable[[int, int], None]  # denoising steps done, of all; what it raises ends the sampling


class RunEncoder(Encoder, Protocol):
    """An encoder that a run loads and puts away."""

    def remarks(self, texts: Sequence[str]) -> list[str]:
        """What of these prompts is not read, one sentence each."""
        ...

    def release(self) -> None:
        """Free the device's memory; the next use brings everything back."""
        ...


class Model(Protocol):
    """A frozen model. Its network's weights and modules stay as they are; adapters hook into it."""

    @property
    def name(self) -> str:
        """Without a folder, for display and in the LoRA's metadata."""
        ...

    @property
    def title(self) -> str:
        """Of its family."""
        ...

    @property
    def network(self) -> nn.Module:
        """What predicts, and gets the adapters."""
        ...

    @property
    def device(self) -> torch.device:
        """On which it predicts."""
        ...

    @property
    def targets(self) -> TargetTable: ...

    @property
    def lora(self) -> LoraFormat: ...

    def read_lora(self, path: Path) -> LoadedLora:
        """Read a LoRA made for a model of this kind, in whatever spelling.

        Raises:
            LoraFileError: it is no LoRA, or none for this model.
        """
        ...

    @property
    def encoder(self) -> RunEncoder: ...

    @property
    def process(self) -> Process: ...

    def fingerprint(self) -> str:
        """Identifies the network's weights, unaffected by adapters."""
        ...

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """See `Denoiser.predict`."""
        ...

    def training(self, *, checkpointing: bool) -> AbstractContextManager[None]:
        """Inside, the network is on its device and gradients flow through it; afterwards it is off the device.

        Args:
            checkpointing: recompute activations in the backward pass.
        """
        ...

    def draw(self, prompt: str, seed: int, side: int, on_progress: OnSampling) -> Image.Image:
        """A preview of about `side` x `side` pixels, with whatever adapters are on; frees what it loads besides."""
        ...

    def save_whole(self, path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write the whole network as a checkpoint like the one it was loaded from.

        Args:
            state: its tensors, by the names of its `state_dict`.

        Raises:
            ConfigError: this kind of model is trained by a LoRA only.
            RunError: the disk is full.
        """
        ...


class ModelSource(Protocol):
    """Where a run gets its model from."""

    def load(self, config: TrainConfig, precision: str, device: torch.device) -> Model:
        """
        Args:
            precision: `fp32`, `bf16` or `fp16`, as resolved for the device.

        Raises:
            ModelError: the model is missing, damaged or cannot be trained; the message says what to do.
        """
        ...
