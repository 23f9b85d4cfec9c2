"""`taste fit`, `taste score` and `taste sort`: learn a taste from labelled images, and judge others by it."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from .. import files
from ..exceptions import ConfigError
from ..files.words import many
from ..models.sampling import default_spec
from ..pairs import scan_folder
from ..runs.diffusers_model import DiffusersModel
from ..taste.charts import reliability_chart
from ..taste.features import DenoiserFeatures, ImageFeatures, VisionFeatures
from ..taste.looking import fit_scan, look_at
from ..taste.model import TasteModel, load_taste
from ..training import devices
from .image_lists import images_in, images_of, progress, prompts_of, write_csv
from .images import base_of
from .main import OK, say

log = logging.getLogger("dspo")

_LARGEST_SIDE = 512  # pixels: what a taste needs to see is seen at this size, in a quarter of SDXL's time


def run(arguments: argparse.Namespace) -> int:
    return {"fit": _fit, "score": _score, "sort": _sort}[arguments.action](arguments)


def _fit(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    if out.suffix != ".safetensors" or out.is_dir():
        raise ConfigError(f"--out {out}: give the name of a .safetensors file")
    if arguments.chart is not None and (arguments.chart.suffix.lower() != ".png" or arguments.chart.is_dir()):
        raise ConfigError(f"--chart {arguments.chart}: give the name of a .png file")
    scan = scan_folder(arguments.pairs)
    scan.usable()  # what fails fast goes first; a model loads slowly
    with _features(arguments) as (features, seen_by), progress("looking") as bar:
        name = out.name.removesuffix(".safetensors")
        cache = arguments.cache or scan.folder
        taste = fit_scan(scan, features, cache, bar, name=name, seed=arguments.seed, seen_by=seen_by)
    taste.save(out)
    known = taste.assessment
    say(f"{many(known.pairs, 'comparison')} of {many(known.prompts, 'prompt')}. {known.text}")
    for foretold, true, count in known.reliability:
        say(f"  foretold with {foretold:.0%}: {true:.0%} of {count} came true")
    say(f"taste: {out}")
    if arguments.chart is not None and known.reliability:
        files.write_image(arguments.chart, reliability_chart(known, title=taste.name))
        say(f"chart: {arguments.chart}")
    return OK


def _score(arguments: argparse.Namespace) -> int:
    taste = load_taste(arguments.taste)
    images = images_of(arguments.images)
    prompts, scores = _scores(arguments, taste, images)
    for image, score in zip(images, scores, strict=True):
        say(f"{score:+8.3f}  {image}")
    if arguments.csv is not None:
        told = zip(scores, images, prompts, strict=True)
        write_csv(arguments.csv, ("score", "image", "prompt"), [(f"{score:.6g}", *rest) for score, *rest in told])
    return OK


def _sort(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    if arguments.best is not None and arguments.best < 1:
        raise ConfigError(f"--best must be at least 1, got {arguments.best}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is not empty; give a new folder, as nothing is replaced or deleted")
    taste = load_taste(arguments.taste)
    images = images_in(arguments.folder)
    prompts, scores = _scores(arguments, taste, images)
    order = np.argsort(-scores, kind="stable").tolist()
    out.mkdir(parents=True, exist_ok=True)
    digits, rows = max(3, len(str(len(images)))), []
    for place, row in enumerate(order, 1):
        name = ""
        if arguments.best is None or place <= arguments.best:
            name = f"{place:0{digits}d}_{images[row].name}"
            _place(images[row], out / name, arguments.link)
        rows.append((str(place), f"{scores[row]:.6g}", images[row], name, prompts[row]))
    write_csv(out / "scores.csv", ("place", "score", "image", "file", "prompt"), rows)
    say(f"{many(len(images), 'image')} sorted, {many(sum(bool(row[3]) for row in rows), 'file')} in {out}")
    return OK


def _scores(arguments: argparse.Namespace, taste: TasteModel, images: Sequence[Path]) -> tuple[list[str], np.ndarray]:
    """The prompts of images, and their scores."""
    prompts = prompts_of(arguments, images)
    with _features(arguments) as (features, _), progress("looking") as bar:
        taste.check(features)
        return prompts, taste.head.score(look_at(images, prompts, features, on_progress=bar))


def _place(image: Path, target: Path, link: bool) -> None:
    """Copy an image, or link it where the file system can; its caption file goes with it."""
    try:
        for source, end in ((image, target), (image.with_suffix(".txt"), target.with_suffix(".txt"))):
            if source.is_file():
                if link:
                    with contextlib.suppress(OSError):
                        os.link(source, end)
                        continue
                shutil.copy2(source, end)
    except OSError as error:
        raise files.cannot_write(target, error) from error


@contextlib.contextmanager
def _features(arguments: argparse.Namespace) -> Iterator[tuple[ImageFeatures, str]]:
    """What looks at images, and its name."""
    with devices.accelerator("auto", arguments.precision) as (accelerator, precision):
        if arguments.features is not None:
            yield VisionFeatures(arguments.features, device=accelerator.device), arguments.features.name
            return
        base = base_of(arguments, arguments.model, devices.DTYPES[precision], accelerator.device)
        side = min(default_spec(base).width, _LARGEST_SIDE)
        yield DenoiserFeatures(DiffusersModel(base, torch.device(accelerator.device), arguments.model), side), base.name
