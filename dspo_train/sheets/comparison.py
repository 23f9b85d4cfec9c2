"""Base and LoRA from the same prompts and seeds, in one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image

from ..drawing.grids import ab_grid
from ..lora.attach import LoraWeights, applied
from ..models.base import Base


def comparison_grid(
    base: Base,
    weights: LoraWeights,
    strengths: Sequence[float],
    prompts: Sequence[str],
    draw: Callable[[str], Sequence[Image.Image]],
    *,
    title: str,
    subtitle: str,
) -> Image.Image:
    """Rows are prompts; columns the base, then the LoRA at each strength.

    Args:
        draw: given a column's name, samples one image per prompt from `base` in its current state.
    """
    names = ["base", *(f"LoRA {strength:g}" for strength in strengths)]
    columns = [draw(names[0])]
    for name, strength in zip(names[1:], strengths, strict=True):
        with applied(base.unet, weights, strength):
            columns.append(draw(name))
    return ab_grid(prompts, names, list(zip(*columns, strict=True)), title=title, subtitle=subtitle)
