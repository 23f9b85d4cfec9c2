"""Every objective against its authors' formula, in value and in gradient, and against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from published_objectives import (
    CASES,
    FORMULAS,
    STATES,
    assert_close_to,
    assert_same,
    elements,
    gained,
    mean,
    ours,
    pairs,
)
from torch import Tensor

from dspo_train import objectives
from dspo_train.objectives.errors import PairErrors


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_value_and_gradient_equal_the_elementwise_formula(name, arguments, state):
    x = elements(state)
    assert_same(x, ours(name, arguments)(x.errors()), FORMULAS[name](x, **arguments))


def test_every_objective_and_every_argument_is_held_to_a_formula():
    tried = {name: {key for other, given in CASES if other == name for key in given} for name, _ in CASES}
    assert tried == {name: set(info.arguments) for name, info in objectives.OBJECTIVES.items()}


def test_the_states_lie_on_both_sides_of_each_batch_statistic():
    """dspo_sdxl's switch at a mean drift of 0.1, and diffusion_kto's Q, which is 0 where pictures got worse."""
    sides = {state: elements(state) for state in STATES}
    switched = {state: ((x.policy_w - x.reference_w) ** 2).mean().item() >= 0.1 for state, x in sides.items()}
    assert switched == {"near the start": False, "learned": False, "both worse": True}
    moved = {
        state: gained(x.policy_w, x.reference_w, x.target_w).mean()
        + gained(x.policy_l, x.reference_l, x.target_l).mean()
        for state, x in sides.items()
    }
    assert moved["learned"] > 0.1 > -0.1 > moved["both worse"]


@pytest.mark.parametrize("strength", [0.5, 10.0])
def test_dspo_is_diffusion_nft_on_pair_labels(strength):
    """arXiv 2509.16117: the mix (1 - b) old + b new regressed to a good picture's target and (1 + b) old - b new to a
    bad one's; dspo with the whole drift of the loser and sharpness 0 is that at b = 1 / strength, times strength,
    but for a constant, strength (R_w + R_l).
    """
    x, b = elements("learned"), 1 / strength
    good = mean(((1 - b) * x.reference_w + b * x.policy_w - x.target_w) ** 2)
    bad = mean(((1 + b) * x.reference_l - b * x.policy_l - x.target_l) ** 2)
    theirs = strength * (good + bad)
    e = x.errors()
    loss = ours("dspo", {"strength": strength, "loser_drift": 1.0, "sharpness": 0.0})(e)
    assert_same(x, loss + strength * (e.reference_w + e.reference_l), theirs)


def test_dspo_paper_worked_by_hand():
    """One element: target 0, reference 1, policy 2 on the winner; loser untouched at error 1.

    E_w = 4, R_w = 1, q_w = 1, regret = (4 - 1) - (1 - 1) = 3. With beta = 2: c = 2 sigmoid(3) = 1.905148;
    e - c d = 2 - 1.905148 * 1 = 0.094852, squared 0.008997.
    """
    one = torch.ones(1, dtype=torch.float64)
    assert_close_to(
        ours("dspo_paper", {"beta": 2.0})(PairErrors(4 * one, one, one, one, one, 0 * one, one)), [0.008997]
    )


def test_dspo_worked_by_hand():
    """One element, target 1, reference 0 on both sides: R_w = R_l = 1.

    Winner's policy 2: E_w = 1, q_w = 4, so E_w - q_w - R_w = -4 (twice drift times lead: 2 * 2 * -1).
    Loser's policy -1: E_l = 4, q_l = 1, so E_l - q_l - R_l = 2. The bracket is -4 - 2 = -6.
    Margin (R_w - E_w) - (R_l - E_l) = 0 - (-3) = 3.

    strength 3, loser_drift 0.5, sharpness 0: (4 + 0.5 * 1) / 3 - 6 = -4.5.
    With sharpness ln(3) / 3 the weight is 2 sigmoid(-ln 3) = 2 / (1 + 3) = 0.5: 1.5 + 0.5 * -6 = -1.5.
    """
    e = PairErrors(*(torch.tensor([v]) for v in (1.0, 4.0, 1.0, 1.0, 4.0, 1.0, -2.0)))
    assert_close_to(ours("dspo", {"strength": 3.0, "loser_drift": 0.5, "sharpness": 0.0})(e), [-4.5])
    sharpness = math.log(3) / 3
    assert_close_to(ours("dspo", {"strength": 3.0, "loser_drift": 0.5, "sharpness": sharpness})(e), [-1.5])


def test_diffusion_kto_worked_by_hand():
    """Sharpness 10, every reference error 0.5, so g = 0.5 - E:

        pair 1: E_w = 0.3, g = 0.2;  E_l = 0.4, g = 0.1        pair 2: E_w = 0.2, g = 0.3;  E_l = 0.7, g = -0.2

    Q = max(0, (0.2 + 0.1 + 0.3 - 0.2) / 4) = 0.1. Liked, 1 - sigmoid(10 (g - Q)):
        pair 1: 1 - sigmoid(1) = 0.268941        pair 2: 1 - sigmoid(2) = 0.119203
    Disliked, 1 - sigmoid(-10 (g - Q)):
        pair 1: 1 - sigmoid(0) = 0.5             pair 2: 1 - sigmoid(3) = 0.047426
    Together 0.768941 and 0.166629.

    Slope by E: 10 s (1 - s) for a liked picture and the negative of it for a disliked one, s the sigmoid above:
        liked:    10 * 0.731059 * 0.268941 = 1.966119       10 * 0.880797 * 0.119203 = 1.049936
        disliked: -10 * 0.5 * 0.5 = -2.5                    -10 * 0.952574 * 0.047426 = -0.451767
    """
    e = pairs([0.3, 0.2], [0.4, 0.7])
    losses = ours("diffusion_kto", {"sharpness": 10.0})(e)
    assert_close_to(losses, [0.768941, 0.166629])
    won, lost = torch.autograd.grad(losses.sum(), (e.policy_w, e.policy_l))
    assert_close_to(won, [1.966119, 1.049936])
    assert_close_to(lost, [-2.5, -0.451767])


def test_diffusion_kto_never_asks_less_than_the_reference():
    """E_w = 0.6, g = -0.1; E_l = 0.8, g = -0.3: their mean is -0.2, so Q = 0, and with sharpness 10
    1 - sigmoid(-1) = 0.731059 and 1 - sigmoid(3) = 0.047426, together 0.778485.
    """
    assert_close_to(ours("diffusion_kto", {"sharpness": 10.0})(pairs([0.6], [0.8])), [0.778485])


def test_mapo_worked_by_hand():
    """E_w = 0.2: phi = 0.1 / (exp(0.1) - 1) = 0.1 / 0.1051709181 = 0.9508331945
    E_l = 0.204: phi = 0.102 / (exp(0.102) - 1) = 0.102 / 0.1073834717 = 0.9498668497
    T (phi_w - phi_l) = 1000 * 0.0009663448 = 0.966345; -log sigmoid(0.966345) = log(1 + exp(-0.966345)) = 0.322425
    With beta = 0.1: 0.2 + 0.0322425 = 0.232242. With the two the other way round: 0.204 + 0.1 log(1 + exp(0.966345))
    = 0.204 + 0.1 * 1.288770 = 0.332877.
    """
    assert_close_to(ours("mapo", {"beta": 0.1})(pairs([0.2, 0.204], [0.204, 0.2])), [0.232242, 0.332877])


def test_ipo_worked_by_hand():
    """tau = 10 asks for a margin of 1 / 20 = 0.05. Margins 0, 0.05 and 0.1: 20 m - 1 = -1, 0, 1, squared 1, 0, 1."""
    assert_close_to(ours("ipo", {"tau": 10.0})(pairs([0.5, 0.45, 0.4], [0.5, 0.5, 0.5])), [1.0, 0.0, 1.0])


def test_dspo_sdxl_switches_at_a_mean_drift_of_a_tenth():
    """Margin 0, so sigmoid(0)^2 = 1/4. Drifts of 0.05 and 0.15 have the mean 0.1: 1/4 times each drift, 0.0125 and
    0.0375. Drifts of 0.05 and 0.1499, just below: 1/4 for both, though one of them is above 0.1.
    """
    half = torch.full((2,), 0.5, dtype=torch.float64)

    def losses(*drifts: float) -> Tensor:
        drift = torch.tensor(drifts, dtype=torch.float64)
        return ours("dspo_sdxl", {"beta": 5000.0})(PairErrors(half, half, half, half, drift, drift, half))

    assert_close_to(losses(0.05, 0.15), [0.0125, 0.0375])
    assert_close_to(losses(0.05, 0.1499), [0.25, 0.25])


def test_mapo_in_single_precision_from_no_error_to_a_broken_model():
    """At E_w = E_l the logarithm is -log 2 and half of T phi'(E) reaches the loser: -0.5 * 0.1 * 1000 * -phi'(E).

    phi'(E) = 1/2 f(E/2) with f(x) = (exp(-x) (1 - x) - exp(-2x)) / (1 - exp(-x))^2, f(0) = -1/2.
    """

    def slope(x: float) -> float:
        if x < 1e-3:
            return -0.5 + x / 6 - x**3 / 180
        return (math.exp(-x) * (1 - x) - math.exp(-2 * x)) / math.expm1(-x) ** 2

    sizes = [0.0, 1e-30, *(10 ** (power / 4) for power in range(-40, 9)), 150.0, 178.0, 1e3, 1e4]
    error_w = torch.tensor(sizes, requires_grad=True)
    error_l = torch.tensor(sizes, requires_grad=True)
    losses = ours("mapo", {"beta": 0.1})(PairErrors(error_w, error_l, *[torch.zeros(len(sizes))] * 5))
    torch.testing.assert_close(losses, error_w + 0.1 * math.log(2))
    _, lost = torch.autograd.grad(losses.sum(), (error_w, error_l))
    torch.testing.assert_close(lost, torch.tensor([25 * slope(size / 2) for size in sizes]), rtol=1e-4, atol=1e-6)
