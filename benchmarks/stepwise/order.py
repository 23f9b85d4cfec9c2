"""Does the order of noisy states foretell that of the images? `python -m benchmarks.stepwise.order --out PICTURE`.

As figure 2 of TailorPO (arXiv 2502.01667), in the shapes world with a known taste. Two images of one prompt are ranked
at every step by what the model makes of them there, and at the end. So are two next states of one state, whose end is
the mean of two ways to go on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.rounds.one_shot import say
from benchmarks.rounds.tastes import Taste
from dspo_train.demo.run import MODEL
from dspo_train.drawing.charts import Chart, Line, draw_charts
from dspo_train.drawing.themes import LIGHT
from dspo_train.evaluate.shapes import captions
from dspo_train.images.decode import to_images
from dspo_train.models.base import load_base
from dspo_train.models.conditioning import Conditioning, cat
from dspo_train.models.transitions import Levels, between, clean_estimate, times, transition
from dspo_train.models.unet import predict
from dspo_train.scorers.toys import look

STEPS, GUIDANCE, ENDS, ROLLOUTS = 10, 2.0, 2, (1, 3)
RANKED = (1, 3, 5, 7, 9)  # levels at which states are ranked; 0 is noise alone


@dataclass
class Drawer:
    """Images of the embedded model, many at once."""

    taste: Taste
    prompts: list[str]
    seed: int = 0

    def __post_init__(self) -> None:
        self.base = load_base(MODEL)
        self.process, self.levels = self.base.process, times(self.base.process, STEPS)
        known = {text: self.base.encoder.prompts([text]) for text in dict.fromkeys(self.prompts)}
        words = cat([known[text] for text in self.prompts])
        empty = cat([self.base.encoder.prompts([""])] * len(self.prompts))
        self.both: Conditioning = cat([empty, words])
        self.generator = torch.Generator().manual_seed(self.seed)
        self.shape = (len(self.prompts), self.base.unet.config["in_channels"], 8, 8)

    def noise(self) -> Tensor:
        return torch.randn(self.shape, generator=self.generator)

    def predicted(self, state: Tensor, now: Levels) -> Tensor:
        given = state.repeat(2, 1, 1, 1), now.t.repeat(2 * len(state)), self.both
        without, prompted = predict(self.base.family, self.base.unet, *given).chunk(2)
        return without + GUIDANCE * (prompted - without)

    def rewards(self, clean: Tensor) -> np.ndarray:
        return np.array([self.taste(look(image)) for image in to_images(self.base.encoder.decode(clean))])

    def moved(self, state: Tensor, prediction: Tensor, number: int, eta: float = 1.0) -> Tensor:
        move = transition(self.process, self.levels[number], self.levels[number + 1], eta)
        mean = move.mean(state, prediction)
        return mean + move.std * self.noise() if move.std else mean

    def guess(self, state: Tensor, number: int, steps: int) -> np.ndarray:
        """The reward of what a state at a level leads to, in so many steps without noise."""
        prediction, left = self.predicted(state, self.levels[number]), between(self.levels, number, steps)
        for now, after in pairwise(left[:-1]):
            state = transition(self.process, now, after, 0.0).mean(state, prediction)
            prediction = self.predicted(state, after)
        return self.rewards(clean_estimate(self.process, left[-2], state, prediction))

    def end(self, state: Tensor, number: int) -> np.ndarray:
        """The reward of the image that a state at a level becomes, with fresh noise."""
        for level in range(number, STEPS):
            state = self.moved(state, self.predicted(state, self.levels[level]), level)
        return self.rewards(state)

    def path(self) -> list[Tensor]:
        """The states at every level."""
        states = [self.noise()]
        for number in range(STEPS):
            states.append(self.moved(states[-1], self.predicted(states[-1], self.levels[number]), number))
        return states


@torch.no_grad()
def agreements(drawer: Drawer) -> dict[str, list[float]]:
    """By what is ranked, the share of pairs that end in the same order, at the levels of `RANKED`."""
    first, second = drawer.path(), drawer.path()
    last = drawer.rewards(first[-1]) - drawer.rewards(second[-1])
    found: dict[str, list[float]] = {"two images": []} | {_sibling(steps): [] for steps in ROLLOUTS}
    for number in RANKED:
        apart = drawer.guess(first[number], number, 1) - drawer.guess(second[number], number, 1)
        found["two images"].append(same(apart, last))
        before = first[number - 1]
        answer = drawer.predicted(before, drawer.levels[number - 1])
        one, other = (drawer.moved(before, answer, number - 1) for _ in range(2))
        ends = sum(drawer.end(one, number) - drawer.end(other, number) for _ in range(ENDS))
        for steps in ROLLOUTS:
            apart = drawer.guess(one, number, steps) - drawer.guess(other, number, steps)
            found[_sibling(steps)].append(same(apart, np.asarray(ends)))
    return found


def _sibling(steps: int) -> str:
    return f"two next states, {'at once' if steps == 1 else f'in {steps} steps'}"


def same(apart: np.ndarray, ends: np.ndarray) -> float:
    return float((np.sign(apart) == np.sign(ends)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Does the order of noisy states foretell that of the images?")
    parser.add_argument("--out", type=Path, default=Path("step_order.png"))
    parser.add_argument("--taste", type=int, default=4)
    parser.add_argument("--times", type=int, default=2, help="images of each of the world's prompts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    drawer = Drawer(Taste(arguments.taste), captions() * arguments.times)
    found = agreements(drawer)
    positions = np.array(
        [float(drawer.process.position(level.t[None])) for level in (drawer.levels[n] for n in RANKED)]
    )
    for name, shares in found.items():
        say(f"{name:26} " + "  ".join(f"{at:.2f}: {share:.0%}" for at, share in zip(positions, shares, strict=True)))
    colours = LIGHT.series
    lines = [
        Line(name, positions, np.array(shares), colours[n], dotted=True)
        for n, (name, shares) in enumerate(found.items())
    ]
    chart = Chart(
        "Same order as at the end",
        tuple(lines),
        reference=0.5,
        y_limits=(0.4, 1.02),
        x_limits=(1.0, 0.0),
        x_label="noise of the state",
        x_format=".1f",
    )
    legend = [(line.name, line.colour) for line in lines]
    title = "When can a noisy state be judged?"
    subtitle = f"{len(drawer.prompts)} pairs of each kind; half is chance"
    draw_charts([[chart]], title=title, subtitle=subtitle, legend=legend, size=(900, 560)).save(arguments.out)


if __name__ == "__main__":
    main()
