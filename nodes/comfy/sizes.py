"""How large what is wired is, for the memory estimate: counted on it, without running it."""

from __future__ import annotations

import math
from functools import lru_cache

from ...dspo_train.config import LoraSpec, Method, Targets
from ...dspo_train.lora.layers import rank_parameters
from ...dspo_train.models.conditioning import Conditioning
from ...dspo_train.runs import counting
from ...dspo_train.training.devices import DTYPES
from .model import Wired
from .probe import count

VAE_SIDE = 512  # pixels at which the VAE's passes are asked for


class WiredSizes:
    """Implements `runs.sizes.Sizes`. Weights count as they are stored, whatever the precision to compute in.

    Args:
        caption: one encoded prompt, for the shapes that this CLIP gives.
    """

    def __init__(self, wired: Wired, caption: Conditioning) -> None:
        self.wired, self.caption = wired, caption
        self.step = lru_cache(maxsize=64)(self._step)

    @property
    def pixels_per_latent(self) -> int:
        return self.wired.encoder().factor

    @property
    def moment_values(self) -> int:
        return 2 * self.wired.model.model.latent_format.latent_channels

    @property
    def caption_values(self) -> int:
        return sum(tensor.numel() for tensor in self.caption.tensors.values())

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in self.wired.model.model.diffusion_model.parameters())

    def rank_parameters(self, targets: Targets) -> int:
        """See `Sizes.rank_parameters`."""
        return rank_parameters(self.wired.model.model.diffusion_model, targets, self.wired.family.targets)

    def network_bytes(self, precision: str, method: Method) -> int:
        """See `Sizes`."""
        return int(self.wired.model.model_size())

    def text_bytes(self, precision: str, method: Method) -> int:
        """See `Sizes`."""
        return int(self.wired.clip.patcher.model_size())

    def vae_bytes(self, precision: str, method: Method) -> int:
        """See `Sizes`."""
        return int(self.wired.vae.patcher.model_size())

    def vae_passes(self, precision: str, method: Method) -> tuple[float, float]:
        """See `Sizes.vae_passes`; the figures are core's own estimates."""
        vae, side = self.wired.vae, VAE_SIDE // self.pixels_per_latent
        frames = (1,) if vae.latent_dim == 3 else ()
        channels = self.wired.model.model.latent_format.latent_channels
        encoding = vae.memory_used_encode((1, 3, *frames, VAE_SIDE, VAE_SIDE), vae.vae_dtype)
        decoding = vae.memory_used_decode((1, channels, *frames, side, side), vae.vae_dtype)
        return float(encoding) / side**2, float(decoding) / side**2

    def _step(
        self, latent_pixels: int, targets: Targets | None, rank: int, precision: str, checkpointing: bool
    ) -> counting.StepCount:
        """See `Sizes.step`."""
        assert targets is not None, "a wired model is trained by a LoRA only"
        side = max(2, round(math.sqrt(latent_pixels) / 2) * 2)
        spec = LoraSpec(rank=rank, alpha=rank, targets=targets)
        found = count(self.wired, self.caption, side, spec, checkpointing)
        scale = latent_pixels / side**2 * DTYPES[precision].itemsize / DTYPES[self.wired.precision].itemsize
        return counting.StepCount(round(found.kept * scale), round(found.flowing * scale))
