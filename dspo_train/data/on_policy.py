"""Pairs of next states of one state, drawn by the policy that is trained on them.

A final image's rank need not hold for the noisy states that led to it (TailorPO, Ren et al., arXiv 2502.01667). So from
one state x_t several next states are drawn, each is scored by the image that it leads to, and the best and the worst
become a row of a `Batch`: x_t is what both are noised to, and their targets are the predictions with which the sampler
would have stepped to them. The difference of the log-probabilities of both steps,

    (x_w - x_l) (mean_policy - mean_reference) / std^2,

is then the margin of the objectives, with no gradient from two different states in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from ..config import DataSpec
from ..config.stepwise import StepwiseSpec
from ..exceptions import ConfigError
from ..models.conditioning import Conditioning
from ..models.denoiser import Denoiser
from ..models.process import Process
from ..models.transitions import Levels, Transition, between, clean_estimate, times, transition
from . import draws
from .batch import Batch
from .pair_source import EncodedPair, PairSource

_NEAR = 2e-3  # of the schedule: the steps of a DDPM are counted from 0, and its 0.099 stands for 0.1


class StepScorer(Protocol):
    """Scores clean latents; higher is better."""

    @property
    def odds(self) -> float:
        """What a difference of one is worth as log-odds of being preferred."""
        ...

    def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """Latents in model units (N, C, h, w), their prompts, and what the model is given. -> (N,) float32"""
        ...

    def slope(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """The gradient of each score with respect to its latents, (N, C, h, w).

        A call of its own, as the network may have to be in another state for it than for the steps to `clean`, also
        while blocks are recomputed. One that `check_steering` refuses for a push has none.
        """
        ...


@dataclass(frozen=True)
class Drawing:
    """What draws and judges.

    Attributes:
        watch: a second scorer, which is only measured.
        device: on which the policy predicts.
    """

    policy: Denoiser
    scorer: StepScorer
    watch: StepScorer | None
    device: torch.device | str


@dataclass(frozen=True, kw_only=True)
class OnPolicySource:
    """Draws each step's batches by the policy as it is at that step; every draw is a function of its weights and of
    (seed, step, position in the step).

    Attributes:
        rows: the pairs whose prompts and shapes are drawn.
        figures: of the step that was drawn last; of several processes, each knows its own.
    """

    rows: PairSource
    spec: StepwiseSpec
    drawing: Drawing | None = None
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def words_every(self) -> int:
        return self.rows.words_every

    @property
    def per_step(self) -> int:
        """Rows per step, all processes together: for each image the transitions that are trained."""
        return self.rows.per_step * min(self.spec.plan.trained, len(self._window(self._process)))

    def by(self, drawing: Drawing) -> OnPolicySource:
        """The same prompts, drawn and judged by these."""
        return replace(self, drawing=drawing)

    @property
    def policy(self) -> Denoiser:
        """What draws, and is to be trained."""
        assert self.drawing is not None, "bind a policy first"
        return self.drawing.policy

    @property
    def _process(self) -> Process:
        return self.rows.process if self.drawing is None else self.drawing.policy.process

    def step(self, step: int) -> Iterator[Batch]:
        """This process's batches of a step (counted from 0), each of one shape and of one transition."""
        assert self.drawing is not None, "bind a policy first"
        levels = times(self._process, self.spec.steps)
        window = self._window(self._process)
        order = torch.randperm(len(window), generator=draws.generator(self.rows.seed, "transitions", step))
        chosen = {window[i] for i in order[: self.spec.plan.trained].tolist()}
        walks = []
        for rows in self.rows.groups(step):
            walk = Walk(self.rows, self.spec, self.drawing, step, rows, levels)
            yield from walk.batches(chosen)
            walks.append(walk)
        self.figures.clear()
        self.figures.update(_mean([walk.figures for walk in walks]))

    def _window(self, process: Process) -> list[int]:
        return window(process, self.spec, self.rows.data)


