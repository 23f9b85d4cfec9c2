"""`sample` and `compare`: images from a base, with and without a LoRA."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from .. import files
from ..exceptions import ConfigError
from ..files.words import many
from ..images.buckets import Bucket
from ..images.decode import crop_to_bucket, load_rgb
from ..lora.attach import LoraWeights, applied
from ..lora.reading import load_lora, refuse_no_lora
from ..models.base import Base, load_base
from ..models.families import PREDICTION_NAMES
from ..models.sampling import SampleSpec, default_spec, sample
from ..sheets.comparison import comparison_grid
from ..sheets.text_inputs import load_prompts, read_strengths
from ..training import devices
from .main import OK, say

log = logging.getLogger("dspo")


def run(arguments: argparse.Namespace) -> int:
    prompts = load_prompts(arguments.prompts)
    compare = arguments.command == "compare"
    strengths = read_strengths(arguments.strengths if compare else str(arguments.strength))
    if compare and (arguments.out.suffix.lower() != ".png" or arguments.out.is_dir()):
        raise ConfigError(f"--out {arguments.out}: give the name of a .png file")
    if not compare and arguments.out.exists() and not arguments.out.is_dir():
        raise ConfigError(f"--out {arguments.out} is a file; give a folder")
    if arguments.lora is not None:
        refuse_no_lora(arguments.lora)  # what fails fast goes first; the base loads slowly
    if arguments.image is not None:
        load_rgb(arguments.image)
    with devices.accelerator("auto", arguments.precision) as (accelerator, precision):
        base = base_of(arguments, arguments.base, devices.DTYPES[precision], accelerator.device)
        say(f"base {base.name} ({base.family.title}, {PREDICTION_NAMES[base.process.prediction]} prediction)")
        for remark in base.encoder.remarks([*prompts, arguments.negative]):
            log.warning("%s", remark)
        if compare:
            return _compare(arguments, base, prompts, strengths)
        return _sample(arguments, base, prompts)


def base_of(arguments: argparse.Namespace, path: Path, dtype: torch.dtype, device: torch.device) -> Base:
    """The base at a path, with the vocabulary and the prediction type that were given for it."""
    given = {"tokenizer": arguments.tokenizer, "prediction": arguments.prediction}
    return load_base(path, dtype=dtype, device=device, **given)


def _sample(arguments: argparse.Namespace, base: Base, prompts: list[str]) -> int:
    if arguments.count < 1:
        raise ConfigError(f"--count must be at least 1, got {arguments.count}")
    prompts = [prompt for prompt in prompts for _ in range(arguments.count)]
    seeds = range(arguments.seed, arguments.seed + len(prompts))
    if arguments.lora is None:
        images = _draw(arguments, base, prompts, seeds, "base")
    else:
        with applied(base.unet, _weights(arguments.lora, base), arguments.strength):
            images = _draw(arguments, base, prompts, seeds, "LoRA")
    for prompt, seed, image in zip(prompts, seeds, images, strict=True):
        path = arguments.out / f"{seed:06d}.png"
        files.write_image(path, image)
        files.write_text(path.with_suffix(".txt"), prompt + "\n")
    say(f"{many(len(images), 'image')} in {arguments.out}")
    return OK


def _compare(arguments: argparse.Namespace, base: Base, prompts: list[str], strengths: Sequence[float]) -> int:
    weights = _weights(arguments.lora, base)
    seeds = range(arguments.seed, arguments.seed + len(prompts))
    grid = comparison_grid(
        base,
        weights,
        strengths,
        prompts,
        lambda name: _draw(arguments, base, prompts, seeds, name),
        title=arguments.lora.stem,
        subtitle=f"{base.name}, the same seeds in every column",
    )
    files.write_image(arguments.out, grid)
    say(f"grid: {arguments.out}")
    return OK


def _weights(lora: Path, base: Base) -> LoraWeights:
    """A LoRA's weights, with a word on what of it does not apply."""
    loaded = load_lora(lora, base.unet)
    if loaded.unused:
        log.warning("%s: not applied: %s", lora.name, loaded.unused_summary)
    return loaded.weights


def _draw(
    arguments: argparse.Namespace, base: Base, prompts: Sequence[str], seeds: Sequence[int], name: str
) -> list[Image.Image]:
    with tqdm(desc=name, unit="step", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        spec = _spec(arguments, base)
        images = None if arguments.image is None else [_start(arguments.image, spec)] * len(prompts)
        return sample(base, prompts, seeds, spec, batch_size=arguments.batch_size, on_progress=show, images=images)


def _start(path: Path, spec: SampleSpec) -> Image.Image:
    """The image to start from, scaled and cropped to the size that is asked for."""
    return crop_to_bucket(load_rgb(path), Bucket(spec.width, spec.height))[0]


def _spec(arguments: argparse.Namespace, base: Base) -> SampleSpec:
    given = {"width": arguments.width, "height": arguments.height, "guidance": arguments.guidance}
    return dataclasses.replace(
        default_spec(base),
        steps=arguments.steps,
        negative_prompt=arguments.negative,
        image_strength=1.0 if arguments.image is None else arguments.image_strength,
        **{name: value for name, value in given.items() if value is not None},
    )
