"""Sampling from an image, and sampling flow models: what a scheduler begins with and where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from test_sampling import PROCESSES, PointData, around
from tiny_models import write_diffusers_folder
from torch import Tensor, nn

from dspo_train.exceptions import ConfigError
from dspo_train.models.base import load_base
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.families import FAMILIES
from dspo_train.models.process import from_scheduler_config
from dspo_train.models.sampling import SampleSpec, denoise, sample
from dspo_train.models.schedulers import FLOW_SCHEDULERS, SCHEDULERS, Scheduler, begin_at, make_scheduler

FLOW: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
TEXT = Conditioning({"context": torch.zeros(2, 77, 8)})


def latents(seed: int) -> Tensor:
    return torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_an_image_is_noised_as_the_process_does(process: str, name: Scheduler) -> None:
    """What the model then sees is x_t of that time, whatever scale the scheduler works in."""
    scheduler = make_scheduler(PROCESSES[process], name, 10)
    clean, noise, time = latents(0), latents(1), scheduler.timesteps[5]
    seen = scheduler.scale_model_input(begin_at(scheduler, time, clean, noise), time)
    wanted, _ = from_scheduler_config(PROCESSES[process]).sample(clean, noise, time.round().long().repeat(2))
    torch.testing.assert_close(seen, wanted, rtol=0, atol=2e-2)  # Euler's times lie between the counted ones


def test_an_image_is_noised_as_a_flow_does() -> None:
    """(1 - t) x + t noise at the scheduler's own time."""
    clean, noise = latents(0), latents(1)
    for name in FLOW_SCHEDULERS:
        scheduler = make_scheduler(FLOW, name, 10)
        time = scheduler.timesteps[5]
        wanted = (1 - time / 1000) * clean + time / 1000 * noise
        # DPM++ counts its times in whole thousandths, and its noise levels exactly.
        torch.testing.assert_close(begin_at(scheduler, time, clean, noise), wanted, rtol=0, atol=5e-3)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_half_the_strength_is_half_the_steps_and_still_ends_at_the_data(name: Scheduler) -> None:
    spec = SampleSpec(guidance=1.0, steps=20, scheduler=name, image_strength=0.5)
    states = list(denoise(around(PointData(PROCESSES["epsilon"]), "epsilon"), TEXT, latents(0), spec, latents(1)))
    assert len(states) == 10
    assert (states[-1] - PointData.place).abs().max() < 0.12


class FlowPoint(nn.Module):
    """The exact velocity of data that is always 0.7: x_t = (1 - t) 0.7 + t noise, so noise - x_0 = (x_t - 0.7) / t."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4, 1, 1)

    def forward(self, noisy: Tensor, time: Tensor, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        return ((noisy - 0.7) / (time / 1000),)


@pytest.mark.parametrize("name", FLOW_SCHEDULERS)
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_flow_schedulers_reach_the_data_of_an_exact_model(name: Scheduler, strength: float) -> None:
    base: Any = SimpleNamespace(
        family=FAMILIES["sd15"], unet=FlowPoint(), scheduler_config=FLOW, device=torch.device("cpu")
    )
    spec = SampleSpec(guidance=1.0, steps=10, scheduler=name, image_strength=strength)
    *before, result = denoise(base, TEXT, latents(0), spec, latents(1))
    assert len(before) == 10 * strength - 1
    torch.testing.assert_close(result, torch.full_like(result, 0.7), rtol=0, atol=5e-3)  # a thousandth of the noise


def test_a_scheduler_that_samples_no_flow_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'ddim' does not sample flow models; choose one of dpm\+\+, euler"):
        make_scheduler(FLOW, "ddim", 10)


def test_the_image_counts_below_full_strength_and_not_at_it(tmp_path: Path) -> None:
    base = load_base(write_diffusers_folder(tmp_path / "m", "sd15"))
    black, white = (Image.new("RGB", (64, 64), colour) for colour in ("black", "white"))

    def drawn(strength: float, image: Image.Image | None) -> bytes:
        spec = SampleSpec(64, 64, steps=3, image_strength=strength)
        return sample(base, ["red dog"], [5], spec, images=None if image is None else [image])[0].tobytes()

    assert drawn(0.5, black) != drawn(0.5, white)
    assert drawn(1.0, black) == drawn(1.0, white) == drawn(1.0, None)


@pytest.mark.parametrize(
    ("changes", "images", "message"),
    [
        ({"image_strength": 0.5}, None, "`image_strength` 0.5 needs images to start from"),
        ({"image_strength": 0.5}, [(32, 64)], "is 32x64, and 64x64 are asked for"),
        ({"image_strength": 0.0}, None, "image_strength must be above 0 and at most 1, got 0"),
    ],
)
def test_impossible_starts_are_named(
    tmp_path: Path, changes: Mapping[str, Any], images: list[tuple[int, int]] | None, message: str
) -> None:
    base = load_base(write_diffusers_folder(tmp_path / "m", "sd15"))
    given = None if images is None else [Image.new("RGB", size) for size in images]
    with pytest.raises(ConfigError, match=message):
        sample(base, ["red dog"], [0], SampleSpec(64, 64, steps=2, **changes), images=given)
