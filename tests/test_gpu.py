"""One short real run on whatever accelerator there is, in each precision it has."""

from __future__ import annotations

import gc

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import config, write_base, write_pairs

from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA or ROCm device here"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_run_trains_resumes_and_gives_the_memory_back(tmp_path, family, precision):
    write_base(tmp_path / "base", family)
    write_pairs(tmp_path / "pairs")
    before = torch.cuda.memory_allocated()

    def run(out: str, stop_after: int | None = None) -> None:
        job = Job(
            DiffusersSource(tmp_path / "base"),
            tmp_path / "pairs",
            tmp_path / out,
            config(device="auto", precision=precision),
        )
        with open_session(job) as session:
            assert session.training.accelerator.device.type == "cuda"
            reports = session.reports()
            for report in reports:
                if report.step == stop_after:
                    reports.close()
                    break

    run("whole")
    run("parts", stop_after=3)
    run("parts")
    whole, parts = (load_file(tmp_path / out / f"{out}.safetensors") for out in ("whole", "parts"))
    for key, value in whole.items():
        # The GPU's sums are not in a fixed order, so equal to rounding and not to the bit.
        assert torch.allclose(value.float(), parts[key].float(), atol=2e-3), key
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 2**20


def test_only_one_unet_is_on_the_device(tmp_path):
    """Policy and reference predict with one set of weights, and the encoders have left."""
    write_base(tmp_path / "base")
    write_pairs(tmp_path / "pairs")
    job = Job(
        DiffusersSource(tmp_path / "base"),
        tmp_path / "pairs",
        tmp_path / "out",
        config(device="auto", precision="fp32"),
    )
    with open_session(job) as session:
        weights = sum(p.numel() * p.element_size() for p in session.model.network.parameters())
        assert torch.cuda.memory_allocated() < 1.5 * weights
