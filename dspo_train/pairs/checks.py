"""Checks on the images that a layout names: each is whole, of a sane size and decodable, and seen once."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..exceptions import DatasetError
from ..images.buckets import MAX_ASPECT
from ..images.decode import load_rgb, pixel_hash
from ..images.formats import MAX_PIXELS
from ..images.integrity import ImageError, Structure, content_hash, inspect_image
from .listing import EXTRACTED
from .types import Defect

MIN_SIDE, MAX_SIDE = 64, 16384


class CheckedImage(NamedTuple):
    """An image that passed. Images with the same pixels have the same `identity`.

    Attributes:
        doubt: why it may be damaged all the same; empty if nothing suggests it.
    """

    size: tuple[int, int]
    identity: int
    doubt: str = ""


class CheckedImages:
    """Looks at each image of one dataset folder once, and keeps what it saw.

    A file is read a second time only to prove that it has the same pixels as another with the same fingerprint.
    """

    def __init__(self, root: Path, *, deep: bool) -> None:
        self.root = root
        self._deep = deep
        self._seen: dict[str, CheckedImage | Defect] = {}
        self._first: dict[bytes, str] = {}
        self._proofs: dict[str, bytes] = {}
        self._identities: dict[bytes, int] = {}
        self._noted: dict[Defect, None] = {}

    @property
    def defects(self) -> list[Defect]:
        """Of the images that `look` was asked for, each once."""
        return list(self._noted)

    def look(self, relative: str, within: str = "") -> CheckedImage | None:
        """The image at a path relative to the folder, or None where it is defective, which is then noted.

        Args:
            within: the row that holds an image which a table embeds: there a defect can be mended, not in the cache.
        """
        found = self.inspect(relative)
        where = within if within and relative.startswith(EXTRACTED) else relative
        if isinstance(found, Defect):
            self._noted[replace(found, where=where)] = None
            return None
        if found.doubt:
            self._noted[Defect("doubtful_image", where, found.doubt, fatal=False)] = None
        return found

    def inspect(self, relative: str) -> CheckedImage | Defect:
        """The image at a path relative to the folder, or what is wrong with it."""
        if relative not in self._seen:
            self._seen[relative] = self._inspect(relative)
        return self._seen[relative]

    def _inspect(self, relative: str) -> CheckedImage | Defect:
        path = self.root / relative
        try:
            structure = inspect_image(path)
            problem = _size_problem(*structure.size)
            if problem:
                return Defect("bad_size", relative, problem)
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                identity = self._identify(relative, structure)
            said = "; ".join(dict.fromkeys(" ".join(str(each.message).split()) for each in heard))
            doubt = structure.doubt or (f"its decoder warns: {said}" if said else "")
            return CheckedImage(structure.size, identity, doubt)
        except ImageError as error:
            return Defect("unreadable_image", relative, str(error))
        except DatasetError as error:
            return Defect("unreadable_image", relative, str(error).removeprefix(f"{path}: "))

    def _identify(self, relative: str, structure: Structure) -> int:
        """The number of this image. Equal fingerprints are proved by a hash of all compressed pixels."""
        fingerprint = pixel_hash(load_rgb(self.root / relative)) if self._deep else structure.fingerprint
        first = self._first.setdefault(fingerprint, relative)
        if first == relative:
            return self._identities.setdefault(fingerprint, len(self._identities))
        if self._deep:
            return self._identities[fingerprint]
        proof = content_hash(self.root / relative, structure)
        if first not in self._proofs:
            self._proofs[first] = content_hash(self.root / first, inspect_image(self.root / first))
        if proof == self._proofs[first]:
            return self._identities[fingerprint]
        return self._identities.setdefault(proof, len(self._identities))


def _size_problem(width: int, height: int) -> str | None:
    size = f"{width}x{height} pixels"
    if width * height > MAX_PIXELS:
        return f"{size} is over {MAX_PIXELS // 1_000_000} megapixels; scale the image down"
    if max(width, height) > MAX_SIDE:
        return f"{size}: a side is over {MAX_SIDE}; scale the image down"
    if min(width, height) < MIN_SIDE:
        return f"{size}: a side is under {MIN_SIDE}; use a larger image"
    if max(width, height) > MAX_ASPECT * min(width, height):
        longer, shorter = ("wide", "high") if width > height else ("high", "wide")
        return f"{size} is over {MAX_ASPECT:.0f} times as {longer} as {shorter}; crop the image"
    return None
