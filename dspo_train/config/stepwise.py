"""Step-wise preferences: the model's own steps are ranked, each against others from the same state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

from ..exceptions import ConfigError
from .setting import SettingGroup, Shown, setting

Stepwise = Literal["off", "tailorpo", "tailorpo_g", "spo", "gradspo"]
Next = Literal["random", "best", "worst"]


@dataclass(frozen=True)
class Plan:
    """How a step's pairs are drawn; the settings of `StepwiseSpec` by the same names, settled.

    Attributes:
        low, high: the part of the schedule whose steps are trained.
    """

    pool: int
    next: Next
    push: float
    rollout_steps: int
    gap: float
    reach: float
    trained: int
    low: float
    high: float


# TailorPO (Ren et al., arXiv 2502.01667) ranks two steps and goes on from the better. Its constants are not public: a
# quarter of 20 steps, none of the noisiest, at which the image cannot be judged yet, and not the last two. SPO (Liang
# et al., CVPR 2025) and GradSPO (NeurIPS 2025) as in their code for SD 1.5, without SPO's clipped ratios and without
# GradSPO's averaged copy of the policy.
METHODS: Mapping[str, Plan] = {
    "tailorpo": Plan(2, "best", 0.0, 1, 0.0, 0.0, 5, 0.1, 0.75),
    "tailorpo_g": Plan(2, "best", 0.5, 1, 0.0, 0.0, 5, 0.1, 0.75),
    "spo": Plan(4, "random", 0.0, 1, 0.3, 0.0, 15, 0.0, 0.8),
    "gradspo": Plan(4, "random", 0.0, 1, 0.3, 0.5, 15, 0.0, 0.8),
}


@dataclass(frozen=True)
class StepwiseSpec(SettingGroup, name="stepwise"):
    """Training on steps that the model draws itself; `plan` settles what is not given."""

    method: Stepwise = setting(
        "off",
        "Trains on steps that the model draws itself, several from one state and ranked by what they lead to, in place "
        "of finished images: tailorpo, tailorpo_g (which follows the scorer's gradient), spo and gradspo are named "
        "settings; off trains on the pairs.",
        shown=Shown("options", 17, "stepwise", folded=True),
    )
    scorer: str = setting(
        "taste", "What ranks the steps: taste is learned from the pairs; others are listed by `score --scorer list`."
    )
    watch: str = setting(
        "",
        "A second scorer that is measured and not trained on, so that a reward that is only gamed shows; by default "
        "what the taste is sure of.",
    )
    pool: int | None = setting(
        None,
        "How many next states are drawn of each state and ranked.",
        2,
        64,
        shown=Shown("options", 18, "stepwise_pool", blank=0, empty="the method's", example="4", folded=True),
    )
    next: Next | None = setting(
        None,
        "From which of them the image goes on.",
        shown=Shown("options", 19, "stepwise_next", blank="the method's", folded=True),
    )
    push: float | None = setting(
        None,
        "Moves the better state further along the scorer's gradient, by this share of the step's own noise "
        "(TailorPO-G); 0 does not.",
        0.0,
        10.0,
        shown=Shown("options", 20, "stepwise_push", blank=0.0, empty="the method's", example="0.5", folded=True),
    )
    rollout_steps: int | None = setting(
        None,
        "Denoising steps to the image by which a state is judged: 1 takes the model's guess at once; 3 to 5 judge "
        "noisy states better and take longer.",
        1,
        100,
    )
    gap: float | None = setting(
        None,
        "Leaves out states whose best and worst successor are nearer than this: the scorer's probability that the one "
        "is better than the other, less that of the contrary.",
        0.0,
        0.99,
    )
    reach: float | None = setting(
        None,
        "How far from the prediction the targets lie, as a share of the noise there (GradSPO, 0.5); 0 takes the states "
        "themselves and weighs them by their probability.",
        0.0,
        10.0,
    )
    trained: int | None = setting(None, "How many steps of each image are trained, drawn anew each time.", 1, 1000)
    steps: int = setting(20, "Denoising steps of each image.", 2, 1000)
    guidance: float = setting(5.0, "Classifier-free guidance of the images; 1 takes half of the time.", 1.0, 100.0)
    eta: float = setting(
        1.0, "How much noise each step adds: 1 is as much as the forward process takes away (DDIM's eta).", 0.01, 1.0
    )

    def check_together(self) -> None:
        given = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
        if self.method == "off" and given:
            raise ConfigError(f"`stepwise.{given[0]}` needs a method; set `stepwise.method`, for example tailorpo")

    @property
    def plan(self) -> Plan:
        """The method's settings with those that are given in their place."""
        given = {name: getattr(self, name) for name in _OF_PLAN}
        return replace(METHODS[self.method], **{name: value for name, value in given.items() if value is not None})


_OF_PLAN = ("pool", "next", "push", "rollout_steps", "gap", "reach", "trained")
