"""Changing a setting changes something: what is trained, kept, measured or asked for. Each is tried on a tiny run."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import write_base, write_pairs

from dspo_train.config import SETTINGS, from_names
from dspo_train.runs.diffusers_model import DiffusersModel, DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session
from dspo_train.training import devices

pytestmark = pytest.mark.slow

TINY = {
    "steps": 3,
    "batch_size": 2,
    "save_every": 1,
    "precision": "fp32",
    "device": "cpu",
    "lora.rank": 2,
    "lora.alpha": 2.0,
    "optim.lr": 1e-3,
    "data.resolution": 64,
    "data.bucket_step": 16,
}
STEPWISE = {"stepwise.method": "tailorpo", "stepwise.steps": 5, "stepwise.guidance": 2.0}
HELD = {"held_out.share": 0.5, "held_out.draws": 4, "held_out.every": 2}


@dataclass(frozen=True)
class Case:
    """`value` of a setting, what differs from a run without it, and what both runs have beside `TINY`."""

    value: Any
    differs: str
    beside: Mapping[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {
    "objective": Case("sft", "weights"),
    "objective_args": Case({"strength": 1.0}, "weights"),
    "loss.sft_mix": Case(0.25, "weights"),
    "loss.label_smoothing": Case(0.1, "weights"),
    "loss.safeguard": Case(1.0, "weights"),
    "loss.margin_cap": Case(0.0, "weights"),
    "loss.sharpness": Case(1000.0, "weights"),
    "loss.min_snr": Case(5.0, "weights"),
    "loss.unit": Case("model", "weights"),
    "loss.errors": Case("model", "weights"),
    "loss.word_budget": Case(0.01, "weights"),
    "loss.word_every": Case(1, "weights", {"loss.word_budget": 0.01}),
    "labels": Case("swapped", "weights"),
    "method": Case("full", "files", {"optim.lr": 1e-5}),
    "ema": Case(0.5, "weights"),
    "moving_reference": Case(0.5, "weights"),
    "steps": Case(2, "steps"),
    "batch_size": Case(1, "weights"),
    "accumulate": Case(2, "weights"),
    "seed": Case(1, "weights"),
    "save_every": Case(3, "checkpoints"),
    "keep_checkpoints": Case(1, "checkpoints"),
    "keep": Case("best", "files", HELD),
    "held_out.share": Case(0.5, "measured"),
    "held_out.draws": Case(5, "measured", HELD),
    "held_out.every": Case(1, "measured", HELD),
    "held_out.patience": Case(1, "steps", {**HELD, "held_out.every": 1, "optim.lr": 1e-12}),
    "precision": Case("bf16", "weights"),
    "device": Case("auto", "kept off the GPU"),
    "gradient_checkpointing": Case(True, "checkpointing"),
    "lora.rank": Case(3, "weights"),
    "lora.alpha": Case(1.0, "weights"),
    "lora.targets": Case("attention+mlp", "weights"),
    "lora.dropout": Case(0.5, "weights"),
    "optim.name": Case("adamw8bit", "optimiser"),
    "optim.lr": Case(2e-3, "weights"),
    "optim.width": Case(1, "weights"),
    "optim.beta1": Case(0.5, "weights"),
    "optim.beta2": Case(0.9, "weights"),
    "optim.eps": Case(1e-3, "weights"),
    "optim.weight_decay": Case(0.5, "weights"),
    "optim.schedule": Case("linear", "weights"),
    "optim.warmup": Case(2, "weights"),
    "optim.max_grad_norm": Case(1e-3, "weights"),
    "data.resolution": Case(48, "weights"),
    "data.bucket_step": Case(32, "weights"),
    "data.max_aspect": Case(1.0, "weights"),
    "data.flip": Case(True, "weights"),
    "data.crop": Case("random", "weights"),
    "data.caption_dropout": Case(1.0, "weights"),
    "data.one_per_prompt": Case(True, "weights"),
    "data.least_noise": Case(0.5, "weights"),
    "data.most_noise": Case(0.5, "weights"),
    "stepwise.method": Case("tailorpo", "weights"),
    "stepwise.scorer": Case("further_left", "weights", {**STEPWISE, "stepwise.watch": "large_and_dark"}),
    "stepwise.watch": Case("further_left", "drawn", STEPWISE),
    "stepwise.pool": Case(3, "weights", STEPWISE),
    "stepwise.next": Case("worst", "weights", STEPWISE),
    "stepwise.push": Case(1.0, "weights", STEPWISE),
    "stepwise.rollout_steps": Case(3, "passes", STEPWISE),
    "stepwise.gap": Case(0.99, "drawn", STEPWISE),
    "stepwise.reach": Case(0.5, "weights", STEPWISE),
    "stepwise.trained": Case(1, "weights", STEPWISE),
    "stepwise.steps": Case(7, "weights", STEPWISE),
    "stepwise.guidance": Case(1.0, "weights", STEPWISE),
    "stepwise.eta": Case(0.5, "weights", STEPWISE),
}

Observe = Callable[[Mapping[str, Any]], dict[str, Any]]


class EightBit(torch.optim.AdamW):
    """Stands in for bitsandbytes' optimiser."""


