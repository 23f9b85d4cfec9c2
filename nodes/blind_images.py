"""DSPO Blind Test from Images: images that other nodes drew without the LoRA and with it, judged blind."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io

from ..dspo_train.exceptions import ConfigError
from ..dspo_train.files.names import file_name
from ..dspo_train.pairs.likeness import refuse_unlike_graphs, refuse_unlike_images
from . import blind_making, collecting, places
from .blind_making import WHAT, Compared, blind_outputs
from .collecting import CandidateInfo, Candidates
from .images import to_pil
from .sockets import CATEGORY


class BlindTestImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOBlindTestImages",
            display_name="DSPO Blind Test from Images",
            category=CATEGORY,
            description="Sets up a blind test of images that other nodes drew, without a LoRA and with it, from the "
            "same prompts, seeds and settings. DSPO Blind Test draws both itself and cannot be miswired.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("base", tooltip="Images without the LoRA."),
                io.Image.Input(
                    "aligned",
                    tooltip="Images with the LoRA: the same prompts and seeds in the same order, at one strength.",
                ),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    tooltip="One prompt per line. With fewer lines than images, each line covers an equal number of "
                    "consecutive images. Empty: from the candidates, or read from the graph, if it can be.",
                ),
                io.String.Input("name", default="my-taste", tooltip="Name of the test; a number is added."),
                io.String.Input(
                    "lora_name",
                    default="",
                    optional=True,
                    tooltip="Name of the LoRA in the result, such as the one from DSPO Train LoRA. Empty: the test's "
                    "name.",
                ),
                Candidates.Input(
                    "base_candidates",
                    optional=True,
                    tooltip="From the DSPO Candidates that drew `base`: prompts, seeds and settings, which are "
                    "compared with those of the other side.",
                ),
                Candidates.Input(
                    "aligned_candidates", optional=True, tooltip="From the DSPO Candidates that drew `aligned`."
                ),
            ],
            outputs=blind_outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, **_: object) -> str:
        return blind_making.stamp(name)

    @classmethod
    def execute(
        cls,
        base: torch.Tensor,
        aligned: torch.Tensor,
        prompts: str,
        name: str,
        lora_name: str = "",
        base_candidates: CandidateInfo | None = None,
        aligned_candidates: CandidateInfo | None = None,
    ) -> io.NodeOutput:
        _same_shape(base, aligned)
        _same_making(cls, base_candidates, aligned_candidates, len(base))
        stem = file_name(name, WHAT)
        traced = collecting.traced_prompt(cls, "base")
        texts = collecting.prompts_of_images(prompts, base_candidates, traced, len(base))
        called = lora_name.strip()[:200] or stem
        seeds = base_candidates.seeds if base_candidates else ()
        facts = {"lora": called} if called in places.loras() else {}
        return blind_making.make(cls, stem, Compared(to_pil(base), to_pil(aligned), texts, called, seeds, facts=facts))


def _same_shape(base: torch.Tensor, aligned: torch.Tensor) -> None:
    """
    Raises:
        ConfigError: the two sides differ in number or size.
    """
    if len(aligned) != len(base):
        several = len(aligned) % len(base) == 0 and len(aligned) > len(base)
        advice = "use one strength only" if several else "use the same prompts and seeds for both"
        raise ConfigError(f"{len(aligned)} images with the LoRA do not fit {len(base)} without it; {advice}")
    (height, width), (other_height, other_width) = base.shape[1:3], aligned.shape[1:3]
    if (height, width) != (other_height, other_width):
        raise ConfigError(
            f"the images are {width} x {height} without the LoRA, {other_width} x {other_height} with it; draw both "
            "in one size"
        )


def _same_making(cls: Any, base: CandidateInfo | None, aligned: CandidateInfo | None, count: int) -> None:
    """
    Raises:
        ConfigError: what drew the two sides differs in more than the LoRA, as far as wires and graph say.
    """
    for side, socket in ((base, "base"), (aligned, "aligned")):
        if side is not None and len(side.prompts) != count:
            raise ConfigError(
                f"`{socket}_candidates` lists {len(side.prompts)} images, but {count} came in; wire both from the same "
                "DSPO Candidates"
            )
    if base is not None and aligned is not None:
        refuse_unlike_images(
            (base.prompts, aligned.prompts), (base.seeds, aligned.seeds), (base.settings, aligned.settings)
        )
    refuse_unlike_graphs(cls.hidden.prompt or {}, cls.hidden.unique_id)
