"""The objectives by name, and their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..exceptions import ConfigError
from . import dspo, others
from .options import Loss, combine

if TYPE_CHECKING:
    from ..config import TrainConfig


@dataclass(frozen=True)
class ObjectiveInfo:
    """An objective and what it needs.

    Attributes:
        has_loser: whether the loser's own gradient matters; otherwise it is measured without one.
        ranges: of each argument.
        unpaired: whether winner and loser may be unrelated pictures.
        least_batch: pairs of a forward pass below which the mean over them, which each is compared with, says little.
        stays: whether loss and gradient are zero at the reference, where every run begins.
    """

    function: Callable[..., Tensor]
    has_loser: bool
    ranges: Mapping[str, tuple[float, float]]
    unpaired: bool = False
    least_batch: int = 1
    stays: bool = False


_SHARPNESS = (1e-6, 1e7)
# Options that an objective knows though the loser has no gradient in it.
_WITHOUT = {("sharpness", "dspo_implicit")}

OBJECTIVES: dict[str, ObjectiveInfo] = {
    "dspo": ObjectiveInfo(
        dspo.dspo, True, {"strength": (1e-3, 1e4), "loser_drift": (0.0, 10.0), "sharpness": (0.0, _SHARPNESS[1])}
    ),
    "dspo_paper": ObjectiveInfo(dspo.dspo_paper, True, {"beta": (0.0, 1e5)}),
    "dspo_implicit": ObjectiveInfo(dspo.dspo_implicit, False, {"pull": (0.0, 0.999), "sharpness": _SHARPNESS}),
    "dspo_e": ObjectiveInfo(dspo.dspo_e, False, {"pull": (0.0, 0.999)}),
    "dspo_ref": ObjectiveInfo(dspo.dspo_ref, True, {"bias": (-1.0, 1.0), "sharpness": _SHARPNESS}, stays=True),
    "dspo_sdxl": ObjectiveInfo(dspo.dspo_sdxl, True, {"beta": (0.0, 1e7)}),
    "diffusion_dpo": ObjectiveInfo(others.diffusion_dpo, True, {"sharpness": _SHARPNESS}),
    "ipo": ObjectiveInfo(others.ipo, True, {"tau": (1e-3, 1e7)}),
    "diffusion_kto": ObjectiveInfo(
        others.diffusion_kto, True, {"sharpness": _SHARPNESS, "liked": (0.0, 1.0)}, unpaired=True, least_batch=4
    ),
    "mapo": ObjectiveInfo(others.mapo, True, {"beta": (0.0, 1e3)}),
    "sft": ObjectiveInfo(others.sft, False, {}, unpaired=True),
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


def arguments_in(config: TrainConfig) -> dict[str, float]:
    """`arguments_of` a run, with `loss.sharpness` in the place of the objective's own; none where that is `auto`."""
    found, given = arguments_of(config.objective, config.objective_args), config.loss.sharpness
    if "sharpness" not in found or given is None:
        return found
    del found["sharpness"]
    return found if given == "auto" else {**found, "sharpness": given}


def check(config: TrainConfig, *, unpaired: bool = False) -> None:
    """Do the objective, its arguments and the options of a run go together?

    Raises:
        ConfigError: they do not; which and what to change.
    """
    bind(config.objective, config.objective_args)
    info = find(config.objective)
    options = config.loss.speaks_of_losers
    if not info.has_loser and (refused := [name for name in options if (name, config.objective) not in _WITHOUT]):
        raise ConfigError(
            f"loss.{refused[0]} needs an objective that trains on the loser, and {config.objective!r} does not; "
            f"leave it out, or use one of {', '.join(name for name, other in OBJECTIVES.items() if other.has_loser)}"
        )
    if _changes_nothing(config) and config.method == "full":
        raise ConfigError(
            f"objective {config.objective!r} has no gradient at the reference, where every run begins, so method full "
            "would change nothing, and there would be no LoRA to extract; choose another objective, such as dspo"
        )
    if config.loss.sharpness is not None and "sharpness" in config.objective_args:
        raise ConfigError("sharpness is given twice, as the objective's own and as loss.sharpness; give one")
    if unpaired and not info.unpaired:
        known = ", ".join(name for name, other in OBJECTIVES.items() if other.unpaired)
        raise ConfigError(
            f"objective {config.objective!r} compares the two pictures of a pair, and this folder holds liked and "
            f"disliked pictures without pairs; use one of {known}"
        )
    if unpaired and (refused := [name for name in options if name != "sharpness" or "sharpness" not in info.ranges]):
        raise ConfigError(f"loss.{refused[0]} compares the two pictures of a pair; leave it out for unpaired pictures")
    if unpaired and config.loss.sharpness == "auto":
        raise ConfigError("loss.sharpness auto follows the margins of pairs, and there are none; give a number")
    if unpaired and config.loss.min_snr is not None:
        raise ConfigError("loss.min_snr weighs by the timestep that a pair shares; leave it out for unpaired pictures")


def warnings(config: TrainConfig) -> Iterator[str]:
    """What its owner should know of a run that nothing forbids, before it begins."""
    info = find(config.objective)
    if _changes_nothing(config):
        yield (
            f"objective {config.objective!r} has no loss and no gradient at the reference, where every run begins, so "
            "this training changes nothing; choose another objective, such as dspo, or mix in loss.sft_mix"
        )
    if config.batch_size < info.least_batch:
        yield (
            f"objective {config.objective!r} compares every picture with the mean of its forward pass, which says "
            f"little with a batch_size (pairs at once) of {config.batch_size}; {info.least_batch} or more are better"
        )


def _changes_nothing(config: TrainConfig) -> bool:
    return find(config.objective).stays and not config.loss.sft_mix


def loss_of(config: TrainConfig, sharpness: float | None = None) -> Loss:
    """A run's loss for one step.

    Args:
        sharpness: what `loss.sharpness` amounts to at this step, None where it was not given.
    """
    own = "sharpness" in find(config.objective).ranges
    arguments = dict(config.objective_args)
    if own and sharpness is not None:
        arguments["sharpness"] = sharpness
    return combine(bind(config.objective, arguments), config.loss, sharpness=None if own else sharpness)
