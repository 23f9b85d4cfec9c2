"""Images grouped by the prompt they were drawn from, as far as their files have been read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .. import files
from .comfy_recipe import Recipe
from .image_files import ImageFile
from .image_index import ImageIndex

NO_PROMPT = "none"
"""The key of the group of images without a prompt."""


class AlbumImage(NamedTuple):
    """`key`: of the file in the index. `size`: (width, height) in pixels."""

    file: ImageFile
    key: str
    recipe: Recipe
    size: tuple[int, int]


class AlbumGroup(NamedTuple):
    """Images of one prompt, newest first. The key is a hash of the prompt."""

    key: str
    prompt: str
    images: tuple[AlbumImage, ...]


class Album(NamedTuple):
    """Groups of two images or more, then single ones, newest first in either.

    Attributes:
        read: files that were looked at so far, of `total`.
        unusable: files that are no whole image of PNG, JPEG or WebP, or too large.
    """

    groups: tuple[AlbumGroup, ...]
    read: int
    total: int
    unusable: int

    def group(self, key: str) -> AlbumGroup | None:
        return next((group for group in self.groups if group.key == key), None)


def key_of(prompt: str) -> str:
    return files.digest("prompt", prompt)[:16] if prompt else NO_PROMPT


def read_album(
    index: ImageIndex,
    found: Sequence[ImageFile],
    place: str,
    seconds: float = float("inf"),
    recipes: Mapping[str, Recipe] | None = None,
) -> Album:
    """Group images by prompt, reading for at most about `seconds` the files that the index does not know.

    Args:
        found: newest first.
        place: of the files, in front of their names in the index; empty if the names say it.
        recipes: of files by name, where it is known better than from the file.
    """
    end = time.monotonic() + seconds
    grouped: dict[str, list[AlbumImage]] = {}
    read = unusable = 0
    for file in found:
        key = f"{place}/{file.name}" if place else file.name
        known = index.known(key, file)
        if known is None:
            if time.monotonic() > end:
                continue
            known = (index.read(key, file),)
        read += 1
        (metadata,) = known
        if metadata is None:
            unusable += 1
            continue
        recipe = (recipes or {}).get(file.name, metadata.recipe)
        grouped.setdefault(recipe.prompt, []).append(AlbumImage(file, key, recipe, metadata.size))
    index.save()
    groups = [AlbumGroup(key_of(prompt), prompt, tuple(images)) for prompt, images in grouped.items()]
    return Album(tuple(sorted(groups, key=lambda it: len(it.images) < 2)), read, len(found), unusable)
