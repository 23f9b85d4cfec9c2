"""Which pairs are held out from training, for measurement."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ..exceptions import ConfigError
from . import draws


def split(prompts: Sequence[str], share: float, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which pairs to train on and which to hold out, by whole prompts; case and spacing are ignored in prompts.

    Prompts are ordered by the seed and their own text alone, and each in turn is held out if that brings the number of
    held-out pairs nearer to the share. One pair more or less changes only the end of that list. With two prompts or
    more, each side has at least one.

    Args:
        prompts: of each pair.
        share: of the pairs to hold out, strictly between 0 and 1.

    Returns:
        Ascending indices of the training pairs and of the held-out ones.

    Raises:
        ConfigError: the share is out of range, or all pairs have one prompt.
    """
    if not 0 < share < 1:
        raise ConfigError(f"`held_out.share` must lie between 0 and 1, both excluded, to hold pairs out; got {share!r}")
    members: dict[str, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        members[normalised(prompt)].append(index)
    if len(members) < 2:
        raise ConfigError(
            f"`held_out.share` {share:g} needs pairs of two prompts or more, but the {len(prompts)} pairs have "
            f"{len(members)}; set `held_out.share` to 0, or add pairs of other prompts"
        )
    sizes = {prompt: len(members[prompt]) for prompt in sorted(members, key=lambda p: (_rank(seed, p), p))}
    held = sorted(index for prompt in _chosen(sizes, share * len(prompts)) for index in members[prompt])
    return tuple(sorted(set(range(len(prompts))) - set(held))), tuple(held)


def normalised(prompt: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())


def _rank(seed: int, prompt: str) -> int:
    return draws.number(seed, "held-out prompt", prompt)


def _chosen(sizes: Mapping[str, int], wanted: float) -> set[str]:
    """Some of the prompts, taken in order, with about `wanted` pairs; at least one, but not all."""
    chosen, count = set[str](), 0
    for prompt, size in sizes.items():
        if abs(count + size - wanted) < abs(count - wanted):
            chosen.add(prompt)
            count += size
    if not chosen:  # every prompt is too large: the smallest
        return {min(sizes, key=lambda prompt: abs(sizes[prompt] - wanted))}
    if len(chosen) == len(sizes):
        chosen.remove(min(sizes, key=lambda prompt: abs(count - sizes[prompt] - wanted)))
    return chosen
