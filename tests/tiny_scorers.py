"""Published scorers of a few thousand parameters with random weights, written as the real ones are published.

What they compute is written out here once more, from the published names: `OpenClip` as open_clip builds it, and
ImageReward's towers by `torch.nn.functional`. Nothing of it is shared with the library.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from dspo_train.scorers import clip, image_reward

WIDTH, EMBEDDED, LAYERS, HEADS, PATCH, SIDE = 16, 8, 2, 2, 32, 224
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "fox", "in", "snow")
TOWER = {
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "projection_dim": EMBEDDED,
}
State = Mapping[str, Tensor]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published architectures shrunk, with everything else of their configs as it is."""
    for name in ("VIT_L", "VIT_H"):
        real: dict[str, Any] = getattr(clip, name)
        text = {**real["text_config"], **TOWER}
        vision = {**real["vision_config"], **TOWER, "patch_size": PATCH}
        monkeypatch.setattr(clip, name, {"projection_dim": EMBEDDED, "text_config": text, "vision_config": vision})
    sizes = {key: value for key, value in TOWER.items() if key != "projection_dim"}
    monkeypatch.setattr(image_reward, "VISION", {**image_reward.VISION, **sizes, "patch_size": PATCH})
    text = {**sizes, "encoder_hidden_size": WIDTH, "vocab_size": len(WORDS) + 2}
    monkeypatch.setattr(image_reward, "TEXT", {**image_reward.TEXT, **text})


def randomised(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, Tensor]:
    """Every tensor drawn, biases and norms too, so that none of them can be mistaken for another."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.3 * torch.randn(tuple(shape), generator=generator, dtype=torch.float32)
        for name, shape in shapes.items()
    }


def tiny_clip(seed: int = 0, *, big: bool = True) -> CLIPModel:
    """A CLIP in transformers' classes; `big` as the ViT-H/14 is, else as the ViT-L/14."""
    model = CLIPModel(CLIPConfig(**(clip.VIT_H if big else clip.VIT_L)))
    state = {key: value for key, value in model.state_dict().items() if not key.endswith("position_ids")}
    model.load_state_dict(randomised({key: value.shape for key, value in state.items()}, seed), strict=False)
    return model.eval().requires_grad_(False)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        layers = [("c_fc", nn.Linear(WIDTH, 4 * WIDTH)), ("gelu", nn.GELU()), ("c_proj", nn.Linear(4 * WIDTH, WIDTH))]
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class _Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block() for _ in range(LAYERS))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class _Visual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(WIDTH))
        self.positional_embedding = nn.Parameter(torch.zeros((SIDE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post, self.transformer = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), _Blocks()
        self.proj = nn.Parameter(torch.zeros(WIDTH, EMBEDDED))

    def forward(self, prepared: Tensor) -> Tensor:
        x = self.conv1(prepared).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, WIDTH), x], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class OpenClip(nn.Module):
    """A CLIP with the names and the computations of open_clip."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.visual, self.transformer = _Visual(), _Blocks()
        self.token_embedding = nn.Embedding(49408, WIDTH)
        self.positional_embedding = nn.Parameter(torch.zeros(77, WIDTH))
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.zeros(WIDTH, EMBEDDED))
        self.logit_scale = nn.Parameter(torch.tensor(0.0))
        self.load_state_dict(randomised({key: value.shape for key, value in self.state_dict().items()}, seed))
        self.eval().requires_grad_(False)

    def cosine(self, prepared: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
        """(N, 3, side, side) and N texts' tokens, start and end included -> (N,)"""
        tokens = torch.tensor([[*row, *[0] * (77 - len(row))] for row in ids])  # open_clip pads with zeros
        mask = torch.full((77, 77), -math.inf, dtype=self.positional_embedding.dtype).triu(1)
        x = self.ln_final(self.transformer(self.token_embedding(tokens) + self.positional_embedding, mask))
        text = x[torch.arange(len(ids)), tokens.argmax(-1)] @ self.text_projection  # the end is the largest id
        return F.cosine_similarity(self.visual(prepared), text)


