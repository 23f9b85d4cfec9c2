"""The small preference set of the ComfyUI example workflows: `python -m dspo_train.demo.example_pairs DIR`."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from .. import files
from ..data.draws import generator
from ..evaluate.shapes import Scene, draw_scenes, random_scene, read
from ..images.decode import to_images
from ..scorers.toys import large_and_dark

_SIDE = 512  # pixels
PAIRS = 24
CLEAR = 1.0  # smallest difference in taste, in its own unit, that a person could see


def scenes(count: int) -> Iterator[tuple[Scene, Scene]]:
    """Two scenes of one caption, the better one by the taste "larger and darker" first; captions do not repeat."""
    draws, seen = generator(0, "example pairs"), set()
    while len(seen) < count:
        first, second = random_scene(draws), random_scene(draws)
        second = Scene(**{**vars(second), "shape": first.shape, "color": first.color})
        taste = [large_and_dark(read(image)) for image in draw_scenes([first, second])]
        if first.caption in seen or abs(taste[0] - taste[1]) < CLEAR:
            continue
        seen.add(first.caption)
        yield (first, second) if taste[0] > taste[1] else (second, first)


def write(folder: Path, count: int = PAIRS) -> None:
    """`NAME_w.webp`, `NAME_l.webp` and `NAME.txt` for each pair."""
    for better, worse in scenes(count):
        stem = better.caption.removeprefix("a ").replace(" ", "-")
        for side, picture in zip("wl", to_images(draw_scenes([better, worse], _SIDE) * 2 - 1), strict=True):
            buffer = io.BytesIO()
            picture.save(buffer, format="WEBP", lossless=True, method=6)
            files.write_bytes(folder / f"{stem}_{side}.webp", buffer.getvalue())
        files.write_text(folder / f"{stem}.txt", better.caption.replace("a orange", "an orange") + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(Path(sys.argv[1]))
