"""What a run writes: checkpoints during training, and the LoRA and the curve at the end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..lora.extract import Extracted
from ..lora.metadata import LoraFacts, lora_metadata
from ..training.full import WholeModel
from ..training.model import Model
from ..training.state import Training
from ..training.trainable import Trainable, whole_state, write_lora
from .choosing import Evaluation
from .curves import training_curve
from .folder import RunFolder
from .job import Job


@dataclass(frozen=True)
class Results:
    """Writes the files of one run; only the main process calls it.

    Attributes:
        facts: what the LoRA file records of the run.
        note: called with each warning.
    """

    job: Job
    model: Model
    trained: Trainable
    training: Training
    folder: RunFolder
    facts: LoraFacts
    note: Callable[[str], None]

    def checkpoint(self) -> None:
        """Save the state to resume from, and the current LoRA.

        Raises:
            RunError: the disk is full; the earlier checkpoints are untouched.
        """
        # a LoRA would have to be extracted from a whole UNet, and the state has everything
        write = None if isinstance(self.trained, WholeModel) else self.write_lora
        keep = self.job.config.keep_checkpoints
        self.folder.checkpoints.save(self.training.step, self.training.state(), write, keep)

    def write_lora(self, path: Path) -> None:
        """Write the current weights, or their average, as a LoRA."""
        with self.training.averaged():
            self._write_lora(path, self.training.step)

    def finish(self, best: Evaluation | None) -> None:
        """Write the result and the curve, once.

        Args:
            best: the step whose weights become the result; None for the last step.
        """
        if self.folder.result.exists():
            return
        write_curve(self.folder, f"{self.folder.result.stem}: {self.job.config.objective}")
        with self.final(best) as step:
            if isinstance(self.trained, WholeModel):
                self._write_whole(self.trained, step)
            extracted = self._write_lora(self.folder.result, step)
            if extracted is not None:
                self._note_share(extracted)

    def _write_lora(self, path: Path, step: int) -> Extracted | None:
        facts = dataclasses.replace(self.facts, steps=step)
        return write_lora(path, self.trained, self.model, self.job.config, facts)

    def _write_whole(self, trained: WholeModel, step: int) -> None:
        """Write the whole UNet in its current state, as a checkpoint like the base's file."""
        metadata = lora_metadata(dataclasses.replace(self.facts, steps=step), {})
        own = {key: value for key, value in metadata.items() if key.startswith("dspo.")}
        self.model.save_whole(self.folder.whole, whole_state(trained, self.model.network), own)

    def _note_share(self, extracted: Extracted) -> None:
        lora, whole = self.folder.result.name, self.folder.whole.name
        self.note(
            f"{lora} is the best rank-{self.job.config.lora.rank} LoRA approximation of what was trained, and holds "
            f"{extracted.kept * extracted.targeted:.0%} of its squared change; {whole} holds all of it"
        )

    @contextlib.contextmanager
    def final(self, best: Evaluation | None) -> Iterator[int]:
        """Inside, the trained weights are those of the result. -> their step

        Args:
            best: as in `finish`.
        """
        with self._weights_of(best) as step, self.training.averaged():
            yield step

    @contextlib.contextmanager
    def _weights_of(self, best: Evaluation | None) -> Iterator[int]:
        """Inside, the trained weights are those of the best measurement, if one is given. -> their step"""
        if best is None:
            yield self.training.step
        elif (weights := self.folder.best.read(best.step)) is None:
            self.note(f"the weights of the best step, {best.step}, cannot be read; the LoRA has those of the last step")
            yield self.training.step
        else:
            with self.training.holding(weights):
                yield best.step


def write_curve(folder: RunFolder, title: str) -> None:
    """Draw the curve of the run's reports so far."""
    files.write_image(folder.curve, training_curve(folder.reports(), title=title))
