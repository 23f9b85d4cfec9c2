"""The samplers' schedules, from diffusers, for a model's own noise process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from torch import Tensor

from ..exceptions import ConfigError
from .process import is_flow

Scheduler = Literal["dpm++", "ddim", "euler"]
SCHEDULERS: dict[Scheduler, tuple[Any, dict[str, Any]]] = {  # all deterministic: the only noise is the seed's
    "dpm++": (DPMSolverMultistepScheduler, {}),
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "euler": (EulerDiscreteScheduler, {}),
}
FLOW_SCHEDULERS: dict[Scheduler, tuple[Any, dict[str, Any]]] = {
    "dpm++": (DPMSolverMultistepScheduler, {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
    "euler": (FlowMatchEulerDiscreteScheduler, {}),
}
_SHIFT = {DPMSolverMultistepScheduler: "flow_shift", FlowMatchEulerDiscreteScheduler: "shift"}  # what each calls it


def make_scheduler(config: Mapping[str, Any], name: Scheduler, steps: int) -> Any:
    """A diffusers scheduler for a model's noise process; trailing spacing where the last step is pure noise.

    Raises:
        ConfigError: a scheduler that does not sample flow models, for a flow model.
    """
    if is_flow(config):
        return _flow_scheduler(config, name, steps)
    kind, options = SCHEDULERS[name]
    zero_snr = bool(config.get("rescale_betas_zero_snr"))
    scheduler = kind(
        num_train_timesteps=config.get("num_train_timesteps", 1000),
        beta_start=config["beta_start"],
        beta_end=config["beta_end"],
        beta_schedule=config.get("beta_schedule", "linear"),
        prediction_type=config.get("prediction_type", "epsilon"),
        rescale_betas_zero_snr=zero_snr,
        timestep_spacing="trailing" if zero_snr else config.get("timestep_spacing", "leading"),
        steps_offset=config.get("steps_offset", 0),
        **options,
    )
    scheduler.set_timesteps(steps)
    return scheduler


def _flow_scheduler(config: Mapping[str, Any], name: Scheduler, steps: int) -> Any:
    if name not in FLOW_SCHEDULERS:
        known = ", ".join(FLOW_SCHEDULERS)
        raise ConfigError(f"the scheduler {name!r} does not sample flow models; choose one of {known}")
    kind, options = FLOW_SCHEDULERS[name]
    scheduler = kind(**options, **{_SHIFT[kind]: float(config.get("shift", 1.0))})
    scheduler.set_timesteps(steps)
    return scheduler


def steps_taken(steps: int, strength: float) -> int:
    """How many of the steps are gone through: their last share for a strength below 1, at least one."""
    return max(1, round(strength * steps))


def times_from(scheduler: Any, strength: float) -> Tensor:
    """The times that are gone through, from the noisiest."""
    return scheduler.timesteps[-steps_taken(len(scheduler.timesteps), strength) :]


def begin_at(scheduler: Any, time: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """Clean latents as they are at one of the scheduler's times, in its own scale; it then steps on from there."""
    if hasattr(scheduler, "set_begin_index"):  # DDIM keeps no place of its own
        scheduler.set_begin_index(int((scheduler.timesteps == time).nonzero()[0]))
    add = scheduler.scale_noise if isinstance(scheduler, FlowMatchEulerDiscreteScheduler) else None
    times = time.expand(len(clean))
    return scheduler.add_noise(clean, noise, times) if add is None else add(clean, times, noise)  # type: ignore[arg-type]
