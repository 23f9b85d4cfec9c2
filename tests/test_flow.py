"""A flow model from end to end: a tiny UNet whose scheduler says that it predicts a velocity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny_runs import config, train_and_cut, write_base, write_pairs

from dspo_train.config import TrainConfig
from dspo_train.models.base import load_base
from dspo_train.models.process import Flow
from dspo_train.models.sampling import SampleSpec, sample
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session

SCHEDULE = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("flow")
    base = write_base(root / "base")
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULE), encoding="utf-8")
    return base, write_pairs(root / "pairs")


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(path), framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def job(inputs: tuple[Path, Path], out: Path, settings: TrainConfig) -> Job:
    return Job(DiffusersSource(inputs[0]), inputs[1], out, settings)


def train(job: Job) -> list[dict[str, object]]:
    with open_session(job) as session:
        list(session.reports())
        return session.folder.reports()


def test_the_folder_is_read_as_a_flow(inputs):
    base = load_base(inputs[0])
    assert base.process == Flow(shift=3.0)
    assert base.process.identity()["prediction"] == "flow"


@pytest.mark.parametrize("objective", ["dspo", "diffusion_dpo", "sft", "dspo_paper"])
@pytest.mark.slow
def test_the_same_objectives_train_it(inputs, tmp_path, objective):
    reports = train(job(inputs, tmp_path / "run", config(objective=objective, steps=4)))
    assert len(reports) == 4 and reports[0]["margin"] == pytest.approx(0, abs=1e-6)  # at the reference
    made = tensors(tmp_path / "run" / "run.safetensors")
    assert any(made[key].any() for key in made if "lora_up" in key)
    with safe_open(str(tmp_path / "run" / "run.safetensors"), framework="pt") as file:
        assert file.metadata()["modelspec.prediction_type"] == "flow"


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bits_and_the_same_held_out_figures(inputs, tmp_path):
    settings = config(
        steps=6,
        save_every=3,
        held_out={"share": 0.4, "every": 2, "draws": 4},
        keep="best",
        loss={"min_snr": 5.0},
        data={"resolution": 64, "bucket_step": 16, "least_noise": 0.1, "most_noise": 0.9},
    )
    whole, part = (job(inputs, tmp_path / side / "run", settings) for side in "ab")
    reports = [report.flat() for report in train_and_cut(whole, 3, part.out)]
    assert len((part.out / "reports.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    resumed = train(part)
    measured = [{k: v for k, v in report.items() if k not in ("seconds", "pairs_per_second")} for report in reports]
    again = [{k: v for k, v in report.items() if k not in ("seconds", "pairs_per_second")} for report in resumed]
    assert measured == again
    quarters = reports[-1]["held_out_quarters"]
    assert isinstance(quarters, list) and all(quarter["drift"] > 0 for quarter in quarters)  # each quarter is hit
    first, second = (tensors(tmp_path / side / "run" / "run.safetensors") for side in "ab")
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("scheduler", ["dpm++", "euler"])
def test_it_draws_images(inputs, scheduler):
    base = load_base(inputs[0])
    spec = SampleSpec(64, 64, steps=3, guidance=2.0, scheduler=scheduler)
    first, second = sample(base, ["red dog"] * 2, [1, 2], spec)
    assert first.size == (64, 64) and first.tobytes() != second.tobytes()