@pytest.fixture(scope="module")
def observe(tmp_path_factory: pytest.TempPathFactory) -> Observe:
    """Train with these settings; what a run without one of them may differ in."""
    world = tmp_path_factory.mktemp("world")
    write_base(world / "base")
    write_pairs(world / "pairs")
    seen: dict[str, dict[str, Any]] = {}

    def observed(values: Mapping[str, Any]) -> dict[str, Any]:
        key = repr(sorted(values.items()))
        if key not in seen:
            out = world / hashlib.sha256(key.encode()).hexdigest() / "run"
            with pytest.MonkeyPatch.context() as patch:
                seen[key] = _run(Job(DiffusersSource(world / "base"), world / "pairs", out, from_names(values)), patch)
        return seen[key]

    return observed


def _run(job: Job, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    asked = []

    def state(**given: Any) -> Any:
        asked.append(given["cpu"])
        return partial_state(**{**given, "cpu": True})

    partial_state = devices.PartialState
    patch.setattr(devices, "PartialState", state)
    patch.setattr(devices, "has_accelerator", lambda: True)
    if job.config.optim.name == "adamw8bit":
        stub = ModuleType("bitsandbytes")
        stub.__spec__ = ModuleSpec("bitsandbytes", None)  # accelerate looks for one
        stub.optim = SimpleNamespace(AdamW8bit=EightBit)  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "bitsandbytes", stub)
    passes, predict = [], DiffusersModel.predict

    def counted(self: DiffusersModel, *given: Any) -> torch.Tensor:
        passes.append(1)
        return predict(self, *given)

    patch.setattr(DiffusersModel, "predict", counted)
    with open_session(job) as session:
        reports = list(session.reports())
        optimiser = type(getattr(session.training.optimiser, "optimizer", None))
        checkpointing = session.model.network.is_gradient_checkpointing
    out: Path = job.out
    weights = load_file(out / "run.safetensors")
    return {
        "weights": {name: (tuple(value.shape), value.float().numpy().tobytes()) for name, value in weights.items()},
        "files": sorted(path.name for path in out.iterdir()),
        "checkpoints": sorted(path.name for path in (out / "checkpoints").iterdir()),
        "steps": len(reports),
        "measured": [(report.step, dict(report.held_out)) for report in reports if report.held_out],
        "drawn": [dict(report.drawn) for report in reports],
        "passes": len(passes),
        "kept off the GPU": asked,
        "checkpointing": checkpointing,
        "optimiser": optimiser,
    }


def test_every_setting_is_tried():
    assert set(CASES) == set(SETTINGS)


def test_the_same_settings_are_observed_alike(observe: Observe):
    """So a difference below is the setting's. The second run has a folder of its own, by a spare key."""
    assert observe(TINY) == observe({**TINY, "held_out.patience": 0})


@pytest.mark.parametrize("name", CASES)
def test_a_setting_changes_what_it_should(observe: Observe, name: str):
    case = CASES[name]
    without = {**TINY, **case.beside}
    assert observe({**without, name: case.value})[case.differs] != observe(without)[case.differs]
