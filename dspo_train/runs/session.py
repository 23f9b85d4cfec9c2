"""From a base model and a pair folder to a LoRA: what the command line and the nodes both run."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from .. import files, objectives
from ..config import TrainConfig
from ..data import dataset
from ..data.cache import EncodingCache
from ..data.dataset import Dataset
from ..exceptions import DspoError
from ..lora.attach import LoraWeights
from ..lora.extract import Extracted
from ..lora.metadata import LoraFacts, lora_metadata
from ..lora.writing import load_lora
from ..models.base import Base, load_base
from ..models.process import PredictionType
from ..models.single_file import UnetWeights
from ..models.unet import DiffusersDenoiser
from ..pairs.any_folder import Scan, scan_folder
from ..training import devices, held_out, trainer
from ..training.full import WholeModel
from ..training.held_out import Evaluation
from ..training.state import Training
from ..training.trainable import Trainee, trainee, write_checkpoint, write_lora
from ..training.trainable import check as check_start
from ..training.trainer import StepReport
from . import alarm
from .curves import training_curve
from .folder import RunFolder, locked
from .identity import lora_facts, refined_identity, run_identity

log = logging.getLogger("dspo")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """One training: what it reads, where it writes, how it goes.

    Attributes:
        base: diffusers folder or single `.safetensors` checkpoint.
        pairs: folder of labelled pairs, or of liked and disliked pictures.
        out: the run folder.
        refine: a LoRA to go on from; frozen, it is then the reference.
        tokenizer: folder with CLIP's vocabulary, for bases that come without.
        prediction: overrides what the base says of itself.
        cache: folder for encodings; default `.dspo_cache` in the pair folder.
        unet: gives, when the base is loaded, a UNet to train in place of the one in the checkpoint.
        scan: what `pairs` holds, where that is known already.
    """

    base: Path
    pairs: Path
    out: Path
    config: TrainConfig
    refine: Path | None = None
    tokenizer: Path | None = None
    prediction: PredictionType | None = None
    cache: Path | None = None
    unet: Callable[[], UnetWeights] | None = None
    scan: Scan | None = None


@dataclass
class Session:
    """An open run: the base with its adapter on, ready to train or to draw a preview.

    Attributes:
        told: the warnings so far, each of which was logged.
    """

    job: Job
    base: Base
    adapter: Trainee
    folder: RunFolder
    scan: Scan
    data: Dataset
    training: Training
    facts: LoraFacts
    told: list[str] = field(default_factory=list)
    _seen: list[dict[str, Any]] = field(default_factory=list)
    _history: list[Evaluation] = field(default_factory=list)
    _warned: bool = False
    _origin: tuple[Tensor, ...] | None = None

    @property
    def finished(self) -> bool:
        return self.folder.completed(self.job.config.steps)

    @property
    def main(self) -> bool:
        """Does this process write files? Of several, the first does."""
        return self.training.accelerator.is_main_process

    def reports(self) -> Generator[StepReport, None, None]:
        """Train to the end from where the run stands. Closing the iterator early keeps a checkpoint.

        Raises:
            RunError: the disk is full, or the training broke up; the last checkpoint is kept.
        """
        if self.finished:
            return
        config = self.job.config
        for note in objectives.warnings(config):
            self._tell(note)
        denoiser = DiffusersDenoiser(self.base.unet, self.base.noise, self.adapter)
        self._seen = self.folder.reports()
        self._history = list(held_out.evaluations(self._seen))
        steps = trainer.train(denoiser, self.data.source, config, self.training)
        with contextlib.closing(steps):
            try:
                while not self._over() and (report := next(steps, None)) is not None:
                    report = self._measured(report, denoiser)
                    if self.main:
                        self.folder.append(report)
                    self._warn(report)
                    if report.step % config.save_every == 0 or report.step == config.steps or self._over():
                        self.checkpoint()
                    yield report
            except GeneratorExit:  # cancelled between two steps: nothing that was computed is lost
                self.checkpoint()
                raise
            except Exception:  # out of memory, a gradient that is not finite, a full disk
                if self.training.step and self.training.sound:
                    with contextlib.suppress(DspoError):  # the first error is the one to tell
                        self.checkpoint()
                raise
        self.finish()

    def _warn(self, report: StepReport) -> None:
        """Say once that the model wins by getting worse."""
        self._seen.append(report.flat())
        needed = alarm.reports_needed(self.job.config.held_out.every)
        if not self._warned and (told := alarm.alarm(self._seen[-needed:])):
            self._tell(f"step {report.step}: {told}")
            self._warned = True

    def _tell(self, text: str) -> None:
        if self.main:
            log.warning("%s", text)
        self.told.append(text)

    def _over(self) -> bool:
        """Has the run stopped before its last step?"""
        return held_out.should_stop(self._history, self.job.config.held_out.patience)

    def _measured(self, report: StepReport, denoiser: DiffusersDenoiser) -> StepReport:
        """The report with what the held-out pairs show, where their turn has come; keeps the best weights."""
        bank, config = self.data.bank, self.job.config
        if bank is None or (report.step % config.held_out.every and report.step != config.steps):
            return report
        accelerator = self.training.accelerator
        if self._origin is None:
            self._origin = held_out.origin_predictions(denoiser, bank, accelerator.device, accelerator.autocast)
        with self.training.averaged():
            seen = held_out.measure(denoiser, bank, accelerator.device, accelerator.autocast, self._origin)
            (seen,) = broadcast_object_list([seen])  # devices may round differently, and all must stop together
            self._history.append(Evaluation.of(report.step, seen))
            best = held_out.best(self._history)
            if self.main and config.keeps_best and best is not None and best.step == report.step:
                self.folder.save_best(report.step, self.adapter.parameters)
        values = held_out.to_report(seen)
        return dataclasses.replace(report, held_out={**values, "stopped": True} if self._over() else values)

    def checkpoint(self) -> None:
        if not self.main:
            return
        step, write = self.training.step, self.write_lora
        if isinstance(self.adapter, WholeModel):
            write = None  # a LoRA would have to be extracted; the state has all
        self.folder.save(step, self.training.state(), write, self.job.config.keep_checkpoints)

    def write_lora(self, path: Path) -> None:
        """Write what is trained as it stands, or its average, as a LoRA."""
        with self.training.averaged():
            facts = dataclasses.replace(self.facts, steps=self.training.step)
            write_lora(path, self.adapter, self.base, self.job.config, facts)

    def finish(self) -> None:
        """Write the result and the curve, once."""
        if self.main and not self.folder.result.exists():
            write_curve(self.folder, f"{self.folder.result.stem}: {self.job.config.objective}")
            with self._kept() as step, self.training.averaged():
                facts = dataclasses.replace(self.facts, steps=step)
                if isinstance(self.adapter, WholeModel):
                    write_checkpoint(self.folder.whole, self.job.base, self.adapter, self.base, facts)
                extracted = write_lora(self.folder.result, self.adapter, self.base, self.job.config, facts)
                if extracted is not None:
                    self._tell_share(extracted)
        self.training.accelerator.wait_for_everyone()

    def _tell_share(self, extracted: Extracted) -> None:
        lora, whole = self.folder.result.name, self.folder.whole.name
        self._tell(
            f"{lora} is the nearest LoRA of rank {self.job.config.lora.rank} to what was trained, and holds "
            f"{extracted.kept * extracted.targeted:.0%} of its squared change; {whole} holds all of it"
        )

    @contextlib.contextmanager
    def _kept(self) -> Iterator[int]:
        """Inside, the trained weights are those of the best measurement, where they are asked for or the run stopped
        early. -> of which step
        """
        wanted = self.job.config.keep == "best" or self._over()
        best = held_out.best(self._history) if wanted else None
        if best is None:
            yield self.training.step
        elif (weights := self.folder.best(best.step)) is None:
            self._tell(f"the weights of the best step, {best.step}, cannot be read: the LoRA is the last step's")
            yield self.training.step
        else:
            with self.training.holding(weights):
                yield best.step


def write_curve(folder: RunFolder, title: str) -> None:
    """Draw the run's reports so far."""
    picture = training_curve(folder.reports(), title=title)
    files.write_picture(folder.curve, picture)


