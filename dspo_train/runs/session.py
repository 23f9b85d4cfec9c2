"""From a base model and a pair folder to a LoRA, for the command line and the nodes alike."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accelerate import Accelerator

from .. import objectives
from ..config import TrainConfig
from ..data.cache import EncodingCache
from ..data.encode import Opening, Workers
from ..data.kinds import training_data
from ..data.on_policy import OnPolicySource
from ..data.source import Source
from ..data.split import normalised
from ..data.training_data import Opened
from ..exceptions import DspoError, RunError
from ..files.words import many
from ..lora.layers import LoraWeights
from ..lora.metadata import lora_metadata
from ..models.reading import in_v
from ..pairs import Scan, decodable, scan_folder
from ..stepwise.steering import Steering, check_steering, steering
from ..training import devices, trainer
from ..training.denoiser import TrainedDenoiser
from ..training.model import Model
from ..training.state import Training
from ..training.trainable import Trainable, check_start, trainable
from ..training.trainer import StepReport
from ..training.units import measured_unit
from .continuing import take_over
from .first_look import first_look
from .folder import RunFolder, locked
from .identity import lineage_of, lora_facts, refined_identity, run_identity
from .job import Job
from .monitor import Monitor
from .notes import Notes
from .results import Results
from .status import recorded

_NAMED = 10  # damaged images that a warning lists

Stage = Literal["check", "encode"]
OnStageProgress = Callable[[Stage, int, int], None]


@dataclass
class Session:
    """An open run: the model with what is trained on it, ready to train or to draw previews.

    Attributes:
        notes: the warnings so far.
    """

    job: Job
    model: Model
    trained: Trainable
    folder: RunFolder
    scan: Scan
    data: Opened
    training: Training
    results: Results
    monitor: Monitor
    notes: Notes
    steered: Steering | None = None

    @property
    def finished(self) -> bool:
        return self.folder.completed(self.job.config.steps)

    @property
    def main(self) -> bool:
        """Does this process write files? The first of several does."""
        return self.training.accelerator.is_main_process

    def reports(self) -> Generator[StepReport, None, None]:
        """Train from the current step to the end. Closing the iterator early saves a checkpoint.

        Raises:
            RunError: the disk is full, or the training diverged; the last checkpoint is kept.
        """
        if self.finished:
            return
        config = self.job.config
        for note in objectives.warnings(config):
            self.notes(note)
        mixed = self.training.accelerator.autocast if config.method == "full" else contextlib.nullcontext
        denoiser = TrainedDenoiser(self.model, self.trained, mixed, in_v=objectives.reading_of(config) == "v")
        given, pairs = self.data.source, self.data.encoded
        if not self.training.step:
            as_declared = TrainedDenoiser(self.model, self.trained, mixed)
            readings = first_look(as_declared, pairs, self.training.accelerator)
            if readings and readings.mismatch:
                self.notes(readings.mismatch)
            self._measure(denoiser, pairs)
        self.monitor.resume()
        source = self.steered.bound(given, denoiser) if self.steered and isinstance(given, OnPolicySource) else given
        policy = source.policy if isinstance(source, OnPolicySource) else denoiser
        steps = trainer.train(policy, source, config, self.training)
        with contextlib.closing(steps):
            try:
                while not self.monitor.over and (report := next(steps, None)) is not None:
                    report = self.monitor.measured(report, denoiser)
                    if self.main:
                        self.folder.append(report)
                    self.monitor.watch(report)
                    if report.step % config.save_every == 0 or report.step == config.steps or self.monitor.over:
                        self.checkpoint()
                    yield report
            except GeneratorExit:  # cancelled between two steps: nothing that was computed is lost
                self.checkpoint()
                raise
            except BaseException:  # cancelled inside a step, out of memory, a gradient that is not finite, a full disk
                if self.training.step and self.training.sound:
                    with contextlib.suppress(DspoError):  # the first error is the one to report
                        self.checkpoint()
                raise
        if self.main:
            self.results.finish(self.monitor.best)
        self.training.accelerator.wait_for_everyone()

    def _measure(self, denoiser: TrainedDenoiser, pairs: Source[Any]) -> None:
        """Settle what margins are measured in."""
        if objectives.unit_of(self.job.config) == "model":
            return
        self.training.unit, of_words = measured_unit(denoiser, pairs, self.training.accelerator)
        if not (of_words or any(self.scan.prompts)):
            self.notes("without prompts, what a margin is worth is told by the spread of the model's errors alone")

    def checkpoint(self) -> None:
        """Save what a later call can resume from."""
        if self.main:
            self.results.checkpoint()


def encodings_of(job: Job) -> Path:
    """The folder for encodings."""
    return job.cache or job.pairs / ".dspo_cache"


def check_settings(config: TrainConfig, scan: Scan, *, refine: bool = False) -> None:
    """Check, without a model, that these settings can train on this folder, and with a LoRA to refine if there is one.

    Raises:
        ConfigError: the objective, its options, the data and the start do not go together.
        DatasetError: nothing in the folder is usable.
    """
    training_data(scan, config).check(config)
    objectives.check_objective(config, unpaired=scan.unpaired)
    check_steering(config)
    check_start(config, refine=refine)


@contextlib.contextmanager
def open_session(job: Job, on_progress: OnStageProgress = lambda stage, done, total: None) -> Iterator[Session]:
    """Check, load, encode, attach, and return to the last checkpoint if there is one.

    Args:
        on_progress: called with ("check", images decoded, images), then with ("encode", items done, total items).

    Raises:
        DspoError: an input is wrong; raised before any training.
    """
    folder = RunFolder(job.out)
    asked = {
        "config": job.config.to_dict(),
        "refine": refined_identity(job.refine, folder),
        "continued": None if job.start is None else job.start.identity(),
    }
    folder.check(asked)  # early, before the long work
    found = job.scan or scan_folder(job.pairs)
    scan = decodable(found, lambda done, total: on_progress("check", done, total))
    check_settings(job.config, scan, refine=job.refine is not None)
    with contextlib.ExitStack() as stack:
        accelerator, precision = stack.enter_context(devices.accelerator(job.config.device, job.config.precision))
        if accelerator.is_main_process:
            stack.enter_context(locked(job.out))
        model = job.model.load(job.config, precision, accelerator.device)
        data = _encode(job, model, scan, accelerator, on_progress)
        steered = _steering(job, model, scan, folder, data) if job.config.stepwise.method != "off" else None
        identity = {**asked, **run_identity(model, data, accelerator, precision)}
        initial, unused = _initial_lora(job, model, folder)
        stack.enter_context(model.training(checkpointing=job.config.gradient_checkpointing))
        trained = stack.enter_context(trainable(model, job.config, initial))
        training = trainer.begin(trained.parameters, job.config, accelerator, trained.reference_tensors())
        lineage = lineage_of(job, folder)
        facts = lora_facts(folder.result.stem, job.config, model, data, scan, precision, lineage)
        lora_metadata(facts, {})  # refuses a bad name now rather than after training
        if accelerator.is_main_process:  # everything is in order: from here on the folder is this run's
            if job.start is not None and not folder.begun:
                take_over(job.start, folder)
            folder.start(identity, job.refine)
            if steered is not None and steered.taste is not None and not folder.taste.exists():
                steered.taste.save(folder.taste)
            stack.enter_context(recorded(folder, job.config.steps))
        accelerator.wait_for_everyone()
        _resume(job, folder, training, accelerator)
        notes = Notes(accelerator.is_main_process)
        if len(scan.rows) < len(found.rows):
            notes(_damaged(scan, found))
        if steered is not None and steered.note:
            notes(steered.note)
        for remark in [*unused, *model.encoder.remarks(scan.prompts)]:
            notes(remark)
        results = Results(job, model, trained, training, folder, facts, notes)
        ceiling = math.nan if steered is None else steered.ceiling
        monitor = Monitor(job.config, data.bank, folder, training, notes, ceiling)
        yield Session(job, model, trained, folder, scan, data, training, results, monitor, notes, steered)


def _steering(job: Job, model: Model, scan: Scan, folder: RunFolder, data: Opened) -> Steering:
    held = {normalised(pair.prompt) for pair in data.bank.source.pairs} if data.bank else set()
    earlier = RunFolder(job.start.run).taste if job.start is not None else job.taste
    kept = folder.taste if folder.begun else earlier
    return steering(job.config, model, scan, kept, job.cache or job.pairs, held)


def _damaged(scan: Scan, found: Scan) -> str:
    """What decoding left out, each image by name."""
    known = set(found.defects)
    names = [defect.where for defect in scan.defects if defect not in known]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    left_out = many(len(found.rows) - len(scan.rows), scan.noun[:-1])
    return f"{left_out} left out; these images cannot be decoded: {', '.join(names[:_NAMED])}{more}"


def _encode(job: Job, model: Model, scan: Scan, accelerator: Accelerator, on_progress: OnStageProgress) -> Opened:
    opening = Opening(
        model.encoder,
        in_v(model.process) if objectives.reading_of(job.config) == "v" else model.process,
        EncodingCache(encodings_of(job)),
        Workers(accelerator.process_index, accelerator.num_processes),
        lambda done, total: on_progress("encode", done, total),
    )
    try:
        data = training_data(scan, job.config).open(job.config, opening)
    finally:
        model.encoder.release()
    accelerator.wait_for_everyone()
    return data


def _initial_lora(job: Job, model: Model, folder: RunFolder) -> tuple[LoraWeights | None, list[str]]:
    """The LoRA to refine; for a begun run its copy in the run folder, which outlives the original. -> and a warning"""
    if job.refine is None:
        return None, []
    loaded = model.read_lora(folder.reference if folder.begun else job.refine)
    unused = f"{job.refine.name}: not used for refinement: {loaded.unused_summary}"
    return loaded.weights, [unused] if loaded.unused else []


def _resume(job: Job, folder: RunFolder, training: Training, accelerator: Accelerator) -> None:
    state = folder.checkpoints.latest()
    if state is None and job.start is not None:
        lost = f"{folder.beginning}: the state that this run goes on from cannot be read"
        raise RunError(f"{lost}; remove the folder {folder.folder.name} to train from scratch")
    accelerator.wait_for_everyone()
    if state is not None:
        training.load(state)
    if accelerator.is_main_process and not folder.completed(job.config.steps):
        folder.rewind(training.step)
    accelerator.wait_for_everyone()  # the others read the reports that the rewind leaves