def window(process: Process, spec: StepwiseSpec, data: DataSpec) -> list[int]:
    """The steps of an image that may be trained; its last one adds no noise and has no probability.

    Raises:
        ConfigError: there is none.
    """
    levels, plan = times(process, spec.steps), spec.plan
    low, high = max(plan.low, data.least_noise), min(plan.high, data.most_noise)
    places = [float(process.position(level.t[None])) for level in levels[: spec.steps - 1]]
    inside = [number for number, place in enumerate(places) if low - _NEAR <= place <= high + _NEAR]
    if not inside:
        narrowed = data.least_noise > plan.low or data.most_noise < plan.high
        others = ", or widen `data.least_noise` and `data.most_noise`" if narrowed else ""
        raise ConfigError(
            f"{spec.method} trains between {low:g} and {high:g} of the schedule, but the steps of an image begin at "
            f"{', '.join(f'{place:.2f}' for place in places)}, the last one aside; draw with more of them{others}"
        )
    return inside


class Walk:
    """Images of one shape on their way from noise, a row each.

    Attributes:
        figures: `reward` and `watched`, the finished images' mean scores; `ranked`, the share of rows that count.
    """

    def __init__(
        self,
        rows: PairSource,
        spec: StepwiseSpec,
        drawing: Drawing,
        step: int,
        numbered: Sequence[tuple[int, int]],
        levels: list[Levels],
    ) -> None:
        self.source, self.spec, self.plan, self.drawing, self.step = rows, spec, spec.plan, drawing, step
        self.levels, self.process = levels, drawing.policy.process
        self.positions = [position for position, _ in numbered]
        self.pairs: list[EncodedPair] = [rows.pairs[row] for _, row in numbered]
        self.prompts = [pair.prompt for pair in self.pairs]
        given = [pair.caption for pair in self.pairs], [pair.frame for pair in self.pairs]
        self.conditioning = rows.encodings.conditioning(*given).to(drawing.device)
        self.generators = [draws.generator(rows.seed, "image", step, position) for position in self.positions]
        self.figures: dict[str, float] = {}
        self._ranked: list[float] = []

    def batches(self, chosen: set[int]) -> Iterator[Batch]:
        """Walk to the image, with a batch of each chosen transition on the way; a batch may be trained on before the
        next is drawn, as long as the weights stay.
        """
        moments = self.source.encodings.moments([self.pairs[0].winner], "plain")
        self._shape = (moments.shape[1] // 2, *moments.shape[2:])
        state = self._noise(1)[:, 0]
        prediction = self._predict(state, self.levels[0])
        for number, (now, after) in enumerate(pairwise(self.levels)):
            move = transition(self.process, now, after, self.spec.eta)
            if number in chosen:
                children = self._children(state, prediction, move, number + 1)
                yield self._batch(state, prediction, move, now, number + 1, children)
                row = torch.arange(len(state))
                pick = self._next(children.rewards)
                state, prediction = children.states[pick, row], children.predictions[pick, row]
                continue
            state = move.mean(state, prediction)
            if number + 1 < self.spec.steps:
                state = state + move.std * self._noise(1)[:, 0]
                prediction = self._predict(state, after)
        self._finish(state)

    def _children(self, state: Tensor, prediction: Tensor, move: Transition, level: int) -> Children:
        """Draw and score the pool, one child of each row at a time, so that no pass holds more than the rows."""
        noise = self._noise(self.plan.pool)
        states, predictions, rewards = [], [], []
        for child in noise.unbind(1):
            states.append(move.mean(state, prediction) + move.std * child)
            predictions.append(self._predict(states[-1], self.levels[level]))
            with torch.no_grad():
                clean = self._clean(states[-1], predictions[-1], level)
                rewards.append(self.drawing.scorer.score(clean, self.prompts, self.conditioning))
        return Children(noise.transpose(0, 1), torch.stack(states), torch.stack(predictions), torch.stack(rewards))

    def _clean(self, state: Tensor, prediction: Tensor, level: int) -> Tensor:
        """The image that a state leads to, by `rollout_steps` steps without noise."""
        left = between(self.levels, level, self.plan.rollout_steps)
        for now, after in pairwise(left[:-1]):
            state = transition(self.process, now, after, 0.0).mean(state, prediction)
            prediction = self.drawing.policy.predict(state, self._time(after), self.conditioning)
        return clean_estimate(self.process, left[-2], state, prediction)

    def _batch(
        self, state: Tensor, prediction: Tensor, move: Transition, now: Levels, level: int, children: Children
    ) -> Batch:
        """The best and the worst child of each state; where they are too near, the row counts for nothing."""
        row, rewards = torch.arange(len(state)), children.rewards
        best, worst = rewards.argmax(0), rewards.argmin(0)
        winner, loser = children.states[best, row], children.states[worst, row]
        if self.plan.push:
            winner = self._pushed(winner, move.std * children.noise[best, row], level)
        apart = rewards[best, row] - rewards[worst, row]
        surer = torch.tanh(self.drawing.scorer.odds * apart / 2)  # p - (1 - p), p = sigmoid of the log-odds
        counts = ((surer >= self.plan.gap) & (apart > 0)).float()
        self._ranked.append(float(counts.mean()))
        if self.plan.reach:
            sign = 1.0 if move.of_prediction > 0 else -1.0
            shift = sign * self.plan.reach * now.spread * (winner - loser) / (2 * move.std)
            targets, scale = (prediction + shift, prediction - shift), counts
        else:
            targets = move.target(state, winner), move.target(state, loser)
            scale = counts * move.likelihood
        words = [(p, pair.caption, pair.frame) for p, pair in zip(self.positions, self.pairs, strict=True)]
        return Batch(
            state.repeat(2, 1, 1, 1),
            torch.cat(targets),
            self._time(now).repeat(2),
            self.conditioning.twice(),
            others=self.source.others(self.step, words),
            scale=scale,
            twins=True,
        )

    def _pushed(self, winner: Tensor, noise: Tensor, level: int) -> Tensor:
        """TailorPO-G: further along the gradient of its own reward, by a share of the length of its noise."""
        with torch.enable_grad():
            moved = winner.detach().requires_grad_()
            prediction = self.drawing.policy.predict(moved, self._time(self.levels[level]), self.conditioning)
            clean = self._clean(moved, prediction, level)
            of_clean = self.drawing.scorer.slope(clean.detach(), self.prompts, self.conditioning)
            (slope,) = torch.autograd.grad(clean, moved, of_clean)
        lengths = [part.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for part in (noise, slope)]
        return winner + self.plan.push * lengths[0] * slope / lengths[1].clamp(min=1e-12)

    def _next(self, rewards: Tensor) -> Tensor:
        """Which child of each row the image goes on from. (k, B) -> (B,)"""
        if self.plan.next == "random":
            picks = [torch.randint(self.plan.pool, (), generator=each) for each in self.generators]
            return torch.stack(picks)
        return (rewards.argmax(0) if self.plan.next == "best" else rewards.argmin(0)).cpu()

    def _finish(self, clean: Tensor) -> None:
        with torch.no_grad():
            for name, scorer in (("reward", self.drawing.scorer), ("watched", self.drawing.watch)):
                if scorer is not None:
                    self.figures[name] = float(scorer.score(clean, self.prompts, self.conditioning).mean())
        self.figures["ranked"] = sum(self._ranked) / max(1, len(self._ranked))

    def _noise(self, count: int) -> Tensor:
        """Standard normal, each row from its own generator on the CPU. -> (B, count, C, h, w)"""
        drawn = [torch.randn((count, *self._shape), generator=generator) for generator in self.generators]
        return torch.stack(drawn).to(self.drawing.device)

    def _predict(self, state: Tensor, level: Levels) -> Tensor:
        with torch.no_grad():
            return self.drawing.policy.predict(state, self._time(level), self.conditioning).float()

    def _time(self, level: Levels) -> Tensor:
        return level.t.to(self.drawing.device).repeat(len(self.pairs))


@dataclass(frozen=True)
class Children:
    """The next states of B states: noise, states and predictions (k, B, C, h, w), rewards (k, B)."""

    noise: Tensor
    states: Tensor
    predictions: Tensor
    rewards: Tensor


def _mean(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(each[name] for each in figures) / len(figures) for name in figures[0]} if figures else {}
