"""Preference objectives: pure functions of the errors of a batch of pairs, one loss per pair.

Notation (see PairErrors): E policy error, R reference error, q drift; `_w` winner, `_l` loser;
regret = (E_w - E_l) - (R_w - R_l), margin = -regret. Elementwise, e = policy - target and d = policy - reference,
so E = mean(e^2), q = mean(d^2) and, since reference - target = e - d, 2 mean(e d) = E + q - R. Every
quadratic form in e and d is therefore a combination of E, R and q: six numbers per pair are enough.

`sharpness` is always the factor on the margin inside a sigmoid, in 1 / (mean squared error). Published `beta`s differ
by their convention: sharpness = beta / 2 for Wallace et al. and diffusers' SDXL script, beta for its SD1.5 script.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import PairErrors
from .exceptions import ConfigError

Loss = Callable[[PairErrors], Tensor]


def sft(e: PairErrors) -> Tensor:
    """Ordinary training on the winners; the losers are ignored. -> (B,)"""
    return e.policy_w


def dspo(e: PairErrors, *, strength: float = 10.0) -> Tensor:
    """Score matching to the preferred distribution by regression on both pictures. -> (B,)

    DSPO's target score (Zhu et al., ICLR 2025, eq. 8 and 10) adds grad log p(y | x_t, c), y = "preferred", to the
    data's score. By Bayes' rule that is grad log p(x_t | y, c) - grad log p(x_t | c); with the reference model as
    p(x_t | c), denoising score matching makes it a regression: at a noised winner to
    reference + strength (target - reference), at a noised loser to reference - strength (target - reference):

        mean((d_w - g (target - reference))^2) = q_w + g (E_w - q_w - R_w) + g^2 R_w,   g = strength,

    and with -g for the loser. What winner and loser share cancels; what differs moves the model, and the minimiser is
    bounded. With pair labels this is the loss of DiffusionNFT (arXiv 2509.16117) at its beta = 1 / strength.

    Args:
        strength: how far past the reference the difference is carried; about 3 gentle, 30 strong.
    """
    towards = e.drift_w + strength * (e.policy_w - e.drift_w - e.reference_w) + strength**2 * e.reference_w
    away = e.drift_l - strength * (e.policy_l - e.drift_l - e.reference_l) + strength**2 * e.reference_l
    return towards + away


def dspo_paper(e: PairErrors, *, beta: float = 0.001) -> Tensor:
    """DSPO as released for SD1.5 (Zhu et al., ICLR 2025, eq. 13-14): mean((e_w - c d_w)^2). -> (B,)

    c = beta sigmoid(beta/2 regret), with the gradient through c as in the authors' code. At the published beta
    (0.001, 0.01, 0.05) c is nearly constant and tiny, so this trains like `sft`; kept to reproduce the paper.
    """
    pull = beta * torch.sigmoid(0.5 * beta * e.regret)
    return e.policy_w - pull * (e.policy_w - e.reference_w + e.drift_w) + pull.square() * e.drift_w


def diffusion_dpo(e: PairErrors, *, sharpness: float = 1000.0, label_smoothing: float = 0.0) -> Tensor:
    """-log sigmoid(sharpness margin) (Wallace et al., CVPR 2024, eq. 14), sharpness = their beta / 2. -> (B,)

    Args:
        sharpness: 1000 to 2500 in published runs.
        label_smoothing: assumed share of wrong labels, in [0, 0.5) (conservative DPO).
    """
    right, wrong = F.logsigmoid(sharpness * e.margin), F.logsigmoid(-sharpness * e.margin)
    return -(1 - label_smoothing) * right - label_smoothing * wrong


@dataclass(frozen=True)
class ObjectiveInfo:
    """An objective, whether it needs the loser's gradient, and the range of each argument."""

    function: Callable[..., Tensor]
    trains_loser: bool
    ranges: Mapping[str, tuple[float, float]]


OBJECTIVES: dict[str, ObjectiveInfo] = {
    "dspo": ObjectiveInfo(dspo, True, {"strength": (1e-3, 1e4)}),
    "dspo_paper": ObjectiveInfo(dspo_paper, True, {"beta": (0.0, 1e5)}),
    "diffusion_dpo": ObjectiveInfo(diffusion_dpo, True, {"sharpness": (1e-6, 1e7), "label_smoothing": (0.0, 0.499)}),
    "sft": ObjectiveInfo(sft, False, {}),
}


def find(name: str) -> ObjectiveInfo:
    """Look an objective up.

    Raises:
        ConfigError: no such objective; the known ones are named.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"unknown objective {name!r}; known: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


def bind(name: str, arguments: Mapping[str, float]) -> Loss:
    """An objective with its arguments set, ready to be applied to a batch.

    Raises:
        ConfigError: an unknown objective or argument, or a value out of its range.
    """
    info = find(name)
    for key, value in arguments.items():
        if key not in info.ranges:
            known = ", ".join(info.ranges) or "none"
            raise ConfigError(f"objective {name!r} has no argument {key!r}; its arguments: {known}")
        low, high = info.ranges[key]
        if not low <= value <= high:
            raise ConfigError(f"objective_args.{key} must be between {low:g} and {high:g}, got {value!r}")
    return lambda errors: info.function(errors, **arguments)


def arguments_of(name: str, given: Mapping[str, float]) -> dict[str, float]:
    """All arguments with the values that will be used, defaults included: what a run records."""
    signature = inspect.signature(find(name).function).parameters
    defaults = {key: p.default for key, p in signature.items() if p.kind is p.KEYWORD_ONLY}
    return {**defaults, **given}
