"""Each objective against its element-wise published formula, and the identities that any of them must keep."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from fakes import FakeDenoiser, random_batch
from torch import Tensor

from dspo_train import objectives
from dspo_train.conditioning import Conditioning
from dspo_train.errors import PairBatch, PairErrors, pair_errors
from dspo_train.exceptions import ConfigError

SHAPE = (3, 4, 5, 5)


def mean(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(1)


class Elements:
    """Predictions of policy and reference and the target, element by element, in float64."""

    def __init__(self, seed: int = 0, drift: float = 0.1) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw() -> Tensor:
            return torch.randn(SHAPE, generator=generator, dtype=torch.float64)

        self.target, self.reference_w, self.reference_l = draw(), draw(), draw()
        self.policy_w = (self.reference_w + drift * draw()).requires_grad_()
        self.policy_l = (self.reference_l + drift * draw()).requires_grad_()

    def errors(self) -> PairErrors:
        return PairErrors(
            mean(self.policy_w - self.target),
            mean(self.policy_l - self.target),
            mean(self.reference_w - self.target),
            mean(self.reference_l - self.target),
            mean(self.policy_w - self.reference_w),
            mean(self.policy_l - self.reference_l),
        )

    def gradients(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        grads = torch.autograd.grad(loss.sum(), (self.policy_w, self.policy_l), allow_unused=True)
        zero = torch.zeros(SHAPE, dtype=torch.float64)
        return tuple(zero if g is None else g for g in grads)  # type: ignore[return-value]


def margin_of(x: Elements) -> Tensor:
    """(R_w - E_w) - (R_l - E_l), written out (Wallace et al. 2024, eq. 14)."""
    won = mean(x.reference_w - x.target) - mean(x.policy_w - x.target)
    lost = mean(x.reference_l - x.target) - mean(x.policy_l - x.target)
    return won - lost


def published_dspo_paper(x: Elements, beta: float) -> Tensor:
    """Zhu et al. 2025, eq. 13 as released: || e_w - beta (1 - sigmoid(beta/2 m)) d_w ||^2, mean over elements."""
    pull = beta * (1 - torch.sigmoid(0.5 * beta * margin_of(x)))
    return mean((x.policy_w - x.target) - pull.view(-1, 1, 1, 1) * (x.policy_w - x.reference_w))


def regression_dspo(x: Elements, strength: float) -> Tensor:
    """Winner to reference + g (target - reference), loser to reference - g (target - reference)."""
    towards = x.policy_w - (x.reference_w + strength * (x.target - x.reference_w))
    away = x.policy_l - (x.reference_l - strength * (x.target - x.reference_l))
    return mean(towards) + mean(away)


FORMULAS: list[tuple[str, dict[str, float], Callable[[Elements], Tensor]]] = [
    ("sft", {}, lambda x: mean(x.policy_w - x.target)),
    *[("dspo_paper", {"beta": b}, lambda x, b=b: published_dspo_paper(x, b)) for b in (0.001, 0.01, 0.05, 1.0, 100.0)],
    *[("dspo", {"strength": g}, lambda x, g=g: regression_dspo(x, g)) for g in (0.5, 3.0, 10.0, 30.0)],
    *[("diffusion_dpo", {"sharpness": k}, lambda x, k=k: -torch.log(torch.sigmoid(k * margin_of(x)))) for k in (1, 50)],
    (
        "diffusion_dpo",
        {"sharpness": 20.0, "label_smoothing": 0.1},
        lambda x: -0.9 * F.logsigmoid(20 * margin_of(x)) - 0.1 * F.logsigmoid(-20 * margin_of(x)),
    ),
]


@pytest.mark.parametrize(("name", "arguments", "formula"), FORMULAS)
def test_value_and_gradient_equal_the_elementwise_formula(name, arguments, formula):
    x = Elements()
    ours, published = objectives.bind(name, arguments)(x.errors()), formula(x)
    torch.testing.assert_close(ours, published, rtol=1e-11, atol=1e-11)
    for mine, theirs in zip(x.gradients(ours), x.gradients(published), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_dspo_paper_worked_by_hand():
    """One element: target 0, reference 1, policy 2 on the winner; loser untouched at error 1.

    E_w = 4, R_w = 1, q_w = 1, regret = (4 - 1) - (1 - 1) = 3. With beta = 2: c = 2 sigmoid(3) = 1.905148;
    e - c d = 2 - 1.905148 * 1 = 0.094852, squared 0.008997.
    """
    one = torch.ones(1, dtype=torch.float64)
    loss = objectives.dspo_paper(PairErrors(4 * one, one, one, one, one, 0 * one), beta=2.0)
    pull = 2 / (1 + math.exp(-3))
    torch.testing.assert_close(loss, one * (2 - pull) ** 2)
    assert loss.item() == pytest.approx(0.008997, abs=1e-6)


def test_dspo_worked_by_hand():
    """One element, g = 3: winner target 1, reference 0, policy 2: goal 0 + 3 (1 - 0) = 3, loss (2 - 3)^2 = 1.

    Loser target 1, reference 0, policy -1: goal 0 - 3 (1 - 0) = -3, loss (-1 + 3)^2 = 4. Together 5.
    E_w = 1, R_w = 1, q_w = 4; E_l = 4, R_l = 1, q_l = 1.
    """
    e = PairErrors(*(torch.tensor([v]) for v in (1.0, 4.0, 1.0, 1.0, 4.0, 1.0)))
    torch.testing.assert_close(objectives.dspo(e, strength=3.0), torch.tensor([5.0]))


@pytest.mark.parametrize("sharpness", [1.0, 1000.0, 5000.0])
def test_dpo_is_log_two_when_policy_equals_reference(sharpness):
    """margin = 0, so -log sigmoid(0) = log 2 for any sharpness."""
    e, zero = torch.full((3,), 0.25), torch.zeros(3)
    loss = objectives.diffusion_dpo(PairErrors(e, e, e, e, zero, zero), sharpness=sharpness)
    torch.testing.assert_close(loss, torch.full((3,), math.log(2.0)))


def test_dspo_paper_at_zero_beta_is_sft():
    errors = Elements().errors()
    torch.testing.assert_close(objectives.dspo_paper(errors, beta=0.0), objectives.sft(errors))


def test_swapping_winner_and_loser_flips_the_margin():
    e = Elements().errors()
    swapped = PairErrors(e.policy_l, e.policy_w, e.reference_l, e.reference_w, e.drift_l, e.drift_w)
    torch.testing.assert_close(swapped.margin, -e.margin)
    torch.testing.assert_close(e.regret, -e.margin)


@pytest.mark.parametrize("name", ["dspo", "diffusion_dpo"])
def test_the_same_picture_on_both_sides_teaches_nothing_at_the_start(name):
    """Winner's and loser's gradients cancel while the policy is still the reference, to float32's rounding."""

    def gradient(batch: PairBatch) -> Tensor:
        denoiser = FakeDenoiser()
        objectives.bind(name, {})(pair_errors(denoiser, batch)).sum().backward()
        assert denoiser.delta.grad is not None
        return denoiser.delta.grad

    batch = random_batch()
    same = PairBatch(batch.winner, batch.winner, batch.noise, batch.timesteps, batch.conditioning)
    assert gradient(same).norm() < 1e-5 * gradient(batch).norm()


