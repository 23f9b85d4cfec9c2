"""From one noise level to a lower one: the stochastic steps of a sampler as Gaussians whose means are linear in the
model's prediction.

For x_t = signal x_0 + spread noise and a model that gives estimates x0 and n of both, one step of DDIM with eta
(Song et al. 2021, eq. 12 and 16, there for signal^2 + spread^2 = 1) draws

    x' = signal' x0 + sqrt(spread'^2 - std^2) n + std z,
    std^2 = eta^2 (spread' / spread)^2 (spread^2 - (signal / signal')^2 spread'^2).

At eta 1, std^2 is the variance of x' given x_t and x_0, for a straight flow as for a DDPM. A flow of small steps dt is
then the SDE of Flow-GRPO (Liu et al. 2025) with its noise level a = eta sqrt(2): std^2 = a^2 t / (1 - t) dt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .process import Ddpm, Flow, Process


@dataclass(frozen=True)
class Levels:
    """A time: what a model is given, and how much of image and noise there is."""

    t: Tensor
    signal: float
    spread: float


@dataclass(frozen=True)
class Transition:
    """x' ~ N(of_state x + of_prediction p, std^2), for a state x and the model's prediction p there."""

    of_state: float
    of_prediction: float
    std: float

    def mean(self, state: Tensor, prediction: Tensor) -> Tensor:
        return self.of_state * state + self.of_prediction * prediction

    def target(self, state: Tensor, after: Tensor) -> Tensor:
        """The prediction with which `after` would be the mean."""
        return (after - self.of_state * state) / self.of_prediction

    @property
    def likelihood(self) -> float:
        """What turns a mean squared error of the prediction against `target` into -log p per element:
        (x' - mean)^2 / (2 std^2) = likelihood (target - prediction)^2.
        """
        return self.of_prediction**2 / (2 * self.std**2)


def times(process: Process, steps: int) -> list[Levels]:
    """`steps` noise levels from the noisiest down, evenly over the schedule, and the clean image after them."""
    positions = [1 - number / steps for number in range(steps)]
    if isinstance(process, Ddpm):
        indices = [round(position * process.steps) - 1 for position in positions]
        found = [(torch.tensor(index), float(process.alphas_cumprod[index])) for index in indices]
        levels = [Levels(t, squared**0.5, (1 - squared) ** 0.5) for t, squared in found]
    else:
        assert isinstance(process, Flow)
        levels = [flow_level(process.time(position)) for position in positions]
    return [*levels, Levels(torch.zeros_like(levels[0].t), 1.0, 0.0)]


def flow_level(time: float) -> Levels:
    return Levels(torch.tensor(time), 1 - time, time)


def between(levels: list[Levels], first: int, count: int) -> list[Levels]:
    """Of a schedule, level `first`, at most `count` - 1 others spread over what follows, and the clean image."""
    last = len(levels) - 1
    count = min(count, last - first)
    return [levels[first + round(part * (last - first) / count)] for part in range(count)] + [levels[last]]


def transition(process: Process, now: Levels, after: Levels, eta: float) -> Transition:
    """The step from one level to a less noisy one."""
    clean, noise = estimates(process, now)
    ratio = now.signal / after.signal
    variance = max(0.0, now.spread**2 - ratio**2 * after.spread**2)
    std = eta * after.spread / now.spread * variance**0.5
    kept = max(0.0, after.spread**2 - std**2) ** 0.5
    return Transition(
        after.signal * clean[0] + kept * noise[0],
        after.signal * clean[1] + kept * noise[1],
        std,
    )


def estimates(process: Process, now: Levels) -> tuple[tuple[float, float], tuple[float, float]]:
    """The estimates of x_0 and of the noise, each as factors of the state and of the prediction."""
    signal, spread = now.signal, now.spread
    if process.prediction == "epsilon":
        return (1 / signal, -spread / signal), (0.0, 1.0)
    if process.prediction == "v_prediction":
        return (signal, -spread), (spread, signal)
    return (1.0, -spread), (1.0, signal)


def clean_estimate(process: Process, now: Levels, state: Tensor, prediction: Tensor) -> Tensor:
    """x0, what the model makes of a state."""
    (of_state, of_prediction), _ = estimates(process, now)
    return of_state * state + of_prediction * prediction
