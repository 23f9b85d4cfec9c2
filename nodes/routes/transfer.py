"""Import pair folders into a collected set, and export a set as a pair folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ...dspo_train import files
from ...dspo_train.exceptions import DatasetError
from .. import collecting, places
from ..collecting import Place
from .opening import opened
from .refusals import RefusedError

log = logging.getLogger("dspo")

_SHOWN = 100  # defects listed; a set may have thousands
_LONGEST = 100  # characters of an export folder's name


def take_in(set: str, into: str) -> dict[str, Any]:
    """Import every pair of the folder `set` into the collected set `into`, creating it if it is new."""
    from ...dspo_train.pairs.importing import import_folder

    source, target = places.dataset(set), collecting.set_to_extend(into)
    if source == target:
        raise RefusedError(409, "A set cannot be imported into itself; choose another name.")
    if not target.exists():
        _check_pairs(source)
    store = collecting.stores.get(target)
    report = import_folder(store, source)
    collecting.send("collected", place="sets", set=into, added=report.added, open=store.progress().open)
    defects = [f"{it.where}: {it.message}" for it in report.defects[:_SHOWN]]
    if len(report.defects) > _SHOWN:
        defects.append(f"and {len(report.defects) - _SHOWN} more")
    return {"added": report.added, "already": report.already, "ties": report.ties, "defects": defects}


def _check_pairs(folder: Path) -> None:
    """Before a new set is created for them."""
    from ...dspo_train.pairs import scan_pairs

    try:
        found = bool(scan_pairs(folder).pairs)
    except DatasetError as error:
        log.warning("%s", error)
        found = False
    if not found:
        raise RefusedError(409, "This folder holds no pairs to import.")


def give_out(place: Place, set: str, layout: str) -> dict[str, Any]:
    """Export a set into a new folder below output/dspo/exports."""
    from ...dspo_train.pairs.export import export

    store = opened(place, set)
    folder = _new_folder(f"{set.replace('/', '-')[:_LONGEST].rstrip('. ')}-{layout}")
    try:
        report = export(store, folder, layout)  # type: ignore[arg-type]
    except DatasetError as error:
        log.warning("%s", error)
        _drop_if_empty(folder)
        raise RefusedError(
            409, "Nothing was exported: nothing is judged in that way yet, or an image is missing; see ComfyUI's log."
        ) from error
    return {"folder": f"dspo/exports/{folder.name}", "pairs": report.pairs, "images": report.images}


def _new_folder(name: str) -> Path:
    """Create `name`, or the first free one of `name-2`, `name-3`, ..."""
    number = 1
    while True:
        folder = places.exports() / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise files.cannot_write(folder, error) from error
        else:
            return folder


def _drop_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        log.warning("%s: an unfinished export was left there", folder)
