"""Which folder a run belongs to, where a person gives a name and changes settings between one run and the next."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import files
from .confine import file_name
from .runs import RunFolder


def claim(parent: Path, name: str, request: Mapping[str, Any]) -> RunFolder:
    """The run that was asked for in the same words before, else a new one: `name-01`, `name-02`, ...

    Settings that were changed make another run, so nothing that was trained is ever trained over.

    Args:
        request: plain values that settle what the run will be, known without loading a model.

    Raises:
        ConfigError: `name` is no plain name.
        RunError: the folder cannot be made.
    """
    name = file_name(name, "the LoRA's name")
    wanted = json.loads(json.dumps(request))
    taken = 0
    for number, folder in _runs(parent, name):
        taken = max(taken, number)
        if _request(folder) == wanted:
            return folder
    while True:
        taken += 1
        folder = RunFolder(parent / f"{name}-{taken:02d}")
        try:
            folder.folder.mkdir(parents=True)
        except FileExistsError:  # another process was faster
            continue
        except OSError as error:
            raise files.cannot_write(folder.folder, error) from error
        files.write_json(folder.request, wanted)
        return folder


def _runs(parent: Path, name: str) -> Iterator[tuple[int, RunFolder]]:
    numbered = re.compile(re.escape(name) + r"-(\d{2,6})")
    for path in sorted(parent.iterdir(), reverse=True) if parent.is_dir() else ():
        if (match := numbered.fullmatch(path.name)) and path.is_dir():
            yield int(match[1]), RunFolder(path)


def _request(folder: RunFolder) -> Any:
    try:
        return json.loads(folder.request.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
