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


def named(weights: list[Parameter]) -> dict[str, Parameter]:
    return {f"layer.{number}": weight for number, weight in enumerate(weights)}


def one_tensor() -> dict[str, Parameter]:
    return named([Parameter(torch.ones(1))])


def test_the_first_step_of_down_matrices_worked_by_hand():
    """Adam's first step is the rate, with the gradient's sign. 32 and 128 inputs are 64 on average: 16 / 64 of it."""
    shapes = {"a.down": (2, 32), "a.up": (8, 2), "b.down": (2, 8, 4, 4), "b.up": (8, 2, 1, 1)}
    parameters = {name: Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    optimiser = optim.build(parameters, OptimSpec(weight_decay=0.0, width=16))
    for group in optimiser.param_groups:
        group["lr"] = 0.1 * group["share"]
    for parameter in parameters.values():
        parameter.grad = torch.full_like(parameter, -3.0)
    optimiser.step()
    assert {name: round(p.max().item(), 6) for name, p in parameters.items()} == {
        "a.down": 0.025, "a.up": 0.1, "b.down": 0.025, "b.up": 0.1,
    }  # fmt: skip


def test_a_layer_of_four_times_the_inputs_moves_as_far():
    """The wide layer has every input four times, so what it can tell is the same."""

    def moved(times: int, width: int) -> float:
        generator = torch.Generator().manual_seed(0)
        x = (1 + 0.3 * torch.randn(64, 16, generator=generator)).repeat_interleave(times, 1)
        down = Parameter((torch.rand(8, 16 * times, generator=generator) * 2 - 1) / (16 * times) ** 0.5)
        parameters = {"x.down": down, "x.up": Parameter(torch.zeros(32, 8))}
        optimiser = optim.build(parameters, OptimSpec(lr=0.01, width=width))
        for group in optimiser.param_groups:
            group["lr"] *= group["share"]
        for _ in range(20):
            optimiser.zero_grad()
            (x @ down.T @ parameters["x.up"].T - 10).square().mean().backward()
            optimiser.step()
        return (x @ down.T @ parameters["x.up"].T).mean().item()

    narrow = moved(1, width=16)
    assert moved(1, width=0) == narrow
    assert moved(4, width=16) == pytest.approx(narrow, rel=0.1)
    assert moved(4, width=0) > 2 * narrow


def test_state_survives_a_round_trip_bit_for_bit():
    def run(steps: int, optimiser: torch.optim.Optimizer, weights: list[Parameter]) -> None:
        for step in range(steps):
            for i, weight in enumerate(weights):
                weight.grad = torch.full_like(weight, 0.1 * (step + 1) * (i + 1))
            optimiser.step()

    def start() -> list[Parameter]:
        return [Parameter(torch.ones(3)), Parameter(torch.ones(2, 2))]

    whole = start()
    optimiser = optim.build(named(whole), OptimSpec())
    run(2, optimiser, whole)
    state = {k: v.clone() for k, v in optim.state_tensors(optimiser).items()}
    resumed = [Parameter(weight.detach().clone()) for weight in whole]
    again = optim.build(named(resumed), OptimSpec())
    optim.load_state(again, state)
    run(2, optimiser, whole)
    run(2, again, resumed)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_another_runs_state_is_refused():
    one = optim.build(one_tensor(), OptimSpec())
    with pytest.raises(RunError, match="state is for 2 tensors, but this run trains 1"):
        optim.load_state(one, {"0.step": torch.tensor(1.0), "1.step": torch.tensor(1.0)})


def test_a_state_from_before_the_first_step_is_empty():
    """fp16's scaler skips the first steps, so a run can be stopped before its optimiser has any state."""
    fresh = optim.build(one_tensor(), OptimSpec())
    optim.load_state(fresh, optim.state_tensors(fresh))
    assert optim.state_tensors(fresh) == {}


def test_missing_bitsandbytes_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="needs the bitsandbytes package, which is not installed"):
        optim.build(one_tensor(), OptimSpec(name="adamw8bit"))
