"""Examples of what a finished run does: some of its prompts, drawn without the LoRA and with it, from the same noise.

examples/1-base.png, 1-lora.png, 2-base.png, ...
examples/examples.json     prompts and seeds; written last, so that there are all pictures or none
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from .. import files
from .folder import RunFolder

if TYPE_CHECKING:  # that module loads accelerate
    from .session import Session

PROMPTS = 3
FIRST_SEED = 1000  # away from those that candidates are usually drawn with, which count up from 0


@dataclass(frozen=True)
class Example:
    """A prompt with its two images, of one seed."""

    prompt: str
    seed: int
    base: Image.Image
    lora: Image.Image


def draw_examples(session: Session, on_progress: Callable[[int, int], None]) -> None:
    """Draw some prompts of the pairs with the weights that the run delivers, and keep the pictures in its folder.

    Args:
        on_progress: denoising steps done, of all, of each image; what it raises ends the drawing.

    Raises:
        RunError: the disk is full; nothing counts as drawn.
    """
    asked = [(prompt, FIRST_SEED + n) for n, prompt in enumerate(chosen(session.scan.prompts))]
    side, folder = session.job.config.data.resolution, _folder(session.folder)

    def draw(arm: str) -> None:
        for number, (prompt, seed) in enumerate(asked, 1):
            image = session.model.draw(prompt, seed, side, on_progress)
            files.write_image(folder / f"{number}-{arm}.png", image)

    with session.trained.off():
        draw("base")
    with session.results.final(session.monitor.best):
        draw("lora")
    rows = [{"prompt": prompt, "seed": seed} for prompt, seed in asked]
    files.write_json(folder / "examples.json", rows)


def examples_of(run: RunFolder) -> list[Example]:
    """What `draw_examples` kept; nothing where it did not run to its end or a file is damaged."""
    folder = _folder(run)
    try:
        rows = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
        return [
            Example(
                str(row["prompt"]), int(row["seed"]), *(_read(folder / f"{n}-{arm}.png") for arm in ("base", "lora"))
            )
            for n, row in enumerate(rows, 1)
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def chosen(prompts: Sequence[str]) -> list[str]:
    """At most three of the different prompts: the first, one of the middle, and the last."""
    different = [prompt for prompt in dict.fromkeys(prompts) if prompt.strip()] or [""]
    last = len(different) - 1
    return [different[at] for at in dict.fromkeys(round(n * last / (PROMPTS - 1)) for n in range(PROMPTS))]


def _folder(run: RunFolder) -> Path:
    return run.folder / "examples"


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
