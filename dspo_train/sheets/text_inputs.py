"""Prompts, seeds and strengths as users enter them, in a text box, a file or an option."""

from __future__ import annotations

import math
import re
from pathlib import Path

from ..exceptions import ConfigError

LARGEST = 1 << 20  # bytes; a longer file is not a list of prompts


def read_prompts(text: str, where: str = "prompts") -> list[str]:
    """One prompt per line; empty lines and lines that start with `#` are skipped.

    Raises:
        ConfigError: there are no prompts.
    """
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise ConfigError(f"{where}: no prompts in it; write one per line")
    return prompts


def load_prompts(file: Path) -> list[str]:
    """The prompts of a UTF-8 text file.

    Raises:
        ConfigError: the file is missing, too long, not UTF-8 or without prompts.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{file.name}: cannot be read ({error.strerror or error}); choose another file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file.name}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    if len(data) > LARGEST:
        raise ConfigError(f"{file.name}: longer than 1 MiB; give a list of prompts, one per line")
    return read_prompts(text, file.name)


def prompts_for(text: str, rows: int) -> list[str]:
    """The prompt of each row: each line is repeated for as many rows; without lines all prompts are empty.

    Raises:
        ConfigError: the lines cannot be spread evenly over the rows.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    if rows % len(lines):
        raise ConfigError(f"{len(lines)} prompts do not fit {rows} images; give one for each, or one for all")
    return [lines[row * len(lines) // rows] for row in range(rows)]


def read_seeds(text: str, rows: int) -> list[int] | None:
    """`7, 8, 9` -> one seed per row; None if nothing is entered.

    Raises:
        ConfigError: something is not a whole number from 0 up, or their number differs from the rows'.
    """
    parts = [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]
    if not parts:
        return None
    if not all(part.isascii() and part.isdigit() and len(part) <= 20 for part in parts):
        raise ConfigError(
            "the seeds are not whole numbers separated by commas; write such as 7, 8, 9, or leave it empty"
        )
    if len(parts) != rows:
        raise ConfigError(f"{len(parts)} seeds are given for {rows} images; give one for each, or none")
    return [int(part) for part in parts]


def read_strengths(text: str) -> tuple[float, ...]:
    """`0.5, 1, 1.5` -> numbers; also `0,5; 1; 1,5` with decimal commas.

    Raises:
        ConfigError: there are none, or something is not a number between -100 and 100.
    """
    if ";" in text:
        text = text.replace(",", ".").replace(";", ",")
    elif re.search(r"\d,\d", text) and "." not in text:
        raise ConfigError(
            f"strengths {text!r}: is that a list or decimal commas? Write 0.5, 1.0 with a space, or 0,5; 1,0"
        )
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ConfigError("no strengths are given; write one or more numbers separated by commas, such as 0.5, 1.0")
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        raise ConfigError(f"strengths {text!r}: expected numbers separated by commas, such as 0.5, 1.0") from None
    if not all(math.isfinite(number) and abs(number) <= 100 for number in numbers):
        raise ConfigError(f"strengths {text!r}: expected numbers between -100 and 100")
    return numbers
