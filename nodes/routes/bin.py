"""Rename and delete sets, blind tests and runs; deleted ones lie in a bin beside their list until they are erased."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any, Literal

from ...dspo_train.exceptions import DatasetError, RunError
from ...dspo_train.files import bin as bins
from ...dspo_train.files.names import inside, parts_of
from ...dspo_train.files.titles import give_title, title_of
from ...dspo_train.pairs.discover import DEPTH
from ...dspo_train.pairs.glimpse import glimpse
from ...dspo_train.preferences import LOG_NAME
from ...dspo_train.preferences.recognise import is_collected
from ...dspo_train.runs.folder import RunFolder, locked
from .. import collecting, places
from .refusals import RefusedError

Kind = Literal["sets", "blind", "runs"]

_ROOTS: dict[Kind, Callable[[], list[Path]]] = {
    "sets": lambda: [root for root in places.dataset_roots() if root != places.EXAMPLES],
    "blind": lambda: [places.blind_tests()],
    "runs": lambda: [places.runs()],
}


def delete(kind: Kind, name: str) -> dict[str, Any]:
    """Move a folder into the bin; a LoRA that a run made stays where ComfyUI lists it."""
    root, folder = _found(kind, name)
    with _let_go(kind, folder):
        entry = bins.discard(root, name)
    _forget(kind, name)
    _announce(kind, name)
    return dataclasses.asdict(entry)


def undelete(kind: Kind, entry: str) -> dict[str, Any]:
    """Put a folder back under its name, or, where that is taken, under one beside it."""
    root, found = _binned(kind, entry)
    name = next(free for free in _names(found.name) if _is_free(kind, root, free))
    if kind == "runs" and name != found.name:  # a run's files go by its folder's name
        raise RefusedError(409, "There is another run of this name now; delete that one first.")
    bins.put_back(root, entry, name)
    _announce(kind, name)
    return {"name": name}


def erase(kind: Kind, entry: str) -> dict[str, Any]:
    """Delete what is in the bin for good."""
    root, found = _binned(kind, entry)
    bins.erase(root, entry)
    _announce(kind, found.name)
    return {"name": found.name}


def rename(kind: Kind, name: str, to: str) -> dict[str, Any]:
    """Move a set, or give a test or a run a title.

    Those keep their folder's name: a run is resumed and its LoRA found by it, and a graph that is run again finds its
    blind test by it.
    """
    root, folder = _found(kind, name)
    to = "/".join(parts_of(to.strip()))
    if kind == "sets":
        _rename_set(root, folder, name, to)
    else:
        give_title(folder, to)
    _announce(kind, name)
    return {"name": to}


def listed() -> dict[str, Any]:
    """What is in the bins, the last deleted first."""
    found = [
        {"kind": kind, **dataclasses.asdict(it), "title": title_of(root / bins.BIN / it.entry)}
        for kind in _ROOTS
        for root in _roots(kind)
        for it in bins.binned(root)
    ]
    return {"entries": sorted(found, key=lambda it: it["deleted"], reverse=True)}


def _rename_set(root: Path, folder: Path, name: str, to: str) -> None:
    if to == name:
        return
    parts = parts_of(to)
    if len(parts) > DEPTH or any(part.startswith(".") for part in parts):
        raise RefusedError(400, f"A set's name may not begin with a dot or have more than {DEPTH} parts.")
    target = inside(root, to, "the set's name")
    if folder in target.parents or any((parent / LOG_NAME).exists() for parent in list(target.parents)[: len(parts)]):
        raise RefusedError(409, "This name lies inside a set; choose another one.")
    if to.casefold() != name.casefold() and not _is_free("sets", root, to):
        raise RefusedError(409, "There is something of this name already; choose another one.")
    with _let_go("sets", folder):
        bins.move(folder, target)
    _forget("sets", to)
    for former in [former for former, now in collecting.renamed.items() if now == name]:
        collecting.renamed[former] = to
    collecting.renamed[name] = to


def _found(kind: Kind, name: str) -> tuple[Path, Path]:
    """The root and the folder of what may be renamed or deleted.

    Raises:
        DatasetError: there is nothing of that name.
        RefusedError: it belongs to somebody else, or is in use.
    """
    if any(part.startswith(".") for part in parts_of(name)):
        raise DatasetError(f"{name!a} is hidden; refresh the list")
    if kind == "sets":
        return _found_set(name)
    (root,) = _roots(kind)
    folder = inside(root, name)
    if not folder.is_dir():
        raise DatasetError(f"there is nothing of the name {name!a}; refresh the list")
    if kind == "blind":
        _require(is_collected(folder))
    else:
        _require(RunFolder(folder).begun or RunFolder(folder).request.is_file())
        _refuse_training(folder)
    return root, folder


def _found_set(name: str) -> tuple[Path, Path]:
    folder = places.dataset(name).resolve()
    root = next((root for root in places.dataset_roots() if folder == root.joinpath(*parts_of(name)).resolve()), None)
    if root is None:
        raise DatasetError(f"there is no set {name!a}; refresh the list")
    if root == places.EXAMPLES:
        raise RefusedError(409, "The example belongs to the pack and stays.")
    if not is_collected(folder):
        seen = glimpse(folder)
        _require(seen.pairs > 0 or seen.rated > 0)
    return root, folder


def _require(ours: bool) -> None:
    if not ours:
        raise RefusedError(409, "This folder was not made here; move it with your file manager.")


def _refuse_training(folder: Path) -> None:
    try:
        with locked(folder):  # released before it is moved: Windows moves no folder with an open file in it
            pass
    except RunError as error:
        if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, TimeoutError):
            raise
        raise RefusedError(409, "This run is training; stop it first.") from error


def _let_go(kind: Kind, folder: Path) -> AbstractContextManager[None]:
    return nullcontext() if kind == "runs" else collecting.stores.leaving(folder.resolve())


def _forget(kind: Kind, name: str) -> None:
    """A former name that leads elsewhere now."""
    if kind == "sets":
        collecting.renamed.pop(name, None)


def _roots(kind: Kind) -> list[Path]:
    return _ROOTS[kind]()


def _binned(kind: Kind, entry: str) -> tuple[Path, bins.Binned]:
    for root in _roots(kind):
        for found in bins.binned(root):
            if found.entry == entry:
                return root, found
    raise DatasetError(f"there is no {entry!a} in the bin; refresh the list")


def _names(name: str) -> Iterator[str]:
    """
    >>> names = _names("a/b")
    >>> [next(names) for _ in range(3)]
    ['a/b', 'a/b-restored', 'a/b-restored-2']
    """
    yield name
    yield f"{name}-restored"
    yield from (f"{name}-restored-{number}" for number in count(2))


def _is_free(kind: Kind, root: Path, name: str) -> bool:
    roots = places.dataset_roots() if kind == "sets" else [root]
    return not any(inside(each, name).exists() for each in roots)


def _announce(kind: Kind, name: str) -> None:
    collecting.send("moved", kind=kind, name=name)
