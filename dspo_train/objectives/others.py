"""The objectives that DSPO is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import PairErrors

MAPO_STEPS = 1000.0  # T of Hong et al. 2024
MAPO_SLOPE = 0.5  # a of Hong et al. 2024


def sft(e: PairErrors) -> Tensor:
    """Ordinary training on the winners; the losers are ignored. -> (B,)"""
    return e.policy_w


def diffusion_dpo(e: PairErrors, *, sharpness: float) -> Tensor:
    """-log sigmoid(sharpness margin) (Wallace et al., CVPR 2024, eq. 14), sharpness = their beta / 2. -> (B,)"""
    return -F.logsigmoid(sharpness * e.margin)


def ipo(e: PairErrors, *, tau: float) -> Tensor:
    """Identity preference optimization (Azar et al. 2024, eq. 17): the margin regressed to 1 / (2 tau). -> (B,)

    (2 tau margin - 1)^2, the published (margin - 1 / (2 tau))^2 times (2 tau)^2: at margins of 1e-3 the published
    scale would leave the gradient near Adam's epsilon. Bounded: a pair with the wanted margin pulls no further.
    """
    return (2 * tau * e.margin - 1).square()


def diffusion_kto(e: PairErrors, *, sharpness: float, liked: float) -> Tensor:
    """Diffusion-KTO (Li et al., NeurIPS 2024): every image on its own, liked or disliked. -> (B,)

    With g = R - E of each image and z = max(0, mean of g over the forward pass), held constant, the loss is
    1 - sigmoid(sharpness (g - z)) for a liked and 1 - sigmoid(sharpness (z - g)) for a disliked image. It needs no
    pairs: winner and loser may have different prompts and noise. z is a statistic of the pass, so an image's loss
    depends on the others in its pass. A pair's loss is the sum over its two images.

    Args:
        sharpness: the authors' beta, without a factor of one half.
        liked: share of the weight that the liked images have. The authors draw 0.8 of their images from the liked ones.
    """
    won, lost = e.reference_w - e.policy_w, e.reference_l - e.policy_l
    zero = (liked * won + (1 - liked) * lost).mean().clamp(min=0).detach()
    return 2 * (
        liked * torch.sigmoid(sharpness * (zero - won)) + (1 - liked) * torch.sigmoid(sharpness * (lost - zero))
    )


def mapo(e: PairErrors, *, beta: float) -> Tensor:
    """Margin-aware preference optimization (Hong et al. 2024), without a reference. -> (B,)

    E_w - beta log sigmoid(T (phi(E_w) - phi(E_l))), phi(E) = a E / (exp(a E) - 1), T = 1000, a = 1/2.
    """
    ratio = MAPO_STEPS * (_phi(e.policy_w) - _phi(e.policy_l))
    return e.policy_w - beta * F.logsigmoid(ratio)


def _phi(error: Tensor) -> Tensor:
    x = MAPO_SLOPE * error
    small = x < 1e-2  # where the quotient's gradient is a difference of nearly equal numbers
    away = torch.where(small, torch.ones_like(x), x)  # before the division: even an unselected NaN has a gradient
    series = 1 - x / 2 + x**2 / 12 - x**4 / 720
    return torch.where(small, series, away * torch.exp(-away) / -torch.expm1(-away))
