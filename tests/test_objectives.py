"""Identities that objectives must keep on a model, and the table that names them; formulas: test_objective_formulas."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields, replace

import pytest
import torch
from fakes import FakeDenoiser, random_batch, random_pairs
from torch import Tensor

from dspo_train import objectives
from dspo_train.config import LossSpec, TrainConfig
from dspo_train.data.batch import Batch
from dspo_train.exceptions import ConfigError
from dspo_train.objectives import table
from dspo_train.objectives.errors import PairErrors
from dspo_train.training.forward import pair_errors

BUILT_ON_THE_LEAD = {"dspo_ref"}  # times q_w, which is zero with its gradient where the policy is the reference
POOLED = {"dspo_sdxl", "diffusion_kto"}  # the loss of a pair depends on the others in its forward pass


def trained(seed: int = 3, size: float = 0.01) -> FakeDenoiser:
    """A policy that has left its reference."""
    denoiser = FakeDenoiser()
    denoiser.delta.data.normal_(0, size, generator=torch.Generator().manual_seed(seed))
    return denoiser


def gradient(loss: objectives.Loss, batch: Batch, denoiser: FakeDenoiser | None = None) -> Tensor:
    """Of the summed loss by the adapter; without a denoiser, at the start, where the policy is the reference."""
    denoiser = denoiser or FakeDenoiser()
    (grad,) = torch.autograd.grad(loss(pair_errors(denoiser, batch)).sum(), denoiser.delta)
    return grad


def test_at_the_start_every_margin_is_zero():
    errors = pair_errors(FakeDenoiser(), random_batch())
    for nothing in (errors.margin, errors.regret, errors.drift_w, errors.drift_l):
        assert torch.equal(nothing, torch.zeros(4))


@pytest.mark.parametrize("sharpness", [1.0, 1000.0, 5000.0])
def test_at_the_start_diffusion_dpo_is_log_two(sharpness):
    """margin = 0, so -log sigmoid(0) = log 2 for any sharpness."""
    loss = objectives.bind("diffusion_dpo", {"sharpness": sharpness})
    torch.testing.assert_close(loss(pair_errors(FakeDenoiser(), random_batch())), torch.full((4,), math.log(2.0)))


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("ipo", {"tau": 20.0}, 1.0),  # (0 - 1)^2
        ("diffusion_kto", {}, 1.0),  # 1/2 for the liked and 1/2 for the disliked
        ("dspo_sdxl", {}, 0.25),  # sigmoid(0)^2
        ("dspo_ref", {}, 0.0),  # (1/2)^2 times no drift
    ],
)
def test_at_the_start_the_other_values_are_known_too(name, arguments, value):
    losses = objectives.bind(name, arguments)(pair_errors(FakeDenoiser(), random_batch()))
    torch.testing.assert_close(losses, torch.full((4,), value))


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_which_objectives_can_leave_the_reference(name):
    """All but dspo_ref: its gradient is exactly zero there, and a run that begins at the reference stays."""
    grad = gradient(objectives.bind(name, {}), random_batch())
    assert torch.isfinite(grad).all()
    assert bool((grad == 0).all()) == (name in BUILT_ON_THE_LEAD)


@pytest.mark.parametrize("name", ["dspo_e", "dspo_implicit"])
def test_at_the_start_a_pull_is_sft_at_a_lower_rate(name):
    """d = 0 and regret = 0: the gradient of (e - c d)^2 is 2 e (1 - c), c = pull."""
    batch = random_batch()
    sft = gradient(objectives.bind("sft", {}), batch)
    torch.testing.assert_close(gradient(objectives.bind(name, {"pull": 0.75}), batch), 0.25 * sft)


@pytest.mark.parametrize(("name", "off"), [("dspo_paper", "beta"), ("dspo_e", "pull"), ("dspo_implicit", "pull")])
def test_without_a_pull_dspo_is_sft(name, off):
    denoiser, batch, plain = trained(), random_batch(), objectives.bind("sft", {})
    loss = objectives.bind(name, {off: 0.0})
    errors = pair_errors(denoiser, batch)
    torch.testing.assert_close(loss(errors), plain(errors), rtol=0, atol=0)
    torch.testing.assert_close(gradient(loss, batch, denoiser), gradient(plain, batch, denoiser))


def test_swapping_winner_and_loser_flips_the_margin():
    pairs = random_pairs()
    e = pair_errors(trained(), pairs.batch())
    other = pair_errors(trained(), replace(pairs, winner=pairs.loser, loser=pairs.winner).batch())
    for field in fields(PairErrors):
        torch.testing.assert_close(getattr(other, field.name), getattr(e.swapped(), field.name))
    assert torch.equal(e.swapped().margin, -e.margin)
    assert torch.equal(e.regret, -e.margin)
    assert e.margin.abs().min() > 1e-5


@pytest.mark.parametrize("name", ["dspo", "diffusion_dpo", "ipo", "diffusion_kto", "dspo_sdxl"])
def test_the_same_picture_on_both_sides_teaches_nothing_at_the_start(name):
    """Winner's and loser's gradients cancel while the policy is still the reference, to float32's rounding."""
    pairs, loss = random_pairs(), objectives.bind(name, {})
    same = replace(pairs, loser=pairs.winner).batch()
    assert gradient(loss, same).norm() < 1e-5 * gradient(loss, pairs.batch()).norm()


