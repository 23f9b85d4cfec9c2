"""A seed gives one picture, whatever is sampled beside it; every scheduler solves the model's own process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image
from tiny_models import Family, write_diffusers_folder
from torch import Tensor, nn

from dspo_train.exceptions import ConfigError
from dspo_train.models.base import Base, load_base
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.families import FAMILIES
from dspo_train.models.process import Ddpm, from_scheduler_config
from dspo_train.models.sampling import SampleSpec, Scheduler, denoise, guided, sample

SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)
SPEC = SampleSpec(64, 64, steps=3)


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(write_diffusers_folder(tmp_path_factory.mktemp("sd15") / "m", "sd15"))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(write_diffusers_folder(tmp_path_factory.mktemp("sdxl") / "m", "sdxl"))


def values(images: list[Image.Image]) -> np.ndarray:
    """(N, H, W, 3), signed, so that differences make sense."""
    return np.stack([np.asarray(image).astype(int) for image in images])


class PointData(nn.Module):
    """The exact denoiser of data that is always `place`: noise = (x_t - signal place) / spread."""

    place = 0.7

    def __init__(self, scheduler_config: dict[str, Any]) -> None:
        super().__init__()
        process = from_scheduler_config(scheduler_config)
        assert isinstance(process, Ddpm)
        self.process = process
        self.config = {"addition_embed_type": None}
        self.conv_in = nn.Conv2d(4, 1, 1)
        self.rows: set[int] = set()

    def forward(self, noisy: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        self.rows.add(len(noisy))
        assert len(noisy) == len(encoder_hidden_states)
        signal, spread = self.process.levels(timestep.long().expand(len(noisy)), noisy)
        noise = (noisy - signal * self.place) / spread
        if self.process.prediction == "epsilon":
            return (noise,)
        return (signal * noise - spread * self.place,)


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
PROCESSES: dict[str, dict[str, Any]] = {
    "epsilon": {**BETAS, "prediction_type": "epsilon"},
    "v": {**BETAS, "prediction_type": "v_prediction"},
    "v-zero-snr": {**BETAS, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
}


def around(unet: PointData, process: str) -> Any:
    """A base of such a model."""
    return SimpleNamespace(
        family=FAMILIES["sd15"],
        unet=unet,
        scheduler_config=PROCESSES[process],
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("process", PROCESSES)
def test_schedulers_reach_the_data_of_an_exact_model(scheduler: Scheduler, process: str) -> None:
    """A wrong prediction type, schedule or spacing misses the point; what remains is the last step's noise, 0.03."""
    unet = PointData(PROCESSES[process])
    base = around(unet, process)
    noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    spec = SampleSpec(guidance=1.0, steps=20, scheduler=scheduler)
    *before, result = denoise(base, Conditioning({"context": torch.zeros(2, 77, 8)}), noise, spec)
    assert len(before) == 19
    assert result.dtype == torch.float32
    assert (result - PointData.place).abs().max() < 0.12
    assert abs(result.mean().item() - PointData.place) < 0.02


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_ddim_equals_the_diffusers_pipeline(family: Family, request: pytest.FixtureRequest) -> None:
    base: Base = request.getfixturevalue(family)
    scheduler: Any = DDIMScheduler.from_config(base.scheduler_config)
    encoder = base.encoder
    parts: dict[str, Any] = {"vae": encoder.vae, "unet": base.unet, "scheduler": scheduler}
    parts |= {"text_encoder": encoder.text_encoders[0], "tokenizer": encoder.tokenizers[0]}
    if family == "sdxl":
        parts |= {"text_encoder_2": encoder.text_encoders[1], "tokenizer_2": encoder.tokenizers[1]}
        pipeline: Any = StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        parts |= {"safety_checker": None, "feature_extractor": None}
        pipeline = StableDiffusionPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    seeds, prompts = [4, 5], ["a red dog", "a dog"]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    options: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": 6.0, "negative_prompt": ["red", "red"]}
    wanted = pipeline(prompts, width=64, height=72, generator=generators, **options).images
    spec = SampleSpec(64, 72, steps=4, guidance=6.0, negative_prompt="red", scheduler="ddim")
    assert np.abs(values(sample(base, prompts, seeds, spec)) - values(wanted)).max() <= 1


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.slow
def test_a_picture_depends_on_its_own_seed_only(family: Family, request: pytest.FixtureRequest) -> None:
    base: Base = request.getfixturevalue(family)
    prompts, seeds = ["a red dog", "dog", "", "a red dog", "a red dog"], [1, 2, 3, 1, 4]
    images = [values(sample(base, prompts, seeds, SPEC, batch_size=size)) for size in (1, 2, 5)]
    for other in images[1:]:
        assert np.abs(other - images[0]).max() <= 1
    alone = values(sample(base, ["dog"], [2], SPEC))
    assert np.abs(alone[0] - images[0][1]).max() <= 1
    assert np.abs(images[0][0] - images[0][3]).max() == 0
    assert np.abs(images[0][0] - images[0][4]).max() > 5


