"""ImageReward 1.0: Xu et al. 2023, arXiv 2304.05977; github.com/THUDM/ImageReward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import init_empty_weights
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from .aesthetic import ScoreHead
from .keys import image_reward_parts
from .weights import Found

MEAN_REWARD, STD_REWARD = 0.16717362830052426, 1.0333394966054072  # as published with the weights
LENGTH = 35  # tokens of a prompt, its start and end included

# BLIP's ViT-L/16 and its BERT with two tokens more than bert-base-uncased; no dropout, as it is not trained.
VISION: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 16,
    "layer_norm_eps": 1e-6,
}
TEXT: dict[str, Any] = {
    "vocab_size": 30524,
    "hidden_size": 768,
    "encoder_hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "is_decoder": True,  # gives the layers cross-attention; they are called as an encoder's, so each word sees all
}


class BlipReward(nn.Module):
    """BLIP reads the prompt while it looks at the image; the head judges by the first token.

    Args:
        words: BERT's tokenizer without casing.
    """

    def __init__(
        self, vision: BlipVisionModel, text: BlipTextModel, head: ScoreHead, words: BertWordPieceTokenizer
    ) -> None:
        super().__init__()
        self.vision, self.text, self.head, self.words = vision, text, head, words
        words.enable_truncation(LENGTH)
        words.enable_padding(length=LENGTH)

    def forward(self, prepared: Tensor, prompts: Sequence[str]) -> Tensor:
        """(N, 3, side, side), N prompts -> (N,), about zero mean and unit deviation"""
        patches = self.vision(pixel_values=prepared).last_hidden_state
        read = self.words.encode_batch(list(prompts))
        seen = self.text(
            input_ids=torch.tensor([row.ids for row in read], device=prepared.device),
            attention_mask=torch.tensor([row.attention_mask for row in read], device=prepared.device),
            encoder_hidden_states=patches,
            encoder_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long, device=prepared.device),
        )
        return (self.head(seen.last_hidden_state[:, 0]) - MEAN_REWARD) / STD_REWARD


def image_reward(weights: Found, vocabulary: Found, dtype: torch.dtype) -> BlipReward:
    """ImageReward from its one file, and the vocabulary of bert-base-uncased.

    Raises:
        ModelError: a file is damaged or holds another model.
    """
    words = _bert_words(vocabulary)
    wanted = TEXT["vocab_size"] - 2  # two that BLIP adds are in no prompt
    if (known := words.get_vocab_size()) != wanted:
        vocabulary.refuse(f"holds {known:,} words, not {wanted:,}: it is cut short, or another model's vocabulary")
    with init_empty_weights():
        vision = BlipVisionModel(BlipVisionConfig(**VISION))
        text = BlipTextModel(BlipTextConfig(**TEXT), add_pooling_layer=False)
        head = ScoreHead(TEXT["hidden_size"])
    parts = image_reward_parts(weights.read())
    for part, model in (("vision", vision), ("text", text), ("head", head)):
        weights.fill(model, parts[part], dtype)
    return BlipReward(vision, text, head, words).eval()


def _bert_words(vocabulary: Found) -> BertWordPieceTokenizer:
    try:
        return BertWordPieceTokenizer(str(vocabulary.path), lowercase=True)
    except Exception as error:  # tokenizers raises bare Exceptions on damaged files
        vocabulary.refuse(f"cannot be read as a vocabulary ({error})", error)
