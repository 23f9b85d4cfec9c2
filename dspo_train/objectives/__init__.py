"""Preference objectives: pure functions of the errors of a batch of pairs, one loss per pair.

Notation (see `errors.PairErrors`): E policy error, R reference error, q drift; `_w` winner, `_l` loser;
regret = (E_w - E_l) - (R_w - R_l), margin = -regret. Elementwise, e = policy - target and d = policy - reference,
so E = mean(e^2), q = mean(d^2) and, since reference - target = e - d, 2 mean(e d) = E + q - R. Every
quadratic form in e and d is therefore a combination of E, R and q: six numbers per pair are enough.

`sharpness` is always the factor on the margin inside a sigmoid, in 1 / (mean squared error). Published `beta`s differ
by their convention: sharpness = beta / 2 for Wallace et al. and diffusers' SDXL script, beta for its SD1.5 script.
"""

from .options import Loss, combine, doubted, in_unit, slope_at_reference
from .table import (
    OBJECTIVES,
    Argument,
    ObjectiveInfo,
    arguments_in,
    arguments_of,
    bind,
    check_objective,
    find_objective,
    loss_of,
    reading_of,
    unit_of,
    warnings,
)

__all__ = [
    "OBJECTIVES",
    "Argument",
    "Loss",
    "ObjectiveInfo",
    "arguments_in",
    "arguments_of",
    "bind",
    "check_objective",
    "combine",
    "doubted",
    "find_objective",
    "in_unit",
    "loss_of",
    "reading_of",
    "slope_at_reference",
    "unit_of",
    "warnings",
]
