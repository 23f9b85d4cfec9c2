"""What a run measures margins in, so that a sharpness means the same for every model.

A margin is a difference of mean squared errors, and how large one has to be to count differs between models by factors
of hundreds: with the target (noise, v, velocity), with the times and with the size of what is drawn. The unit is what
other words would change in the untrained model's prediction (`words.WordErrors.effect`), on the run's first batches.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor

from ..data.source import Source
from ..models.denoiser import Denoiser
from ..objectives.errors import per_sample_mse

STEPS = 8  # whose batches are looked at
# Where there are no words, this many times the mean absolute difference of the base's errors within a pair: between the
# factors 4 and 26 that were measured on one network, read as v, noise and velocity.
_OF_SPREAD = 10.0
_LEAST = 0.01  # of the base's error


@torch.no_grad()
def measured_unit(denoiser: Denoiser, source: Source, accelerator: Accelerator) -> tuple[float, bool]:
    """The unit, and whether the words gave it; the same in every process."""
    looking, sums = replace(source, words_every=1), torch.zeros(4, dtype=torch.float64)
    for step in range(STEPS):
        for batch in looking.step(step):
            batch = batch.to(accelerator.device)
            assert batch.others is not None
            rows = len(batch)
            with denoiser.base():
                own = denoiser.predict(batch.noisy, batch.t, batch.conditioning)
                other = denoiser.predict(batch.noisy[:rows], batch.t[:rows], batch.others)
            winners, losers = per_sample_mse(own, batch.target).chunk(2)
            effect = per_sample_mse(own[:rows], other)
            seen = torch.stack([effect, (winners - losers).abs(), winners, torch.ones_like(effect)])
            sums += seen.double().sum(1).cpu()
    total = accelerator.reduce(sums.to(accelerator.device, torch.float32), reduction="sum")
    assert isinstance(total, Tensor)
    effect, apart, error, count = total.cpu().double().tolist()
    return unit_from(effect / count, apart / count, error / count)


def unit_from(effect: float, apart: float, error: float) -> tuple[float, bool]:
    """The unit, and whether the words gave it.

    Args:
        effect: of other words.
        apart: mean absolute difference of the base's errors within a pair.
        error: the base's mean error, of which the unit is at least a hundredth: where words do next to nothing, margins
            would be divided by what rounding leaves.

    >>> unit_from(0.35, 0.09, 0.25), unit_from(1e-7, 0.09, 0.25), unit_from(0.0, 0.09, 0.25)
    ((0.35, True), (0.9, False), (0.9, False))
    """
    if effect > _LEAST * error:
        return effect, True
    return max(_OF_SPREAD * apart, _LEAST * error) or 1.0, False
