"""DSPO Blind Test: draws the same prompts and seeds without the LoRA and with it, to judge without knowing which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy_api.v0_0_2 import io

from ..dspo_train.evaluate.blind import facts_of, find_test
from ..dspo_train.exceptions import ConfigError
from ..dspo_train.files import digest
from ..dspo_train.files.names import file_name
from ..dspo_train.sheets.rounds import seeds_from
from ..dspo_train.sheets.text_inputs import read_prompts
from . import blind_making, places
from .blind_making import WHAT, Compared, blind_outputs
from .comfy.fingerprint import digest_of
from .comfy.latents import latent_size
from .drawing import Drawing, decoded_all, encoded_texts
from .images import to_pil
from .loaded_name import stem_of
from .lora_choice import chosen, listed_name, lora_inputs, lora_stamp, name_of
from .lora_fit import patched
from .sampling_inputs import sampling_inputs, size_inputs
from .sockets import CATEGORY

FIRST_SEED = 1000  # candidates count up from 0, so that a test asks about images that were not trained on


class BlindTest(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOBlindTest",
            display_name="DSPO Blind Test",
            category=CATEGORY,
            description="Sets up a blind test of whether the LoRA is better: draws each prompt and seed without it and "
            "with it, and the DSPO panel shows both without saying which is which, and counts your preferences.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[*_model_inputs(), *_number_inputs(), *_last_inputs()],
            outputs=blind_outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, lora_name: str | None = None, **_: object) -> str:
        return f"{blind_making.stamp(name)} {lora_stamp(lora_name)}"

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        prompts: str,
        negative: str,
        images_per_prompt: int,
        seed: int,
        width: int,
        height: int,
        strength: float,
        name: str,
        lora: dict | None = None,
        lora_name: str = places.NO_LORA,
        **sampling: Any,
    ) -> io.NodeOutput:
        stem = file_name(name, WHAT)
        texts = list(dict.fromkeys(read_prompts(prompts)))  # a repeated prompt would ask the same again
        seeds = seeds_from(seed, images_per_prompt)
        tensors = chosen(lora, lora_name)
        if strength == 0:
            raise ConfigError("a LoRA of strength 0 changes nothing; set `strength` to 1")
        (with_lora,) = patched("DSPO Blind Test", name_of(lora, lora_name), tensors, model, [strength])
        settings = {"negative": negative, "width": width, "height": height, "strength": strength, **sampling}
        listed = listed_name(lora, lora_name)
        called = stem_of(listed) or stem
        request = digest(called, *texts, *seeds, settings, *map(digest_of, (model, with_lora)), *_readers(clip, vae))
        if (folder := find_test(places.blind_tests(), stem, request)) is not None:
            return blind_making.told(cls, stem, folder.resolve(), int(facts_of(folder).get("alike", 0)))
        size = latent_size(model, width, height)
        base, aligned = _Sides(clip, vae, size, sampling, negative).drawn([model, with_lora], texts, seeds)
        facts = {"request": request, "lora": listed, "strength": strength}
        every = [text for text in texts for _ in seeds], list(seeds) * len(texts)
        compared = Compared(to_pil(base), to_pil(aligned), every[0], called, every[1], settings, facts)
        return blind_making.make(cls, stem, compared)


@dataclass(frozen=True)
class _Sides:
    """Both sides of a test, drawn from the same noise, one model after the other: each is loaded once."""

    clip: Any
    vae: Any
    size: tuple[int, int]
    sampling: Mapping[str, Any]
    negative: str

    def drawn(self, models: Sequence[Any], texts: Sequence[str], seeds: Sequence[int]) -> list[torch.Tensor]:
        """(N, H, W, 3) for each model: all images of the first prompt, then of the next."""
        encoded = encoded_texts(self.clip, [*texts, self.negative])
        of_one = len(texts) * len(seeds)
        latents = []
        for n, model in enumerate(models):
            drawing = Drawing(model, self.size, 0, dict(self.sampling), of_one * len(models), of_one * n)
            latents.append(drawing.draw_each(texts, self.negative, encoded, seeds))
        return [decoded_all(self.vae, some) for some in latents]


def _readers(clip: Any, vae: Any) -> list[str]:
    """What tells a CLIP and a VAE from others."""
    return [digest_of(clip.patcher, clip.layer_idx, type(clip.tokenizer).__name__), digest_of(vae.patcher)]


def _model_inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The model without the LoRA."),
        io.Clip.Input("clip", tooltip="Encodes the prompts."),
        io.Vae.Input("vae", tooltip="Decodes latents into images."),
        io.String.Input(
            "prompts",
            default="a lighthouse at dusk\na portrait of an old sailor",
            multiline=True,
            tooltip="One prompt per line, or the prompts of DSPO Candidates. Repeated lines and lines that start with "
            "# are skipped. More prompts settle more than more images of each.",
        ),
        io.String.Input("negative", default="", multiline=True, tooltip="What no image should show."),
    ]


def _number_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "images_per_prompt",
            default=2,
            min=1,
            max=64,
            tooltip="Pairs to judge of each prompt, with different seeds.",
        ),
        io.Int.Input(
            "seed",
            default=FIRST_SEED,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            tooltip="Seed of each prompt's first image, without and with the LoRA; the others count up from it. The "
            "default is far from the seeds of DSPO Candidates, so that the test shows images that were not trained on.",
        ),
        *size_inputs(),
    ]


def _last_inputs() -> list[io.Input]:
    return [
        *sampling_inputs(),
        io.Float.Input(
            "strength",
            default=1.0,
            min=-10.0,
            max=10.0,
            step=0.05,
            tooltip="Of the LoRA: 1 is as trained, above 1 exaggerates.",
        ),
        io.String.Input("name", default="my-taste", tooltip="Name of the test; a number is added."),
        *lora_inputs(),
    ]
