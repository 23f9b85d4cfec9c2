"""DSPO Compare Sampler: the same noise, without the LoRA and with it."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io, ui

from nodes import common_ksampler  # ComfyUI's own nodes.py

from ..dspo_train.sheets.rounds import seeds_from
from ..dspo_train.sheets.text_inputs import read_strengths
from . import places
from .comfy.latents import decoded, first_of
from .lora_choice import chosen, lora_inputs, lora_stamp, name_of
from .lora_fit import patched
from .sampling_inputs import sampling_inputs
from .sockets import CATEGORY

_ARM = "DSPO_compare_"


class CompareSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOCompareSampler",
            display_name="DSPO Compare Sampler",
            category=CATEGORY,
            description="Samples the same seeds without the LoRA and with it, each exactly as KSampler would.",
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model without the LoRA."),
                io.Vae.Input("vae", tooltip="Decodes latents into images."),
                io.Conditioning.Input("positive", tooltip="What the images should show."),
                io.Conditioning.Input("negative", tooltip="What the images should not show."),
                io.Latent.Input("latent_image", tooltip="Sets the size; only the first latent of a batch is used."),
                io.Int.Input(
                    "first_seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    tooltip="Seed of the first image; the others count up from it.",
                ),
                io.Int.Input("pictures", default=4, min=1, max=64, tooltip="How many seeds to compare."),
                *sampling_inputs(),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 1, part of the latent is kept, as in KSampler.",
                ),
                io.String.Input(
                    "strengths",
                    default="1.0",
                    tooltip="Strengths of the LoRA to compare, separated by commas, such as 0.5, 1.0, 1.5.",
                ),
                *lora_inputs(),
            ],
            outputs=[
                io.Image.Output("base", display_name="without LoRA", tooltip="One image per seed."),
                io.Image.Output(
                    "aligned", display_name="with LoRA", tooltip="The same seeds, at each strength in turn."
                ),
                io.String.Output("seeds_used", display_name="seeds", tooltip="The seeds, for DSPO A/B Grid."),
                io.String.Output(
                    "strengths_used", display_name="strengths", tooltip="The strengths, for DSPO A/B Grid."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, **_: object) -> str:
        return lora_stamp(lora_name)

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        latent_image: dict[str, torch.Tensor],
        first_seed: int,
        pictures: int,
        strengths: str,
        lora: dict | None = None,
        lora_name: str = places.NO_LORA,
        **sampling: Any,
    ) -> io.NodeOutput:
        tensors, wanted = chosen(lora, lora_name), read_strengths(strengths)
        seeds = seeds_from(first_seed, pictures)
        latent = first_of(latent_image)

        def draw(drawing: Any) -> torch.Tensor:
            drawn = [common_ksampler(drawing, each, latent=latent, **sampling)[0]["samples"] for each in seeds]
            return torch.cat([decoded(vae, samples) for samples in drawn])

        models = patched("DSPO Compare Sampler", name_of(lora, lora_name), tensors, model, wanted)
        base, aligned = draw(model), torch.cat(list(map(draw, models)))
        save = ui.ImageSaveHelper.save_images
        shown = {
            "a_images": save(base, _ARM + "base", io.FolderType.temp, cls, 1),
            "b_images": save(aligned, _ARM + "lora", io.FolderType.temp, cls, 1),
        }
        texts = [", ".join(map(str, seeds)), ", ".join(f"{strength:g}" for strength in wanted)]
        return io.NodeOutput(base, aligned, *texts, ui=shown)
