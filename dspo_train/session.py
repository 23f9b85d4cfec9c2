"""From a base model and a pair folder to a LoRA: what the command line and the nodes both run."""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from . import __version__, devices, files, objectives, trainer
from .base import Base, load_base
from .batches import PairSource
from .cache import EncodedPair, EncodingCache, empty_caption, encode_pairs
from .config import TrainConfig
from .curves import training_curve
from .diffusers_unet import DiffusersDenoiser
from .exceptions import DspoError, RunError
from .lora import Adapter, LoraWeights, attached
from .lora_file import load_lora, save_lora, storage_dtype
from .lora_metadata import LoraFacts, looks_like_a_path, lora_metadata
from .noise import PredictionType
from .pairs import PairScan, scan_pairs
from .runs import RunFolder, locked
from .single_file import UnetWeights
from .trainer import StepReport, Training

log = logging.getLogger("dspo")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """One training: what it reads, where it writes, how it goes.

    Attributes:
        base: diffusers folder or single `.safetensors` checkpoint.
        pairs: folder of labelled pairs.
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
    scan: PairScan | None = None


@dataclass
class Session:
    """An open run: the base with its adapter on, ready to train or to draw a preview."""

    job: Job
    base: Base
    adapter: Adapter
    folder: RunFolder
    scan: PairScan
    source: PairSource
    training: Training
    facts: LoraFacts

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
        denoiser = DiffusersDenoiser(self.base.unet, self.base.noise, self.adapter)
        steps = trainer.train(denoiser, self.source, config, self.training)
        with contextlib.closing(steps):
            try:
                for report in steps:
                    if self.main:
                        self.folder.append(report)
                    if report.step % config.save_every == 0 or report.step == config.steps:
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

    def checkpoint(self) -> None:
        if not self.main:
            return
        step = self.training.step
        self.folder.save(step, self.training.state(), self.write_lora, self.job.config.keep_checkpoints)

    def write_lora(self, path: Path) -> None:
        """Write the adapter as it stands, as the file that every interface loads."""
        weights = self.adapter.weights()
        save_lora(
            path,
            weights,
            family=self.base.family,
            unet_config=self.base.unet.config,
            metadata=lora_metadata(self.facts, weights),
            dtype=storage_dtype(weights),
        )

    def finish(self) -> None:
        """Write the result and the curve, once."""
        if self.main and not self.folder.result.exists():
            write_curve(self.folder, f"{self.folder.result.stem}: {self.job.config.objective}")
            self.write_lora(self.folder.result)
        self.training.accelerator.wait_for_everyone()


def write_curve(folder: RunFolder, title: str) -> None:
    """Draw the run's reports so far."""
    picture = training_curve(folder.reports(), title=title)
    files.write_picture(folder.curve, picture)


@contextlib.contextmanager
def open_session(job: Job, on_progress: Progress = lambda stage, done, total: None) -> Iterator[Session]:
    """Check, load, encode, attach, and go back to the last checkpoint if there is one.

    Args:
        on_progress: called with ("encode", pairs done, pairs in all).

    Raises:
        DspoError: whatever is wrong with the inputs, before any training.
    """
    objectives.bind(job.config.objective, job.config.objective_args)
    folder = RunFolder(job.out)
    asked = {"config": job.config.to_dict(), "refine": _lora_identity(job, folder)}
    folder.check(asked)  # whatever can be refused before the long work is
    scan = job.scan or scan_pairs(job.pairs)
    scan.usable()
    with contextlib.ExitStack() as stack:
        accelerator, precision = stack.enter_context(devices.accelerator(job.config.device, job.config.precision))
        if accelerator.is_main_process:
            stack.enter_context(locked(job.out))
        base = load_base(
            job.base,
            dtype=devices.DTYPES[precision],
            tokenizer=job.tokenizer,
            prediction=job.prediction,
            unet=None if job.unet is None else job.unet(),
        )
        encoded, cache = _encode(job, base, scan, accelerator, on_progress)
        identity = {**asked, **_identity(base, encoded, accelerator, precision)}
        initial = _initial_lora(job, base, folder)
        base.unet.to(accelerator.device)
        stack.callback(base.release)
        if job.config.gradient_checkpointing:
            base.unet.enable_gradient_checkpointing()
        adapter = stack.enter_context(attached(base.unet, job.config.lora, seed=job.config.seed, initial=initial))
        training = trainer.begin(adapter.parameters, job.config, accelerator)
        source = _source(job, base, encoded, cache, accelerator)
        facts = _facts(job, base, scan, identity, precision)
        lora_metadata(facts, adapter.weights())  # a name that the LoRA file refuses is to be known before the training
        if accelerator.is_main_process:  # everything is in order: from here on the folder is this run's
            folder.start(identity, job.refine)
        accelerator.wait_for_everyone()
        _resume(job, folder, training, accelerator)
        yield Session(job, base, adapter, folder, scan, source, training, facts)


