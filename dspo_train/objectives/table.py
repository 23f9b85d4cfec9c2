"""The objectives by name, and their arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from ..config.setting import check_range
from ..exceptions import ConfigError
from . import dspo, others
from .options import Loss, combine

if TYPE_CHECKING:
    from ..config import TrainConfig


@dataclass(frozen=True)
class Argument:
    """A number that an objective takes; `help` is one sentence for users."""

    default: float
    low: float
    high: float
    help: str


@dataclass(frozen=True)
class ObjectiveInfo:
    """An objective and what it needs.

    Attributes:
        has_loser: whether the loser's own gradient matters; otherwise it is measured without one.
        arguments: by name; the first is the one that a form with a single number offers.
        unpaired: whether winner and loser may be unrelated images.
        smallest_batch: fewest pairs per forward pass whose mean is a usable baseline for each of them.
        zero_gradient_at_reference: whether loss and gradient are zero at the reference, where every run begins.
        options_without_loser: options that otherwise need a loser but not with this objective.
        unit: of its margins, where `loss.unit` is auto; see `training.units`. Where it is words, its settings are to
            mean the same for every model, and errors are measured in v.
    """

    function: Callable[..., Tensor]
    has_loser: bool
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    unpaired: bool = False
    smallest_batch: int = 1
    zero_gradient_at_reference: bool = False
    options_without_loser: frozenset[str] = frozenset()
    unit: Literal["words", "model"] = "model"

    @property
    def own_number(self) -> str | None:
        """The argument that a form with a single number offers."""
        return next(iter(self.arguments), None)


_LEAST, _MOST = 1e-6, 1e7  # of a sharpness
_SHARPNESS = Argument(1000.0, _LEAST, _MOST, "factor on the mean-squared-error margin; 1000 to 2500 in published runs")
_PULL = Argument(0.9, 0.0, 0.999, "how far past the winners the target lies; 0 is `sft`")

OBJECTIVES: dict[str, ObjectiveInfo] = {
    "dspo": ObjectiveInfo(
        dspo.dspo,
        True,
        {
            "strength": Argument(
                100.0, 1e-3, 1e4, "how far past the reference the difference is carried: about 10 gentle, 100 strong"
            ),
            "loser_drift": Argument(
                0.25, 0.0, 10.0, "share of the loser's drift, which holds the model where there are only losers"
            ),
            "sharpness": Argument(
                1.4,
                0.0,
                _MOST,
                "how soon a pair counts as learned: 1.4 halves its weight at a margin of 0.8 of what words do; 0 never",
            ),
        },
        unit="words",
    ),
    "dspo_paper": ObjectiveInfo(
        dspo.dspo_paper, True, {"beta": Argument(0.001, 0.0, 1e5, "0.001, 0.01 or 0.05 in the paper")}
    ),
    "dspo_implicit": ObjectiveInfo(
        dspo.dspo_implicit,
        False,
        {
            "pull": _PULL,
            "sharpness": Argument(1000.0, _LEAST, _MOST, "how soon the pull fades as a pair is learned"),
        },
        options_without_loser=frozenset({"sharpness"}),
    ),
    "dspo_e": ObjectiveInfo(dspo.dspo_e, False, {"pull": _PULL}),
    "dspo_ref": ObjectiveInfo(
        dspo.dspo_ref,
        True,
        {"sharpness": _SHARPNESS, "bias": Argument(0.0, -1.0, 1.0, "subtracted from the weight of the drift")},
        zero_gradient_at_reference=True,
    ),
    "dspo_sdxl": ObjectiveInfo(
        dspo.dspo_sdxl,
        True,
        {"beta": Argument(5000.0, 0.0, 1e7, "twice the sharpness; 1000 to 5000 in published runs")},
    ),
    "diffusion_dpo": ObjectiveInfo(others.diffusion_dpo, True, {"sharpness": _SHARPNESS}),
    "ipo": ObjectiveInfo(
        others.ipo, True, {"tau": Argument(1000.0, 1e-3, 1e7, "each pair's margin is regressed to 1 / (2 tau)")}
    ),
    "diffusion_kto": ObjectiveInfo(
        others.diffusion_kto,
        True,
        {
            "sharpness": Argument(1000.0, _LEAST, _MOST, "the authors' beta"),
            "liked": Argument(0.5, 0.0, 1.0, "share of the liked images in the weight; 0.8 in the authors' runs"),
        },
        unpaired=True,
        smallest_batch=4,
    ),
    "mapo": ObjectiveInfo(
        others.mapo, True, {"beta": Argument(0.1, 0.0, 1e3, "weight of the push away from the losers")}
    ),
    "sft": ObjectiveInfo(others.sft, False, unpaired=True),
}


def find_objective(name: str) -> ObjectiveInfo:
    """Look up an objective.

    Raises:
        ConfigError: there is none of that name; the known ones are listed.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"unknown objective {name!r}; known: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


def bind(name: str, arguments: Mapping[str, float]) -> Loss:
    """An objective with the given arguments, the others at their defaults, ready to be applied to a batch.

    Raises:
        ConfigError: an unknown objective or argument, or a value out of its range.
    """
    info = find_objective(name)
    for key, value in arguments.items():
        if key not in info.arguments:
            known = ", ".join(info.arguments) or "none"
            raise ConfigError(f"objective {name!r} has no argument {key!r}; its arguments: {known}")
        argument = info.arguments[key]
        check_range(f"objective_args.{key}", value, argument.low, argument.high)
    return _bound(name, arguments)


