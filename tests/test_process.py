from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fakes import SD15_SCHEDULE

from dspo_train.exceptions import ModelError
from dspo_train.models.process import Ddpm, Density, Flow, from_scheduler_config


def ddpm(**config: Any) -> Ddpm:
    process = from_scheduler_config(config)
    assert isinstance(process, Ddpm)
    return process


def test_signal_and_spread_worked_by_hand():
    """Two steps of linear betas 0.1 and 0.2: cumulative products 0.9 and 0.72."""
    process = ddpm(beta_start=0.1, beta_end=0.2, num_train_timesteps=2)
    torch.testing.assert_close(process.alphas_cumprod, torch.tensor([0.9, 0.72], dtype=torch.float64))
    x, n, t = torch.ones(2, 1, 1, 1), torch.full((2, 1, 1, 1), 2.0), torch.tensor([0, 1])
    noisy, target = process.sample(x, n, t)
    assert torch.equal(target, n)
    torch.testing.assert_close(noisy.flatten(), torch.tensor([0.9**0.5 + 2 * 0.1**0.5, 0.72**0.5 + 2 * 0.28**0.5]))


def test_v_target_worked_by_hand():
    """signal^2 = 0.36: v = 0.6 * noise - 0.8 * x = 0.6 * 2 - 0.8 * 1 = 0.4."""
    process = ddpm(beta_start=0.64, beta_end=0.64, num_train_timesteps=1, prediction_type="v_prediction")
    _, v = process.sample(torch.ones(1, 1), torch.full((1, 1), 2.0), torch.tensor([0]))
    torch.testing.assert_close(v, torch.tensor([[0.4]]))


@pytest.mark.parametrize(("prediction", "expected"), [("epsilon", [5 / 9, 1.0]), ("v_prediction", [0.5, 0.72])])
def test_min_snr_worked_by_hand(prediction, expected):
    """Cumulative products 0.9 and 0.72: snr 0.9 / 0.1 = 9 and 0.72 / 0.28. With gamma 5 the first is cut.

    Epsilon: 5 / 9 and 1. v: 5 / (9 + 1) = 0.5 and snr / (snr + 1) = 0.72.
    """
    process = ddpm(beta_start=0.1, beta_end=0.2, num_train_timesteps=2, prediction_type=prediction)
    torch.testing.assert_close(process.weight(torch.tensor([0, 1]), 5.0), torch.tensor(expected))


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("schedule", ["scaled_linear", "linear"])
def test_the_schedule_is_the_one_diffusers_samples_with(schedule, rescale):
    from diffusers import DDIMScheduler

    config = {**SD15_SCHEDULE, "beta_schedule": schedule, "rescale_betas_zero_snr": rescale}
    theirs = DDIMScheduler(**config).alphas_cumprod
    torch.testing.assert_close(ddpm(**config).alphas_cumprod.float(), theirs, rtol=1e-4, atol=1e-7)


def test_zero_terminal_snr_ends_in_pure_noise():
    process = ddpm(**SD15_SCHEDULE, rescale_betas_zero_snr=True)
    assert process.alphas_cumprod[-1] == 0
    noise = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(process.sample(torch.ones(1, 4, 2, 2), noise, torch.tensor([999]))[0], noise)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction_type": "sample"}, "prediction type 'sample' is not supported"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "beta schedule 'squaredcos_cap_v2' is not supported"),
    ],
)
def test_other_processes_are_refused(change, message):
    with pytest.raises(ModelError, match=message):
        from_scheduler_config({**SD15_SCHEDULE, **change})


def test_a_part_of_the_schedule_is_drawn_from_and_every_step_of_it():
    """Ten steps, from 0.25 to 0.75: 2 to 6 are trained at; measured at are those whose position lies inside, 3 to 7."""
    process = ddpm(beta_start=0.1, beta_end=0.2, num_train_timesteps=10)
    generator = torch.Generator().manual_seed(0)
    drawn = {int(process.draw(generator, 0.25, 0.75)) for _ in range(200)}
    assert drawn == {2, 3, 4, 5, 6}
    even = {int(process.draw_evenly(generator, 0.25, 0.75)) for _ in range(200)}
    assert even == {3, 4, 5, 6, 7}
    position = process.position(torch.tensor(sorted(even)))
    assert ((position >= 0.25) & (position < 0.75)).all()


