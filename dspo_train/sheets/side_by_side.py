"""Batches of images without and with a LoRA, as one captioned sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from ..drawing.grids import GridCell, ab_grid
from ..drawing.themes import DARK, LIGHT
from ..exceptions import ConfigError
from .text_inputs import prompts_for, read_seeds, read_strengths

THEMES = {"light": LIGHT, "dark": DARK}


@dataclass(frozen=True)
class GridText:
    """Texts as entered by the user: `prompts` one per line, `strengths` and `seeds` separated by commas."""

    prompts: str = ""
    strengths: str = "1"
    seeds: str = ""
    title: str = ""


def batches_grid(
    base: Sequence[Image.Image],
    aligned: Sequence[Image.Image],
    captions: GridText,
    theme: Literal["light", "dark"] = "light",
) -> Image.Image:
    """Rows are the base's images; columns the base, then the LoRA at each strength.

    Args:
        aligned: every row at the first strength, then every row at the next.

    Raises:
        ConfigError: the numbers of images, strengths, prompts and seeds do not fit together.
    """
    strengths, rows = read_strengths(captions.strengths), len(base)
    if len(aligned) != rows * len(strengths):
        raise ConfigError(
            f"{len(aligned)} images with the LoRA do not fit {rows} without it at {len(strengths)} strengths: "
            f"{rows * len(strengths)} are needed; give the strengths that the images were made with"
        )
    seeds = read_seeds(captions.seeds, rows)
    notes = [""] * rows if seeds is None else [f"seed {seed}" for seed in seeds]
    columns = [base, *(aligned[n * rows : (n + 1) * rows] for n in range(len(strengths)))]
    cells = [[GridCell(column[row], notes[row]) for column in columns] for row in range(rows)]
    names = ["base", *(f"LoRA {strength:g}" for strength in strengths)]
    return ab_grid(_once(prompts_for(captions.prompts, rows)), names, cells, title=captions.title, theme=THEMES[theme])


def _once(prompts: Sequence[str]) -> list[str]:
    """Keep a prompt that is shared by several rows only in the first of them."""
    return ["" if row and prompt == prompts[row - 1] else prompt for row, prompt in enumerate(prompts)]
