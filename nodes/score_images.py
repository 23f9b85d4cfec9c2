"""DSPO Score Images: images sorted by a taste, to keep the best of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from comfy_api.v0_0_2 import io, ui
from server import PromptServer

from ..dspo_train.exceptions import ConfigError
from ..dspo_train.taste.ranking import best_first
from . import collecting, places
from .collecting import CandidateInfo, Candidates, ImageVectors
from .setting_inputs import errors_in_graph
from .sockets import CATEGORY, Taste

NO_TASTE = "none"
EACH, ALL = "each prompt", "all images"
_LISTED = 16  # scores that are shown on the node


class ScoreImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOScoreImages",
            display_name="DSPO Score Images",
            category=CATEGORY,
            description="Sorts images by your taste, the best first: draw many, keep the best. Works as soon as a "
            "taste is known, before any LoRA is trained.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            inputs=_inputs(),
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="All images, the best first."),
                io.Image.Output("best", display_name="best", tooltip="The best images, the best first."),
                io.String.Output(
                    "scores",
                    display_name="scores",
                    tooltip="The score of each of the sorted images, one per line. One that is higher by 1 is "
                    "preferred 73 times of 100, by 2 88 times.",
                ),
                Candidates.Output(
                    "best_candidates",
                    display_name="candidates",
                    tooltip="Prompts and seeds of the best images, for DSPO Collect Pairs.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, taste_name: str | None = None, **_: object) -> str:
        """Changes when the named file does."""
        file = places.taste(taste_name) if _named(taste_name) else None
        return str(places.stamp(file)) if file is not None and file.exists() else ""

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        model: Any,
        clip: Any,
        vae: Any,
        best: int,
        among: str,
        taste: Any = None,
        taste_name: str = NO_TASTE,
        prompts: str = "",
        candidates: CandidateInfo | None = None,
    ) -> io.NodeOutput:
        found = taste if taste is not None else _saved(taste_name)
        info = _info(cls, prompts, candidates, len(images))
        with errors_in_graph():
            vectors = _vectors(found, info, images, model, clip, vae)
        scores = found.head.score(vectors.rows.astype(np.float32))
        groups = info.prompts if among == EACH else [""] * len(images)
        order, kept = best_first(scores, groups), best_first(scores, groups, best)
        text = _text(scores, order, groups)
        PromptServer.instance.send_progress_text(text, cls.hidden.unique_id)
        chosen = images[kept]
        shown = {**ui.PreviewImage(chosen, cls=cls).as_dict(), "text": [text]}
        lines = "\n".join(f"{scores[place]:.3f}" for place in order)
        return io.NodeOutput(images[order], chosen, lines, _of(info, vectors, kept), ui=shown)


def _inputs() -> list[io.Input]:
    return [
        io.Image.Input("images", tooltip="The images to sort, as a batch."),
        io.Model.Input(
            "model", tooltip="The model with which the taste was learned, as it was wired there: without another LoRA."
        ),
        io.Clip.Input("clip", tooltip="The model's text encoder, which reads the prompts."),
        io.Vae.Input("vae", tooltip="The model's VAE, which encodes the images."),
        io.Int.Input("best", default=4, min=0, max=100_000, tooltip="How many images to keep. 0: all."),
        io.Combo.Input(
            "among",
            options=[EACH, ALL],
            default=EACH,
            tooltip="each prompt: sorts the images of each prompt by themselves and keeps the best of each. all "
            "images: sorts them together; votes compare images of one prompt, so this says less.",
        ),
        Taste.Input("taste", optional=True, tooltip="From DSPO Taste. Takes precedence over the name."),
        io.Combo.Input(
            "taste_name",
            options=[NO_TASTE, *places.tastes()],
            default=NO_TASTE,
            optional=True,
            tooltip="A taste that DSPO Taste saved.",
        ),
        io.String.Input(
            "prompts",
            default="",
            multiline=True,
            optional=True,
            tooltip="One prompt per line. With fewer lines than images, each line covers an equal number of "
            "consecutive images. Empty: from the candidates, or read from the graph, if it can be.",
        ),
        Candidates.Input(
            "candidates",
            optional=True,
            tooltip="From DSPO Candidates: each image's prompt, and how the model sees it, which then needs no "
            "computing.",
        ),
    ]


def _named(name: str | None) -> bool:
    return bool(name) and name not in ("", NO_TASTE)


def _saved(name: str) -> Any:
    """
    Raises:
        ConfigError: none is chosen, or there is no such file.
    """
    from ..dspo_train.taste.model import load_taste

    if not _named(name):
        raise ConfigError("no taste is given; wire DSPO Taste into `taste`, or choose one in `taste_name`")
    file = places.taste(name)
    if not file.exists():
        raise ConfigError(f"there is no taste {name!a}; run DSPO Taste, and refresh the list")
    return load_taste(file)


def _info(cls: Any, written: str, given: CandidateInfo | None, count: int) -> CandidateInfo:
    """What is known of the images.

    Raises:
        ConfigError: another number of prompts or candidates than of images, or no prompt at all.
    """
    if given is not None and len(given.prompts) != count:
        raise ConfigError(
            f"{count} images came in, but `candidates` lists {len(given.prompts)}; wire both from the same node"
        )
    texts = collecting.prompts_of_images(written, given, collecting.traced_prompt(cls, "images"), count)
    if given is None:
        return CandidateInfo(tuple(texts), ())
    vectors = given.vectors if tuple(texts) == given.prompts else None
    return CandidateInfo(tuple(texts), given.seeds, given.settings, vectors)


def _vectors(taste: Any, info: CandidateInfo, images: torch.Tensor, model: Any, clip: Any, vae: Any) -> ImageVectors:
    """
    Raises:
        ConfigError: the taste was learned on other features.
    """
    from .comfy.features import WiredFeatures
    from .comfy.model import Wired
    from .looking import vectors_of

    if info.vectors is not None and info.vectors.identity == taste.identity:
        return info.vectors
    features = WiredFeatures(Wired(model, clip, vae))
    taste.check(features)
    return vectors_of(features, images, info.prompts)


def _text(scores: np.ndarray, order: Sequence[int], groups: Sequence[str]) -> str:
    """Scores by the images' numbers in the batch, the best first."""
    lines, last = [], ""
    for place in order[:_LISTED]:
        if groups[place] != last:
            last = groups[place]
            lines.append(f"{last}:")
        lines.append(f"{scores[place]:+.2f}  image {place + 1}")
    more = len(order) - _LISTED
    return "\n".join([*lines, *([f"and {more} more"] if more > 0 else [])])


def _of(info: CandidateInfo, vectors: ImageVectors, kept: Sequence[int]) -> CandidateInfo:
    """What is known of some of the images, in their order."""
    seeds = tuple(info.seeds[place] for place in kept) if info.seeds else ()
    rows = ImageVectors(vectors.identity, vectors.rows[list(kept)])
    return CandidateInfo(tuple(info.prompts[place] for place in kept), seeds, info.settings, rows)
