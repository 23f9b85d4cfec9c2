"""`taste fit`, `taste score` and `taste sort`: learn a taste from labelled images, and judge others by it."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .. import files
from ..exceptions import ConfigError
from ..files.words import many
from ..images.formats import SUFFIXES
from ..models.sampling import default_spec
from ..pairs import prompt_from_image, scan_folder
from ..pairs.captions import CaptionError, read_caption
from ..runs.diffusers_model import DiffusersModel
from ..sheets.text_inputs import load_prompts
from ..taste.charts import reliability_chart
from ..taste.features import DenoiserFeatures, ImageFeatures, VisionFeatures
from ..taste.looking import OnLook, fit_scan, look_at
from ..taste.model import TasteModel, load_taste
from ..training import devices
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
    with _features(arguments) as (features, seen_by), _bar("looking") as bar:
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
    images = [image for given in arguments.images for image in (_images_in(given) if given.is_dir() else [given])]
    prompts, scores = _scores(arguments, taste, images)
    for image, score in zip(images, scores, strict=True):
        say(f"{score:+8.3f}  {image}")
    if arguments.csv is not None:
        told = zip(scores, images, prompts, strict=True)
        _write_csv(arguments.csv, ("score", "image", "prompt"), [(f"{score:.6g}", *rest) for score, *rest in told])
    return OK


def _sort(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    if arguments.best is not None and arguments.best < 1:
        raise ConfigError(f"--best must be at least 1, got {arguments.best}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is not empty; give a new folder, as nothing is replaced or deleted")
    taste = load_taste(arguments.taste)
    images = _images_in(arguments.folder)
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
    _write_csv(out / "scores.csv", ("place", "score", "image", "file", "prompt"), rows)
    say(f"{many(len(images), 'image')} sorted, {many(sum(bool(row[3]) for row in rows), 'file')} in {out}")
    return OK


def _scores(arguments: argparse.Namespace, taste: TasteModel, images: Sequence[Path]) -> tuple[list[str], np.ndarray]:
    """The prompts of images, and their scores."""
    prompts = _prompts(arguments, images)
    with _features(arguments) as (features, _), _bar("looking") as bar:
        taste.check(features)
        return prompts, taste.head.score(look_at(images, prompts, features, on_progress=bar))


def _prompts(arguments: argparse.Namespace, images: Sequence[Path]) -> list[str]:
    """By --prompt, by the lines of --prompts, else each image's own."""
    if arguments.prompt is not None:
        return [arguments.prompt] * len(images)
    if arguments.prompts is not None:
        lines = load_prompts(arguments.prompts)
        if len(lines) != len(images):
            raise ConfigError(
                f"--prompts {arguments.prompts} has {many(len(lines), 'line')} for {many(len(images), 'image')}; give "
                "one for each image, in their order"
            )
        return lines
    found = [_own_prompt(image) for image in images]
    without = found.count("")
    if without:
        log.warning("%s without a prompt in a caption file or in metadata: give --prompt", many(without, "image"))
    return found


def _own_prompt(image: Path) -> str:
    """Of the caption file beside an image, else of its metadata; empty where there is none."""
    caption = image.with_suffix(".txt")
    if caption.is_file():
        try:
            text = " ".join(read_caption(caption).split())
        except CaptionError as error:
            raise ConfigError(f"{caption}: {error}") from error
        if text:
            return text
    return " ".join(prompt_from_image(image).split())


def _images_in(folder: Path) -> list[Path]:
    """The images of a folder, not of those below it, by name."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give a folder of images")
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not found:
        raise ConfigError(f"{folder}: no PNG, JPEG or WebP images in this folder; give the one that they lie in")
    return found


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


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    files.write_text(path, text.getvalue())


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


@contextlib.contextmanager
def _bar(name: str) -> Iterator[OnLook]:
    with tqdm(desc=name, unit="image", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
