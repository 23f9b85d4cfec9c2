"""What a person prefers, as comparisons of images: from a dataset, from rankings or from a set's votes."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..files import digest
from ..pairs import RatedImage, Scan
from ..preferences import Judged, PreferenceStore
from ..preferences.snapshot import SetSnapshot

FEWEST_RANDOM = 20
"""Decided pairs that were asked at random, below which all votes count in the estimate of accuracy."""
MOST = 2000
"""Comparisons made of liked and disliked images; more of the same images add little."""
BLOCKS = 20
"""Units that images without a common prompt are split into: each has enough of both kinds, and folds stay even."""


@dataclass(frozen=True)
class Comparisons:
    """P comparisons of N images.

    Attributes:
        images: their keys, in the order of the rows of features: paths, or names below the folder of a set.
        first, second: (P,) int64, rows.
        target: (P,) float64, the probability that the first is better: 1 where it won, 0.5 for a tie.
        prompt: (P,) the independent unit of every cross-validation.
        counted: (P,) bool, whether the comparison may count in the estimate of accuracy.
        prompts_of_images: (N,)
    """

    images: tuple[str, ...]
    first: np.ndarray
    second: np.ndarray
    target: np.ndarray
    prompt: tuple[str, ...]
    counted: np.ndarray
    prompts_of_images: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def decided(self) -> np.ndarray:
        """(P,) bool: not a tie."""
        return self.target != 0.5

    def narrowed(self, images: Collection[str]) -> Comparisons:
        """Only those of which both images are among these."""
        there = frozenset(images)
        of_images = dict(zip(self.images, self.prompts_of_images, strict=True))
        return collect((row for row in self._rows() if row[0] in there and row[1] in there), of_images)

    def renamed(self, images: Sequence[str]) -> Comparisons:
        """With other keys, in the same order."""
        return replace(self, images=tuple(images))

    def _rows(self) -> Iterator[tuple[str, str, float, str, bool]]:
        for row, prompt in enumerate(self.prompt):
            pair = self.images[int(self.first[row])], self.images[int(self.second[row])]
            yield (*pair, float(self.target[row]), prompt, bool(self.counted[row]))


def collect(
    rows: Iterable[tuple[str, str, float, str, bool]], prompts_of_images: Mapping[str, str] | None = None
) -> Comparisons:
    """Comparisons from (first, second, target, prompt, counted).

    Args:
        prompts_of_images: where an image's prompt is not that of its first comparison.
    """
    rows = list(rows)
    prompts: dict[str, str] = {}
    for first, second, _, prompt, _ in rows:
        prompts.setdefault(first, prompt)
        prompts.setdefault(second, prompt)
    prompts |= {image: prompt for image, prompt in (prompts_of_images or {}).items() if image in prompts}
    place = {image: row for row, image in enumerate(prompts)}
    return Comparisons(
        images=tuple(prompts),
        first=np.array([place[row[0]] for row in rows], dtype=np.int64),
        second=np.array([place[row[1]] for row in rows], dtype=np.int64),
        target=np.array([row[2] for row in rows], dtype=np.float64),
        prompt=tuple(row[3] for row in rows),
        counted=np.array([row[4] for row in rows], dtype=bool),
        prompts_of_images=tuple(prompts.values()),
    )


def from_scan(scan: Scan, seed: int = 0) -> Comparisons:
    """The pairs of a dataset; of liked and disliked images, each liked one against each disliked one of its prompt.

    Where all images of a prompt are liked, or all disliked, they are compared across prompts, within blocks of prompts
    that serve as the unit of cross-validation: no image is in two of them. At most about MOST are drawn.

    Raises:
        DatasetError: there is nothing to compare.
    """
    rows = scan.usable()
    if not scan.unpaired:
        return collect((str(pair.winner), str(pair.loser), 1.0, pair.prompt or pair.key, True) for pair in scan.pairs)
    prompts = {str(row.image): row.prompt for row in rows if isinstance(row, RatedImage)}
    return collect(_across(scan.liked, scan.disliked, seed), prompts)


def from_ranks(ranked: Sequence[tuple[str, Sequence[str]]]) -> Comparisons:
    """Each image against every later one, from (prompt, images with the best first)."""
    return collect(
        (better, worse, 1.0, prompt, True)
        for prompt, images in ranked
        for place, better in enumerate(images)
        for worse in images[place + 1 :]
    )


def from_store(store: PreferenceStore | SetSnapshot, at_random: Callable[[Judged], bool] | None = None) -> Comparisons:
    """Wins and ties that count in a set; images by their names below its folder.

    Pairs of which neither image is any good are left out: they do not say that the two are equal.

    Args:
        at_random: whether a pair was asked regardless of what was known of the taste. Only such pairs count in the
            estimate of accuracy, once FEWEST_RANDOM of them are decided, until all questions are answered. By default
            those that no guide chose.
    """
    judged = [it for it in store.judged(ties=True) if it.vote.outcome in ("win", "tie")]
    counted = [(at_random or _unguided)(it) for it in judged]
    few = sum(counts and it.winner is not None for it, counts in zip(judged, counted, strict=True)) < FEWEST_RANDOM
    everything = few or store.progress().open == 0
    return collect(
        (*it.images, 0.5 if it.winner is None else float(it.winner == it.images[0]), it.prompt, everything or counts)
        for it, counts in zip(judged, counted, strict=True)
    )


def _unguided(judged: Judged) -> bool:
    return not judged.vote.guided


def _across(
    liked: Sequence[RatedImage], disliked: Sequence[RatedImage], seed: int
) -> Iterable[tuple[str, str, float, str, bool]]:
    """Comparisons of liked with disliked images, block by block."""
    by_prompt: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, images in enumerate((liked, disliked)):
        for image in images:  # without a prompt, an image stands for itself
            by_prompt[image.prompt or str(image.image)][side].append(str(image.image))
    blocks = _blocks(by_prompt, seed)
    most = max(MOST // len(blocks), 1)
    for prompts in blocks:
        own = [(a, b) for prompt in prompts for a in by_prompt[prompt][0] for b in by_prompt[prompt][1]]
        if len(prompts) > 1:
            sides = [[image for prompt in prompts for image in by_prompt[prompt][side]] for side in (0, 1)]
            own = [(a, b) for a in sides[0] for b in sides[1]]
        draw = random.Random(digest(seed, *prompts))
        chosen = own if len(own) <= most else sorted(draw.sample(own, most))
        yield from ((a, b, 1.0, " | ".join(prompts), True) for a, b in chosen)


def _blocks(by_prompt: Mapping[str, tuple[list[str], list[str]]], seed: int) -> list[list[str]]:
    """Prompts with both kinds each by itself; those with one kind put together so that each block has both."""
    order = sorted(by_prompt, key=lambda prompt: digest(seed, prompt))
    whole = [[prompt] for prompt in order if all(by_prompt[prompt])]
    loved = [prompt for prompt in order if not by_prompt[prompt][1]]
    hated = [prompt for prompt in order if not by_prompt[prompt][0]]
    count = min(len(loved), len(hated), BLOCKS)
    mixed = [loved[start::count] + hated[start::count] for start in range(count)]
    if not mixed:  # one kind alone is left over: it joins prompts that have both
        for place, prompt in enumerate(loved + hated):
            whole[place % len(whole)].append(prompt)
    return whole + mixed
