"""The objectives as their authors publish them, over the elements of predictions and targets, in float64.

From the papers and, where a paper leaves something open (means or sums, what is held constant, what a batch statistic
runs over), from what the authors' programs compute. Nothing here is derived from the numbers of PairErrors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from dspo_train import objectives
from dspo_train.objectives.errors import PairErrors

SHAPE = (5, 4, 5, 5)


@dataclass(frozen=True)
class Elements:
    """Policy, reference and target of winner and loser, element by element, (B, C, h, w) float64.

    Winner and loser have targets of their own, as in v-prediction.
    """

    policy_w: Tensor
    policy_l: Tensor
    reference_w: Tensor
    reference_l: Tensor
    target_w: Tensor
    target_l: Tensor

    def swapped(self) -> Elements:
        return Elements(self.policy_l, self.policy_w, self.reference_l, self.reference_w, self.target_l, self.target_w)

    def errors(self) -> PairErrors:
        return PairErrors(
            policy_w=mean((self.policy_w - self.target_w) ** 2),
            policy_l=mean((self.policy_l - self.target_l) ** 2),
            reference_w=mean((self.reference_w - self.target_w) ** 2),
            reference_l=mean((self.reference_l - self.target_l) ** 2),
            drift_w=mean((self.policy_w - self.reference_w) ** 2),
            drift_l=mean((self.policy_l - self.reference_l) ** 2),
            cross=mean((self.policy_w - self.target_w) * (self.policy_l - self.target_l)).detach(),
        )

    def gradients(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Of a sum in which every pair has another weight, so that no pair can stand in for another."""
        weights = torch.linspace(0.5, 2.0, len(losses), dtype=losses.dtype)
        grads = torch.autograd.grad(
            (weights * losses).sum(), (self.policy_w, self.policy_l), allow_unused=True, retain_graph=True
        )
        won, lost = (torch.zeros(SHAPE, dtype=torch.float64) if grad is None else grad for grad in grads)
        return won, lost


def mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1)


def stretch(per_pair: Tensor) -> Tensor:
    return per_pair.view(-1, 1, 1, 1)


# How far the policy has gone: random drift, and the share of the way from the reference to the target that it has
# covered for the winner and for the loser (negative: away from it).
STATES = {"near the start": (0.02, 0.0, 0.0), "learned": (0.02, 0.1, -0.05), "both worse": (0.5, -0.1, -0.2)}


def elements(state: str, seed: int = 0) -> Elements:
    drift, winner, loser = STATES[state]
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(SHAPE, generator=generator, dtype=torch.float64)

    reference_w, reference_l, target_w, target_l = draw(), draw(), draw(), draw()
    policy_w = reference_w + winner * (target_w - reference_w) + drift * draw()
    policy_l = reference_l + loser * (target_l - reference_l) + drift * draw()
    return Elements(policy_w.requires_grad_(), policy_l.requires_grad_(), reference_w, reference_l, target_w, target_l)


def aligned(seed: int = 0) -> Elements:
    """Errors of winner and loser in about the same direction, the loser's twice as large: what a safeguard is for."""
    x = elements("near the start", seed)
    loser = x.target_l + 2 * (x.policy_w - x.target_w).detach() + 0.1 * (x.policy_l - x.target_l).detach()
    return Elements(x.policy_w, loser.requires_grad_(), x.reference_w, x.reference_l, x.target_w, x.target_l)


def gained(policy: Tensor, reference: Tensor, target: Tensor) -> Tensor:
    """How much closer to the target than the reference, in mean squared error. (B,)"""
    return mean((reference - target) ** 2) - mean((policy - target) ** 2)


def margin(x: Elements) -> Tensor:
    """Wallace et al. 2024, eq. 14, without its factors: what the winner gained over what the loser gained. (B,)"""
    return gained(x.policy_w, x.reference_w, x.target_w) - gained(x.policy_l, x.reference_l, x.target_l)


def minus_log_sigmoid(z: Tensor) -> Tensor:
    """log(1 + exp(-z)) = log(exp(0) + exp(-z))."""
    return torch.logaddexp(torch.zeros_like(z), -z)


def sft(x: Elements) -> Tensor:
    return mean((x.policy_w - x.target_w) ** 2)


