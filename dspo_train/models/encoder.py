"""Pixels to VAE moments, latents to pixels and prompts to conditioning, exactly as in diffusers' pipelines."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTokenizer

from ..exceptions import ModelError
from .conditioning import Conditioning, Frame, cat
from .families import Family
from .prompt_text import as_words, remarks
from .weights import precision_hint, tensor_digest

log = logging.getLogger(__name__)

LOGVAR_RANGE = (-30.0, 20.0)  # diffusers' DiagonalGaussianDistribution
PROMPTS_AT_ONCE = 32
VAE_CONFIG = ("block_out_channels", "layers_per_block", "latent_channels", "scaling_factor", "shift_factor")
TEXT_CONFIG = ("hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "eos_token_id")


class DiffusersEncoder:
    """A VAE and a family's text encoders with their tokenizers.

    Every model stays on the CPU until used, then on `device` until `release`.
    """

    def __init__(
        self,
        family: Family,
        vae: AutoencoderKL,
        text_encoders: Sequence[nn.Module],
        tokenizers: Sequence[CLIPTokenizer],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(text_encoders) != len(tokenizers):
            raise ValueError(f"{len(text_encoders)} text encoders but {len(tokenizers)} tokenizers")
        self.family, self.vae, self.device = family, vae, torch.device(device)
        self.text_encoders, self.tokenizers = list(text_encoders), list(tokenizers)
        self._image_id: str | None = None
        self._prompt_id: str | None = None
        self.scaling = float(vae.config["scaling_factor"])
        self.shift = float(vae.config.get("shift_factor") or 0.0)
        self.factor: int = 2 ** (len(vae.config["block_out_channels"]) - 1)  # pixels per latent pixel, each way
        for encoder, tokenizer in zip(text_encoders, tokenizers, strict=True):
            known = _config(encoder)["vocab_size"]
            if len(tokenizer) > known:
                raise ModelError(
                    f"the tokenizer has {len(tokenizer)} tokens but the text encoder knows {known}; "
                    "give this model's own tokenizer"
                )

    @property
    def image_id(self) -> str:
        """Identifies what `moments` computes: weights, config and precision of the VAE as first loaded."""
        if self._image_id is None:
            config = {name: self.vae.config.get(name) for name in VAE_CONFIG}
            self._image_id = tensor_digest(self.vae.state_dict().items(), json.dumps(config))
        return self._image_id

    @property
    def prompt_id(self) -> str:
        """Identifies what `prompts` computes: tokenizers, and weights, configs and precision of the text encoders."""
        if self._prompt_id is None:
            parts = []
            for encoder, tokenizer in zip(self.text_encoders, self.tokenizers, strict=True):
                config = {name: _config(encoder).get(name) for name in TEXT_CONFIG}
                # transformers 4 and 5 name the same tensors with and without this prefix
                state = ((key.removeprefix("text_model."), value) for key, value in encoder.state_dict().items())
                parts.append(tensor_digest(state, json.dumps(config) + _vocabulary(tokenizer)))
            self._prompt_id = hashlib.sha256("".join(parts).encode()).hexdigest()
        return self._prompt_id

    @torch.no_grad()
    def moments(self, pixels: Tensor) -> Tensor:
        """Mean and log-variance of the latents, unscaled. (N, 3, H, W) in [-1, 1] -> (N, 2C, H/f, W/f) float32

        Raises:
            ModelError: the VAE yields infinities or NaNs in float32 too.
        """

        def encode() -> Tensor:
            return self.vae.encode(pixels.to(self.device, self.vae.dtype), return_dict=False)[0].parameters

        mean, logvar = self._finite(encode, "encoding").float().chunk(2, dim=1)
        return torch.cat([mean, logvar.clamp(*LOGVAR_RANGE)], dim=1)

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents to pixels, with a gradient if they have one. (N, C, h, w) -> (N, 3, h f, w f) about [-1, 1],
        float32

        Raises:
            ModelError: the latents, or what the VAE makes of them in float32 too, are not finite.
        """
        if not latents.isfinite().all():
            raise ModelError(
                "the UNet's predictions are not finite, so there is nothing to draw"
                f"{precision_hint(self.vae.dtype)}; if a LoRA is applied, lower its strength"
            )
        unscaled = latents.to(self.device, torch.float32) / self.scaling + self.shift

        def run() -> Tensor:
            return self.vae.decode(unscaled.to(self.vae.dtype), return_dict=False)[0]  # type: ignore[arg-type]

        return self._finite(run, "decoding").float()

    @torch.no_grad()
    def prompts(self, texts: Sequence[str]) -> Conditioning:
        """Encode N prompts as the family does, in the encoders' precision.

        Tokens that do not fit into the context are dropped; see `remarks`.

        Raises:
            ModelError: a text encoder yields infinities or NaNs.
        """
        if not texts:
            raise ValueError("no prompts")
        if len(texts) > PROMPTS_AT_ONCE:
            starts = range(0, len(texts), PROMPTS_AT_ONCE)
            return cat([self.prompts(texts[n : n + PROMPTS_AT_ONCE]) for n in starts])
        found = Conditioning(self.family.text([self._encode(n, texts) for n in range(len(self.text_encoders))]))
        for name, tensor in found.tensors.items():
            if not tensor.isfinite().all():
                raise ModelError(
                    f"the text encoder gives values that are not finite ({name}){precision_hint(tensor.dtype)}; use "
                    "another model"
                )
        return found

    def as_read(self, text: str) -> str:
        """The words of a prompt, without weights and other syntax; prompts that read alike encode alike."""
        return as_words(text)

    def remarks(self, texts: Sequence[str]) -> list[str]:
        """What of these prompts is not read, one sentence each."""
        return remarks(texts, self.tokenizers[0], self._length)

    @property
    def _length(self) -> int:
        """Tokens of the context, its start and end included."""
        return _config(self.text_encoders[0])["max_position_embeddings"]

    def frame(self, frames: Sequence[Frame]) -> Mapping[str, Tensor]:
        """The size conditioning of N images, by name; empty if the model takes none."""
        return self.family.frame(frames)

    def release(self) -> None:
        """Move everything to the CPU; the next use brings it back."""
        for model in (self.vae, *self.text_encoders):
            nn.Module.to(model, "cpu")

    def _encode(self, index: int, texts: Sequence[str]) -> Any:
        encoder, tokenizer, length = self.text_encoders[index].to(self.device), self.tokenizers[index], self._length
        words = [self.as_read(text) for text in texts]
        fitted = tokenizer(words, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return encoder(fitted.input_ids.to(self.device), return_dict=True, output_hidden_states=True)

    def _finite(self, run: Callable[[], Tensor], doing: str) -> Tensor:
        """Run the VAE, and once more in float32 if half precision overflows (as SDXL's own VAE does)."""
        nn.Module.to(self.vae, self.device)
        result = run()
        if result.isfinite().all():
            return result
        if self.vae.dtype != torch.float32:
            log.warning("the VAE overflows in %s while %s; using it in float32 from now on", self.vae.dtype, doing)
            _ = self.image_id  # of the weights as loaded: the cache's key must not change halfway
            self.vae.float()
            result = run()
        if not result.isfinite().all():
            raise ModelError(
                f"the VAE yields infinities or NaNs while {doing}, in float32 too: its weights are damaged or the "
                "input holds NaNs; use another VAE or download the model again"
            )
        return result


def _vocabulary(tokenizer: CLIPTokenizer) -> str:
    """Tokens and merges as text, whichever version of transformers holds them."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # transformers 4
        ranks: Mapping[tuple[str, str], int] = getattr(tokenizer, "bpe_ranks", {})
        merges: list[Any] = sorted(ranks, key=lambda pair: ranks[pair])
    else:
        merges = json.loads(backend.to_str())["model"].get("merges") or []
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    return json.dumps([tokenizer.get_vocab(), tokenizer.pad_token, pairs], sort_keys=True)


def _config(encoder: nn.Module) -> dict[str, Any]:
    return encoder.config.to_dict()  # type: ignore[union-attr, operator]
