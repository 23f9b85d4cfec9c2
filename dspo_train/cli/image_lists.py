"""What `taste` and `score` share: the images that are named, the prompts of each, progress, and a table of scores."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from .. import files
from ..exceptions import ConfigError
from ..files.words import many
from ..images.formats import SUFFIXES
from ..pairs import prompt_from_image
from ..pairs.captions import CaptionError, read_caption
from ..sheets.text_inputs import load_prompts

log = logging.getLogger("dspo")


def images_of(given: Sequence[Path]) -> list[Path]:
    """The files named, and the images of the folders named."""
    return [image for path in given for image in (images_in(path) if path.is_dir() else [path])]


def images_in(folder: Path) -> list[Path]:
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


def prompts_of(arguments: argparse.Namespace, images: Sequence[Path]) -> list[str]:
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


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table as CSV in UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    files.write_text(path, text.getvalue())


@contextlib.contextmanager
def progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar over images; what it gives is called with how many are done, of how many."""
    with tqdm(desc=name, unit="image", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
