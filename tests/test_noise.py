from __future__ import annotations

import pytest
import torch
from fakes import SD15_SCHEDULE

from dspo_train.exceptions import ModelError
from dspo_train.models.process import from_scheduler_config


def test_signal_and_spread_worked_by_hand():
    """Two steps of linear betas 0.1 and 0.2: cumulative products 0.9 and 0.72."""
    process = from_scheduler_config({"beta_start": 0.1, "beta_end": 0.2, "num_train_timesteps": 2})
    torch.testing.assert_close(process.alphas_cumprod, torch.tensor([0.9, 0.72], dtype=torch.float64))
    x, n, t = torch.ones(2, 1, 1, 1), torch.full((2, 1, 1, 1), 2.0), torch.tensor([0, 1])
    noisy = process.add(x, n, t).flatten()
    torch.testing.assert_close(noisy, torch.tensor([0.9**0.5 + 2 * 0.1**0.5, 0.72**0.5 + 2 * 0.28**0.5]))


def test_v_target_worked_by_hand():
    """signal^2 = 0.36: v = 0.6 * noise - 0.8 * x = 0.6 * 2 - 0.8 * 1 = 0.4."""
    process = from_scheduler_config(
        {"beta_start": 0.64, "beta_end": 0.64, "num_train_timesteps": 1, "prediction_type": "v_prediction"}
    )
    v = process.target(torch.ones(1, 1), torch.full((1, 1), 2.0), torch.tensor([0]))
    torch.testing.assert_close(v, torch.tensor([[0.4]]))


@pytest.mark.parametrize(("prediction", "expected"), [("epsilon", [5 / 9, 1.0]), ("v_prediction", [0.5, 0.72])])
def test_min_snr_worked_by_hand(prediction, expected):
    """Cumulative products 0.9 and 0.72: snr 0.9 / 0.1 = 9 and 0.72 / 0.28. With gamma 5 the first is cut.

    Epsilon: 5 / 9 and 1. v: 5 / (9 + 1) = 0.5 and snr / (snr + 1) = 0.72.
    """
    process = from_scheduler_config(
        {"beta_start": 0.1, "beta_end": 0.2, "num_train_timesteps": 2, "prediction_type": prediction}
    )
    torch.testing.assert_close(process.min_snr(torch.tensor([0, 1]), 5.0), torch.tensor(expected))


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("schedule", ["scaled_linear", "linear"])
def test_the_schedule_is_the_one_diffusers_samples_with(schedule, rescale):
    from diffusers import DDIMScheduler

    config = {**SD15_SCHEDULE, "beta_schedule": schedule, "rescale_betas_zero_snr": rescale}
    theirs = DDIMScheduler(**config).alphas_cumprod
    torch.testing.assert_close(from_scheduler_config(config).alphas_cumprod.float(), theirs, rtol=1e-4, atol=1e-7)


def test_zero_terminal_snr_ends_in_pure_noise():
    process = from_scheduler_config({**SD15_SCHEDULE, "rescale_betas_zero_snr": True})
    assert process.alphas_cumprod[-1] == 0
    noise = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(process.add(torch.ones(1, 4, 2, 2), noise, torch.tensor([999])), noise)


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
