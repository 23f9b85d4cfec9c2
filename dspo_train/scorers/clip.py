"""Scorers that compare an image with its prompt by CLIP: PickScore, HPS and the CLIP score.

PickScore: Kirstain et al. 2023, arXiv 2305.01569. HPS v2: Wu et al. 2023, arXiv 2306.09341. CLIP score: Hessel et al.
2021, arXiv 2104.08718; the conventions that go by that name differ, and ours is that of Diffusion-DPO: OpenCLIP's
ViT-H/14 and the raw cosine.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from ..models.tokenizers import CLIP, read_tokenizer
from .keys import clip_names
from .weights import Found

# As published: openai/clip-vit-large-patch14 and laion/CLIP-ViT-H-14-laion2B-s32B-b79K.
VIT_L: dict[str, Any] = {
    "projection_dim": 768,
    "text_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "hidden_act": "quick_gelu",
        "projection_dim": 768,
    },
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
        "projection_dim": 768,
    },
}
VIT_H: dict[str, Any] = {
    "projection_dim": 1024,
    "text_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
        "projection_dim": 1024,
    },
    "vision_config": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
        "hidden_act": "gelu",
        "projection_dim": 1024,
    },
}


class ClipCosine(nn.Module):
    """The cosine between an image's and its prompt's embedding.

    Args:
        scaled: times exp(logit_scale), which the checkpoint holds.
        cleaned: prompts are cleaned as open_clip does before its tokenizer: HTML's entities become characters.
    """

    def __init__(self, model: CLIPModel, tokenizer: CLIPTokenizer, *, scaled: bool, cleaned: bool) -> None:
        super().__init__()
        self.model, self.tokenizer, self.scaled, self.cleaned = model, tokenizer, scaled, cleaned

    def forward(self, prepared: Tensor, prompts: Sequence[str]) -> Tensor:
        """(N, 3, side, side), N prompts -> (N,); prompts are cut at 75 tokens."""
        distinct = list(dict.fromkeys(prompts))  # one image each of few prompts is the rule, and texts take time, too
        words = [html.unescape(html.unescape(text)) for text in distinct] if self.cleaned else distinct
        config: Any = self.model.config
        length = config.text_config.max_position_embeddings
        ids = self.tokenizer(words, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        found = self.model(input_ids=ids.input_ids.to(prepared.device), pixel_values=prepared)
        rows = torch.tensor([distinct.index(text) for text in prompts], device=prepared.device)
        cosine = (found.image_embeds * found.text_embeds[rows]).sum(-1)  # both of length one
        return cosine * self.model.logit_scale.exp() if self.scaled else cosine


def clip_cosine(found: Found, dtype: torch.dtype, *, scaled: bool, cleaned: bool) -> ClipCosine:
    """A ViT-H/14 from a file with the names of transformers or of open_clip.

    Raises:
        ModelError: the file is damaged or holds another model.
    """
    with init_empty_weights():
        model = CLIPModel(CLIPConfig(**VIT_H))
    found.fill(model, clip_names(found.read()), dtype)
    return ClipCosine(model, read_tokenizer(CLIP), scaled=scaled, cleaned=cleaned).eval()