def dspo(x: Elements, strength: float, loser_drift: float = 0.25, sharpness: float = 1.4) -> Tensor:
    """With the weight w of a pair, held constant, and lead = reference - target:

    mean(d_w^2) + b mean(d_l^2) + g w (2 mean(d_w lead_w) - 2 mean(d_l lead_l)),   d = policy - reference.
    """
    drift_w, drift_l = x.policy_w - x.reference_w, x.policy_l - x.reference_l
    lead_w, lead_l = x.reference_w - x.target_w, x.reference_l - x.target_l
    weight = 2 * torch.sigmoid(-sharpness * margin(x)).detach()
    push = 2 * mean(drift_w * lead_w) - 2 * mean(drift_l * lead_l)
    return (mean(drift_w**2) + loser_drift * mean(drift_l**2)) / strength + weight * push


def pulled(x: Elements, pull: Tensor) -> Tensor:
    """Zhu et al. 2025, eq. 13: the mean square of e_w - c d_w, e = policy - target and d = policy - reference."""
    return mean(((x.policy_w - x.target_w) - stretch(pull) * (x.policy_w - x.reference_w)) ** 2)


def dspo_paper(x: Elements, beta: float) -> Tensor:
    """As released for SD1.5: c = beta (1 - sigmoid(beta/2 margin)), and the gradient goes through the sigmoid.

    Here and below 1 - sigmoid(z) is written as sigmoid(-z), its equal, which keeps its digits where z is large.
    """
    return pulled(x, beta * torch.sigmoid(-beta / 2 * margin(x)))


def dspo_implicit(x: Elements, pull: float, sharpness: float) -> Tensor:
    """c = pull min(1, 2 (1 - sigmoid(sharpness margin))), held constant."""
    weight = (2 * torch.sigmoid(-sharpness * margin(x))).clamp(max=1)
    return pulled(x, (pull * weight).detach())


def dspo_e(x: Elements, pull: float) -> Tensor:
    """Zhu et al. 2025, eq. 45: the reward takes the place of the log probability of a click, and c is a number."""
    return pulled(x, torch.full(SHAPE[:1], pull, dtype=torch.float64))


def dspo_ref(x: Elements, bias: float, sharpness: float) -> Tensor:
    """Zhu et al. 2025, eq. 46: the mean square of (1 - bias - sigmoid(sharpness margin)) d_w."""
    factor = 1 - bias - torch.sigmoid(sharpness * margin(x))
    return mean((stretch(factor) * (x.policy_w - x.reference_w)) ** 2)


def dspo_sdxl(x: Elements, beta: float) -> Tensor:
    """As released: (1 - sigmoid(beta/2 margin)) d_w squared where the batch's mean of d_w^2 is 0.1 or more, and else
    eq. 47, the bracket alone.
    """
    bracket = torch.sigmoid(-beta / 2 * margin(x))
    lead = x.policy_w - x.reference_w
    if (lead**2).mean() >= 0.1:
        return mean((stretch(bracket) * lead) ** 2)
    return bracket**2


def diffusion_dpo(x: Elements, sharpness: float) -> Tensor:
    """Wallace et al. 2024, eq. 14: -log sigmoid(sharpness margin); sharpness is half of the beta of their program."""
    return minus_log_sigmoid(sharpness * margin(x))


def ipo(x: Elements, tau: float) -> Tensor:
    """Azar et al. 2024, eq. 17, (margin - 1 / (2 tau))^2, in units of its value at margin 0, 1 / (2 tau)^2."""
    return (margin(x) - 1 / (2 * tau)) ** 2 * (2 * tau) ** 2


def diffusion_kto(x: Elements, sharpness: float, liked: float) -> Tensor:
    """Li et al. 2024 as released: 1 - sigmoid(y beta (g - Q)) for every picture of a batch, y = 1 liked, -1 disliked,
    g = R - E, Q = max(0, mean of g over the whole batch), held constant; their beta is the sharpness.

    They draw liked and disliked pictures in a ratio of their choice; here that batch is made by repeating pictures
    (0.8: every liked one four times, every disliked one once). A pair has twice the mean loss of its pictures.
    """
    often, total = Fraction(liked).limit_denominator(100).as_integer_ratio()
    won, lost = gained(x.policy_w, x.reference_w, x.target_w), gained(x.policy_l, x.reference_l, x.target_l)
    batch = torch.cat([won] * often + [lost] * (total - often))
    label = torch.cat([torch.ones_like(won)] * often + [-torch.ones_like(lost)] * (total - often))
    offset = batch.mean().clamp(min=0).detach()
    losses = torch.sigmoid(-label * sharpness * (batch - offset))
    return 2 * losses.view(total, -1).mean(0)