@pytest.mark.parametrize(("name", "moved"), [("dspo", True), ("diffusion_dpo", True), ("sft", False)])
def test_does_the_rejected_picture_change_the_update(name, moved):
    """At default arguments, with another loser in the same pair."""
    grads = []
    for seed in (1, 2):
        denoiser, batch = FakeDenoiser(), random_batch(seed=0)
        loser = random_batch(seed=seed).loser
        batch = PairBatch(batch.winner, loser, batch.noise, batch.timesteps, batch.conditioning)
        info = objectives.find(name)
        errors = pair_errors(denoiser, batch, loser_gradient=info.trains_loser)
        objectives.bind(name, {})(errors).sum().backward()
        grads.append(denoiser.delta.grad)
    difference = (grads[0] - grads[1]).norm() / grads[0].norm()
    assert (difference > 0.1) == moved
    assert moved or difference == 0


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_batch_loss_is_the_mean_of_its_halves(name):
    denoiser, batch = FakeDenoiser(), random_batch(pairs=4)
    denoiser.delta.data.normal_(0, 0.01, generator=torch.Generator().manual_seed(3))
    loss = objectives.bind(name, {})

    def part(start: int, stop: int) -> Tensor:
        winner, loser, noise, timesteps, context = (
            tensor[start:stop]
            for tensor in (batch.winner, batch.loser, batch.noise, batch.timesteps, batch.conditioning.context)
        )
        half = PairBatch(winner, loser, noise, timesteps, Conditioning(context))
        return loss(pair_errors(denoiser, half)).mean()

    whole = loss(pair_errors(denoiser, batch)).mean()
    torch.testing.assert_close(whole, (part(0, 2) + part(2, 4)) / 2, rtol=1e-5, atol=1e-6)


