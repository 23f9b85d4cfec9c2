"""Real CLIP objects with small random text encoders, one form of conditioning for each family of tiny_families.

SD1.5 and SDXL get ComfyUI's own encoders with fewer layers. Other families' encoders are too large even so: theirs is
an embedding of hashed words, which gives tensors of the form that the family's own encoder gives. Different prompts
give different tensors, and the same prompt always the same.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management  # pyright: ignore[reportMissingImports]
import comfy.ops  # pyright: ignore[reportMissingImports]
import comfy.sd  # pyright: ignore[reportMissingImports]
import comfy.sd1_clip  # pyright: ignore[reportMissingImports]
import comfy.sdxl_clip  # pyright: ignore[reportMissingImports]
import comfy.supported_models_base  # pyright: ignore[reportMissingImports]
import torch
from tiny_vaes import drawn
from torch import Tensor, nn

PAD, END = 0, 1
VOCABULARY = 4096
INNER = 64
REDUCED = {  # by the names of ComfyUI's options; width and vocabulary have to stay
    "clip_l_model_config": {"num_hidden_layers": 3, "intermediate_size": 768},
    "clip_g_model_config": {"num_hidden_layers": 3, "intermediate_size": 1280},
    "dtype": torch.float32,
}
Tokens = dict[str, list[list[tuple[int, float]]]]


@dataclass(frozen=True)
class Form:
    """What a family's text encoder gives."""

    width: int
    keys: tuple[str, ...]  # the names of its token lists; pooled output comes from the last
    pooled: int | None = None  # its width
    shortest: int = 1  # fewer tokens are padded to this many
    mask: bool = False  # an attention mask is given, 0 where padded
    t5: bool = False  # T5's token ids and weights are given too, for an adapter in the model


FORMS = {
    "sd2": Form(width=1024, keys=("h",), shortest=77),
    "sd35": Form(width=64, keys=("t5xxl", "g", "l"), pooled=32, shortest=154),
    "flux": Form(width=48, keys=("t5xxl", "l"), pooled=32, shortest=256),
    "flux2": Form(width=48, keys=("qwen3_4b",), shortest=512, mask=True),
    "zimage": Form(width=64, keys=("qwen3_4b",), mask=True),
    "lumina2": Form(width=64, keys=("gemma2_2b",), mask=True),
    "qwen_image": Form(width=3584, keys=("qwen25_7b",)),
    "chroma": Form(width=64, keys=("t5xxl",)),
    "anima": Form(width=1024, keys=("qwen3_06b", "t5xxl"), mask=True, t5=True),
}


def tiny_clip(form: Form, seed: int = 0) -> Any:
    """A CLIP whose text encoder gives a family's form of conditioning."""
    return _clip(partial(TinyTokenizer, form), partial(TinyEncoder, form), seed, {"dtype": torch.float32})


def clip_sd15(seed: int = 0) -> Any:
    """CLIP-L with three layers."""
    return _clip(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel, seed, REDUCED)


def clip_sdxl(seed: int = 0) -> Any:
    """CLIP-L and CLIP-G with three layers each."""
    return _clip(comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel, seed, REDUCED)


def _clip(tokenizer: Callable[..., Any], encoder: Callable[..., nn.Module], seed: int, options: dict[str, Any]) -> Any:
    target = comfy.supported_models_base.ClipTarget(tokenizer, encoder)
    state = drawn(encoder(device="meta", dtype=torch.float32, model_options=options), seed)
    size = sum(value.numel() for value in state.values())
    return comfy.sd.CLIP(target, parameters=size, state_dict=state, model_options=options)


class TinyTokenizer:
    """Hashes lower-case words and signs; heeds the weights of `(word:1.2)`."""

    def __init__(self, form: Form, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        self.form = form

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, Any]:
        parts = comfy.sd1_clip.token_weights(text, 1.0)
        words = [(word, weight) for part, weight in parts for word in re.findall(r"\w+|[^\w\s]", part.lower())]
        tokens = [(END + 1 + zlib.crc32(word.encode()) % (VOCABULARY - END - 1), weight) for word, weight in words]
        tokens.append((END, 1.0))
        tokens += [(PAD, 1.0)] * (self.form.shortest - len(tokens))
        listed: Any = [(*token, number) for number, token in enumerate(tokens)] if return_word_ids else tokens
        return {key: [list(listed)] for key in self.form.keys}

    def untokenize(self, token_weight_pair: list[Any]) -> list[Any]:
        return [(token, str(token[0])) for token in token_weight_pair]

    def state_dict(self) -> dict[str, Tensor]:
        return {}


class TinyEncoder(nn.Module):
    """An embedding, a running sum over the words before, and a linear layer: the order of words counts."""

    def __init__(self, form: Form, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
        super().__init__()
        made = {"device": device, "dtype": dtype}
        self.form = form
        self.dtypes = {dtype}
        self.execution_device = None
        self.embed = comfy.ops.manual_cast.Embedding(VOCABULARY, INNER, **made)
        self.norm = comfy.ops.manual_cast.LayerNorm(INNER, **made)
        self.out = comfy.ops.manual_cast.Linear(INNER, form.width, **made)
        self.pool = None if form.pooled is None else comfy.ops.manual_cast.Linear(INNER, form.pooled, **made)
        self.requires_grad_(False)  # as ComfyUI's encoders are

    def set_clip_options(self, options: dict[str, Any]) -> None:
        self.execution_device = options.get("execution_device", self.execution_device)

    def reset_clip_options(self) -> None:
        self.execution_device = None

    def encode_token_weights(self, token_weight_pairs: Tokens) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        form, back = self.form, comfy.model_management.intermediate_device()
        ids, weights = _columns(token_weight_pairs[form.keys[0]])
        states = self._states(ids)
        cond = (self.out(states) * weights[:, None].to(states)).unsqueeze(0)
        pooled = None
        if self.pool is not None:
            last = self._states(_columns(token_weight_pairs[form.keys[-1]])[0])
            pooled = self.pool(last.mean(0, keepdim=True)).float().to(back)
        extra = {"attention_mask": (ids != PAD).long().unsqueeze(0).to(back)} if form.mask else {}
        if form.t5:
            t5_ids, t5_weights = _columns(token_weight_pairs["t5xxl"])
            extra |= {"t5xxl_ids": t5_ids.int(), "t5xxl_weights": t5_weights}
        return cond.float().to(back), pooled, extra

    def _states(self, ids: Tensor) -> Tensor:
        device = self.execution_device or self.embed.weight.device
        embedded = self.embed(ids.to(device), out_dtype=torch.float32)
        return self.norm(embedded + embedded.cumsum(0))

    def load_sd(self, sd: dict[str, Tensor]) -> Any:
        return self.load_state_dict(sd, strict=False)


def _columns(pairs: list[list[tuple[int, float]]]) -> tuple[Tensor, Tensor]:
    """The ids and the weights of every token, of all sections in one row."""
    tokens = [token for section in pairs for token in section]
    return torch.tensor([token[0] for token in tokens]), torch.tensor([token[1] for token in tokens])