def _bound(name: str, arguments: Mapping[str, float]) -> Loss:
    function, all_of_them = find_objective(name).function, arguments_of(name, arguments)
    return lambda errors: function(errors, **all_of_them)


def arguments_of(name: str, given: Mapping[str, float]) -> dict[str, float]:
    """All arguments with the values in use, defaults included, as a run records them."""
    return {**{key: argument.default for key, argument in find_objective(name).arguments.items()}, **given}


def arguments_in(config: TrainConfig) -> dict[str, float]:
    """`arguments_of` a run, with `loss.sharpness` in place of the objective's own; none if it is `auto`."""
    found, given = arguments_of(config.objective, config.objective_args), config.loss.sharpness
    if "sharpness" not in found or given is None:
        return found
    del found["sharpness"]
    return found if given == "auto" else {**found, "sharpness": given}


def unit_of(config: TrainConfig) -> Literal["words", "model"]:
    """What a run's margins are measured in."""
    given = config.loss.unit
    if config.stepwise.method != "off":  # a margin is a difference of log-probabilities there
        return "model"
    return find_objective(config.objective).unit if given == "auto" else given


def reading_of(config: TrainConfig) -> Literal["model", "v"]:
    """What a run's errors are measured in."""
    if config.stepwise.method != "off":  # a step's probability is the same whatever the network predicts
        return "model"
    if config.loss.errors == "auto":
        return "v" if find_objective(config.objective).unit == "words" else "model"
    return config.loss.errors


def check_objective(config: TrainConfig, *, unpaired: bool = False) -> None:
    """Check that a run's objective, its arguments and its options go together.

    Raises:
        ConfigError: they do not; the message says which and what to change.
    """
    bind(config.objective, config.objective_args)
    info = find_objective(config.objective)
    options = config.loss.options_needing_loser
    if not info.has_loser and (refused := [name for name in options if name not in info.options_without_loser]):
        raise ConfigError(
            f"`loss.{refused[0]}` needs an objective that trains on the loser, and {config.objective!r} does not; "
            f"leave it out, or use one of {', '.join(name for name, other in OBJECTIVES.items() if other.has_loser)}"
        )
    if _changes_nothing(config) and config.method == "full":
        raise ConfigError(
            f"`objective` {config.objective!r} has no gradient at the reference, where every run begins, so `method` "
            "full would change nothing, and there would be no LoRA to extract; choose another, such as dspo"
        )
    if config.loss.sharpness is not None and "sharpness" in config.objective_args:
        raise ConfigError("sharpness is given twice, as `objective_args.sharpness` and as `loss.sharpness`; give one")
    if unpaired:
        _check_unpaired(config, info)


def _check_unpaired(config: TrainConfig, info: ObjectiveInfo) -> None:
    if not info.unpaired:
        known = ", ".join(name for name, other in OBJECTIVES.items() if other.unpaired)
        raise ConfigError(
            f"`objective` {config.objective!r} compares the two images of a pair, but this folder holds unpaired liked "
            f"and disliked images; use one of {known}"
        )
    options = config.loss.options_needing_loser
    if refused := [name for name in options if name != "sharpness" or "sharpness" not in info.arguments]:
        raise ConfigError(f"`loss.{refused[0]}` compares the two images of a pair; leave it out for unpaired images")
    if config.loss.sharpness == "auto":
        raise ConfigError("`loss.sharpness` auto follows the margins of pairs, but there are none; give a number")
    if config.loss.min_snr is not None:
        raise ConfigError("`loss.min_snr` weights by the timestep that a pair shares; leave it out for unpaired images")


def warnings(config: TrainConfig) -> Iterator[str]:
    """What the user should know before a run that is possible but doubtful."""
    info = find_objective(config.objective)
    if _changes_nothing(config):
        yield (
            f"objective {config.objective!r} has no loss and no gradient at the reference, where every run begins, so "
            "this training changes nothing; choose another objective, such as dspo, or set `loss.sft_mix`"
        )
    if config.batch_size < info.smallest_batch:
        yield (
            f"objective {config.objective!r} compares every image with the mean of its forward pass, which is a poor "
            f"baseline at a `batch_size` of {config.batch_size}; use {info.smallest_batch} or more"
        )


def _changes_nothing(config: TrainConfig) -> bool:
    return find_objective(config.objective).zero_gradient_at_reference and not config.loss.sft_mix


def loss_of(config: TrainConfig) -> Callable[[float | None], Loss]:
    """A run's loss, checked once.

    Returns:
        From the value of `loss.sharpness` at a step, None if it is not set, to that step's loss.

    Raises:
        ConfigError: see `bind`.
    """
    bind(config.objective, config.objective_args)
    own = "sharpness" in find_objective(config.objective).arguments

    def at(sharpness: float | None) -> Loss:
        given = {} if sharpness is None or not own else {"sharpness": sharpness}
        loss = _bound(config.objective, {**config.objective_args, **given})
        return combine(loss, config.loss, sharpness=None if own else sharpness)

    return at