@pytest.mark.parametrize("name", ["diffusion_dpo", "ipo", "dspo_sdxl"])
def test_the_same_picture_on_both_sides_never_teaches_an_objective_of_the_margin(name):
    """Their loss is a function of the margin alone (dspo_sdxl below its switch), and that is 0 whatever the policy."""
    pairs, loss = random_pairs(), objectives.bind(name, {"beta": 1000.0} if name == "dspo_sdxl" else {})
    same = replace(pairs, loser=pairs.winner).batch()
    assert gradient(loss, same, trained()).norm() < 1e-5 * gradient(loss, pairs.batch(), trained()).norm()


@pytest.mark.parametrize(
    ("name", "moved"), [("dspo", True), ("diffusion_dpo", True), ("ipo", True), ("diffusion_kto", True), ("sft", False)]
)
def test_does_the_rejected_picture_change_the_update(name, moved):
    """At default arguments, with another loser in the same pair."""
    pairs = random_pairs(seed=0)
    first, second = (
        gradient(objectives.bind(name, {}), replace(pairs, loser=random_pairs(seed=seed).loser).batch())
        for seed in (1, 2)
    )
    difference = (first - second).norm() / first.norm()
    assert (difference > 0.1) == moved
    assert moved or difference == 0


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_has_loser_tells_whether_the_losers_error_has_a_gradient(name):
    errors = pair_errors(trained(), random_batch())
    parts = (errors.policy_l, errors.drift_l)
    grads = torch.autograd.grad(objectives.bind(name, {})(errors).sum(), parts, allow_unused=True)
    assert objectives.find_objective(name).has_loser == any(
        grad is not None and bool((grad != 0).any()) for grad in grads
    )


@pytest.mark.parametrize("name", ["sft", "mapo"])
def test_objectives_without_a_reference_do_not_look_at_one(name):
    errors, unknown = pair_errors(trained(), random_batch()), torch.full((4,), math.nan)
    blind = replace(errors, reference_w=unknown, reference_l=unknown, drift_w=unknown, drift_l=unknown, cross=unknown)
    loss = objectives.bind(name, {})
    assert torch.equal(loss(blind), loss(errors))


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_batch_loss_is_the_mean_of_its_halves_unless_pooled(name):
    """The winner gained 0.002, 0.001, -0.001, 0 and the loser 0, 0, -0.0005, -0.001: diffusion_kto's Q is 0.0000625 for
    the four, 0.00075 for the first two and 0 for the last. The mean drift of winners is 0.1325, 0.25 and 0.015:
    dspo_sdxl's switch at 0.1 is thrown for the four but not for the last two.
    """
    errors = PairErrors(
        policy_w=torch.tensor([0.300, 0.301, 0.299, 0.300]),
        policy_l=torch.tensor([0.310, 0.309, 0.3110, 0.310]),
        reference_w=torch.tensor([0.302, 0.302, 0.298, 0.300]),
        reference_l=torch.tensor([0.310, 0.309, 0.3105, 0.309]),
        drift_w=torch.tensor([0.3, 0.2, 0.01, 0.02]),
        drift_l=torch.tensor([0.3, 0.2, 0.01, 0.02]),
        cross=torch.zeros(4),
    )
    loss = objectives.bind(name, {})
    whole = loss(errors).mean()
    first, second = (loss(errors.map(lambda v, at=at: v[at])).mean() for at in (slice(0, 2), slice(2, 4)))
    together = torch.isclose(whole, (first + second) / 2, rtol=1e-5, atol=1e-6)
    assert bool(together) != (name in POOLED)


@pytest.mark.parametrize("name", [name for name in objectives.OBJECTIVES if name not in POOLED])
def test_the_gradient_does_not_depend_on_how_pairs_are_packed(name):
    pairs, loss = random_pairs(pairs=4), objectives.bind(name, {})
    apart = sum(gradient(loss, pairs.rows(i, i + 2).batch(), trained()) for i in (0, 2))
    whole = gradient(loss, pairs.batch(), trained())
    torch.testing.assert_close(whole, apart, rtol=1e-4, atol=1e-5 * whole.abs().max().item())