def encodings_of(job: Job) -> Path:
    """The folder for encodings."""
    return job.cache or job.pairs / ".dspo_cache"


def check(config: TrainConfig, scan: Scan, *, refine: bool = False) -> None:
    """Can a run of these settings train on this folder, and begin with a LoRA to refine? No model is needed to tell.

    Raises:
        ConfigError, DatasetError: it cannot; see `dataset.check` and `trainee.check`.
    """
    dataset.check(config, scan)
    check_start(config, refine=refine)


@contextlib.contextmanager
def open_session(job: Job, on_progress: Progress = lambda stage, done, total: None) -> Iterator[Session]:
    """Check, load, encode, attach, and go back to the last checkpoint if there is one.

    Args:
        on_progress: called with ("encode", pairs done, pairs in all).

    Raises:
        DspoError: whatever is wrong with the inputs, before any training.
    """
    folder = RunFolder(job.out)
    asked = {"config": job.config.to_dict(), "refine": refined_identity(job.refine, folder)}
    folder.check(asked)  # whatever can be refused before the long work is
    scan = job.scan or scan_folder(job.pairs)
    check(job.config, scan, refine=job.refine is not None)
    with contextlib.ExitStack() as stack:
        accelerator, precision = stack.enter_context(devices.accelerator(job.config.device, job.config.precision))
        if accelerator.is_main_process:
            stack.enter_context(locked(job.out))
        base = load_base(
            job.base,
            # Weights that are all trained begin from the file's own, not from rounded ones.
            dtype=torch.float32 if job.config.method == "full" else devices.DTYPES[precision],
            tokenizer=job.tokenizer,
            prediction=job.prediction,
            unet=None if job.unet is None else job.unet(),
        )
        data = _encode(job, base, scan, accelerator, on_progress)
        identity = {**asked, **run_identity(base, data, accelerator, precision)}
        initial = _initial_lora(job, base, folder)
        base.unet.to(accelerator.device)
        stack.callback(base.release)
        if job.config.gradient_checkpointing:
            base.unet.enable_gradient_checkpointing()
        adapter = stack.enter_context(trainee(base, job.config, initial))
        training = trainer.begin(adapter.parameters, job.config, accelerator, adapter.reference_tensors())
        facts = lora_facts(folder.result.stem, job.config, base, data, scan, precision)
        lora_metadata(facts, {})  # a name that the LoRA file refuses is to be known before the training
        if accelerator.is_main_process:  # everything is in order: from here on the folder is this run's
            folder.start(identity, job.refine)
        accelerator.wait_for_everyone()
        _resume(job, folder, training, accelerator)
        yield Session(job, base, adapter, folder, scan, data, training, facts)


