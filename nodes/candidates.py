"""DSPO Candidates: several images of each of many prompts, to choose from."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..dspo_train.preferences.entries import MAX_IMAGES
from ..dspo_train.sheets.rounds import prompts_of_round, seeds_of_round
from ..dspo_train.sheets.text_inputs import load_prompts, read_prompts
from . import places
from .collecting import CandidateInfo, Candidates
from .comfy.latents import latent_size
from .drawing import Drawing, decoded_all, encoded_texts
from .looking import drawn_vectors
from .lora_choice import chosen, is_named, listed_name, lora_inputs, lora_stamp, name_of
from .lora_fit import patched
from .sampling_inputs import sampling_inputs, size_inputs
from .sockets import CATEGORY

NO_FILE = "none"


class DrawCandidates(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOCandidates",
            display_name="DSPO Candidates",
            category=CATEGORY,
            description="Draws several images of each prompt, each as KSampler would with its seed, for comparison.",
            inputs=[*_model_inputs(), *_number_inputs(), *_last_inputs()],
            outputs=[
                io.Image.Output(
                    "images", display_name="images", tooltip="All images of the first prompt, then of the next."
                ),
                Candidates.Output(
                    "candidates", display_name="candidates", tooltip="Their prompts and seeds, for DSPO Collect Pairs."
                ),
                io.String.Output(
                    "prompts_used",
                    display_name="prompts",
                    tooltip="The prompts, one per line, for DSPO Blind Test and DSPO A/B Grid.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, prompts_file: str | None = None, lora_name: str | None = None, **_: object) -> str:
        file = "" if prompts_file in (None, NO_FILE) else str(places.stamp(places.prompt_file(prompts_file)))
        return f"{file} {lora_stamp(lora_name)}".strip()

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        prompts: str,
        negative: str,
        seeds_per_prompt: int,
        seed: int,
        width: int,
        height: int,
        batch_size: int,
        prompts_file: str = NO_FILE,
        lora: dict[str, Any] | None = None,
        lora_name: str = places.NO_LORA,
        round: int = 1,
        prompts_per_round: int = 0,
        **sampling: Any,
    ) -> io.NodeOutput:
        named = prompts_file not in ("", NO_FILE)
        given = load_prompts(places.prompt_file(prompts_file)) if named else read_prompts(prompts)
        unlike = list(dict.fromkeys(given))  # a repeated prompt would draw the same images again
        texts = prompts_of_round(unlike, prompts_per_round, round)
        seeds = seeds_of_round(seed, seeds_per_prompt, round)
        drawing_model, settings = _with_lora(model, lora, lora_name)
        encoded = encoded_texts(clip, [*texts, negative])
        size = latent_size(drawing_model, width, height)
        drawing = Drawing(drawing_model, size, batch_size, sampling, len(texts) * len(seeds))
        images = decoded_all(vae, drawing.draw_each(texts, negative, encoded, seeds))
        settings |= {"negative": negative, "width": width, "height": height, **sampling}
        of_each = tuple(t for t in texts for _ in seeds)
        # without the LoRA, so that the images of all rounds are comparable
        vectors = drawn_vectors(model, clip, vae, images, of_each, encoded)
        info = CandidateInfo(of_each, tuple(seeds) * len(texts), settings, vectors)
        return io.NodeOutput(images, info, "\n".join(texts))


def _with_lora(model: Any, lora: dict[str, Any] | None, lora_name: str) -> tuple[Any, dict[str, Any]]:
    """The model that draws, and what the candidates' settings tell of it."""
    if lora is None and not is_named(lora_name):
        return model, {}
    tensors = chosen(lora, lora_name)
    (with_lora,) = patched("DSPO Candidates", name_of(lora, lora_name), tensors, model, [1.0])
    return with_lora, {"lora": listed_name(lora, lora_name)}


def _model_inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The model that draws the images."),
        io.Clip.Input("clip", tooltip="Encodes the prompts."),
        io.Vae.Input("vae", tooltip="Decodes latents into images."),
        io.String.Input(
            "prompts",
            default="a lighthouse at dusk\na portrait of an old sailor",
            multiline=True,
            tooltip="One prompt per line. Repeated lines and lines that start with # are skipped.",
        ),
        io.String.Input("negative", default="", multiline=True, tooltip="What no image should show."),
    ]


def _number_inputs() -> list[io.Input]:
    return [
        io.Int.Input("seeds_per_prompt", default=4, min=1, max=MAX_IMAGES, tooltip="Images per prompt."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="Seed of each prompt's first image; the others count up from it. Every prompt gets the same seeds.",
        ),
        *size_inputs(),
        io.Int.Input(
            "batch_size",
            default=0,
            min=0,
            max=MAX_IMAGES,
            tooltip="Images of a prompt drawn at once. 0: as many as fit in memory. Samplers that add noise, such as "
            "the ancestral ones, draw one at a time, so that each seed reproduces its image.",
        ),
    ]


def _last_inputs() -> list[io.Input]:
    return [
        *sampling_inputs(),
        io.Combo.Input(
            "prompts_file",
            options=[NO_FILE, *places.prompt_files()],
            default=NO_FILE,
            optional=True,
            tooltip="A .txt file in ComfyUI's input folder, one prompt per line; it replaces `prompts`.",
        ),
        *_round_inputs(),
    ]


def _round_inputs() -> list[io.Input]:
    """After all others: saved workflows store widget values by position."""
    return [
        *lora_inputs(),
        io.Int.Input(
            "round",
            default=1,
            min=1,
            max=10_000,
            optional=True,
            tooltip="Each round draws other seeds: it goes on where the round before ended.",
        ),
        io.Int.Input(
            "prompts_per_round",
            default=0,
            min=0,
            max=10_000,
            optional=True,
            tooltip="0: every round draws all prompts. Otherwise each round draws the next so many of them.",
        ),
    ]
