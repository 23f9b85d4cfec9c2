"""The identity of a run: what its weights depend on, and what its LoRA file records."""

from __future__ import annotations

import datetime
from collections import Counter
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from .. import files, objectives
from ..config import TrainConfig
from ..data.training_data import Opened
from ..exceptions import RunError
from ..files.published import looks_like_a_path
from ..lora.lineage import Lineage, refined_from
from ..lora.metadata import LoraFacts
from ..pairs import Scan
from ..training.model import Model
from ..version import VERSION
from .folder import RunFolder, differences
from .job import Job


def run_identity(model: Model, data: Opened, accelerator: Accelerator, precision: str) -> dict[str, Any]:
    """What the resulting weights depend on besides the settings, and this library's version."""
    return {
        "version": VERSION,
        "precision": precision,
        "processes": accelerator.num_processes,
        "base": {
            "name": model.name,
            "unet": model.fingerprint(),
            "vae": model.encoder.image_id,
            "text": model.encoder.prompt_id,
            **model.process.identity(),
        },
        "dataset": data.identity(),
    }


def refined_identity(refine: Path | None, folder: RunFolder) -> dict[str, str] | None:
    """The LoRA to refine; if the original is gone, a begun run's own copy is used."""
    if refine is None:
        return None
    try:
        return {"name": refine.stem, "hash": files.sha256_of(_refined(refine, folder))}
    except OSError as error:
        raise RunError(f"the LoRA to refine, {refine}, cannot be read: {error.strerror or error}") from error


def lineage_of(job: Job, folder: RunFolder) -> Lineage:
    """From which LoRAs the result is made; names that look like a path are left out."""
    wired = tuple(name for name in job.wired_loras if not looks_like_a_path(name))
    if job.refine is None:
        return Lineage(trained_with=wired)
    return refined_from(_refined(job.refine, folder), job.refine.stem, wired)


def _refined(refine: Path, folder: RunFolder) -> Path:
    """The LoRA to refine; if the original is gone, a begun run's own copy."""
    return folder.reference if folder.begun and not refine.exists() else refine


def lora_facts(
    name: str, config: TrainConfig, model: Model, data: Opened, scan: Scan, precision: str, lineage: Lineage
) -> LoraFacts:
    """What the file of the result records."""
    words = _words(scan).most_common(50)
    return LoraFacts(
        model=model.lora.labels,
        name=name,
        base_name=model.name,
        base_fingerprint=model.fingerprint(),
        prediction=model.process.prediction,
        objective=config.objective,
        objective_args=objectives.arguments_in(config),
        options=_options(config),
        labels=config.labels,
        dataset_hash=data.content,
        pairs=data.size,
        resolution=config.data.resolution,
        steps=config.steps,
        seed=config.seed,
        learning_rate=config.optim.lr,
        optimizer=config.optim.name,
        precision=precision,
        targets=config.lora.targets,
        version=VERSION,
        tags={word: count for word, count in words if not looks_like_a_path(word)},
        date=datetime.datetime.now(datetime.timezone.utc),
        lineage=lineage,
    )


def _words(scan: Scan) -> Counter[str]:
    """How often each word occurs in the prompts."""
    return Counter(word for prompt in scan.prompts for word in prompt.replace(",", " ").split())


_RECORDED = ("ema", "moving_reference", "method", "keep", "loss", "held_out", "data")


def _options(config: TrainConfig) -> dict[str, Any]:
    """The recorded settings that are not at their defaults, by dotted name."""
    usual, given = ({name: spec.to_dict()[name] for name in _RECORDED} for spec in (TrainConfig(), config))
    return {key: now for key, _, now in differences(usual, given)}
