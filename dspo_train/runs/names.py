"""The folder of a run, for users who give a name and change settings between runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import files
from ..config import with_defaults
from ..files import numbered
from ..files.names import file_name
from ..lora.header import tensors_size
from .folder import RunFolder

WHAT = "the LoRA's name"


def find_run(parent: Path, name: str, request: Mapping[str, Any]) -> RunFolder | None:
    """The run that was requested before with equal values, if there is one.

    Args:
        request: plain values that determine the run and are known without loading a model; settings that an earlier
            version did not have are compared at their defaults.

    Raises:
        ConfigError: `name` is not a plain name.
    """
    wanted = plain_request(request)
    return next((folder for folder, asked in requested(parent, name) if asked == wanted), None)


def requested(parent: Path, name: str) -> Iterator[tuple[RunFolder, Any]]:
    """The runs of that name, newest first, and what was asked of each, settings completed; None where it is not known.

    Raises:
        ConfigError: `name` is not a plain name.
    """
    for _, path in _numbered(parent, file_name(name, WHAT)):
        yield RunFolder(path), _request(RunFolder(path))


def plain_request(request: Mapping[str, Any]) -> Any:
    """A request as it is read back from a run's folder."""
    return _completed(json.loads(json.dumps(request)))


def claim(parent: Path, name: str, request: Mapping[str, Any], results: Path) -> RunFolder:
    """Make the folder of a new run: `name-01`, `name-02`, ...

    Changed settings make a new run, so no result is ever overwritten.

    Args:
        results: folder where the LoRAs are kept; a number in use there is not reused, even if its run was removed.

    Raises:
        ConfigError: `name` is not a plain name.
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
    """Finished runs of that name whose LoRA is missing from `results`, or has other tensors there, by their size."""
    found = []
    for _, path in _numbered(parent, name):
        result, delivered = RunFolder(path).result, results / RunFolder(path).result.name
        if result.is_file() and not (delivered.is_file() and tensors_size(delivered) == tensors_size(result)):
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
