"""A round's pairs on disk: what was drawn and labelled, and the person's own clicks beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .. import files
from ..pairs import PreferencePair
from .labelling import Label

TABLE = "metadata.jsonl"


def write_round(
    folder: Path,
    drawn: Sequence[Path],
    prompts: Sequence[str],
    labels: Sequence[Label],
    clicks: Sequence[PreferencePair],
) -> None:
    """Write `metadata.jsonl` and the images it names; the table is written last, so it tells a whole folder.

    Raises:
        RunError: the folder cannot be written.
    """
    rows = []
    for label in labels:
        winner, loser = (_copied(folder, drawn[row]) for row in (label.winner, label.loser))
        row = {"prompt": prompts[label.winner], "image_0": winner, "image_1": loser, "preference": 0}
        rows.append({**row, "doubt": round(label.doubt, 4)})
    for number, pair in enumerate(clicks):
        winner, loser = (
            _copied(folder, path, f"click-{number:04d}-{side}")
            for path, side in ((pair.winner, "w"), (pair.loser, "l"))
        )
        rows.append({"prompt": pair.prompt, "image_0": winner, "image_1": loser, "preference": 0})
    files.write_text(folder / TABLE, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _copied(folder: Path, source: Path, name: str = "") -> str:
    target = folder / f"{name or source.stem}{source.suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(source, target)
    except OSError as error:
        raise files.cannot_write(target, error) from error
    return target.name


def write_drawn(folder: Path, images: Sequence[Image.Image], first: int) -> list[Path]:
    """Images by their numbers from `first`."""
    found = []
    for number, image in enumerate(images, first):
        files.write_image(place := folder / f"{number:04d}.png", image)
        found.append(place)
    return found
