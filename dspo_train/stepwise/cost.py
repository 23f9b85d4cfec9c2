"""What a step on the policy's own images takes, told before a run."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.stepwise import StepwiseSpec
from ..scorers.table import ScorerRow, scorer_row
from .steering import ON_LATENTS, watch_of

OF_PAIRS = 8.0  # passes' worth of a step on one pair: two images as policy, forward and backward, and as reference
BACKWARD = 2.0  # times a forward pass


@dataclass(frozen=True)
class Cost:
    """For each image of a step, at most: a rollout from a late state is shorter.

    Attributes:
        drawn: passes of the network to draw and to judge, without a gradient.
        graded: passes with a gradient.
        decoded: latents that the VAE decodes.
    """

    drawn: int
    graded: int
    decoded: int

    @property
    def of_pairs(self) -> float:
        """Times the passes of a step on one pair."""
        return (self.drawn + self.graded * (1 + BACKWARD)) / OF_PAIRS

    def __str__(self) -> str:
        judged = f"; {self.decoded} images are decoded and scored besides" if self.decoded else ""
        return (
            f"each image of a step takes up to {self.drawn + self.graded} passes of the network, {self.graded} of them "
            f"with a gradient: about {self.of_pairs:.0f} times the work of a pair{judged}"
        )


def cost_of(spec: StepwiseSpec, trained: int) -> Cost:
    """
    Args:
        trained: transitions of each image that are trained.
    """
    plan, passes = spec.plan, 2 if spec.guidance > 1 else 1
    rolled = rollout_of(spec) - 1
    policy = spec.steps + trained * (plan.pool - 1 + plan.pool * rolled) + trained  # the last: as the reference
    pushed = trained * (1 + rolled) if plan.push else 0
    scored, watched = trained * plan.pool + 1, 1 if watch_of(spec) else 0
    of_features = (scored if spec.scorer in ON_LATENTS else 0) + (watched if watch_of(spec) in ON_LATENTS else 0)
    decoded = (scored if spec.scorer not in ON_LATENTS else 0) + (watched if watch_of(spec) not in ON_LATENTS else 0)
    steered = trained if plan.push and spec.scorer in ON_LATENTS else 0
    return Cost(policy * passes + of_features, (trained + pushed) * passes + steered, decoded)


def rollout_of(spec: StepwiseSpec) -> int:
    """Steps by which a state is judged: at most those that are left after an image's first."""
    return min(spec.plan.rollout_steps, spec.steps - 1)


def held_by_scorers(spec: StepwiseSpec) -> int:
    """Bytes of the weights of what judges images, beside the network."""
    return sum(row.held for row in _of_images(spec))


def graph_of_scorer(spec: StepwiseSpec) -> int:
    """Bytes that a push along the score of an image keeps of the scorer; 0 if it is of latents."""
    return 0 if spec.scorer in ON_LATENTS or not spec.plan.push else scorer_row(spec.scorer).graph


def _of_images(spec: StepwiseSpec) -> list[ScorerRow]:
    return [scorer_row(name) for name in (spec.scorer, watch_of(spec)) if name and name not in ON_LATENTS]
