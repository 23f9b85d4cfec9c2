"""DSPO Candidates: several images of each of many prompts, to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import comfy.sample
import comfy.utils
import latent_preview
import torch
from comfy_api.v0_0_2 import io

from ..dspo_train.models.batch_size import in_batches, largest
from ..dspo_train.preferences.entries import MAX_IMAGES
from ..dspo_train.sheets.rounds import prompts_of_round, seeds_of_round
from ..dspo_train.sheets.text_inputs import load_prompts, read_prompts
from . import places
from .collecting import CandidateInfo, Candidates
from .comfy.latents import decoded, empty_latent, latent_size
from .lora_choice import chosen, lora_stamp, name_of
from .lora_fit import patched
from .sampling_inputs import sampling_inputs
from .sockets import CATEGORY, LoraModel

NO_FILE = "none"

# Samplers whose images do not depend on their neighbours in a batch: they add no noise and choose no step size from
# the whole batch. The others draw one image at a time; otherwise its seed would not reproduce it.
INDEPENDENT = frozenset(
    [
        "euler",
        "euler_cfg_pp",
        "heun",
        "heunpp2",
        "dpm_2",
        "lms",
        "dpmpp_2m",
        "dpmpp_2m_cfg_pp",
        "ipndm",
        "ipndm_v",
        "deis",
        "res_multistep",
        "res_multistep_cfg_pp",
        "gradient_estimation",
        "gradient_estimation_cfg_pp",
        "ddim",
        "uni_pc",
        "uni_pc_bh2",
    ]
)


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
        return file if lora_name in (None, "", places.NO_LORA) else f"{file} {lora_stamp(lora_name)}"

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
        model, settings = _with_lora(model, lora, lora_name)
        encoded = {text: _encode(clip, text) for text in dict.fromkeys([*texts, negative])}
        size = latent_size(model, width, height)
        drawing = Drawing(model, size, batch_size, sampling, len(texts) * len(seeds))
        latents = [drawing.draw(encoded[text], encoded[negative], seeds) for text in texts]
        images = _decoded(vae, latents)
        settings |= {"negative": negative, "width": width, "height": height, **sampling}
        info = CandidateInfo(tuple(t for t in texts for _ in seeds), tuple(seeds) * len(texts), settings)
        return io.NodeOutput(images, info, "\n".join(texts))


def _with_lora(model: Any, lora: dict[str, Any] | None, lora_name: str) -> tuple[Any, dict[str, Any]]:
    """The model that draws, and what the candidates' settings tell of it."""
    if lora is None and lora_name in ("", places.NO_LORA):
        return model, {}
    called = name_of(lora, lora_name)
    (with_lora,) = patched("DSPO Candidates", called, chosen(lora, lora_name), model, [1.0])
    return with_lora, {"lora": called if lora is not None else lora_name.strip()}


@dataclass
class Drawing:
    """All images of one execution, drawn prompt by prompt.

    Attributes:
        size: of the latents, (height, width).
        batch: images at once; 0 for as many as fit.
        sampling: steps, cfg, sampler_name, scheduler.
        total: images in all, for the progress bar.
    """

    model: Any
    size: tuple[int, int]
    batch: int
    sampling: dict[str, Any]
    total: int
    done: int = 0

    def __post_init__(self) -> None:
        self.bar = comfy.utils.ProgressBar(self.total)
        self.previewer = latent_preview.get_previewer(self.model.load_device, self.model.model.latent_format)
        if self.sampling["sampler_name"] not in INDEPENDENT:
            self.batch = 1

    def draw(self, positive: Any, negative: Any, seeds: Sequence[int]) -> torch.Tensor:
        """Latents of one prompt, one per seed."""

        def sample(some: Sequence[int]) -> torch.Tensor:
            empty = empty_latent(self.model, self.size)
            noise = torch.cat([comfy.sample.prepare_noise(empty, each) for each in some])
            drawn = comfy.sample.sample(
                self.model,
                noise,
                positive=positive,
                negative=negative,
                latent_image=empty.repeat(len(some), *[1] * (empty.ndim - 1)),
                callback=self._callback(len(some)),
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=some[0],
                **self.sampling,
            )
            self.done += len(some)
            return drawn

        self.batch = self.batch or self._fitting(len(seeds))
        latents, self.batch = in_batches(seeds, self.batch, sample, (mm.OOM_EXCEPTION,), mm.soft_empty_cache)
        return torch.cat(latents)

    def _fitting(self, most: int) -> int:
        """Batch size by core's own estimate of a pass over positive and negative, with the model on the device."""
        shape = self.model.model.latent_format.latent_channels, *self.size

        def needed(count: int) -> float:
            return self.model.memory_required([2 * count, *shape])

        mm.load_models_gpu([self.model], memory_required=needed(1))
        free = mm.get_free_memory(self.model.load_device) - mm.extra_reserved_memory()
        return largest(lambda count: needed(count) <= free, most)

    def _callback(self, count: int) -> Any:
        """Shows the progress over all images; core's bar raises here after Cancel."""

        def show(step: int, x0: torch.Tensor, x: torch.Tensor, steps: int) -> None:
            preview = self.previewer.decode_latent_to_preview_image("JPEG", x0) if self.previewer else None
            self.bar.update_absolute(self.done * steps + (step + 1) * count, self.total * steps, preview)

        return show


def _encode(clip: Any, text: str) -> Any:
    mm.throw_exception_if_processing_interrupted()
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def _decoded(vae: Any, latents: Sequence[torch.Tensor]) -> torch.Tensor:
    """(N, H, W, 3) of all, decoded straight into place: there may be gigabytes of them."""
    images, done = torch.empty(0), 0
    for latent in latents:
        mm.throw_exception_if_processing_interrupted()
        drawn = decoded(vae, latent)
        if not done:
            images = torch.empty(sum(map(len, latents)), *drawn.shape[1:], dtype=drawn.dtype)
        images[done : done + len(drawn)] = drawn
        done += len(drawn)
    return images


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
    def size(name: str, tooltip: str) -> io.Input:
        return io.Int.Input(name, default=512, min=16, max=16384, step=8, tooltip=tooltip)

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
        size("width", "Width of the images, in pixels."),
        size("height", "Height of the images, in pixels."),
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
        LoraModel.Input("lora", optional=True, tooltip="A LoRA to draw with. Takes precedence over the name."),
        io.Combo.Input(
            "lora_name",
            options=[places.NO_LORA, *places.loras()],
            default=places.NO_LORA,
            optional=True,
            tooltip="A LoRA to draw with at strength 1, such as the last round's.",
        ),
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
