"""The word anchor: a taste may move every image alike, but what the words of a prompt change stays as it was.

For an image noised to x_t, its caption c and another caption c', the difference that the words make to the prediction
is held at the base model's:

    change = mean(((policy(x_t, c) - policy(x_t, c')) - (base(x_t, c) - base(x_t, c')))^2)
    effect = mean((base(x_t, c) - base(x_t, c'))^2)

A shift that is common to all captions leaves the change at zero. It needs no labels. `change / effect` has no unit and
means the same for every model: the share of what the words do that was altered. The anchor is a constraint: its weight
rises while that share is above a budget and falls while it is below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.batch import Batch
from ..models.conditioning import cat
from ..models.denoiser import Denoiser
from ..objectives.errors import per_sample_mse
from .forward import Predicted

FIRST_WEIGHT = 1.0
_LEAST, _MOST = 0.01, 1000.0  # of the weight
_RATE = 0.2  # of a step's change of the weight, at most, on a logarithmic scale


@dataclass(frozen=True)
class WordErrors:
    """Of the B winners of a batch, (B,) float32 each; see the module. The effect has no gradient."""

    change: Tensor
    effect: Tensor

    def cost(self, weight: float, slope: float) -> Tensor:
        """What the anchor adds to the loss of each row. (B,)

        Args:
            weight: in units of the objective: at 1, a change costs what the same rise of the winner's error would.
            slope: of the objective in the winner's error, at the reference.
        """
        return weight * slope * self.change


def word_errors(denoiser: Denoiser, batch: Batch, seen: Predicted) -> WordErrors:
    """Predict the winners with their other captions; what is known of their own captions is not predicted again."""
    assert batch.others is not None
    rows = len(batch)
    noisy, t, own = batch.noisy[:rows], batch.t[:rows], batch.conditioning[:rows]
    policy = denoiser.predict(noisy, t, batch.others)
    with torch.no_grad(), denoiser.base():
        if denoiser.reference_is_base:
            base, base_own = denoiser.predict(noisy, t, batch.others), seen.reference[:rows]
        else:
            both = denoiser.predict(noisy.repeat(2, 1, 1, 1), t.repeat(2), cat([batch.others, own]))
            base, base_own = both.chunk(2)
    moved = (seen.policy[:rows].float() - policy.float()) - (base_own.float() - base.float())
    return WordErrors(moved.square().flatten(1).mean(1), per_sample_mse(base_own, base))


def next_weight(weight: float, share: float, budget: float) -> float:
    """The anchor's weight after a step that altered this share of what the words do.

    >>> next_weight(1.0, share=0.05, budget=0.05)
    1.0
    >>> round(next_weight(1.0, share=1.0, budget=0.05), 2), round(next_weight(1.0, share=0.0, budget=0.05), 2)
    (1.22, 0.82)
    """
    if not math.isfinite(share):
        return weight
    over = max(-1.0, min(1.0, share / budget - 1))
    return min(_MOST, max(_LEAST, weight * math.exp(_RATE * over)))
