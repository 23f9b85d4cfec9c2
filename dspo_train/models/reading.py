"""A predicted noise told as v, so that an error weighs the same whatever a model predicts.

At the noisiest times nearly all of x_t is noise, so an error in the noise is next to nothing there, however wrong the
image is that it stands for: it is signal^2 times the error in v.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from .process import Ddpm, Process

_LEAST = 1e-3  # of the signal, for a schedule that ends without any


def in_v(process: Process) -> Process:
    """The process of the same model if it is read as v; a velocity is v already, but for a factor of 1/2 to 1."""
    if isinstance(process, Ddpm) and process.prediction == "epsilon":
        return replace(process, prediction="v_prediction")
    return process


def v_of(process: Process, prediction: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
    """v = (noise - spread x_t) / signal (Salimans & Ho 2022, appendix D), where `process` says that noise is predicted.

    (N, C, h, w), (N, C, h, w), (N,) -> (N, C, h, w)
    """
    if not isinstance(process, Ddpm) or process.prediction != "epsilon":
        return prediction
    signal, spread = process.levels(t, noisy)
    return (prediction - spread * noisy) / signal.clamp(min=_LEAST)