def mapo(x: Elements, beta: float) -> Tensor:
    """Hong et al. 2024 as released: E_w - beta log sigmoid(T (phi(E_w) - phi(E_l))), phi(E) = E/2 / (exp(E/2) - 1),
    T = 1000 timesteps, E the mean squared error.
    """

    def phi(policy: Tensor, target: Tensor) -> Tensor:
        half = mean((policy - target) ** 2) / 2
        return half / (torch.exp(half) - 1)

    lead = phi(x.policy_w, x.target_w) - phi(x.policy_l, x.target_l)
    return mean((x.policy_w - x.target_w) ** 2) + beta * minus_log_sigmoid(1000 * lead)


FORMULAS: dict[str, Callable[..., Tensor]] = {
    formula.__name__: formula
    for formula in (
        sft,
        dspo,
        dspo_paper,
        dspo_implicit,
        dspo_e,
        dspo_ref,
        dspo_sdxl,
        diffusion_dpo,
        ipo,
        diffusion_kto,
        mapo,
    )
}

CASES: list[tuple[str, dict[str, float]]] = [
    ("sft", {}),
    *[("dspo", {"strength": g}) for g in (0.5, 3.0, 10.0, 30.0)],
    ("dspo", {"strength": 10.0, "loser_drift": 1.0, "sharpness": 0.0}),
    ("dspo", {"strength": 10.0, "loser_drift": 0.0, "sharpness": 20.0}),
    *[("dspo_paper", {"beta": b}) for b in (0.001, 0.01, 0.05, 1.0, 100.0)],
    *[("dspo_implicit", {"pull": c, "sharpness": k}) for c, k in ((0.9, 1.0), (0.9, 50.0), (0.5, 1000.0))],
    *[("dspo_e", {"pull": c}) for c in (0.0, 0.3, 0.9)],
    *[("dspo_ref", {"bias": b, "sharpness": k}) for b, k in ((0.0, 1.0), (0.1, 50.0), (-0.2, 1000.0))],
    *[("dspo_sdxl", {"beta": b}) for b in (2.0, 40.0, 2000.0)],
    *[("diffusion_dpo", {"sharpness": k}) for k in (1.0, 50.0, 1000.0)],
    *[("ipo", {"tau": tau}) for tau in (0.5, 20.0, 1000.0)],
    *[("diffusion_kto", {"sharpness": k, "liked": s}) for k, s in ((1.0, 0.5), (50.0, 0.5), (1000.0, 0.5))],
    *[("diffusion_kto", {"sharpness": 5.0, "liked": s}) for s in (0.8, 0.25)],
    *[("mapo", {"beta": b}) for b in (0.0, 0.1, 1.0)],
]


def ours(name: str, arguments: dict[str, float]) -> objectives.Loss:
    return objectives.bind(name, arguments)


def assert_same(x: Elements, mine: Tensor, theirs: Tensor) -> None:
    """Value to 1e-10 of each pair's own, gradients to 1e-10 of the largest element."""
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-300)
    for one, other in zip(x.gradients(mine), x.gradients(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10 * other.abs().max().item())


def pairs(won: list[float], lost: list[float], reference: float = 0.5) -> PairErrors:
    """Pairs of given errors whose reference has the same error everywhere; drift and cross are of no concern."""
    error_w, error_l = torch.tensor(won, dtype=torch.float64), torch.tensor(lost, dtype=torch.float64)
    same, nothing = torch.full_like(error_w, reference), torch.full_like(error_w, math.nan)
    return PairErrors(error_w.requires_grad_(), error_l.requires_grad_(), same, same, nothing, nothing, nothing)


def assert_close_to(values: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(values.detach(), torch.tensor(expected, dtype=values.dtype), rtol=0, atol=2e-6)