def test_v_prediction_and_epsilon_give_the_same_dspo_update_up_to_the_time_weight():
    """The same model seen as epsilon- and as v-predictor: eps = signal v + spread x_t, so every squared error in
    epsilon is signal^2 times that in v, and so is the dspo gradient with respect to the model's function.
    """
    batch = random_batch(pairs=1)
    signal_squared = FakeDenoiser().noise.alphas_cumprod[batch.timesteps].item()
    signal, spread = math.sqrt(signal_squared), math.sqrt(1 - signal_squared)
    v = FakeDenoiser("v_prediction")
    v.delta.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(4))

    class AsEpsilon(FakeDenoiser):
        def predict(self, noisy, timesteps, conditioning):
            return signal * v.predict(noisy, timesteps, conditioning) + spread * noisy

        def reference(self):
            return v.reference()

    eps = AsEpsilon("epsilon")
    in_v, in_eps = pair_errors(v, batch), pair_errors(eps, batch)
    for name in ("policy_w", "policy_l", "reference_w", "reference_l", "drift_w", "drift_l"):
        torch.testing.assert_close(getattr(in_eps, name), signal_squared * getattr(in_v, name), rtol=1e-4, atol=1e-7)
    (grad_v,) = torch.autograd.grad(objectives.dspo(in_v).sum(), v.delta)
    (grad_eps,) = torch.autograd.grad(objectives.dspo(in_eps).sum(), v.delta)
    torch.testing.assert_close(grad_eps, signal_squared * grad_v, rtol=1e-3, atol=1e-5)


def test_label_smoothing_is_worked_by_hand():
    """sharpness * margin = 2, smoothing 0.25: 0.75 * 0.126928 + 0.25 * 2.126928 = 0.626928."""
    e = PairErrors(*(torch.tensor([v]) for v in (0.0, 0.2, 0.0, 0.0, 0.0, 0.0)))
    loss = objectives.diffusion_dpo(e, sharpness=10.0, label_smoothing=0.25)
    assert loss.item() == pytest.approx(0.626928, abs=1e-5)


def test_defaults_are_recorded():
    assert objectives.arguments_of("dspo", {}) == {"strength": 10.0}
    assert objectives.arguments_of("diffusion_dpo", {"sharpness": 5}) == {"sharpness": 5, "label_smoothing": 0.0}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("dsop", {}, "unknown objective 'dsop'; known: dspo"),
        ("dspo", {"beta": 1.0}, "'dspo' has no argument 'beta'; its arguments: strength"),
        ("sft", {"beta": 1.0}, "its arguments: none"),
        ("dspo", {"strength": -1.0}, "objective_args.strength must be between"),
        ("dspo", {"strength": math.nan}, "objective_args.strength must be between"),
        ("diffusion_dpo", {"label_smoothing": 0.5}, "must be between 0 and 0.499"),
    ],
)
def test_wrong_objectives_are_refused(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        objectives.bind(name, arguments)
