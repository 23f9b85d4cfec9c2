"""Images that are there already, collected into a set to be voted on: in groups of one prompt.

Images of equal size are compared with each other first: an image beside its own enlargement says nothing about taste.
The original bytes are stored. What a set already holds under the same prompt is not collected again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from .. import files
from ..exceptions import DatasetError
from ..images.integrity import ImageError, inspect_image
from ..preferences.ballots import MOST_SHOWN
from ..preferences.entries import MAX_IMAGES, QuestionSchedule, clean_prompt, digits
from ..preferences.images import image_name
from ..preferences.store import PreferenceStore
from ..preferences.types import NewImage
from .comfy_recipe import Recipe
from .image_metadata import LARGEST_FILE

GatherSchedule = Literal["auto", "all", "neighbours", "swiss"]
_TOGETHER = 4  # images in memory at once


class CancelledError(Exception):
    """Whoever waits for the images does not want the rest."""


@dataclass(frozen=True, slots=True)
class Pick:
    """An image file to collect, with the prompt to collect it under.

    Attributes:
        size: (width, height) in pixels.
        pixels: the hash in the image's stored name, where it is known, which saves decoding the image to find it.
        learned: told the hash otherwise.
    """

    path: Path
    prompt: str
    recipe: Recipe = field(default_factory=Recipe)
    size: tuple[int, int] = (0, 0)
    pixels: str | None = None
    learned: Callable[[str], None] | None = None


class _UnreadableError(DatasetError):
    """An image file is gone or damaged."""


@dataclass(slots=True)
class GatherReport:
    """What became of the picks.

    Attributes:
        groups: made; the others are numbers of images.
        already: in the set before under the same prompt, or picked twice.
        alone: the only new image of its prompt.
        unreadable: gone, damaged or too large.
        taken: the files whose pixels the set now holds.
    """

    groups: int = 0
    added: int = 0
    already: int = 0
    alone: int = 0
    unreadable: int = 0
    taken: list[Path] = field(default_factory=list)


Progress = Callable[[int, int], None]


def gather(
    folder: Path,
    picks: Sequence[Pick],
    schedule: GatherSchedule = "auto",
    *,
    open_store: Callable[[Path], PreferenceStore] = PreferenceStore,
    origin: str = "files",
    progress: Progress = lambda done, total: None,
    report: GatherReport | None = None,
) -> GatherReport:
    """Collect images into the set in `folder`, which is created when the first group is.

    A group is in the set whole or not at all: stopped at any moment and started again, it goes on.

    Args:
        schedule: `auto` splits a prompt's images into groups of at most 9, each image against every other; the others
            make groups of at most 64.
        open_store: how to open the set.
        origin: noted in each group's settings as `gathered`.
        progress: called with the images done and all; what it raises ends the collecting.
        report: filled in as the collecting goes on, for a caller that it ends early.

    Raises:
        RunError: the disk is full, or the set cannot be written.
        DatasetError: the set cannot be read.
    """
    work = _Work(folder, schedule, open_store, origin, progress, report or GatherReport(), len(picks))
    by_prompt: dict[str, list[Pick]] = {}
    for pick in picks:
        by_prompt.setdefault(clean_prompt(pick.prompt), []).append(pick)
    present = _present(folder, open_store)
    for prompt, of_prompt in by_prompt.items():
        work.collect(prompt, of_prompt, present.get(prompt, frozenset()))
    progress(len(picks), len(picks))
    return work.report


@dataclass
class _Work:
    folder: Path
    schedule: GatherSchedule
    open_store: Callable[[Path], PreferenceStore]
    origin: str
    progress: Progress
    report: GatherReport
    total: int
    done: int = 0

    def collect(self, prompt: str, picks: Sequence[Pick], present: frozenset[str]) -> None:
        """The images of one prompt; `present` are the hashes of those that the set has under it."""
        fresh: dict[str, Pick] = {}
        for pick, name in _named(picks):
            self.progress(self.done, self.total)
            if name is not None and name not in present and name not in fresh:
                fresh[name] = pick
                continue
            self.done += 1
            self.report.unreadable += name is None
            self.report.already += name is not None
            self.report.taken += [pick.path] if name in present else []
        groups = planned(fresh, self.schedule)
        for group in groups:
            self.progress(self.done, self.total)
            self._add(prompt, {name: fresh[name] for name in group})
            self.done += len(group)
        if not groups:
            self.report.alone += len(fresh)
            self.done += len(fresh)

    def _add(self, prompt: str, images: Mapping[str, Pick]) -> None:
        kind: QuestionSchedule = "all" if self.schedule == "auto" else self.schedule
        group = files.digest("gathered", prompt, kind, *sorted(images))[:32]
        lazy = cast("list[NewImage]", [_FromFile(pick) for pick in images.values()])
        settings = {**_shared(images.values()), "gathered": self.origin}
        store = self.open_store(self.folder)
        before = store.has_group(group)  # removed from the set, and stays so
        try:
            store.add_group(prompt, lazy, kind, settings, id=group)
        except _UnreadableError:
            self.report.unreadable += len(images)
            return
        self.report.groups += not before
        self.report.added += 0 if before else len(images)
        self.report.already += len(images) if before else 0
        self.report.taken += [pick.path for pick in images.values()]


def planned(images: Mapping[str, Pick], schedule: GatherSchedule) -> list[list[str]]:
    """The groups in which images of one prompt are compared, by their names; none of fewer than two images.

    Sizes with a single image come together in a group; if there is only one such, it joins another size.
    """
    most = MOST_SHOWN if schedule == "auto" else MAX_IMAGES
    by_size: dict[tuple[int, int], list[str]] = {}
    for name, pick in images.items():
        by_size.setdefault(pick.size, []).append(name)
    alike = [names for names in by_size.values() if len(names) > 1]
    odd = [name for names in by_size.values() if len(names) == 1 for name in names]
    if len(odd) > 1 or not alike:
        alike.append(odd)
    else:
        alike[0] += odd
    return [part for names in alike for part in _split(names, most) if len(part) > 1]


def _split(names: list[str], most: int) -> Iterator[list[str]]:
    """Consecutive parts of nearly equal length.

    >>> [len(part) for part in _split(["x"] * 10, 9)]
    [5, 5]
    """
    count = -(-len(names) // most)
    for number in range(count):
        yield names[number * len(names) // count : (number + 1) * len(names) // count]


def _present(folder: Path, open_store: Callable[[Path], PreferenceStore]) -> dict[str, frozenset[str]]:
    """prompt -> hashes of the images that the set has under it; nothing where there is no set."""
    found: dict[str, set[str]] = {}
    if folder.exists():
        for group in open_store(folder).groups():
            found.setdefault(group.prompt, set()).update(map(digits, group.names))
    return {prompt: frozenset(names) for prompt, names in found.items()}


def _named(picks: Sequence[Pick]) -> Iterator[tuple[Pick, str | None]]:
    """Each image with the hash of its pixels, or None where it cannot be read; decoded by several threads."""
    with ThreadPoolExecutor(min(_TOGETHER, os.cpu_count() or 1)) as pool:
        for start in range(0, len(picks), _TOGETHER):
            part = picks[start : start + _TOGETHER]
            yield from zip(part, pool.map(_name, part), strict=True)


def _name(pick: Pick) -> str | None:
    if pick.pixels is not None:
        return pick.pixels
    try:
        inspect_image(pick.path)
        name = digits(image_name(_bytes(pick.path)))
    except (DatasetError, ImageError):
        return None
    if pick.learned is not None:
        pick.learned(name)
    return name


def _bytes(path: Path) -> bytes:
    """
    Raises:
        _UnreadableError: the file is gone, too large or cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise _UnreadableError(f"{path}: cannot be read ({error.strerror or error}); collect it again") from error
    if len(data) > LARGEST_FILE:
        raise _UnreadableError(f"{path}: is over {LARGEST_FILE >> 20} MB; save it smaller")
    return data


class _FromFile:
    """A `NewImage` that is read when the store asks for it, so that a group need not fit into memory."""

    arm = None

    def __init__(self, pick: Pick) -> None:
        self._path, self.seed = pick.path, pick.recipe.seed

    @property
    def data(self) -> bytes:
        return _bytes(self._path)


def _shared(picks: Iterable[Pick]) -> dict[str, Any]:
    """The settings that all images of a group have in common."""
    first, *others = (dict(pick.recipe.settings) for pick in picks)
    return {name: value for name, value in first.items() if all(each.get(name) == value for each in others)}
