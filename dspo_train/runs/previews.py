"""Previews during a run: the base beside the current LoRA, from a fixed prompt and seed."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from .. import files
from ..drawing.grids import ab_grid
from .session import Session


class Previewer:
    """Draws previews of one session and saves each in the run folder; the base's image is drawn only once."""

    def __init__(self, session: Session, prompt: str, seed: int, on_progress: Callable[[int, int], None]) -> None:
        self.session, self.prompt, self.seed, self.on_progress = session, prompt, seed, on_progress
        if prompt not in session.scan.prompts:  # those are remarked on already
            for remark in session.model.encoder.remarks([prompt]):
                session.notes(f"previews: {remark}")
        with session.trained.off():
            self.before = self._draw()

    def draw(self) -> Image.Image:
        """The base beside the current adapter, as a captioned image."""
        after = self._draw()
        step = self.session.training.step
        grid = ab_grid([self.prompt], ["base", f"LoRA, step {step}"], [[self.before, after]])
        files.write_image(self.session.folder.preview(step), grid)
        return grid

    def _draw(self) -> Image.Image:
        side = self.session.job.config.data.resolution
        return self.session.model.draw(self.prompt, self.seed, side, self.on_progress)
