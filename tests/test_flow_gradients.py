"""A flow's losses and gradients, from latents to parameters, against sums over the elements written out by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from dspo_train import objectives
from dspo_train.config import TrainConfig
from dspo_train.data.batch import Batch
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.process import Flow
from dspo_train.training.forward import pair_errors

TIMES = [0.1, 0.5, 0.9]
WINNER, LOSER, NOISE = [0.7, -1.2, 0.4], [-0.5, 0.9, 1.6], [1.1, 0.3, -0.8]
POLICY, REFERENCE = (0.6, -0.4), (0.3, 0.2)
SHARPNESS, STRENGTH, LOSER_DRIFT = 0.8, 2.0, 0.25
ARGUMENTS = {"dspo": {"strength": STRENGTH, "loser_drift": LOSER_DRIFT}, "diffusion_dpo": {}, "sft": {}}


class Line:
    """predict(x, t) = a x + b t, (a, b) trainable; the reference has an (a, b) of its own, which is frozen."""

    def __init__(self, policy: tuple[float, float] = POLICY, reference: tuple[float, float] = REFERENCE) -> None:
        self.process = Flow(shift=3.0)
        self.policy = torch.tensor(policy, dtype=torch.float64, requires_grad=True)
        self.frozen = torch.tensor(reference, dtype=torch.float64)
        self.active = self.policy

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        a, b = self.active
        return a * noisy + b * t.view(-1, 1, 1, 1)

    @contextmanager
    def reference(self) -> Iterator[None]:
        self.active = self.frozen
        try:
            yield
        finally:
            self.active = self.policy

    origin = base = reference
    reference_is_base = True


def batch(winner: list[float], loser: list[float], noise: list[float], t: float) -> Batch:
    """One pair with one noise and one time, in float64."""
    clean, shared = (
        torch.tensor(rows, dtype=torch.float64).view(2, 1, 1, -1) for rows in ([winner, loser], [noise, noise])
    )
    times = torch.full((2,), t, dtype=torch.float64)
    return Batch.of(Flow(shift=3.0), clean, shared, times, Conditioning({"context": torch.zeros(2, 1, 1)}))


def trained(
    name: str, arguments: dict[str, float], sharpness: float | None, denoiser: Line, seen: Batch
) -> tuple[float, list[float]]:
    """The loss, and its derivatives by a and b, as training computes them."""
    errors = pair_errors(denoiser, seen, loser_gradient=objectives.find_objective(name).has_loser)
    loss = objectives.loss_of(TrainConfig(objective=name, objective_args=arguments))(sharpness)(errors)
    assert loss.shape == (1,)
    (gradient,) = torch.autograd.grad(loss.sum(), denoiser.policy)
    return loss.item(), gradient.tolist()


def side(clean: list[float], t: float) -> tuple[dict[str, float], dict[str, list[float]]]:
    """E, R and q of one image, means over its elements, and the derivatives of E and q by a and b.

    v = a x + b t has the derivatives x and t: dE = mean 2 (v - target) (x, t), dq = mean 2 (v - reference) (x, t).
    """
    (a, b), (frozen_a, frozen_b) = POLICY, REFERENCE
    value, slope = {"E": 0.0, "R": 0.0, "q": 0.0}, {"E": [0.0, 0.0], "q": [0.0, 0.0]}
    for x0, n in zip(clean, NOISE, strict=True):
        x, target = (1 - t) * x0 + t * n, n - x0
        v, reference = a * x + b * t, frozen_a * x + frozen_b * t
        value["E"] += (v - target) ** 2 / len(clean)
        value["R"] += (reference - target) ** 2 / len(clean)
        value["q"] += (v - reference) ** 2 / len(clean)
        for k, by in enumerate((x, t)):
            slope["E"][k] += 2 * (v - target) * by / len(clean)
            slope["q"][k] += 2 * (v - reference) * by / len(clean)
    return value, slope


def by_hand(name: str, t: float) -> tuple[float, list[float]]:
    """The loss, and its derivatives by a and b; w, dspo's weight, counts as a constant."""
    (won, d_won), (lost, d_lost) = side(WINNER, t), side(LOSER, t)
    margin = (won["R"] - won["E"]) - (lost["R"] - lost["E"])
    share = 1 / (1 + math.exp(SHARPNESS * margin))  # sigmoid(-sharpness margin)
    if name == "sft":
        return won["E"], d_won["E"]
    if name == "diffusion_dpo":  # d margin = dE_l - dE_w
        slopes = [-SHARPNESS * share * (d_lost["E"][k] - d_won["E"][k]) for k in range(2)]
        return math.log(1 + math.exp(-SHARPNESS * margin)), slopes
    w = 2 * share
    drift = (won["q"] + LOSER_DRIFT * lost["q"]) / STRENGTH
    bracket = (won["E"] - won["q"] - won["R"]) - (lost["E"] - lost["q"] - lost["R"])
    slopes = [
        (d_won["q"][k] + LOSER_DRIFT * d_lost["q"][k]) / STRENGTH
        + w * ((d_won["E"][k] - d_won["q"][k]) - (d_lost["E"][k] - d_lost["q"][k]))
        for k in range(2)
    ]
    return drift + w * bracket, slopes


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_loss_and_gradient_equal_the_sums_over_the_elements(name, t):
    """To 2e-6: latents and parameters are float64, but the errors of a pair are taken in float32, whose rounding is
    6e-8 of a number, and numbers of order 1 are subtracted from each other.
    """
    sharpness = None if name == "sft" else SHARPNESS
    value, gradient = trained(name, ARGUMENTS[name], sharpness, Line(), batch(WINNER, LOSER, NOISE, t))
    expected, slopes = by_hand(name, t)
    assert value == pytest.approx(expected, rel=0, abs=2e-6)
    assert gradient == pytest.approx(slopes, rel=0, abs=2e-6)
    assert min(map(abs, [expected, *slopes])) > 0.01  # none is lost in the bound