def _encode(
    job: Job, base: Base, scan: PairScan, accelerator: Accelerator, on_progress: Progress
) -> tuple[list[EncodedPair], EncodingCache]:
    cache = EncodingCache(job.cache or job.pairs / ".dspo_cache")
    base.encoder.device = accelerator.device  # the UNet follows once the encoders have left
    try:
        encoded = encode_pairs(
            scan.usable(),
            base.encoder,
            cache,
            job.config.data,
            seed=job.config.seed,
            share=(accelerator.process_index, accelerator.num_processes),
            on_progress=lambda done, total: on_progress("encode", done, total),
        )
    finally:
        base.encoder.release()
    accelerator.wait_for_everyone()
    return encoded, cache


def _identity(base: Base, encoded: list[EncodedPair], accelerator: Accelerator, precision: str) -> dict[str, Any]:
    """What the resulting weights depend on besides the settings, and the version that wrote it."""
    return {
        "version": __version__,
        "precision": precision,
        "processes": accelerator.num_processes,
        "base": {
            "name": base.name,
            "unet": base.fingerprint(),
            "vae": base.encoder.image_id,
            "text": base.encoder.prompt_id,
            "prediction": base.noise.prediction,
            "schedule": files.digest(*base.noise.alphas_cumprod.tolist()),
        },
        "dataset": {"pairs": len(encoded), "hash": files.digest(*(pair.content for pair in encoded))},
    }


def _lora_identity(job: Job, folder: RunFolder) -> dict[str, str] | None:
    """The LoRA to refine; where the original is gone, a begun run's own copy answers for it."""
    if job.refine is None:
        return None
    source = folder.reference if folder.begun and not job.refine.exists() else job.refine
    try:
        return {"name": job.refine.stem, "hash": files.sha256_of(source)}
    except OSError as error:
        raise RunError(f"the LoRA to refine, {job.refine}, cannot be read: {error.strerror or error}") from error


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


def _source(
    job: Job, base: Base, encoded: list[EncodedPair], cache: EncodingCache, accelerator: Accelerator
) -> PairSource:
    config = job.config
    return PairSource(
        pairs=tuple(encoded),
        cache=cache,
        noise=base.noise,
        data=config.data,
        seed=config.seed,
        per_process=config.batch_size * config.accumulate,
        largest=config.batch_size,
        scaling=base.encoder.scaling,
        shift=base.encoder.shift,
        sized=base.family == "sdxl",
        empty_caption=empty_caption(base.encoder, cache),
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )


def _facts(job: Job, base: Base, scan: PairScan, identity: dict[str, Any], precision: str) -> LoraFacts:
    config = job.config
    words = Counter(word for pair in scan.pairs for word in pair.prompt.replace(",", " ").split())
    tags = {word: count for word, count in words.most_common(50) if not looks_like_a_path(word)}
    return LoraFacts(
        family=base.family,
        name=RunFolder(job.out).result.stem,
        base_name=base.name,
        base_fingerprint=base.fingerprint(),
        prediction=base.noise.prediction,
        objective=config.objective,
        objective_args=objectives.arguments_of(config.objective, config.objective_args),
        dataset_hash=identity["dataset"]["hash"],
        pairs=len(scan.pairs),
        resolution=config.data.resolution,
        steps=config.steps,
        seed=config.seed,
        learning_rate=config.optim.lr,
        optimizer=config.optim.name,
        precision=precision,
        targets=config.lora.targets,
        version=__version__,
        tags=tags,
        date=datetime.datetime.now(datetime.timezone.utc),
    )
