"""Images that are there already: listed by prompt, collected into a set in the background."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from ...dspo_train.exceptions import ConfigError, DatasetError, DspoError
from ...dspo_train.pairs.albums import AlbumGroup
from ...dspo_train.pairs.gathering import GatherSchedule
from ...dspo_train.preferences.entries import MAX_PROMPT, digits
from ...dspo_train.preferences.recognise import is_collected
from .. import collecting, gather_albums, gather_sources, places
from ..gather_job import Choice, Order, jobs
from ..gather_sources import Source
from . import fields
from .images import reduced
from .refusals import RefusedError
from .serve import ImageAnswer

Json = dict[str, Any]

LARGEST_ORDER = 1024 * 1024  # bytes: the names of some 20,000 images chosen one by one
SCHEDULES = get_args(GatherSchedule)
_FIRST = 18  # images of each group on a page; more are asked for by the group's key


def listed(source: Source, folder: str, set: str, group: str | None, offset: int, limit: int) -> Json:
    """A page of groups, newest first; or, with `group`, a page of its images. Those that `set` is known to hold are
    marked as kept.

    `reading` is null once every file was read; until then the page asks again for more.
    """
    shown = gather_albums.shown(source, folder, anew=group is None and offset == 0)
    album, kept = shown.album, _held(set)
    if group is not None:
        found = album.group(group)
        return {"images": _images(found, kept, offset, limit) if found else []}
    groups = album.groups[offset : offset + limit]
    comparable = [each for each in album.groups if len(each.images) > 1]
    return {
        "source": source,
        "folder": folder,
        "folders": [{"name": name, "images": count} for name, count in shown.folders.items()],
        "reading": None if album.read == album.total else {"done": album.read, "total": album.total},
        "images": sum(len(each.images) for each in album.groups),
        "unusable": album.unusable,
        "prompted": {
            "groups": sum(1 for each in comparable if each.prompt),
            "images": sum(len(each.images) for each in comparable if each.prompt),
        },
        "total": len(album.groups),
        "groups": [_described(each, kept) for each in groups],
    }


def _held(set: str) -> frozenset[str]:
    """Hashes of the images in a set; none where there is no such set."""
    try:
        folder = places.dataset(set)
        groups = collecting.stores.get(folder).groups() if is_collected(folder) else []
    except DspoError:
        return frozenset()
    return frozenset(digits(name) for group in groups for name in group.names)


def _described(group: AlbumGroup, kept: frozenset[str]) -> Json:
    count = len(group.images)
    return {"key": group.key, "prompt": group.prompt, "count": count, "images": _images(group, kept, 0, _FIRST)}


def _images(group: AlbumGroup, kept: frozenset[str], offset: int, limit: int) -> list[Json]:
    return [
        {
            "name": it.file.name,
            "stamp": f"{it.file.time:x}-{it.file.size:x}",
            "seed": None if it.recipe.seed is None else str(it.recipe.seed),  # may be too large for the page's numbers
            "width": it.size[0],
            "height": it.size[1],
            "kept": gather_sources.index.pixels(it.key, it.file) in kept,
        }
        for it in group.images[offset : offset + limit]
    ]


def image(source: Source, image: str, size: int, stamp: str) -> ImageAnswer:
    """A thumbnail as WebP of at most `size` pixels per side; the stamp makes its address unique."""
    path = gather_sources.path_of(source, image)
    return ImageAnswer(reduced(path, size, stamp), "webp", keep=True)


def collect(
    source: Source,
    folder: str,
    set: str,
    schedule: GatherSchedule,
    everything: bool,
    groups: Mapping[str, Choice],
) -> Json:
    """Start collecting; `gather` events tell how far it is, and `status` the latest of them."""
    try:
        target = collecting.set_to_extend(set)
    except (ConfigError, DatasetError) as error:
        raise RefusedError(
            400, "A set cannot have this name: take a plain one that no folder of other images has."
        ) from error
    gather_sources.check_folder(source, folder)
    if not everything and not groups:
        raise RefusedError(400, "No image is chosen.")
    name = set.strip().replace("\\", "/")
    job = jobs.start(Order(source, folder, name, target, schedule, everything, groups))
    if job is None:
        raise RefusedError(409, "Another collection is running; wait for it or cancel it.")
    return {"job": job.described()}


def status() -> Json:
    job = jobs.latest()
    return {"job": job and job.described()}


def cancel(job: str) -> Json:
    return {"status": "cancelled" if jobs.cancel(job) else "nothing"}


def folder_name(value: Any) -> str:
    """Of a folder in a source; empty for all of it."""
    return "" if value == "" else fields.name(value)


def choices(value: Any) -> dict[str, Choice]:
    """[{group, whole, images, prompt}, ...] by the groups' keys."""
    if not isinstance(value, list):
        raise ValueError
    return dict(map(_choice, value))


def _choice(value: Any) -> tuple[str, Choice]:
    if not isinstance(value, dict) or value.keys() - {"group", "whole", "images", "prompt"}:
        raise ValueError
    images, prompt = value.get("images", []), value.get("prompt", "")
    if not isinstance(images, list) or not isinstance(prompt, str) or len(prompt) > MAX_PROMPT:
        raise ValueError
    chosen = frozenset(map(fields.name, images))
    return fields.identifier(value.get("group")), Choice(fields.yes_or_no(value.get("whole")), chosen, prompt.strip())
