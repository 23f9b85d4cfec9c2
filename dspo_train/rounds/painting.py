"""Images of a round, drawn by diffusers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from ..models.batch_size import in_batches
from ..models.sampling import SampleSpec, sample
from ..runs.diffusers_model import DiffusersModel
from ..training.model import Model


@dataclass(frozen=True)
class DiffusersPainter:
    """Implements `course.Painter` for a model that diffusers loaded.

    Attributes:
        side: pixels; rounded down to what the VAE takes.
        guidance: None for the family's usual one.
        batch: images at once, fewer where memory ends.
    """

    side: int
    steps: int = 20
    guidance: float | None = None
    batch: int = 4

    def __call__(
        self, model: Model, prompts: Sequence[str], seeds: Sequence[int], on_image: Callable[[int], None]
    ) -> list[Image.Image]:
        """See `course.Painter`."""
        assert isinstance(model, DiffusersModel)
        guidance = model.base.family.guidance if self.guidance is None else self.guidance
        side = self.side // 8 * 8
        spec = SampleSpec(side, side, steps=self.steps, guidance=guidance)
        done = 0

        def draw(some: Sequence[tuple[str, int]]) -> list[Image.Image]:
            nonlocal done
            texts, numbers = [text for text, _ in some], [seed for _, seed in some]
            found = sample(model.base, texts, numbers, spec, batch_size=len(some))
            done += len(found)
            on_image(done)
            return found

        wanted = list(zip(prompts, seeds, strict=True))
        try:
            drawn, _ = in_batches(wanted, self.batch, draw, (torch.OutOfMemoryError,), torch.cuda.empty_cache)
        finally:
            model.encoder.release()
        return [image for part in drawn for image in part]
