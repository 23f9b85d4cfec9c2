"""Names from outside, confined to the folder that they are meant for.

Every name must satisfy the rules of both POSIX and Windows, whichever system we run on: a workflow made on one is
opened on the other, and a name that is harmless here may be a device, a drive or another stream there.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from ..exceptions import ConfigError

LONGEST = 120  # characters per part; leaves room for our suffixes in the 255 bytes of file systems, in most scripts
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?")
_FORBIDDEN = re.compile(r'[<>:"|?*]')


def parts_of(name: str, what: str = "name") -> tuple[str, ...]:
    """Split a relative name at `/` and at Windows' backslash, and refuse anything but a plain path downwards.

    Raises:
        ConfigError: the name is empty or absolute, or has a drive, a stream, a device, `..`, or control or forbidden
            characters.
    """
    parts = tuple(name.replace("\\", "/").split("/"))
    for part in parts:
        if fault := _fault(part):
            raise ConfigError(f"{what} {_shown(name)} is not accepted: {fault}; use a plain name without a path")
    return parts


def file_name(name: str, what: str = "name") -> str:
    """One plain name for a new file or folder, without the suffix that we add ourselves.

    Raises:
        ConfigError: see `parts_of`; also if the name has a folder in it.
    """
    first, *further = parts_of(name.strip().removesuffix(".safetensors"), what)
    if further:
        raise ConfigError(f"{what} {_shown(name)} is not accepted: it names a folder; use a plain name without a path")
    return first


def inside(root: Path, name: str, what: str = "name") -> Path:
    """The path of `name` below `root`, with symbolic links resolved.

    Raises:
        ConfigError: see `parts_of`; also if a link leads out of `root`.
    """
    path = root.joinpath(*parts_of(name, what)).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ConfigError(f"{what} {_shown(name)} leads out of its folder; copy it there instead of linking it")
    return path


def _fault(part: str) -> str | None:
    if not part:
        return "it is empty, absolute, or has an empty part"
    if part in (".", ".."):
        return "it climbs out of its folder"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in part):
        return "it has control characters"
    if match := _FORBIDDEN.search(part):
        return f"it has the character {match[0]!r}"
    if part[-1] in ". ":  # Windows drops them, and would open another file
        return "a part of it ends in a dot or a space"
    if part[0] == " ":
        return "a part of it begins with a space"
    if _DEVICES.fullmatch(part):
        return f"{part!r} is a device on Windows"
    if len(part) > LONGEST:
        return f"a part of it is longer than {LONGEST} characters"
    return None


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 60 else name[:57] + "...")
