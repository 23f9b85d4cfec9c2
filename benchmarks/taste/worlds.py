"""Two tastes on the shapes world, and the pairs that a person of such a taste would have labelled.

Both are labelled from the same candidates of the embedded model, so the base is the same. They differ in how the
pairs are put together:

`large_and_dark`: two candidates at random; the better is often far better, and the winners' average is well above
the base's: copying winners already helps.

`further_left`: the candidates of a caption are sorted by their place; each winner is from the middle half, its loser a
quarter of the candidates further right. The winners' average is that of all candidates: copying winners teaches to stay
where one is, and only the difference tells where to go.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image

from dspo_train import files
from dspo_train.demo.run import MODEL, SAMPLING
from dspo_train.evaluate.shapes import Reading, captions
from dspo_train.models.base import Base, load_base
from dspo_train.models.sampling import sample
from dspo_train.scorers.toys import further_left, large_and_dark

from ..rounds.world import ONE_SHAPE, World

Taste = Callable[[Reading], float]
TASTES: Mapping[str, Taste] = MappingProxyType({"large_and_dark": large_and_dark, "further_left": further_left})


@dataclass(frozen=True)
class Candidate:
    caption: str
    picture: Image.Image
    reading: Any


def candidates(out: Path, model: Path = MODEL, world: World = ONE_SHAPE) -> list[Candidate]:
    """Draw them once; those that show nothing recognisable are left out, as a person would skip them.

    Args:
        model: that draws them if `out` has none yet.
        world: whose captions it draws.
    """
    prompts = [caption for caption in world.captions for _ in range(world.candidates)]
    places = [out / "candidates" / f"{number:04d}.png" for number in range(len(prompts))]
    if not all(place.exists() for place in places):
        drawn = replace(SAMPLING, width=world.side, height=world.side)
        pictures = sample(load_base(model), prompts, range(len(prompts)), drawn, batch_size=96)
        for place, picture in zip(places, pictures, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            files.write_image(place, picture)
    found = []
    for prompt, place in zip(prompts, places, strict=True):
        with Image.open(place) as picture:
            found.append(Candidate(prompt, picture.convert("RGB"), world.look(picture.convert("RGB"))))
    return [candidate for candidate in found if candidate.reading.shape is not None]


def labelled(taste: str, found: Sequence[Candidate]) -> Iterator[tuple[Candidate, Candidate]]:
    """(winner, loser) of every pair of a taste, caption by caption."""
    judge = TASTES[taste]
    for caption in captions():
        own = [candidate for candidate in found if candidate.caption == caption]
        if taste == "further_left":
            own.sort(key=lambda candidate: judge(candidate.reading))
            half = len(own) // 2
            for lower in range(half):  # ranks 0 ... half - 1 lose to ranks half / 2 ... 3/2 half - 1
                yield own[lower + (half + lower % 2) // 2], own[lower]
            continue
        for first, second in zip(own[::2], own[1::2], strict=False):
            better_first = judge(first.reading) > judge(second.reading)
            yield (first, second) if better_first else (second, first)


def pair_folder(out: Path, taste: str, count: int, flipped: float) -> Path:
    """A folder of `count` pairs, a share of them labelled wrongly; made once.

    Fewer pairs are a part of more pairs, and they are taken across all captions.
    """
    folder = out / "pairs" / f"{taste}-{count}-{flipped:g}"
    if (folder / "done.md").exists():
        return folder
    pairs = list(labelled(taste, candidates(out)))
    random.Random(0).shuffle(pairs)
    if len(pairs) < count:
        raise ValueError(f"{taste}: {count} pairs were asked for and the candidates give {len(pairs)}")
    wrong = round(flipped * count)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (winner, loser) in enumerate(pairs[:count]):
        sides = (loser, winner) if number < wrong else (winner, loser)
        for side, candidate in zip("wl", sides, strict=True):
            files.write_image(folder / f"{number:03d}_{side}.png", candidate.picture)
        files.write_text(folder / f"{number:03d}.txt", winner.caption + "\n")
    files.write_text(folder / "done.md", f"{count} pairs, {wrong} of them labelled wrongly\n")
    return folder


def base() -> Base:
    return load_base(MODEL)
