"""Stochastic sampler steps against their closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler
from fakes import SD15_SCHEDULE

from dspo_train.models.process import Ddpm, Flow, Process, from_scheduler_config
from dspo_train.models.transitions import (
    Levels,
    Transition,
    between,
    clean_estimate,
    estimates,
    flow_level,
    times,
    transition,
)


def ddpm(prediction: str = "epsilon") -> Ddpm:
    process = from_scheduler_config({**SD15_SCHEDULE, "prediction_type": prediction})
    assert isinstance(process, Ddpm)
    return process


def at(signal_squared: float) -> Levels:
    return Levels(torch.tensor(0), signal_squared**0.5, (1 - signal_squared) ** 0.5)


def test_a_step_of_ddim_worked_by_hand():
    """signal^2 from 0.36 to 0.64 at eta 1: std^2 = (0.36 / 0.64) (1 - 0.36 / 0.64) = 0.5625 x 0.4375; of x' = 0.8 x0 +
    sqrt(0.36 - std^2) n the noise's factor is sqrt(0.36 - 0.24609) = 0.3375, and x0 = (x - 0.8 n) / 0.6."""
    found = transition(ddpm(), at(0.36), at(0.64), 1.0)
    assert found.std**2 == pytest.approx(0.5625 * 0.4375)
    assert found.of_state == pytest.approx(0.8 / 0.6)
    assert found.of_prediction == pytest.approx(-0.8 * 0.8 / 0.6 + 0.3375)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_is_that_of_diffusers(prediction, eta):
    process = ddpm(prediction)
    theirs = DDIMScheduler(
        **{**SD15_SCHEDULE, "prediction_type": prediction}, clip_sample=False, timestep_spacing="trailing"
    )
    theirs.set_timesteps(20)
    levels = times(process, 20)
    assert [int(level.t) for level in levels[:-1]] == theirs.timesteps.tolist()
    generator = torch.Generator().manual_seed(0)
    state, answer, noise = torch.randn((3, 2, 4, 8, 8), generator=generator, dtype=torch.float64)
    for number in (0, 7, 18):
        found = transition(process, levels[number], levels[number + 1], eta)
        ours = found.mean(state, answer) + found.std * noise
        given = theirs.step(answer, int(levels[number].t), state, eta=eta, variance_noise=noise, return_dict=False)[0]
        torch.testing.assert_close(ours, given, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("process", [ddpm(), ddpm("v_prediction"), Flow(shift=3.0)], ids=["noise", "v", "flow"])
def test_all_the_way_down_states_have_the_mean_and_variance_of_the_data(process: Process):
    """Of data N(0.5, 0.2^2) the best prediction is known and linear in the state, so mean and variance of all states
    follow by hand; the shorter the steps, the nearer they end to the data's. Sampled, they are the same."""

    def errors(steps: int, count: int = 0) -> tuple[float, float]:
        mean, variance, levels = 0.5, 0.04, times(process, steps)
        begin = levels[0]
        at, spread = begin.signal * mean, begin.signal**2 * variance + begin.spread**2
        generator = torch.Generator().manual_seed(1)
        state = at + spread**0.5 * torch.randn(count, generator=generator, dtype=torch.float64)
        for now, after in pairwise(levels):
            step = transition(process, now, after, 1.0)

            def moved(x: torch.Tensor, now: Levels = now, step: Transition = step) -> torch.Tensor:
                share = now.signal * variance / (now.signal**2 * variance + now.spread**2)
                clean = mean + share * (x - now.signal * mean)
                return step.mean(x, told(process, now, clean, (x - now.signal * clean) / now.spread))

            ends = moved(torch.tensor([at, at + 1.0], dtype=torch.float64))
            slope = float(ends[1] - ends[0])
            at, spread = float(ends[0]), slope**2 * spread + step.std**2
            state = moved(state) + step.std * torch.randn(count, generator=generator, dtype=torch.float64)
        if count:
            assert float(state.mean()) == pytest.approx(at, abs=4 * (spread / count) ** 0.5)
            assert float(state.var()) == pytest.approx(spread, rel=4 * (2 / count) ** 0.5)
        return abs(at - mean), abs(spread / variance - 1)

    coarse, fine = errors(50, count=20000), errors(1000)
    assert fine[0] < 0.005 and fine[1] < 0.07  # of steps no shorter than the schedule has
    assert fine[1] < 0.25 * coarse[1]


def told(process: Process, now: Levels, clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    if process.prediction == "epsilon":
        return noise
    return now.signal * noise - now.spread * clean if process.prediction == "v_prediction" else noise - clean


@pytest.mark.parametrize("time", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_small_steps_of_a_flow_are_those_of_its_sde(time, eta):
    """Flow-GRPO, eq. 9: x - dt [v + a^2 / (2 (1 - t)) (x + (1 - t) v)] and a^2 t / (1 - t) dt, a = eta sqrt(2): there
    sigma_t^2 / (2 t) = a^2 / (2 (1 - t))."""
    dt, noise = 1e-5, eta * math.sqrt(2)
    found = transition(Flow(), flow_level(time), flow_level(time - dt), eta)
    assert found.std**2 / dt == pytest.approx(noise**2 * time / (1 - time), rel=1e-3)
    pull = noise**2 / (2 * (1 - time))
    assert (1 - found.of_state) / dt == pytest.approx(pull, rel=1e-3)
    assert -found.of_prediction / dt == pytest.approx(1 + pull * (1 - time), rel=1e-3)


@pytest.mark.parametrize("process", [ddpm(), ddpm("v_prediction"), Flow()], ids=["noise", "v", "flow"])
def test_one_step_draws_with_its_mean_and_variance_and_the_target_undoes_it(process: Process):
    levels = times(process, 20)
    step = transition(process, levels[9], levels[10], 1.0)
    generator = torch.Generator().manual_seed(2)
    state, answer = torch.tensor(0.7, dtype=torch.float64), torch.tensor(-0.3, dtype=torch.float64)
    drawn = step.mean(state, answer) + step.std * torch.randn(200000, generator=generator, dtype=torch.float64)
    assert float(drawn.mean()) == pytest.approx(float(step.mean(state, answer)), abs=4 * step.std / 200000**0.5)
    assert float(drawn.var()) == pytest.approx(step.std**2, rel=0.02)
    torch.testing.assert_close(step.mean(state, step.target(state, drawn)), drawn)


def test_the_likelihood_is_the_gaussians():
    step = transition(ddpm(), at(0.36), at(0.64), 1.0)
    state, answer, after = torch.randn((3, 50), dtype=torch.float64)
    gaussian = torch.distributions.Normal(step.mean(state, answer), step.std).log_prob(after)
    other = torch.distributions.Normal(step.mean(state, answer + 0.1), step.std).log_prob(after)
    target = step.target(state, after)
    ours = -step.likelihood * ((answer - target) ** 2 - (answer + 0.1 - target) ** 2)
    torch.testing.assert_close(ours, gaussian - other)


def test_estimates_return_what_the_state_was_made_of():
    for process in (ddpm(), ddpm("v_prediction"), Flow()):
        level = times(process, 10)[4]
        clean, noise = torch.randn((2, 8), dtype=torch.float64)
        state = level.signal * clean + level.spread * noise
        answer = told(process, level, clean, noise)
        torch.testing.assert_close(clean_estimate(process, level, state, answer), clean)
        of_state, of_answer = estimates(process, level)[1]
        torch.testing.assert_close(of_state * state + of_answer * answer, noise)


def test_a_rollout_skips_levels_evenly():
    levels = times(Flow(), 10)
    assert between(levels, 4, 1) == [levels[4], levels[10]]
    assert between(levels, 4, 3) == [levels[4], levels[6], levels[8], levels[10]]
    assert between(levels, 9, 5) == [levels[9], levels[10]]


def test_a_flow_follows_its_shift():
    """Position 1/2 at shift 3: 1.5 / (1 + 2 x 1/2) = 0.75."""
    levels = times(Flow(shift=3.0), 2)
    assert [level.spread for level in levels] == pytest.approx([1.0, 0.75, 0.0])
    assert replace(levels[1], t=torch.tensor(0)).signal == pytest.approx(0.25)
