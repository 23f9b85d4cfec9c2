"""Are the installed packages new enough? Asked once, in words, before a run would fail in a library's depths."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from ..exceptions import RunError


def shortfalls(requirements: Path) -> list[str]:
    """What packages named in a requirements file lack: 'diffusers 0.30.1 is installed, but 0.32 or newer is needed'.

    Lines that are no requirement, and files that cannot be read, are passed over.
    """
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [found for line in lines if (found := _shortfall(line.partition("#")[0].strip()))]


def refuse_old_packages(requirements: Path) -> None:
    """Refuse to run with packages that are missing or too old.

    Raises:
        RunError: it names each of them, and the command that mends it.
    """
    if message := trouble(requirements):
        raise RunError(message)


def trouble(requirements: Path) -> str:
    """One sentence on missing and old packages, with the command that mends it; empty if there are none."""
    found = shortfalls(requirements)
    return f'{"; ".join(found)}. Run: pip install -r "{requirements}", then start again' if found else ""


def _shortfall(line: str) -> str:
    try:
        wanted = Requirement(line)
    except InvalidRequirement:
        return ""
    if wanted.marker is not None and not wanted.marker.evaluate():
        return ""
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"the package {wanted.name} is not installed"
    if wanted.specifier.contains(version, prereleases=True):
        return ""
    lowest = next((each.version for each in wanted.specifier if each.operator == ">="), "")
    return f"{wanted.name} {version} is installed, but {lowest or wanted.specifier} or newer is needed"
