"""The prompt of a pair or image: a caption file, else what the image's own metadata says."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from .image_metadata import prompt_from_image
from .readings import Candidate, RatedCandidate
from .types import Defect

_MAX_BYTES = 1 << 16


class CaptionError(Exception):
    """Why a caption file cannot be used, in words for a user."""


class CaptionFinder:
    """Finds prompts below one dataset folder and notes what is wrong with their files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.defects: list[Defect] = []
        # Ranked sets and tables ask for the same file many times in a row.
        self._read = lru_cache(maxsize=1024)(self._read_file)
        self._embedded = lru_cache(maxsize=1024)(self._read_image)

    def prompt(self, candidate: Candidate | RatedCandidate) -> str | None:
        """The first prompt found: the table's own, caption files in order, the winner's, the loser's metadata.

        Returns an empty string where there is none, and None where a caption file is damaged: then nothing else
        is tried, because another source might say something else.
        """
        if candidate.prompt.strip():
            prompt = self._one_line(candidate.prompt, candidate.where)
            self._compare(candidate.captions, prompt, candidate.where)
            return prompt
        for number, relative in enumerate(candidate.captions):
            try:
                text = self._read(relative)
            except CaptionError as error:
                self.defects.append(Defect("bad_caption", relative, str(error)))
                return None
            if text:
                prompt = self._one_line(text, relative)
                self._compare(candidate.captions[number + 1 :], prompt, relative)
                return prompt
        return next(filter(None, map(self._embedded, candidate.images)), "")

    def _compare(self, others: Sequence[str], prompt: str, source: str) -> None:
        """Note the caption files that are passed over although they say something else."""
        for relative in others:
            with contextlib.suppress(CaptionError):
                text = " ".join(self._read(relative).split())
                if text and text != " ".join(prompt.split()):
                    message = f"differs from {source}, which is read; ignored"
                    self.defects.append(Defect("ignored_files", relative, message, fatal=False))

    def _one_line(self, text: str, where: str) -> str:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(lines) > 1:
            message = f"the caption has {len(lines)} lines, joined into one; write it on a single line"
            self.defects.append(Defect("multiline_caption", where, message, fatal=False))
        return " ".join(lines)

    def _read_file(self, relative: str) -> str:
        return read_caption(self._root / relative)

    def _read_image(self, relative: str) -> str:
        return " ".join(prompt_from_image(self._root / relative).split())


def read_caption(path: Path) -> str:
    """The text of a caption file without surrounding white space; UTF-8, or UTF-16 with its byte-order mark.

    Raises:
        CaptionError: the file is unreadable, over 64 KB, or text in another encoding.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CaptionError(f"cannot be read ({error.strerror or error})") from error
    if len(raw) > _MAX_BYTES:
        raise CaptionError("is over 64 KB, too long for a caption; a prompt has a few hundred characters at most")
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise CaptionError(f"is not UTF-8 text (byte {error.start + 1}); save it as UTF-8") from error
    if "\0" in text:
        raise CaptionError("holds zero bytes, so it is not text; write the caption again")
    return text.strip()
