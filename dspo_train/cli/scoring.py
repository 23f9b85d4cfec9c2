"""`score`: what a published scorer says of images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..exceptions import ConfigError
from ..images.decode import load_rgb
from ..scorers.scorer import Scorer
from ..scorers.table import SCORERS, make_scorer, scorer_row
from ..training import devices
from .image_lists import images_of, progress, prompts_of, write_csv
from .main import OK, say

_AT_ONCE = 16  # images held decoded


def run(arguments: argparse.Namespace) -> int:
    if arguments.scorer == "list":
        return _list()
    row = scorer_row(arguments.scorer)
    if not arguments.images:
        raise ConfigError("no images; name files, or folders of them")
    images = images_of(arguments.images)
    told = arguments.prompt is not None or arguments.prompts is not None
    prompts = prompts_of(arguments, images) if row.reads_prompts or told else [""] * len(images)
    for image in images:
        if not image.is_file():
            load_rgb(image)  # says what is wrong; before a model is loaded, which takes a while
    with devices.accelerator("auto", "fp32") as (accelerator, _):
        scorer = make_scorer(arguments.scorer, arguments.weights, device=accelerator.device)
        scores = _scored(scorer, images, prompts)
    for image, score in zip(images, scores, strict=True):
        say(f"{score:+9.4f}  {image}")
    if arguments.csv is not None:
        rows = [
            (f"{score:.6g}", image, prompt, arguments.scorer)
            for score, image, prompt in zip(scores, images, prompts, strict=True)
        ]
        write_csv(arguments.csv, ("score", "image", "prompt", "scorer"), rows)
    return OK


def _scored(scorer: Scorer, images: Sequence[Path], prompts: Sequence[str]) -> list[float]:
    scores: list[float] = []
    with progress("looking") as bar:
        for start in range(0, len(images), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            scores += scorer.score([load_rgb(image) for image in images[some]], prompts[some]).tolist()
            bar(len(scores), len(images))
    return scores


def _list() -> int:
    width = max(map(len, SCORERS))
    for name, row in SCORERS.items():
        say(f"{name:{width}}  {row.title}" + (f" (licence: {row.licence})" if row.licence else ""))
        for file in row.files:
            say(f"{'':{width}}    {file.command}    ({file.size})")
    return OK
