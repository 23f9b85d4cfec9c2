"""Previews of a training, and the images beside its LoRA, as far as there is memory for them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import comfy.model_management as mm
from PIL import Image

from ..dspo_train.exceptions import RunError
from ..dspo_train.runs import preflight
from ..dspo_train.runs.examples import draw_examples
from ..dspo_train.runs.previews import Previewer
from ..dspo_train.runs.session import Session
from .progress import Progress

T = TypeVar("T")


class Previews:
    """Previews for as long as there is memory for them; training continues without.

    Args:
        prompt: empty for that of the first pair.
    """

    def __init__(self, session: Session, prompt: str, progress: Progress) -> None:
        self.progress = progress
        text = prompt.strip() or session.scan.usable()[0].prompt
        seed = session.job.config.seed
        self.previewer = self._try(lambda: Previewer(session, text, seed, progress.check_cancel))

    def draw(self) -> Image.Image | None:
        previewer = self.previewer
        return None if previewer is None else self._try(previewer.draw)

    def keep(self) -> None:
        """Draw the pictures that lie beside the LoRA, which is written already."""
        if self.previewer is None:
            return
        session, check = self.previewer.session, self.progress.check_cancel
        try:
            self._try(lambda: draw_examples(session, check))
        except RunError as error:
            self.progress.note(f"no picture beside the LoRA: {error}")

    def _try(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if not preflight.is_out_of_memory(error):
                raise
        self.previewer = None
        gc.collect()
        mm.soft_empty_cache()
        self.progress.note("no previews: not enough memory to draw them while training")
        return None