def test_global_random_state_is_neither_used_nor_changed(sd15: Base) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = values(sample(sd15, ["dog"], [7], SPEC))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1)
    assert np.array_equal(first, values(sample(sd15, ["dog"], [7], SPEC)))


def test_guidance_of_one_skips_the_unconditional_pass() -> None:
    for guidance, rows in ((1.0, {3}), (2.0, {6})):
        unet = PointData(PROCESSES["epsilon"])
        base = around(unet, "epsilon")
        context = Conditioning({"context": torch.zeros(next(iter(rows)), 77, 8)})
        list(denoise(base, context, torch.zeros(3, 4, 4, 4), SampleSpec(steps=2, guidance=guidance)))
        assert unet.rows == rows


def test_guidance_by_hand() -> None:
    """1 + 3 (2 - 1) = 4; rescaled fully, the conditional's deviation comes back."""
    zero_one = torch.tensor([[0.0, 1.0]])
    assert guided(zero_one, zero_one + 1, guidance=3.0).tolist() == [[3.0, 4.0]]
    strong = guided(torch.zeros(1, 2), zero_one, guidance=4.0, rescale=1.0)
    torch.testing.assert_close(strong.std(), zero_one.std())


def test_adapters_change_the_picture_and_zeroed_ones_do_not(tmp_path: Path) -> None:
    base = load_base(write_diffusers_folder(tmp_path / "m", "sd15"))
    before = values(sample(base, ["dog"], [1], SPEC))
    inject_adapter_in_model(LoraConfig(r=4, target_modules=["to_q", "to_v"], lora_dropout=0.5), base.unet)
    for name, module in base.unet.named_modules():
        module.train("lora_dropout" in name)
    modes = [module.training for module in base.unet.modules()]
    assert np.array_equal(values(sample(base, ["dog"], [1], SPEC)), before)
    assert [module.training for module in base.unet.modules()] == modes
    assert any(modes) and not base.unet.training
    for name, parameter in base.unet.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(1.0)
    after = values(sample(base, ["dog"], [1], SPEC))
    assert np.abs(after - before).max() > 5
    assert np.array_equal(values(sample(base, ["dog"], [1], SPEC)), after)  # dropout is off


def test_prompts_are_encoded_once_and_not_at_all_when_given(sd15: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    encode = sd15.encoder.prompts
    monkeypatch.setattr(sd15.encoder, "prompts", lambda texts: calls.append(list(texts)) or encode(texts))
    prompts = ["dog", "red", "dog", "dog"]
    first = sample(sd15, prompts, [1, 2, 3, 4], SPEC, batch_size=2)
    assert calls == [["dog", "red", ""]]
    given = {text: encode([text]) for text in ("dog", "red", "")}
    again = sample(sd15, prompts, [1, 2, 3, 4], SPEC, batch_size=2, conditioning=given)
    assert len(calls) == 1
    assert np.abs(values(first) - values(again)).max() <= 1


def test_progress_counts_every_step_and_may_stop_the_work(sd15: Base) -> None:
    seen: list[tuple[int, int]] = []
    sample(sd15, ["a", "b", "c"], [1, 2, 3], SPEC, batch_size=2, on_progress=lambda *at: seen.append(at))
    assert seen == [(n, 6) for n in range(1, 7)]

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    sd15.unet.train()
    with pytest.raises(InterruptedError):
        sample(sd15, ["a"], [1], SPEC, on_progress=stop)
    assert sd15.unet.training
    sd15.unet.eval()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_zero_terminal_snr_model_gives_pictures(tmp_path: Path, scheduler: Scheduler) -> None:
    base = load_base(write_diffusers_folder(tmp_path / "m", "sdxl", "v_prediction", zero_snr=True))
    (image,) = sample(base, ["dog"], [1], SampleSpec(64, 64, steps=4, scheduler=scheduler))
    assert image.size == (64, 64) and np.asarray(image).std() > 1


def test_half_precision_unet(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "m", "sd15")
    whole, half = (sample(load_base(folder, dtype=t), ["dog"], [1], SPEC) for t in (torch.float32, torch.bfloat16))
    assert np.abs(values(whole) - values(half)).mean() < 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 60}, "width must be a positive multiple of 8, got 60"),
        ({"height": 0}, "height"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"guidance": 0.5}, "guidance must be at least 1"),
        ({"scheduler": "heun"}, "unknown scheduler 'heun'; known: dpm"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SampleSpec(**changes)


def test_lists_of_unequal_length_and_empty_lists(sd15: Base) -> None:
    with pytest.raises(ValueError, match="2 prompts but 1 seeds"):
        sample(sd15, ["a", "b"], [1], SPEC)
    assert sample(sd15, [], [], SPEC) == []
