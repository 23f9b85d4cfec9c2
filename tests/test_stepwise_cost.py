"""What a step on the policy's own images takes: foretold, and counted while it happens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from tiny_runs import write_base, write_pairs
from transformers import CLIPConfig, CLIPModel

from dspo_train.config import from_names
from dspo_train.config.stepwise import StepwiseSpec
from dspo_train.models.blueprint import read_blueprint
from dspo_train.runs.alarm import GAMED, beyond, gamed
from dspo_train.runs.counting import count_pass
from dspo_train.runs.diffusers_model import DiffusersModel, DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.memory import need_of
from dspo_train.runs.preflight import setup_of
from dspo_train.runs.session import open_session
from dspo_train.runs.sizes import BlueprintSizes
from dspo_train.scorers.clip import VIT_H, VIT_L
from dspo_train.scorers.table import SCORERS
from dspo_train.stepwise.cost import Cost, cost_of

PLAIN = {
    **{"steps": 1, "batch_size": 1, "precision": "fp32", "device": "cpu", "lora.rank": 2, "data.resolution": 64},
    **{"data.bucket_step": 16, "objective": "diffusion_dpo"},
}
EARLY = {"stepwise.steps": 12, "data.least_noise": 0.4}  # so that there are three steps to roll out
SETTINGS = {**PLAIN, "stepwise.steps": 6, "stepwise.trained": 2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_base(folder / "base")
    write_pairs(folder / "pairs")
    return folder


def test_the_cost_worked_by_hand():
    """20 steps and 5 transitions, two children each: 20 + 5 predictions and 5 as the reference, twice each for the
    guidance, 5 x 2 + 1 looks of the taste, and one at how sure it is; with a gradient 5, twice."""
    cost = cost_of(StepwiseSpec(method="tailorpo"), 5)
    assert cost == Cost(drawn=2 * (20 + 5 + 5) + 11 + 1, graded=2 * 5, decoded=0)
    assert cost.of_pairs == pytest.approx((72 + 3 * 10) / 8)
    assert str(cost) == (
        "each image of a step takes up to 82 passes of the network, 10 of them with a gradient: about 13 times the "
        "work of a pair"
    )
    decoded = cost_of(StepwiseSpec(method="tailorpo", scorer="further_left", guidance=1.0), 5)
    assert decoded == Cost(drawn=30, graded=5, decoded=11)
    assert str(decoded).endswith("the work of a pair; 11 images are decoded and scored besides")


def test_no_more_steps_are_rolled_out_than_are_left():
    """Of six steps five follow the first: 6 + 2 (1 + 2 x 4) predictions, 2 as the reference, and 2 with a gradient."""
    most = StepwiseSpec(method="tailorpo", scorer="further_left", guidance=1.0, steps=6, rollout_steps=100)
    assert cost_of(most, 2) == Cost(drawn=6 + 2 * 9 + 2, graded=2, decoded=5)


@pytest.mark.parametrize(
    "settings",
    [
        {"stepwise.method": "tailorpo"},
        {"stepwise.method": "tailorpo_g"},
        {"stepwise.method": "spo", "stepwise.guidance": 1.0, "stepwise.rollout_steps": 3, **EARLY},
        {"stepwise.method": "tailorpo", "stepwise.scorer": "further_left", "stepwise.watch": "large_and_dark"},
    ],
)
def test_a_step_takes_what_was_foretold(inputs, tmp_path, monkeypatch, settings):
    config = from_names({**SETTINGS, **settings})
    plain, graded, decoded = [], [], []
    predict, decode = DiffusersModel.predict, None

    def counted(self: Any, noisy: torch.Tensor, *rest: Any) -> torch.Tensor:
        (graded if torch.is_grad_enabled() else plain).append(len(noisy))
        return predict(self, noisy, *rest)

    job = Job(DiffusersSource(inputs / "base"), inputs / "pairs", tmp_path / "run", config, cache=inputs / "cache")
    with open_session(job) as session:
        encoder = session.model.encoder
        decode = encoder.decode  # type: ignore[attr-defined]

        def seen(latents: torch.Tensor) -> torch.Tensor:
            decoded.append(len(latents))
            return decode(latents)

        monkeypatch.setattr(encoder, "decode", seen)
        monkeypatch.setattr(DiffusersModel, "predict", counted)
        monkeypatch.setattr("dspo_train.runs.session.first_look", lambda *given: None)
        (report,) = list(session.reports())
    assert report.step == 1
    assert cost_of(config.stepwise, 2) == Cost(sum(plain), sum(graded), sum(decoded))


def test_memory_is_that_of_one_state_and_of_the_vae_that_stays(inputs):
    sizes = BlueprintSizes(read_blueprint(inputs / "base"))

    def need(**settings: Any) -> Any:
        return need_of(setup_of(sizes, from_names({**PLAIN, **settings})))

    pairs, steps = need(), need(**{"stepwise.method": "spo", "stepwise.guidance": 1.0})
    assert steps.activations == pytest.approx(pairs.activations / 2, rel=1e-6)
    assert need(**{"stepwise.method": "spo"}).activations == pytest.approx(pairs.activations, rel=1e-6)
    assert need(**{"stepwise.method": "tailorpo_g"}).activations == pytest.approx(1.5 * pairs.activations, rel=1e-6)
    pixels = need(**{"stepwise.method": "spo", "stepwise.scorer": "further_left"})
    assert pixels.weights == steps.weights + sizes.vae_bytes("fp32", "lora")


def test_memory_counts_what_judges_images(inputs):
    """PickScore holds 3.7 GiB; a push along it keeps its graph and the decoder's, of one image at a time."""
    sizes = BlueprintSizes(read_blueprint(inputs / "base"))

    def need(**settings: Any) -> Any:
        return need_of(setup_of(sizes, from_names({**PLAIN, **settings})))

    taste, picked = (
        need(**{"stepwise.method": "spo"}),
        need(**{"stepwise.method": "spo", "stepwise.scorer": "pickscore"}),
    )
    held = SCORERS["pickscore"].held
    assert held / 2**30 == pytest.approx(986_109_441 * 4 / 2**30, abs=0.01)  # the parameters of CLIP ViT-H/14
    assert picked.weights - taste.weights == held + sizes.vae_bytes("fp32", "lora")
    assert picked.activations == taste.activations
    watched = need(**{"stepwise.method": "spo", "stepwise.scorer": "pickscore", "stepwise.watch": "aesthetic"})
    assert watched.weights - picked.weights == SCORERS["aesthetic"].held
    pushed = need(**{"stepwise.method": "tailorpo_g", "stepwise.scorer": "pickscore"})
    assert pushed.activations - picked.activations > SCORERS["pickscore"].graph


