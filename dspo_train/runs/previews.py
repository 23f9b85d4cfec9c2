"""Previews during a run: the base beside the current LoRA, from a fixed prompt and seed."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from .. import files
from ..drawing.grids import ab_grid
from ..models.sampling import SampleSpec, sample
from .session import Session

_STEPS = 15


class Previewer:
    """Draws previews of one session and saves each in the run folder.

    The prompt is encoded, and the base's image drawn, only once.
    """

    def __init__(self, session: Session, prompt: str, seed: int, on_progress: Callable[[int, int], None]) -> None:
        side = session.job.config.data.resolution // 8 * 8
        self.session, self.prompt, self.seed = session, prompt, seed
        self.spec = SampleSpec(side, side, steps=_STEPS, guidance=session.base.family.guidance)
        self.on_progress = on_progress
        encoder = session.base.encoder
        texts = [prompt, self.spec.negative_prompt]
        rows = encoder.prompts(texts)
        self.conditioning = {text: rows[n : n + 1] for n, text in enumerate(texts)}
        encoder.release()
        if prompt not in session.scan.prompts:  # those are remarked on already
            for remark in encoder.remarks([prompt]):
                session.notes(f"previews: {remark}")
        with session.trained.off():
            self.before = self._sample()

    def draw(self) -> Image.Image:
        """The base beside the current adapter, as a captioned image."""
        after = self._sample()
        step = self.session.training.step
        grid = ab_grid([self.prompt], ["base", f"LoRA, step {step}"], [[self.before, after]])
        files.write_image(self.session.folder.preview(step), grid)
        return grid

    def _sample(self) -> Image.Image:
        base = self.session.base
        try:
            return sample(
                base,
                [self.prompt],
                [self.seed],
                self.spec,
                conditioning=self.conditioning,
                on_progress=self.on_progress,
            )[0]
        finally:
            base.encoder.release()  # frees the VAE's memory for training