def _encode(job: Job, base: Base, scan: Scan, accelerator: Accelerator, on_progress: Progress) -> Dataset:
    cache = EncodingCache(encodings_of(job))
    base.encoder.device = accelerator.device  # the UNet follows once the encoders have left
    try:
        data = dataset.encode(
            scan, job.config, base, cache, accelerator, lambda done, total: on_progress("encode", done, total)
        )
    finally:
        base.encoder.release()
    accelerator.wait_for_everyone()
    return data


def _initial_lora(job: Job, base: Base, folder: RunFolder) -> LoraWeights | None:
    """The LoRA to refine; of a begun run its copy in the run folder, which outlives the original."""
    if job.refine is None:
        return None
    loaded = load_lora(folder.reference if folder.begun else job.refine, base.unet)
    if loaded.unused:
        log.warning("%s: left out of the refinement: %s", job.refine.name, loaded.unused_summary)
    return loaded.weights


def _resume(job: Job, folder: RunFolder, training: Training, accelerator: Accelerator) -> None:
    state = folder.latest()
    accelerator.wait_for_everyone()
    if state is not None:
        training.load(state)
    if accelerator.is_main_process and not folder.completed(job.config.steps):
        folder.rewind(training.step)
    accelerator.wait_for_everyone()  # the others read the reports that the rewind leaves