def test_what_the_graphs_of_the_scorers_keep_is_as_counted():
    """Of the vision towers, whose prompts need no gradient, at their published widths and without their weights."""
    for name, model in (("pickscore", clip_model(VIT_H)), ("aesthetic", clip_model(VIT_L))):

        def run(model: Any = model) -> Any:
            pixels = torch.empty(1, 3, 224, 224, device="meta", requires_grad=True)
            return model.get_image_features(pixel_values=pixels)

        with torch.device("meta"):
            kept = count_pass(run, list(model.parameters())).kept
        assert SCORERS[name].graph == pytest.approx(kept, rel=0.01)


def clip_model(sizes: dict[str, Any]) -> Any:
    with init_empty_weights(include_buffers=True):
        return CLIPModel(CLIPConfig(**sizes)).requires_grad_(False)


def figures(reward: Sequence[float], watched: Sequence[float]) -> list[dict[str, float]]:
    return [{"reward": one, "watched": other} for one, other in zip(reward, watched, strict=True)]


def test_scores_beyond_those_of_what_was_judged_are_told():
    assert beyond([{"reward": 2.0}] * 20, 1.9)
    assert not beyond([{"reward": 2.0}] * 20, 2.0) and not beyond([{"reward": 2.0}] * 19, 1.0)
    assert not beyond([{"reward": 1.0}] * 60 + [{"reward": 3.9}] * 10, 2.5)  # (10 x 1.0 + 10 x 3.9) / 20 = 2.45
    assert not beyond([{"reward": 2.0}] * 20, math.nan) and not beyond([{"loss": 1.0}] * 20, 0.0)


def test_a_reward_that_rises_while_the_other_falls_is_told():
    """Means of 20 steps a whole unit apart with a standard deviation of 0.5: 1 / (0.5 sqrt(2 / 20)) = 6.3 errors."""
    wave = [0.5 if step % 2 else -0.5 for step in range(20)]
    up, down = wave + [1 + each for each in wave], wave + [each - 1 for each in wave]
    assert gamed(figures(up, down))
    assert not gamed(figures(up, up)) and not gamed(figures(down, up)) and not gamed(figures(wave * 2, down))
    assert not gamed(figures(up, down)[:39]) and not gamed([{"loss": 1.0}] * 50)
    assert not gamed([{"reward": None, "watched": None}] * 50)  # as what is not a number is written
    assert "rather than you" in GAMED
