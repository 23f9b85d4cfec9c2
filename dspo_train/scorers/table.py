"""Scorers by name. A new one is a class and a row here.

A scorer labels candidates, measures a model, and guides the choice among steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..exceptions import ConfigError
from .preprocessing import CentreCrop, Letterbox
from .published import PublishedScorer
from .scorer import PixelScorer, Scorer
from .toys import ToyTaste, further_left, large_and_dark
from .weights import Found, WeightFile, find_all


@dataclass(frozen=True)
class ScorerRow:
    """What is known of a scorer before anything is loaded.

    Attributes:
        title: for people, in one line.
        licence: of the weights; empty for a scorer that has none.
        files: what it needs, its own file first.
        make: reads those files, in this order and precision. Imports and loads nothing before it is called.
        odds: what a difference of one is worth as log-odds of being preferred.
        held: bytes of its weights in float32.
        graph: bytes that the graph of one image keeps, counted in float32 on the meta device.
        reads_prompts: do scores depend on the prompts?
        differentiable: is it a `PixelScorer`?
    """

    title: str
    licence: str
    files: tuple[WeightFile, ...]
    make: Callable[[Sequence[Found], torch.dtype], Scorer]
    odds: float = 1.0
    held: int = 0
    graph: int = 0
    reads_prompts: bool = True
    differentiable: bool = True


def _pickscore(found: Sequence[Found], dtype: torch.dtype) -> PixelScorer:
    from .clip import clip_cosine

    return PublishedScorer(clip_cosine(found[0], dtype, scaled=True, cleaned=False), CentreCrop())


def _open_clip_cosine(found: Sequence[Found], dtype: torch.dtype) -> PixelScorer:
    from .clip import clip_cosine

    return PublishedScorer(clip_cosine(found[0], dtype, scaled=False, cleaned=True), Letterbox())


def _aesthetic(found: Sequence[Found], dtype: torch.dtype) -> PixelScorer:
    from .aesthetic import aesthetic

    return PublishedScorer(aesthetic(found[0], found[1], dtype), CentreCrop())


def _image_reward(found: Sequence[Found], dtype: torch.dtype) -> PixelScorer:
    from .image_reward import image_reward

    return PublishedScorer(image_reward(found[0], found[1], dtype), CentreCrop(odd="even"))


def _toy(taste: ToyTaste, title: str) -> ScorerRow:
    return ScorerRow(title, "", (), lambda found, dtype: taste, reads_prompts=False, differentiable=False)


_HF = ("model.safetensors", "pytorch_model.bin")  # as transformers writes them
_OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_CODE_ONLY = "not stated, its code MIT"
_MIB = 2**20
_VIT_H, _VIT_H_GRAPH = 3762 * _MIB, 405 * _MIB
_COSINE = 100.0  # CLIP's own scale of a cosine, with which HPS was trained and which PickScore's score includes

SCORERS: Mapping[str, ScorerRow] = {
    "pickscore": ScorerRow(
        "PickScore",
        _CODE_ONLY,
        (WeightFile("yuvalkirstain/PickScore_v1", _HF, "3.9 GB", _CODE_ONLY),),
        _pickscore,
        held=_VIT_H,
        graph=_VIT_H_GRAPH,
    ),
    "hps_v2.1": ScorerRow(
        "HPS v2.1",
        "Apache-2.0",
        (WeightFile("xswu/HPSv2", ("HPS_v2.1_compressed.pt",), "2.0 GB", "Apache-2.0"),),
        _open_clip_cosine,
        odds=_COSINE,
        held=_VIT_H,
        graph=_VIT_H_GRAPH,
    ),
    "aesthetic": ScorerRow(
        "LAION aesthetic predictor v2",
        "Apache-2.0 for the head, MIT for CLIP",
        (
            WeightFile(
                "trl-lib/ddpo-aesthetic-predictor",
                ("aesthetic-model.pth", "sac+logos+ava1-l14-linearMSE.pth", "aesthetic-model.safetensors"),
                "3.7 MB",
                "Apache-2.0",
            ),
            WeightFile("openai/clip-vit-large-patch14", _HF, "1.7 GB", "MIT"),
        ),
        _aesthetic,
        held=1165 * _MIB,
        graph=340 * _MIB,
        reads_prompts=False,
    ),
    "clip_score": ScorerRow(
        "CLIP score (OpenCLIP ViT-H/14)",
        "MIT",
        (WeightFile("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", (*_HF, *_OPEN_CLIP), "3.9 GB", "MIT"),),
        _open_clip_cosine,
        odds=_COSINE,
        held=_VIT_H,
        graph=_VIT_H_GRAPH,
    ),
    "image_reward": ScorerRow(
        "ImageReward 1.0",
        "Apache-2.0",
        (
            WeightFile("THUDM/ImageReward", ("ImageReward.pt",), "1.8 GB", "Apache-2.0"),
            WeightFile("google-bert/bert-base-uncased", ("vocab.txt",), "0.2 MB", "Apache-2.0"),
        ),
        _image_reward,
        held=1707 * _MIB,
        graph=300 * _MIB,
    ),
    "large_and_dark": _toy(ToyTaste(large_and_dark), "toy taste: large shapes before dark backgrounds"),
    "further_left": _toy(ToyTaste(further_left), "toy taste: the shape further to the left"),
}


def make_scorer(
    name: str,
    weights: Path | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Scorer:
    """Make a scorer by name. Nothing is downloaded.

    Args:
        weights: the scorer's file or a folder that holds it; see `weights.find_all`. Default: the Hugging Face cache.
        device: on which it works.
        dtype: of its weights. Published scores are float32's, or differ from them by rounding.

    Raises:
        ConfigError: no scorer has this name, or it takes no weights.
        ModelError: a file is missing, damaged or another model's; it says how to get the right one.
    """
    row = scorer_row(name)
    if not row.files:
        if weights is not None:
            raise ConfigError(f"{name} is a function without weights; leave out {weights}")
        return row.make((), dtype)
    made = row.make(find_all(row.title, row.files, weights), dtype)
    if isinstance(made, PublishedScorer):
        made.network.to(device)
    return made


def make_pixel_scorer(
    name: str,
    weights: Path | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> PixelScorer:
    """Make a scorer that is differentiable in the pixels; see `make_scorer`.

    Raises:
        ConfigError: this one is not, too.
    """
    if not scorer_row(name).differentiable:
        able = ", ".join(other for other, row in SCORERS.items() if row.differentiable)
        raise ConfigError(f"{name} has no gradient; those that have one: {able}")
    made = make_scorer(name, weights, device=device, dtype=dtype)
    assert isinstance(made, PublishedScorer)
    return made


def scorer_row(name: str, *others: str) -> ScorerRow:
    """What is known of a scorer; an unknown name is a ConfigError, which names `others` too."""
    if name not in SCORERS:
        raise ConfigError(f"unknown scorer {name!r}; known: {', '.join((*others, *SCORERS))}")
    return SCORERS[name]
