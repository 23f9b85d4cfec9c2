"""Optimisers, the learning rate of a step, and an optimiser's state as plain tensors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ..config import OptimSpec
from ..exceptions import ConfigError, RunError


def build(parameters: Mapping[str, Parameter], spec: OptimSpec) -> torch.optim.Optimizer:
    """Make the optimiser, in whose groups `share` is that of the learning rate.

    Args:
        parameters: by name, a LoRA's as `Adapter.parameters` has them.

    Raises:
        ConfigError: 8-bit AdamW needs bitsandbytes, which is not installed.
    """
    arguments: dict[str, Any] = {
        "lr": spec.lr,
        "betas": (spec.beta1, spec.beta2),
        "eps": spec.eps,
        "weight_decay": spec.weight_decay,
    }
    groups = _groups(parameters, spec.width)
    if spec.name == "adamw":
        return torch.optim.AdamW(groups, **arguments)
    try:
        import bitsandbytes  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            "`optim.name` adamw8bit needs the bitsandbytes package, which is not installed; "
            "install it, or use `optim.name` adamw"
        ) from error
    return bitsandbytes.optim.AdamW8bit(groups, **arguments)


def _groups(parameters: Mapping[str, Parameter], width: int) -> list[dict[str, Any]]:
    down = [parameter for name, parameter in parameters.items() if _is_down(name)]
    rest = [parameter for name, parameter in parameters.items() if not _is_down(name)]
    groups = [{"params": down, "share": share_of_down(parameters, width)}, {"params": rest, "share": 1.0}]
    return [group for group in groups if group["params"]]


def share_of_down(parameters: Mapping[str, Parameter], width: int) -> float:
    """The share of the learning rate that a LoRA's down matrices get: width / inputs, and all of it up to that width.

    A step of Adam changes every weight by about the rate, and what a down matrix passes on by that times its inputs, so
    that a wide model moves further. At a rate of one over the inputs it does not (LoRA+, Hayou et al. 2024, section 4).

    Args:
        width: inputs, of which the layers' geometric mean is taken; 0: all of the rate at any width.

    >>> wide = {"layer.down": Parameter(torch.zeros(4, 32)), "layer.up": Parameter(torch.zeros(64, 4))}
    >>> share_of_down(wide, 8), share_of_down(wide, 64), share_of_down(wide, 0)
    (0.25, 1.0, 1.0)
    """
    inputs = [parameter[0].numel() for name, parameter in parameters.items() if _is_down(name)]
    if not (width and inputs):
        return 1.0
    return min(1.0, width / statistics.geometric_mean(inputs))


def _is_down(name: str) -> bool:
    return name.endswith(".down")


# Share of the peak learning rate, by progress from 0 (end of the warm-up) to 1 (last step).
_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}


def learning_rate(spec: OptimSpec, step: int, steps: int) -> float:
    """The rate of a step, counted from 0; a function of the step alone, so there is no schedule state to save.

    >>> [learning_rate(OptimSpec(lr=1.0, warmup=2, schedule="linear"), s, 6) for s in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < spec.warmup:
        return spec.lr * (step + 1) / spec.warmup
    return spec.lr * _SCHEDULES[spec.schedule]((step - spec.warmup) / (steps - spec.warmup))


def state_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state by `<parameter index>.<name>`; numbers become 0-d float64 tensors."""
    flat = {}
    for index, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            flat[f"{index}.{name}"] = (
                value.detach().cpu() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            )
    return flat


def load_state(optimiser: torch.optim.Optimizer, flat: Mapping[str, Tensor]) -> None:
    """Restore what `state_tensors` gave, before the first step.

    Raises:
        RunError: the state belongs to another optimiser or to another number of parameters.
    """
    if not flat:  # saved before the optimiser's first step: with fp16 the scaler skips the first ones
        return
    state: dict[int, dict[str, Any]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value if value.dtype != torch.float64 else value.item()
    whole = optimiser.state_dict()
    count = sum(len(group["params"]) for group in whole["param_groups"])
    if sorted(state) != list(range(count)):
        raise RunError(
            f"the saved optimiser state is for {len(state)} tensors, but this run trains {count}; choose a new folder"
        )
    optimiser.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
