"""CLIP's tokenizer: the model's own if it has one, else the one that ships with this package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from ..exceptions import ModelError
from .families import Family
from .prompt_text import remarks

CLIP = Path(__file__).with_name("clip")  # the vocabulary of every published SD 1.x, SD 2.x and SDXL model
FILES = ("vocab.json", "merges.txt")


def load_tokenizers(family: Family, model: Path, given: Path | None) -> list[CLIPTokenizer]:
    """One tokenizer per text encoder of the family, each padding as in its encoder's training.

    Read from `given` if there is one; otherwise from the model's folder, or a `tokenizer/` in or beside it; otherwise
    the one that ships with this package.

    Raises:
        ModelError: `given` holds no tokenizer, or a tokenizer is damaged.
    """
    if given is None:
        places = [model] if model.is_dir() else [model.with_suffix(""), model.parent]
        folder = next((found for place in places if (found := _in_folder(place))), CLIP)
    elif (folder := _in_folder(given)) is None:
        raise ModelError(
            f"{given}: no tokenizer found; give a folder with vocab.json and merges.txt in it or in its tokenizer/"
        )
    return [read_tokenizer(folder, pad_token=part.pad) for part in family.text_parts]


def read_tokenizer(folder: Path, pad_token: str | None = None) -> CLIPTokenizer:
    """Read one tokenizer folder; `pad_token` overrides the folder's."""
    settings: dict[str, Any] = {} if pad_token is None else {"pad_token": pad_token}
    try:
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True, **settings)
    except Exception as error:  # transformers and tokenizers raise bare Exceptions on damaged files
        raise ModelError(f"{folder}: the tokenizer cannot be read ({error}); download it again") from error


def prompt_remarks(texts: Sequence[str]) -> list[str]:
    """What of these prompts a model with CLIP's own vocabulary would not read; see `prompt_text.remarks`."""
    return remarks(texts, read_tokenizer(CLIP))


def _in_folder(place: Path) -> Path | None:
    for folder in (place, place / "tokenizer"):
        if all((folder / name).is_file() for name in FILES) or (folder / "tokenizer.json").is_file():
            return folder
    return None
