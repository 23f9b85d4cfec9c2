"""Which folder a run belongs to, where a person gives a name and changes settings between one run and the next."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import files
from ..config import with_defaults
from ..files import numbered
from ..files.names import file_name
from .folder import RunFolder

WHAT = "the LoRA's name"


def find_run(parent: Path, name: str, request: Mapping[str, Any]) -> RunFolder | None:
    """The run that was asked for in the same words before, if there is one.

    Args:
        request: plain values that settle what the run will be, known without loading a model; its `settings` are
            compared with those that an earlier version did not have at their defaults.

    Raises:
        ConfigError: `name` is no plain name.
    """
    wanted = _completed(json.loads(json.dumps(request)))
    runs = _numbered(parent, file_name(name, WHAT))
    return next((RunFolder(path) for _, path in runs if _request(RunFolder(path)) == wanted), None)


def claim(parent: Path, name: str, request: Mapping[str, Any], results: Path) -> RunFolder:
    """A new run: `name-01`, `name-02`, ...

    Settings that were changed make another run, so nothing that was trained is ever trained over.

    Args:
        results: folder where the LoRAs are kept; the number of one that is there is not given again, though its run
            may have been removed.

    Raises:
        ConfigError: `name` is no plain name.
        RunError: the folder cannot be made.
    """
    name = file_name(name, WHAT)
    taken = max((number for place in (parent, results) for number, _ in _numbered(place, name)), default=0)
    folder = RunFolder(numbered.claim_number(parent, name, taken))
    files.write_json(folder.request, json.loads(json.dumps(request)))
    return folder


def _numbered(parent: Path, name: str) -> Iterator[tuple[int, Path]]:
    """Runs, or finished LoRAs, of that name, newest first."""
    return numbered.numbered_paths(parent, name, ".safetensors")


def undelivered(parent: Path, name: str, results: Path) -> list[str]:
    """Finished runs of that name whose LoRA is not where it belongs, or of another size."""
    found = []
    for _, path in _numbered(parent, name):
        result, delivered = RunFolder(path).result, results / RunFolder(path).result.name
        if result.is_file() and not (delivered.is_file() and delivered.stat().st_size == result.stat().st_size):
            found.append(path.name)
    return found


def _completed(request: Any) -> Any:
    if isinstance(request, dict) and isinstance(request.get("settings"), dict):
        return {**request, "settings": with_defaults(request["settings"])}
    return request


def _request(folder: RunFolder) -> Any:
    try:
        return _completed(json.loads(folder.request.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
