"""The noising process of a MODEL, read from its `model_sampling`."""

from __future__ import annotations

import math
from typing import Any

import comfy.model_sampling as kinds
from torch import Tensor

from ...dspo_train.exceptions import ModelError
from ...dspo_train.models.families import Prediction
from ...dspo_train.models.process import Ddpm, Flow, Process

_DENOISED: tuple[tuple[Any, Prediction], ...] = (
    (kinds.EPS.calculate_denoised, "epsilon"),
    (kinds.V_PREDICTION.calculate_denoised, "v_prediction"),
    (kinds.CONST.calculate_denoised, "flow"),
)


def process_of(sampling: Any) -> Process:
    """
    Args:
        sampling: an object that ComfyUI or one of its nodes made of two classes: noise levels and prediction type.

    Raises:
        ModelError: a combination that cannot be trained.
    """
    kind = type(sampling)
    prediction = next((name for method, name in _DENOISED if kind.calculate_denoised is method), None)
    if prediction == "flow" and getattr(sampling, "noise_scale", 1.0) == 1.0:
        if kind.sigma is kinds.ModelSamplingDiscreteFlow.sigma:
            return Flow(shift=float(sampling.shift))
        if kind.sigma is kinds.ModelSamplingFlux.sigma:  # its shift is the logarithm of the other's
            return Flow(shift=math.exp(float(sampling.shift)))
    elif prediction in ("epsilon", "v_prediction") and kind.sigma is kinds.ModelSamplingDiscrete.sigma:
        return Ddpm(1 / (1 + sampling.sigmas.detach().cpu().double().square()), prediction)
    found = " and ".join(base.__name__ for base in kind.__bases__)
    raise ModelError(
        f"the wired model samples by {found}, which cannot be trained; wire a model with epsilon, v or flow prediction"
    )


def sigmas(process: Process, t: Tensor) -> Tensor:
    """ComfyUI's noise levels of a process's times. (N,) -> (N,) float32"""
    if isinstance(process, Ddpm):
        signal_squared = process.alphas_cumprod[t.cpu()]
        return ((1 - signal_squared) / signal_squared).sqrt().float().to(t.device)
    return t.float()


def scaled(process: Process, noisy: Tensor, sigma: Tensor) -> Tensor:
    """x_t as ComfyUI's samplers hold it: clean + sigma noise for DDPM, which the model scales down again."""
    if not isinstance(process, Ddpm):
        return noisy
    return noisy * (sigma.square() + 1).sqrt().view(-1, *[1] * (noisy.ndim - 1))
