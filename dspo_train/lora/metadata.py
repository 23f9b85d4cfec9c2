"""A LoRA file's metadata: the keys of kohya's trainer, of ModelSpec, and our own."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..config import Labels
from ..files.published import check_metadata
from ..models.families import PREDICTION_NAMES, LoraLabels, Prediction
from .layers import LoraWeights
from .lineage import Lineage


@dataclass(frozen=True)
class LoraFacts:
    """What is known about the training of a LoRA.

    Attributes:
        model: how LoRAs of its kind are labelled.
        name: title of the LoRA, usually the file's name without its suffix.
        base_name: name of the base model, without a folder.
        base_fingerprint: hash that identifies the base's weights.
        objective_args: the objective's named arguments.
        options: other settings that were not at their defaults, by dotted name.
        labels: `swapped` for a negative LoRA.
        dataset_hash: hash of the labelled pairs.
        pairs: number of labelled pairs, of two images each.
        resolution: side of the training square, pixels.
        version: this library's.
        tags: caption word -> count, shown by interfaces as trigger words.
        date: of the training; left out if None.
        lineage: from which LoRAs it was made.
    """

    model: LoraLabels
    name: str
    base_name: str
    base_fingerprint: str
    prediction: Prediction
    objective: str
    objective_args: Mapping[str, float]
    dataset_hash: str
    pairs: int
    resolution: int
    steps: int
    seed: int
    learning_rate: float
    optimizer: str
    precision: str
    targets: str
    version: str
    labels: Labels = "given"
    options: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, int] = field(default_factory=dict)
    comment: str = ""
    author: str = ""
    date: datetime.datetime | None = None
    lineage: Lineage = field(default_factory=Lineage)


def lora_metadata(facts: LoraFacts, weights: LoraWeights) -> dict[str, str]:
    """The file's metadata, except the hashes that `save_lora` adds.

    Raises:
        LoraFileError: a value holds an absolute path.
    """
    found = {**_kohya(facts, weights), **_modelspec(facts), **_own(facts)}
    metadata = {key: value for key, value in found.items() if value}
    check_metadata(metadata)
    return metadata


def _kohya(facts: LoraFacts, weights: LoraWeights) -> dict[str, str]:
    labels = facts.model
    return {
        "ss_v2": str(labels.v2),
        "ss_base_model_version": labels.base_version,
        "ss_network_module": "networks.lora",
        "ss_network_dim": _common({str(layer.rank) for layer in weights.values()}),
        "ss_network_alpha": _common({f"{layer.alpha:g}" for layer in weights.values()}),
        "ss_network_args": _json({"targets": facts.targets}),
        "ss_output_name": facts.name,
        "ss_sd_model_name": facts.base_name,
        "ss_learning_rate": f"{facts.learning_rate:g}",
        "ss_steps": str(facts.steps),
        "ss_num_train_images": str(2 * facts.pairs),
        "ss_seed": str(facts.seed),
        "ss_optimizer": facts.optimizer,
        "ss_mixed_precision": facts.precision,
        "ss_resolution": f"({facts.resolution}, {facts.resolution})",
        "ss_training_comment": facts.comment,
        "ss_tag_frequency": _json({facts.name: dict(facts.tags)}) if facts.tags else "",
    }


def _modelspec(facts: LoraFacts) -> dict[str, str]:
    architectures = facts.model.architecture
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": architectures.get(facts.prediction) or next(iter(architectures.values())),
        "modelspec.implementation": facts.model.implementation,
        "modelspec.title": facts.name,
        "modelspec.author": facts.author,
        "modelspec.description": _description(facts),
        "modelspec.usage_hint": "No trigger words. Strength 1 is as trained; it is for the base model named here.",
        "modelspec.merged_from": ", ".join(one.name for one in facts.lineage.contains),
        "modelspec.date": facts.date.isoformat(timespec="seconds") if facts.date else "",
        "modelspec.resolution": f"{facts.resolution}x{facts.resolution}",
        "modelspec.prediction_type": PREDICTION_NAMES[facts.prediction],
    }


def _own(facts: LoraFacts) -> dict[str, str]:
    return {
        "dspo.version": facts.version,
        "dspo.objective": facts.objective,
        "dspo.objective_args": _json(dict(facts.objective_args)),
        "dspo.options": _json(dict(facts.options)) if facts.options else "",
        "dspo.labels": facts.labels,
        "dspo.dataset_hash": facts.dataset_hash,
        "dspo.pairs": str(facts.pairs),
        "dspo.base": facts.base_name,
        "dspo.base_fingerprint": facts.base_fingerprint,
        **facts.lineage.metadata(),
    }


def _description(facts: LoraFacts) -> str:
    """For people who browse their LoRAs."""
    kind = "Negative preference LoRA" if facts.labels == "swapped" else "Preference LoRA"
    words = [f"{kind} for {facts.base_name}: {facts.pairs:,} pairs, {facts.steps:,} steps, {facts.objective}."]
    if facts.lineage.parent:
        words.append(f"Refined from {facts.lineage.parent}, which it contains.")
    if facts.lineage.trained_with:
        words.append(f"Trained on a model with {', '.join(facts.lineage.trained_with)}; load that too.")
    return " ".join(words)


def _common(values: set[str]) -> str:
    """The common value, or kohya's own word if layers differ, as in a resized LoRA."""
    return values.pop() if len(values) == 1 else "Dynamic"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
