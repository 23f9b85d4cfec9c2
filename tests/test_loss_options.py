"""The options that go around any objective, against formulas over the elements of predictions and targets."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from published_objectives import (
    CASES,
    FORMULAS,
    SHAPE,
    Elements,
    aligned,
    assert_close_to,
    assert_same,
    elements,
    margin,
    mean,
    minus_log_sigmoid,
    ours,
    pairs,
    stretch,
)
from torch import Tensor

from dspo_train import objectives
from dspo_train.config import LossSpec

WITH_LOSER = [case for case in CASES if objectives.find_objective(case[0]).has_loser]


def test_without_options_an_objective_stays_as_it_is():
    x = elements("learned")
    loss = ours("diffusion_dpo", {"sharpness": 20.0})
    assert torch.equal(objectives.combine(loss, LossSpec())(x.errors()), loss(x.errors()))


@pytest.mark.parametrize(("name", "arguments"), WITH_LOSER)
def test_label_smoothing_is_the_loss_expected_under_wrong_labels(name, arguments):
    x, formula = elements("near the start"), FORMULAS[name]
    smoothed = objectives.combine(ours(name, arguments), LossSpec(label_smoothing=0.2))(x.errors())
    assert_same(x, smoothed, 0.8 * formula(x, **arguments) + 0.2 * formula(x.swapped(), **arguments))


def test_a_smoothed_diffusion_dpo_is_conservative_dpo():
    """Mitchell 2023: -(1 - s) log sigmoid(z) - s log sigmoid(-z), z = sharpness margin; least where sigmoid(z) = 1 - s.

    Worked: z = 10 * 0.2 = 2 and s = 0.25: 0.75 * 0.126928 + 0.25 * 2.126928 = 0.626928.
    """
    x = elements("near the start")
    combined = objectives.combine(ours("diffusion_dpo", {"sharpness": 50.0}), LossSpec(label_smoothing=0.1))
    z = 50 * margin(x)
    assert_same(x, combined(x.errors()), 0.9 * minus_log_sigmoid(z) + 0.1 * minus_log_sigmoid(-z))

    worked = objectives.combine(ours("diffusion_dpo", {"sharpness": 10.0}), LossSpec(label_smoothing=0.25))
    assert_close_to(worked(pairs([0.3], [0.5])), [0.626928])
    least = pairs([0.5], [0.5 + math.log(3) / 10])  # sigmoid(log 3) = 3/4
    (slope,) = torch.autograd.grad(worked(least).sum(), least.policy_w)
    assert_close_to(slope, [0.0])


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_sft_mix_adds_the_winners_error(name, arguments):
    x = elements("learned")
    mixed = objectives.combine(ours(name, arguments), LossSpec(sft_mix=0.25))(x.errors())
    assert_same(x, mixed, FORMULAS[name](x, **arguments) + 0.25 * mean((x.policy_w - x.target_w) ** 2))


def safe_factor(x: Elements, mu: float) -> Tensor:
    """Fu et al. 2025: min(1, (1 - mu) |g_w|^2 / <g_w, g_l>) where <g_w, g_l> > 0 and else 1, g the gradients of the
    two errors by the prediction; theirs for a batch, here for every pair. (B,)
    """
    (won,) = torch.autograd.grad(mean((x.policy_w - x.target_w) ** 2).sum(), x.policy_w)
    (lost,) = torch.autograd.grad(mean((x.policy_l - x.target_l) ** 2).sum(), x.policy_l)
    product = (won * lost).flatten(1).sum(1)
    square = (won * won).flatten(1).sum(1)
    return torch.tensor(
        [
            min(1.0, (1 - mu) * size / along) if along > 0 else 1.0
            for size, along in zip(square.tolist(), product.tolist(), strict=True)
        ],
        dtype=torch.float64,
    )


EQUAL_SLOPES = [(name, arguments) for name, arguments in WITH_LOSER if name in ("diffusion_dpo", "dspo", "dspo_sdxl")]
OF_ERRORS_ALONE = [
    (name, arguments)
    for name, arguments in WITH_LOSER
    if name in ("diffusion_dpo", "diffusion_kto", "ipo", "mapo", "dspo_sdxl")
]


@pytest.mark.parametrize(("name", "arguments"), EQUAL_SLOPES)
def test_the_safeguard_scales_the_losers_gradient_alone(name, arguments):
    for x, mu in itertools.product((aligned(), elements("near the start")), (0.0, 0.3, 0.9, 1.0)):

        def named(text: str, mu: float = mu) -> str:
            return f"safeguard {mu}: {text}"

        plain, guarded = (
            objectives.combine(ours(name, arguments), LossSpec(safeguard=choice))(x.errors()) for choice in (None, mu)
        )
        torch.testing.assert_close(guarded, plain, rtol=1e-12, atol=0, msg=named)
        won, lost = x.gradients(plain)
        guarded_won, guarded_lost = x.gradients(guarded)
        torch.testing.assert_close(guarded_won, won, rtol=1e-10, atol=1e-10 * won.abs().max().item(), msg=named)
        expected = stretch(safe_factor(x, mu)) * lost
        torch.testing.assert_close(guarded_lost, expected, rtol=1e-10, atol=1e-10 * lost.abs().max().item(), msg=named)


def test_the_safeguard_is_at_work_in_some_pairs_and_idle_in_others():
    assert (safe_factor(aligned(), 0.3) < 0.5).all()
    loose = safe_factor(elements("near the start"), 0.3)
    assert (loose == 1).all()  # hardly correlated errors
    tight = safe_factor(elements("near the start"), 0.95)
    assert (tight < 1).any()
    assert (tight == 1).any()


@pytest.mark.parametrize("mu", [0.0, 0.3, 0.9])
def test_a_guarded_step_does_not_raise_the_winners_error(mu):
    """A step by -eta (g_w - factor g_l), as if both predictions moved alike, changes the winner's error by
    -eta (|g_w|^2 - factor <g_w, g_l>) to first order, which is at most -eta mu |g_w|^2. Without it the error rises.
    """

    def change(safeguard: float | None) -> tuple[Tensor, Tensor]:
        x = aligned()
        loss = objectives.combine(ours("diffusion_dpo", {"sharpness": 1.0}), LossSpec(safeguard=safeguard))
        won, lost = x.gradients(loss(x.errors()))
        eta = 1e-4
        after = mean((x.policy_w - eta * (won + lost) - x.target_w) ** 2)
        # The gradient of -log sigmoid is that of the error times its slope, the same for winner and loser.
        (error,) = torch.autograd.grad(mean((x.policy_w - x.target_w) ** 2).sum(), x.policy_w)
        own = eta * (won * error).flatten(1).sum(1)
        return after.detach() - mean((x.policy_w - x.target_w) ** 2).detach(), own

    unguarded, _ = change(None)
    guarded, own = change(mu)
    assert (unguarded > 0).all()
    assert (guarded <= -mu * own + 1e-6 * own).all()


@pytest.mark.parametrize("state", ["near the start", "learned"])
@pytest.mark.parametrize(("name", "arguments"), OF_ERRORS_ALONE)
def test_whatever_the_slopes_a_guarded_loser_does_not_raise_the_winners_error(name, arguments, state):
    """The two parts of a step change E_w by -<won, g_w> and -<lost, g_w>; a loser that is pushed away may take back
    at most 1 - mu of what the winner's own part gains. Where the loser is pulled back, its gradient is as it was.
    """
    x = aligned() if state == "near the start" else elements(state)
    plain_won, plain_lost = x.gradients(ours(name, arguments)(x.errors()))
    (error_w,) = torch.autograd.grad(mean((x.policy_w - x.target_w) ** 2).sum(), x.policy_w)
    (error_l,) = torch.autograd.grad(mean((x.policy_l - x.target_l) ** 2).sum(), x.policy_l)
    pushed = (plain_lost * error_l).flatten(1).sum(1) < 0
    for mu in (0.0, 0.3, 0.9):
        won, lost = x.gradients(objectives.combine(ours(name, arguments), LossSpec(safeguard=mu))(x.errors()))
        torch.testing.assert_close(won, plain_won)
        gain, loss = (won * error_w).flatten(1).sum(1), -(lost * error_w).flatten(1).sum(1)
        held = pushed & (gain > 0)
        assert (loss[held] <= (1 - mu) * gain[held] * (1 + 1e-9) + 1e-300).all(), mu
        torch.testing.assert_close(lost[~pushed], plain_lost[~pushed])


@pytest.mark.parametrize(("name", "arguments"), WITH_LOSER)
def test_pairs_beyond_the_cap_give_no_gradient(name, arguments):
    x = elements("learned")
    cap = margin(x).median().item()
    beyond = margin(x) > cap
    assert 0 < int(beyond.sum()) < len(beyond)
    loss = ours(name, arguments)
    plain = x.gradients(loss(x.errors()))
    kept = x.gradients(objectives.combine(loss, LossSpec(margin_cap=cap))(x.errors()))
    for before, after in zip(plain, kept, strict=True):
        assert (after[beyond] == 0).all()
        torch.testing.assert_close(after[~beyond], before[~beyond], rtol=1e-12, atol=0)


def test_the_cap_gives_diffusion_dpo_the_gradient_of_a_clamped_margin():
    x = elements("learned")
    cap = margin(x).median().item()
    kept = objectives.combine(ours("diffusion_dpo", {"sharpness": 50.0}), LossSpec(margin_cap=cap))(x.errors())
    clamped = minus_log_sigmoid(50 * margin(x).clamp(max=cap))
    for mine, theirs in zip(x.gradients(kept), x.gradients(clamped), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10 * theirs.abs().max().item())


def test_a_capped_pair_goes_on_learning_its_winner_through_the_mix():
    x = elements("learned")
    cap = margin(x).min().item() / 2
    assert cap > 0  # every pair is beyond it
    loss = objectives.combine(ours("diffusion_dpo", {"sharpness": 50.0}), LossSpec(margin_cap=cap, sft_mix=0.5))
    won, lost = x.gradients(loss(x.errors()))
    expected, _ = x.gradients(0.5 * mean((x.policy_w - x.target_w) ** 2))
    torch.testing.assert_close(won, expected, rtol=1e-12, atol=0)
    assert (lost == 0).all()


@pytest.mark.parametrize(("name", "arguments"), [("dspo", {"strength": 10.0}), ("ipo", {"tau": 20.0}), ("mapo", {})])
def test_sharpness_weighs_pairs_by_what_they_still_have_to_learn(name, arguments):
    """2 (1 - sigmoid(sharpness margin)), a constant: 1 at margin 0. What sft_mix adds is not weighed."""
    x = elements("near the start")
    weighed = objectives.combine(ours(name, arguments), LossSpec(sft_mix=0.25), sharpness=500.0)(x.errors())
    weight = (2 * (1 - torch.sigmoid(500 * margin(x)))).detach()
    assert weight.min() < 0.8
    assert weight.max() > 1.2
    plain = FORMULAS[name](x, **(arguments or {"beta": 0.1}))
    assert_same(x, weighed, weight * plain + 0.25 * mean((x.policy_w - x.target_w) ** 2))


def test_options_together_do_not_depend_on_how_pairs_are_packed():
    """A pair's loss and gradient are the same in a batch of five and alone."""
    x = aligned()
    everything = LossSpec(sft_mix=0.25, label_smoothing=0.1, safeguard=0.3, margin_cap=0.01)
    loss = objectives.combine(ours("dspo", {"strength": 10.0}), everything, sharpness=50.0)
    whole = x.errors()
    together = loss(whole)
    apart = torch.cat([loss(whole.map(lambda v, i=i: v[i : i + 1])) for i in range(SHAPE[0])])
    assert_same(x, apart, together)
