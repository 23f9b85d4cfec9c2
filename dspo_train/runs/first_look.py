"""One prediction before the first step: is it finite, and is the base read by the right prediction type?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

import torch
from accelerate import Accelerator
from torch import Tensor

from ..data.batch import Batch
from ..data.source import Source
from ..exceptions import ModelError
from ..models.denoiser import Denoiser
from ..models.families import Prediction
from ..models.process import Ddpm
from ..models.reading import v_of
from ..models.weights import precision_hint

_NOISE = (0.5, 0.8)  # part of the schedule: much noise, and yet an image to see
_BATCHES = 4  # at most
_KNOWN = 0.6  # a smaller share of the target's variance left unexplained means that the model knows its target
_CLEAR = 2.0  # times the other reading's share
_OTHER: Mapping[Prediction, Prediction] = {"epsilon": "v_prediction", "v_prediction": "epsilon"}


@dataclass(frozen=True)
class Readings:
    """The share of the target's variance that the base's predictions leave unexplained, read as each type: 0 is a
    perfect prediction, 1 as good as none.
    """

    declared: Prediction
    share: float
    other_share: float

    @property
    def mismatch(self) -> str:
        """A warning where the other reading fits, and clearly better; empty otherwise."""
        other = _OTHER[self.declared]
        if self.other_share > _KNOWN or self.share <= _CLEAR * self.other_share:
            return ""
        return (
            f"the base is read as {self.declared}, but predicts like {other}: read as the former, its error is "
            f"{self.share:.2f} times that of a blind guess; read as the latter, {self.other_share:.2f} times. Set "
            f"`prediction` to {other}"
        )


def first_look(denoiser: Denoiser, source: Source, accelerator: Accelerator) -> Readings | None:
    """Predict the images of the first step, as the reference. -> None for a flow model, which has one reading only

    Raises:
        ModelError: a prediction is not finite.
    """
    process, sums = denoiser.process, torch.zeros(4, dtype=torch.float64)
    part = replace(source.data, least_noise=_NOISE[0], most_noise=_NOISE[1])
    noisy = replace(source, process=process, data=part)
    for batch in islice(noisy.step(0), _BATCHES):
        batch = batch.to(accelerator.device)
        with torch.no_grad(), denoiser.reference():
            prediction = denoiser.predict(batch.noisy, batch.t, batch.conditioning).float()
        if not prediction.isfinite().all():
            raise ModelError(
                "the model's prediction is not finite before anything was trained, though its weights, the latents and "
                f"the text embeddings are{precision_hint(_computing(accelerator))}; use another base"
            )
        if isinstance(process, Ddpm):
            targets = batch.target, _other_target(process, batch)
            parts = [part for target in targets for part in (prediction - target, target)]
            sums += torch.stack([part.double().square().sum() for part in parts]).cpu()
    error, size, other_error, other_size = sums.tolist()
    if not isinstance(process, Ddpm):
        return None
    return Readings(process.prediction, error / size, other_error / other_size)


def _computing(accelerator: Accelerator) -> torch.dtype:
    return torch.float16 if accelerator.mixed_precision == "fp16" else torch.float32


def _other_target(process: Ddpm, batch: Batch) -> Tensor:
    """The target of the other type at the same x_t. With x_t = s x_0 + r noise and v = s noise - r x_0:

    noise = s v + r x_t, x_0 = s x_t - r v (Salimans & Ho 2022, appendix D).
    """
    if process.prediction == "v_prediction":
        signal, spread = process.levels(batch.t, batch.noisy)
        return signal * batch.target + spread * batch.noisy
    return v_of(process, batch.target, batch.noisy, batch.t)