def test_a_pair_of_one_element_worked_by_hand():
    """x_0 = 1 and -1, noise 3, t = 1/2: x = 2 and 1, targets 2 and 4. Policy a = 1.5, reference a = 1, both b = 0.

        winner: v = 3,   reference 2: E = 1,    R = 0, q = 1;    by a: dE = 2 * 1 * 2 = 4,     dq = 2 * 1 * 2 = 4
        loser:  v = 1.5, reference 1: E = 6.25, R = 9, q = 0.25; by a: dE = 2 * -2.5 * 1 = -5, dq = 2 * 0.5 * 1 = 1

    Margin (0 - 1) - (9 - 6.25) = -3.75. With sharpness ln(3) / 3.75, sigmoid(-sharpness margin) = sigmoid(ln 3) = 3/4.

    dspo, strength 2, loser_drift 0.5, w = 2 * 3/4 = 1.5: (1 + 0.5 * 0.25) / 2 + 1.5 ((1 - 1 - 0) - (6.25 - 0.25 - 9))
        = 0.5625 + 1.5 * 3 = 5.0625; by a: (4 + 0.5 * 1) / 2 + 1.5 ((4 - 4) - (-5 - 1)) = 2.25 + 1.5 * 6 = 11.25
    diffusion_dpo: -log sigmoid(-ln 3) = log 4; by a: ln(3) / 3.75 * 3/4 * (4 - -5) = 1.8 ln 3
    sft: 1; by a: 4
    """
    sharpness, seen = math.log(3) / 3.75, batch([1.0], [-1.0], [3.0], 0.5)

    def by_a(name: str, arguments: dict[str, float], sharpness: float | None) -> list[float]:
        value, gradient = trained(name, arguments, sharpness, Line((1.5, 0.0), (1.0, 0.0)), seen)
        return [value, gradient[0]]

    assert by_a("dspo", {"strength": 2.0, "loser_drift": 0.5}, sharpness) == pytest.approx([5.0625, 11.25], rel=1e-6)
    assert by_a("diffusion_dpo", {}, sharpness) == pytest.approx([math.log(4), 1.8 * math.log(3)], rel=1e-6)
    assert by_a("sft", {}, None) == [1.0, 4.0]


def test_the_target_is_the_same_at_every_time_and_x_t_is_not():
    first, *others = (batch(WINNER, LOSER, NOISE, t) for t in TIMES)
    for seen in others:
        assert torch.equal(seen.target, first.target)
        assert (seen.noisy - first.noisy).abs().min() > 0.1


@pytest.mark.parametrize("t", TIMES)
def test_the_error_of_the_velocity_is_that_of_x_0_divided_by_t(t):
    """x_t = x_0 + t (noise - x_0), so a velocity v stands for the image x_t - t v: if v is off by d, that is off by
    -t d. Squared, it is the t^2 with which `weight` turns min(snr, gamma), a weight of the error in x_0, into one of
    the error in v; snr = ((1 - t) / t)^2 is 81, 1 and 1/81.
    """
    seen, clean = batch(WINNER, LOSER, NOISE, t), torch.tensor([WINNER, LOSER], dtype=torch.float64).view(2, 1, 1, -1)
    velocity = Line().predict(seen.noisy, seen.t, seen.conditioning).detach()
    wrong_v, wrong_x0 = velocity - seen.target, (seen.noisy - t * velocity) - clean
    torch.testing.assert_close(wrong_v, -wrong_x0 / t, rtol=0, atol=1e-12)
    weighed = Flow(shift=3.0).weight(seen.t, 5.0).double() * wrong_v.square().flatten(1).mean(1)
    snr = {0.1: 5.0, 0.5: 1.0, 0.9: 1 / 81}[t]  # the first is cut to gamma
    torch.testing.assert_close(weighed, snr * wrong_x0.square().flatten(1).mean(1), rtol=1e-6, atol=0)