def reward_state(seed: int = 0) -> dict[str, Tensor]:
    """ImageReward's tensors under their published names."""
    patches, inner = (SIDE // PATCH) ** 2, 4 * WIDTH
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, patches + 1, WIDTH)}
    shapes |= {"patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH), "patch_embed.proj.bias": (WIDTH,)}
    shapes |= _norm("norm")
    for n in range(LAYERS):
        block = f"blocks.{n}"
        shapes |= _norm(f"{block}.norm1") | _norm(f"{block}.norm2") | _linear(f"{block}.attn.qkv", WIDTH, 3 * WIDTH)
        shapes |= _linear(f"{block}.attn.proj", WIDTH, WIDTH)
        shapes |= _linear(f"{block}.mlp.fc1", WIDTH, inner) | _linear(f"{block}.mlp.fc2", inner, WIDTH)
    shapes = {f"blip.visual_encoder.{name}": shape for name, shape in shapes.items()}
    text: dict[str, tuple[int, ...]] = {"embeddings.word_embeddings.weight": (len(WORDS) + 2, WIDTH)}
    text |= {"embeddings.position_embeddings.weight": (512, WIDTH)} | _norm("embeddings.LayerNorm")
    for n in range(LAYERS):
        layer = f"encoder.layer.{n}"
        for attention in ("attention", "crossattention"):
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                text |= _linear(f"{layer}.{attention}.{name}", WIDTH, WIDTH)
            text |= _norm(f"{layer}.{attention}.output.LayerNorm")
        text |= _linear(f"{layer}.intermediate.dense", WIDTH, inner) | _linear(f"{layer}.output.dense", inner, WIDTH)
        text |= _norm(f"{layer}.output.LayerNorm")
    shapes |= {f"blip.text_encoder.{name}": shape for name, shape in text.items()}
    shapes |= {"blip.vision_proj.weight": (4, WIDTH), "blip.text_proj.weight": (4, WIDTH)}
    head = head_shapes(WIDTH)
    state = randomised({**shapes, **{f"mlp.{name}": shape for name, shape in head.items()}}, seed)
    return {**state, "blip.text_encoder.embeddings.position_ids": torch.arange(512)[None]}


def head_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """The five linear layers of the aesthetic predictor and of ImageReward, by their published numbers."""
    sizes = (width, 1024, 128, 64, 16, 1)
    layers = zip((0, 2, 4, 6, 7), sizes[:-1], sizes[1:], strict=True)
    return {key: shape for n, a, b in layers for key, shape in _linear(f"layers.{n}", a, b).items()}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def reward_features(state: State, prepared: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
    """What ImageReward's head sees, by hand: (N, 3, side, side), N prompts' words with start and end -> (N, width)"""
    image = _blip_vision({key: value for key, value in state.items() if "visual_encoder" in key}, prepared)
    rows = [_bert(state, torch.tensor(row), image[n]) for n, row in enumerate(ids)]  # each alone: no padding at all
    return torch.stack(rows)


def _apply(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _normed(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(..., L, width), (..., M, width) twice -> (..., L, width)"""
    q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(-2, -3) for part in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / math.sqrt(WIDTH / HEADS)).softmax(-1)
    return (weights @ v).transpose(-2, -3).flatten(-2)


def _blip_vision(state: State, prepared: Tensor) -> Tensor:
    start = "blip.visual_encoder"
    kernel, bias = state[f"{start}.patch_embed.proj.weight"], state[f"{start}.patch_embed.proj.bias"]
    x = F.conv2d(prepared, kernel, bias, stride=PATCH).flatten(2).transpose(1, 2)
    x = torch.cat([state[f"{start}.cls_token"].expand(len(x), 1, WIDTH), x], dim=1) + state[f"{start}.pos_embed"]
    for n in range(LAYERS):
        block = f"{start}.blocks.{n}"
        qkv = _apply(state, f"{block}.attn.qkv", _normed(state, f"{block}.norm1", x, 1e-6))
        x = x + _apply(state, f"{block}.attn.proj", _attended(*qkv.chunk(3, dim=-1)))
        inner = F.gelu(_apply(state, f"{block}.mlp.fc1", _normed(state, f"{block}.norm2", x, 1e-6)))
        x = x + _apply(state, f"{block}.mlp.fc2", inner)
    return _normed(state, f"{start}.norm", x, 1e-6)


def _bert(state: State, ids: Tensor, image: Tensor) -> Tensor:
    """One prompt and one image's patches -> the first token's features"""
    start = "blip.text_encoder"
    words, places = (state[f"{start}.embeddings.{kind}_embeddings.weight"] for kind in ("word", "position"))
    x = _normed(state, f"{start}.embeddings.LayerNorm", words[ids] + places[: len(ids)], 1e-12)
    for n in range(LAYERS):
        layer = f"{start}.encoder.layer.{n}"
        for name, other in (("attention", None), ("crossattention", image)):
            place = f"{layer}.{name}"
            seen = x if other is None else other
            sources = {"query": x, "key": seen, "value": seen}
            mixed = _attended(*(_apply(state, f"{place}.self.{part}", of) for part, of in sources.items()))
            x = _normed(state, f"{place}.output.LayerNorm", _apply(state, f"{place}.output.dense", mixed) + x, 1e-12)
        inner = F.gelu(_apply(state, f"{layer}.intermediate.dense", x))
        x = _normed(state, f"{layer}.output.LayerNorm", _apply(state, f"{layer}.output.dense", inner) + x, 1e-12)
    return x[0]


def write_vocabulary(path: Path) -> Path:
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return path
