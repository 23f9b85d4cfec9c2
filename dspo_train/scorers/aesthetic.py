"""LAION's aesthetic predictor, version 2: how people rate an image, whatever it shows, on a scale from 1 to 10.

Schuhmann 2022, github.com/christophschuhmann/improved-aesthetic-predictor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPVisionModelWithProjection

from . import clip
from .keys import clip_names
from .weights import Found


class ScoreHead(nn.Module):
    """Five linear layers with no activation between them: (N, width) -> (N,).

    ImageReward's head is the same. The dropout has no part in the score and keeps the layers' published numbers.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features).squeeze(-1)


class Aesthetic(nn.Module):
    """The head on CLIP's image embedding, scaled to length one. The prompts are not looked at."""

    def __init__(self, tower: CLIPVisionModelWithProjection, head: ScoreHead) -> None:
        super().__init__()
        self.tower, self.head = tower, head

    def forward(self, prepared: Tensor, prompts: Sequence[str]) -> Tensor:
        """(N, 3, side, side) -> (N,)"""
        embeds = self.tower(pixel_values=prepared).image_embeds
        return self.head(embeds / embeds.norm(dim=-1, keepdim=True))


def aesthetic(head_file: Found, clip_file: Found, dtype: torch.dtype) -> Aesthetic:
    """The head and the vision tower of a CLIP ViT-L/14, whose text tower is not read.

    Raises:
        ModelError: a file is damaged or holds another model.
    """
    config: Any = CLIPConfig(**clip.VIT_L)
    with init_empty_weights():
        tower = CLIPVisionModelWithProjection(config.vision_config)
        head = ScoreHead(config.projection_dim)
    head_file.fill(head, head_file.read(), dtype)  # the small file first: what fails, fails soon
    seeing = ("vision_model.", "visual_projection.")
    state = {key: value for key, value in clip_names(clip_file.read()).items() if key.startswith(seeing)}
    clip_file.fill(tower, state, dtype)
    return Aesthetic(tower, head).eval()
