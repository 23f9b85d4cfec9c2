from __future__ import annotations

import sys

import pytest
import torch
from torch.nn import Parameter

from dspo_train.config import OptimSpec
from dspo_train.exceptions import ConfigError, RunError
from dspo_train.training import optim


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
    ],
)
def test_learning_rates_worked_by_hand(schedule, rates):
    """Peak 1, two steps of warm-up (1/2, 2/2), then progress 0, 1/4, 2/4, 3/4 of the decay."""
    spec = OptimSpec(lr=1.0, warmup=2, schedule=schedule)
    assert [optim.learning_rate(spec, step, 6) for step in range(6)] == pytest.approx(rates, abs=1e-6)


def test_state_survives_a_round_trip_bit_for_bit():
    def run(steps: int, optimiser: torch.optim.Optimizer, weights: list[Parameter]) -> None:
        for step in range(steps):
            for i, weight in enumerate(weights):
                weight.grad = torch.full_like(weight, 0.1 * (step + 1) * (i + 1))
            optimiser.step()

    def start() -> list[Parameter]:
        return [Parameter(torch.ones(3)), Parameter(torch.ones(2, 2))]

    whole = start()
    optimiser = optim.build(whole, OptimSpec())
    run(2, optimiser, whole)
    state = {k: v.clone() for k, v in optim.state_tensors(optimiser).items()}
    resumed = [Parameter(weight.detach().clone()) for weight in whole]
    again = optim.build(resumed, OptimSpec())
    optim.load_state(again, state)
    run(2, optimiser, whole)
    run(2, again, resumed)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_another_runs_state_is_refused():
    one = optim.build([Parameter(torch.ones(1))], OptimSpec())
    with pytest.raises(RunError, match="state is for 2 tensors, but this run trains 1"):
        optim.load_state(one, {"0.step": torch.tensor(1.0), "1.step": torch.tensor(1.0)})


def test_a_state_from_before_the_first_step_is_empty():
    """fp16's scaler skips the first steps, so a run can be stopped before its optimiser has any state."""
    fresh = optim.build([Parameter(torch.ones(1))], OptimSpec())
    optim.load_state(fresh, optim.state_tensors(fresh))
    assert optim.state_tensors(fresh) == {}


def test_missing_bitsandbytes_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="needs the bitsandbytes package, which is not installed"):
        optim.build([Parameter(torch.ones(1))], OptimSpec(name="adamw8bit"))
