"""Ten tastes drawn at random, and the clicks of a person who has one.

A taste is a linear function of what an image shows, with weights drawn from a normal distribution and scaled to length
one. The first five are for choosing settings; only the other five are reported.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.taste.worlds import Candidate, candidates
from dspo_train import files

from .world import ONE_SHAPE, World

TUNED, REPORTED = tuple(range(5)), tuple(range(5, 10))


@dataclass(frozen=True)
class Taste:
    """One of the ten; its weights by quantity have a length of one."""

    number: int
    world: World = ONE_SHAPE

    @property
    def weights(self) -> dict[str, float]:
        names = tuple(self.world.quantities)
        drawn = torch.randn(10, len(names), generator=torch.Generator().manual_seed(2026), dtype=torch.float64)
        row = drawn[self.number] / drawn[self.number].norm()
        return dict(zip(names, row.tolist(), strict=True))

    def __call__(self, reading: Any) -> float:
        """The reward of an image by its reading, about a standard deviation among the base's images."""
        return self.of(vars(reading))

    def of(self, values: Mapping[str, Any]) -> float:
        """By a reading's quantities."""
        units = self.world.quantities
        return sum(w * (values[name] - units[name][0]) / units[name][1] for name, w in self.weights.items())

    def __str__(self) -> str:
        return ", ".join(f"{name} {weight:+.2f}" for name, weight in self.weights.items())


def clicks(taste: Taste, found: Sequence[Candidate], count: int, seed: int) -> list[tuple[Candidate, Candidate]]:
    """(winner, loser) of so many pairs, each of two images of one caption; all captions have equally many, within one.

    No image is in two pairs. The same seed gives the same pairs whatever the taste, and fewer are a part of more.
    """
    dice = random.Random(seed)
    pairs: list[list[tuple[Candidate, Candidate]]] = []
    for caption in taste.world.captions:
        own = [candidate for candidate in found if candidate.caption == caption]
        dice.shuffle(own)
        pairs.append(list(zip(own[::2], own[1::2], strict=False)))
    dice.shuffle(pairs)
    taken = [pair for row in itertools.zip_longest(*pairs) for pair in row if pair is not None][:count]
    if len(taken) < count:
        raise ValueError(f"{count} pairs were asked for, and the candidates give {len(taken)}")
    return [(a, b) if taste(a.reading) > taste(b.reading) else (b, a) for a, b in taken]


def pair_folder(out: Path, taste: Taste, count: int, seed: int) -> Path:
    """A folder of these clicks, made once."""
    folder = out / "clicks" / f"taste{taste.number}-{count}-{seed}"
    if (folder / "done.md").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for number, pair in enumerate(clicks(taste, candidates(out, world=taste.world), count, seed)):
        for side, candidate in zip("wl", pair, strict=True):
            files.write_image(folder / f"{number:03d}_{side}.png", candidate.picture)
        files.write_text(folder / f"{number:03d}.txt", pair[0].caption + "\n")
    files.write_text(folder / "done.md", f"{count} pairs of taste {taste.number}: {taste}\n")
    return folder