def test_flow_worked_by_hand():
    """t = 0.25: x_t = 0.75 * 1 + 0.25 * 5 = 2, and the velocity is 5 - 1 = 4 wherever on the way."""
    x, n = torch.ones(2, 1, 1, 1), torch.full((2, 1, 1, 1), 5.0)
    noisy, velocity = Flow().sample(x, n, torch.tensor([0.25, 0.5]))
    torch.testing.assert_close(noisy.flatten(), torch.tensor([2.0, 3.0]))
    assert torch.equal(velocity, torch.full_like(x, 4.0))
    assert torch.equal(Flow().model_time(torch.tensor([0.25])), torch.tensor([250.0]))


def test_the_shift_moves_the_schedule_towards_noise():
    """Shift 3 turns the middle into 3 * 0.5 / (1 + 2 * 0.5) = 0.75; `position` undoes it."""
    flow = Flow(shift=3.0, density="uniform")
    assert float(flow._time(torch.tensor(0.5))) == 0.75
    positions = torch.linspace(0.01, 0.99, 33, dtype=torch.float64)
    torch.testing.assert_close(flow.position(flow._time(positions)), positions, rtol=0, atol=1e-6)


@pytest.mark.parametrize("density", ["uniform", "logit-normal"])
def test_flow_draws_lie_in_the_part_that_is_asked_for(density: Density):
    flow, generator = Flow(shift=2.0, density=density), torch.Generator().manual_seed(1)
    for low, high in ((0.0, 1.0), (0.0, 0.25), (0.4, 0.6), (0.9, 1.0)):
        times = torch.stack([flow.draw(generator, low, high) for _ in range(300)])
        assert ((times > 0) & (times < 1)).all()
        position = flow.position(times)
        assert low - 1e-6 <= position.min() and position.max() <= high + 1e-6
        assert position.max() - position.min() > 0.8 * (high - low) or density == "logit-normal"


def test_logit_normal_draws_have_its_quantiles():
    """Below sigmoid(z) lies the share Phi(z): Phi(0) = 0.5, Phi(1) = 0.8413, Phi(-1) = 0.1587."""
    flow, generator = Flow(density="logit-normal"), torch.Generator().manual_seed(2)
    times = torch.stack([flow.draw(generator) for _ in range(20_000)])
    for z, share in ((0.0, 0.5), (1.0, 0.8413), (-1.0, 0.1587)):
        below = (times < 1 / (1 + math.exp(-z))).double().mean()
        assert abs(below - share) < 0.012  # three standard errors are 0.0106


def test_flow_weights_worked_by_hand():
    """snr = ((1 - t) / t)^2. t = 0.5: 0.25 * 1. t = 0.1: snr 81, cut to 5: 0.01 * 5. t = 0.75: 0.5625 / 9."""
    weights = Flow().weight(torch.tensor([0.5, 0.1, 0.75]), 5.0)
    torch.testing.assert_close(weights, torch.tensor([0.25, 0.05, 0.0625]))


def test_a_flow_schedule_is_read_from_its_scheduler():
    assert from_scheduler_config({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}) == Flow(shift=3.0)
    with pytest.raises(ModelError, match="depends on the image's size"):
        from_scheduler_config({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True})


def test_processes_are_told_apart():
    identities = [
        ddpm(**SD15_SCHEDULE).identity(),
        ddpm(**SD15_SCHEDULE, prediction_type="v_prediction").identity(),
        ddpm(**SD15_SCHEDULE, rescale_betas_zero_snr=True).identity(),
        Flow().identity(),
        Flow(shift=3.0).identity(),
        Flow(density="uniform").identity(),
    ]
    assert len({tuple(sorted(identity.items())) for identity in identities}) == len(identities)