def test_v_prediction_and_epsilon_give_the_same_dspo_update_up_to_the_time_weight():
    """The same model seen as epsilon- and as v-predictor: eps = signal v + spread x_t, so every squared error in
    epsilon is signal^2 times that in v, and so is the dspo gradient with respect to the model's function.
    """
    pair = random_pairs(pairs=1)
    signal_squared = FakeDenoiser().process.alphas_cumprod[pair.t].item()
    signal, spread = math.sqrt(signal_squared), math.sqrt(1 - signal_squared)
    v = FakeDenoiser("v_prediction")
    v.delta.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(4))

    class AsEpsilon(FakeDenoiser):
        def predict(self, noisy, t, conditioning):
            return signal * v.predict(noisy, t, conditioning) + spread * noisy

        def reference(self):
            return v.reference()

    eps = AsEpsilon("epsilon")
    in_v, in_eps = pair_errors(v, pair.batch("v_prediction")), pair_errors(eps, pair.batch("epsilon"))
    for field in fields(PairErrors):
        one, other = getattr(in_eps, field.name), getattr(in_v, field.name)
        torch.testing.assert_close(one, signal_squared * other, rtol=1e-4, atol=1e-7)
    loss = objectives.bind("dspo", {})
    (grad_v,) = torch.autograd.grad(loss(in_v).sum(), v.delta)
    (grad_eps,) = torch.autograd.grad(loss(in_eps).sum(), v.delta)
    torch.testing.assert_close(grad_eps, signal_squared * grad_v, rtol=1e-3, atol=1e-5)


def test_defaults_are_recorded():
    assert objectives.arguments_of("dspo", {}) == {"strength": 100.0, "loser_drift": 0.25, "sharpness": 1.4}
    assert objectives.arguments_of("diffusion_kto", {"sharpness": 5}) == {"sharpness": 5, "liked": 0.5}


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_the_function_takes_what_is_declared_and_each_default_lies_in_its_range(name):
    info = objectives.find_objective(name)
    signature = inspect.signature(info.function).parameters.values()
    assert {p.name for p in signature if p.kind is p.KEYWORD_ONLY} == set(info.arguments)
    objectives.bind(name, objectives.arguments_of(name, {}))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("dsop", {}, "unknown objective 'dsop'; known: dspo"),
        ("dspo", {"beta": 1.0}, "'dspo' has no argument 'beta'; its arguments: strength, loser_drift, sharpness"),
        ("sft", {"beta": 1.0}, "its arguments: none"),
        ("dspo", {"strength": -1.0}, "`objective_args.strength` must be between"),
        ("dspo", {"strength": math.nan}, "`objective_args.strength` must be between"),
        ("dspo_e", {"pull": 1.0}, "must be between 0 and 0.999"),
    ],
)
def test_wrong_objectives_are_refused(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        objectives.bind(name, arguments)


@pytest.mark.parametrize(
    ("objective", "arguments", "loss", "unpaired", "message"),
    [
        ("sft", {}, {"safeguard": 0.5}, False, "`loss.safeguard` needs an objective that trains on the loser"),
        ("dspo_e", {}, {"margin_cap": 0.1}, False, "'dspo_e' does not; leave it out, or use one of dspo, dspo_paper"),
        ("diffusion_dpo", {"sharpness": 9.0}, {"sharpness": 9.0}, False, "given twice"),
        ("dspo", {}, {}, True, "use one of diffusion_kto, sft"),
        ("diffusion_kto", {}, {"label_smoothing": 0.1}, True, "`loss.label_smoothing` compares the two images"),
    ],
)
def test_combinations_that_mean_nothing_are_refused(objective, arguments, loss, unpaired, message):
    config = TrainConfig(objective=objective, objective_args=arguments, loss=LossSpec(**loss))
    with pytest.raises(ConfigError, match=message):
        objectives.check_objective(config, unpaired=unpaired)


@pytest.mark.parametrize(
    ("objective", "loss", "unpaired"),
    [
        ("dspo_implicit", {"sharpness": 50.0}, False),
        ("sft", {"sft_mix": 0.25}, True),
        ("diffusion_kto", {"sharpness": 300.0}, True),
        ("dspo", {"safeguard": 0.5, "margin_cap": 0.1, "label_smoothing": 0.1, "sharpness": "auto"}, False),
    ],
)
def test_combinations_that_go_together_are_let_through(objective, loss, unpaired):
    objectives.check_objective(TrainConfig(objective=objective, loss=LossSpec(**loss)), unpaired=unpaired)


def test_a_run_is_checked_before_its_first_step_and_not_at_each(monkeypatch):
    checked = []
    monkeypatch.setattr(table, "bind", lambda *given: checked.append(given))
    loss_at = objectives.loss_of(TrainConfig(objective="diffusion_dpo"))
    errors = pair_errors(trained(), random_batch())
    assert not torch.equal(loss_at(1.0)(errors), loss_at(2.0)(errors))
    assert len(checked) == 1
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"`objective_args\.tau` must be"):
        objectives.loss_of(TrainConfig(objective="ipo", objective_args={"tau": 0.0}))


def test_a_given_sharpness_is_the_objectives_own_where_it_has_one_and_else_a_weight():
    errors = pair_errors(trained(), random_batch())
    given = LossSpec(sharpness=50.0)
    for name in ("dspo", "diffusion_dpo"):
        own = objectives.loss_of(TrainConfig(objective=name, loss=given))(50.0)
        assert torch.equal(own(errors), objectives.bind(name, {"sharpness": 50.0})(errors))
    weighed = objectives.loss_of(TrainConfig(objective="ipo", loss=given))(50.0)
    weight = 2 * torch.sigmoid(50 * errors.regret)
    torch.testing.assert_close(weighed(errors), weight * objectives.bind("ipo", {})(errors))
