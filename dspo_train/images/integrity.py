"""Whether an image file is whole, how large it is and which image it holds, without decoding it.

PNG (chunks), JPEG (markers) and WebP (RIFF chunks) are walked by their length fields: a file that was cut off
fails, wherever it was cut. PNG's checksums show damage inside the compressed pixels too. JPEG and WebP have none, and
their decoders draw something from almost any bytes; a long run of zeros, as a broken copy leaves, raises a doubt where
no plain area could look like that.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from io import FileIO
from typing import NamedTuple

from PIL import Image

from .decode import orientation
from .formats import FORMATS

_HEAD = 4096
_TAIL = 4096
_AHEAD = 1 << 16  # the whole file is read, mostly in small chunks
_BLOCK = 1 << 20
_ZEROS = bytes(128)
_BASELINE = (0xC0, 0xC1)
_ORIENTATION_ENTRY = (b"\x01\x12\x00\x03", b"\x12\x01\x03\x00")  # tag 0x0112 of type SHORT, either byte order
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset((0x01, *range(0xD0, 0xD8)))
_WEBP_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANMF")


class ImageError(Exception):
    """Why a file is not a whole image, in words for a user."""


class Structure(NamedTuple):
    """What the walk over one file found.

    Attributes:
        size: (width, height) as shown, after the EXIF orientation was applied.
        fingerprint: equal for equal pixels and for almost no others; metadata does not enter it.
        pixels: the (offset, length) ranges of the file that hold compressed pixels.
        doubt: why the pixels may be damaged although they can be decoded; empty if nothing suggests it.
    """

    size: tuple[int, int]
    fingerprint: bytes
    pixels: tuple[tuple[int, int], ...]
    doubt: str = ""


def inspect_image(path: str | os.PathLike[str]) -> Structure:
    """Walk one PNG, JPEG or WebP file.

    Raises:
        ImageError: it is missing, cut off, damaged where its format can tell, or not an image.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            reader = _Reader(file, os.fstat(file.fileno()).st_size)
            found = _walk(reader)
            zeros = any(reader.has_zeros(*place) for place in found.telling)
        width, height = found.size
        if width < 1 or height < 1:
            raise ImageError(f"claims to be {width}x{height} pixels; save it again")
        turn = _orientation(path, found)
    except OSError as error:
        raise ImageError(f"cannot be opened ({error.strerror or error})") from error
    digest = hashlib.blake2b(b"".join(found.identity), digest_size=16)
    digest.update(f"{width}x{height}/{turn}".encode())
    size = (height, width) if turn >= 5 else (width, height)
    return Structure(size, digest.digest(), tuple(found.pixels), _ZEROS_FOUND if zeros else "")


def content_hash(path: str | os.PathLike[str], structure: Structure) -> bytes:
    """SHA-256 of the compressed pixels alone: proof where two fingerprints agree.

    Args:
        structure: what `inspect_image` found in this file.

    Raises:
        ImageError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for offset, length in structure.pixels:
                file.seek(offset)
                for start in range(0, length, _BLOCK):
                    digest.update(file.read(min(_BLOCK, length - start)))
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or error})") from error
    return digest.digest()


_ZEROS_FOUND = (
    f"holds {len(_ZEROS)} zero bytes or more in a row among its compressed pixels, as a broken copy does; look at it"
)


class _Found:
    """`telling`: the part of `pixels` in which a run of zeros means damage."""

    def __init__(self) -> None:
        self.telling: list[tuple[int, int]] = []
        self.size: tuple[int, int] = (0, 0)
        self.identity: list[bytes] = []
        self.pixels: list[tuple[int, int]] = []
        self.exif = b""
        self.ask_pillow = False


class _Reader:
    """Random access to a file with a small read-ahead; past the end is an error, not a short read."""

    def __init__(self, file: FileIO, size: int) -> None:
        self._file = file
        self.size = size
        self._start = 0
        self._window = file.read(_HEAD)

    def at(self, offset: int, count: int) -> bytes:
        self.within(offset + count)
        begin = offset - self._start
        if begin < 0 or begin + count > len(self._window):
            self._file.seek(offset)
            self._start, begin = offset, 0
            self._window = self._file.read(max(count, _AHEAD))
        return self._window[begin : begin + count]

    def crc32(self, offset: int, length: int) -> int:
        """The checksum of a range."""
        checksum = 0
        for block in self._blocks(offset, length):
            checksum = zlib.crc32(block, checksum)
        return checksum

    def has_zeros(self, offset: int, length: int) -> bool:
        """Whether a range holds a long run of zeros."""
        tail = b""
        for block in self._blocks(offset, length):
            if _ZEROS in (found := tail + block):
                return True
            tail = found[-len(_ZEROS) :]
        return False

    def _blocks(self, offset: int, length: int) -> Iterator[bytes]:
        for start in range(offset, offset + length, _BLOCK):
            yield self.at(start, min(_BLOCK, offset + length - start))

    def within(self, end: int) -> None:
        if end > self.size:
            raise ImageError(f"is cut off: {self.size} bytes of at least {end}; copy or save it again")


def _walk(reader: _Reader) -> _Found:
    if reader.size == 0:
        raise ImageError("is an empty file; copy or save it again")
    magic = reader.at(0, min(12, reader.size))
    if magic.startswith(b"\x89PNG\r\n\x1a\n"):
        return _walk_png(reader)
    if magic.startswith(b"\xff\xd8"):
        return _walk_jpeg(reader)
    if magic.startswith(b"RIFF") and magic[8:] == b"WEBP":
        return _walk_webp(reader)
    raise ImageError(f"is not a PNG, JPEG or WebP image (it starts with {magic[:8]!r}); save it as one of these")


def _walk_png(reader: _Reader) -> _Found:
    found = _Found()
    position = 8
    while True:
        length, kind = struct.unpack(">I4s", reader.at(position, 8))
        end = position + 12 + length
        if not kind.isalpha() or (position == 8) != (kind == b"IHDR"):
            raise ImageError(f"is damaged at byte {position} (no PNG chunk there); copy or save it again")
        reader.within(end)
        checksum = reader.crc32(position + 4, length + 4).to_bytes(4, "big")
        if checksum != reader.at(end - 4, 4) and (kind[:1].isupper() or not found.pixels):  # as Pillow is strict
            raise ImageError(f"is damaged in bytes {position}-{end} (a PNG chunk's checksum); copy or save it again")
        if kind == b"IDAT":
            found.identity.append(length.to_bytes(4, "big") + checksum)
            found.pixels.append((position + 8, length))
        elif kind in (b"IHDR", b"PLTE", b"tRNS"):
            found.identity.append(kind + reader.at(position + 8, length))
            if kind == b"IHDR":
                found.size = struct.unpack(">II", found.identity[0][4:12]) if length == 13 else (0, 0)
        elif kind == b"eXIf":
            found.exif = reader.at(position + 8, length)
        elif kind in (b"iTXt", b"zTXt", b"tEXt"):
            keyword = reader.at(position + 8, min(length, 24))
            found.ask_pillow |= keyword.startswith((b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"))
        elif kind == b"IEND":
            break
        position = end
    if not found.pixels:
        raise ImageError("holds no pixels (no IDAT chunk); save it again")
    return found


def _walk_jpeg(reader: _Reader) -> _Found:
    found = _Found()
    position, body = 2, 0
    baseline, first_symbols = False, b""
    while True:
        mark, code = reader.at(position, 2)
        if mark != 0xFF:
            raise ImageError(f"is damaged at byte {position} (no JPEG marker there); copy or save it again")
        if code == 0xFF or code in _JPEG_BARE:
            position += 1 if code == 0xFF else 2
            continue
        if code == 0xD9:
            raise ImageError("holds no pixels (it ends before its first scan); save it again")
        length = int.from_bytes(reader.at(position + 2, 2), "big")
        reader.within(position + 2 + length)
        if code in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", reader.at(position + 5, 4))
            found.size = (width, height)
            baseline = code in _BASELINE
        if code == 0xC4:
            first_symbols += _first_ac_symbols(reader.at(position + 4, length - 2))
        if code == 0xE1:
            _note_app1(reader, found, position + 4, length - 2)
        if not (0xE0 <= code <= 0xEF or code == 0xFE):
            body = body or position
        position += 2 + length
        if code == 0xDA:
            break
    end = _end_of_jpeg(reader, position)
    found.pixels.append((body, end - body))
    if baseline and any(first_symbols):
        found.telling.append((position, end - position))
    tail = reader.at(max(position, end - 1024), end - max(position, end - 1024))
    found.identity += [b"JPEG", (end - body).to_bytes(8, "big"), tail]
    return found


def _first_ac_symbols(tables: bytes) -> bytes:
    """The symbol to which each AC table of a DHT segment gives its all-zero code; 0 is the end of a block.

    Where all tables give it to that, a plain area is nothing but zeros. In the standard's tables one does not; tables
    optimised for an image, as in every progressive file, may.
    """
    place, found = 0, b""
    while place + 17 <= len(tables):
        if tables[place] >> 4 == 1:
            found += tables[place + 17 : place + 18]
        place += 17 + sum(tables[place + 1 : place + 17])
    return found


def _note_app1(reader: _Reader, found: _Found, start: int, length: int) -> None:
    payload = reader.at(start, max(length, 0))
    if payload.startswith(b"Exif\0\0"):
        found.exif = payload[6:]
    elif b"tiff:Orientation" in payload:
        found.ask_pillow = True


def _end_of_jpeg(reader: _Reader, scan: int) -> int:
    """Where the end marker ends. Programs append thumbnails and zeros, so it need not be the file's last bytes."""
    start = max(scan, reader.size - _TAIL)
    place = reader.at(start, reader.size - start).rfind(b"\xff\xd9")
    if place >= 0:
        return start + place + 2
    for start in range(scan, reader.size, _BLOCK):
        block = reader.at(start, min(_BLOCK + 1, reader.size - start))
        place = block.find(b"\xff\xd9")
        if place >= 0:
            return start + place + 2
    raise ImageError("is cut off (a JPEG without its end marker); copy or save it again")


def _walk_webp(reader: _Reader) -> _Found:
    found = _Found()
    end = 8 + int.from_bytes(reader.at(4, 4), "little")
    reader.within(end - end % 2)
    position = 12
    while position + 8 <= end:
        kind, length = struct.unpack("<4sI", reader.at(position, 8))
        reader.within(position + 8 + length)
        if kind == b"VP8X":
            found.size = _size_vp8x(reader.at(position + 8, 10))
        elif kind in _WEBP_PIXELS:
            if kind in _SIZES and found.size == (0, 0):
                found.size = _SIZES[kind](reader.at(position + 8, min(length, 10)).ljust(10, b"\0"))
            found.pixels.append((position + 8, length))
            ends = reader.at(position + 8, min(length, 64)) + reader.at(
                position + 8 + max(0, length - 256), min(length, 256)
            )
            found.identity += [kind, length.to_bytes(4, "little"), ends]
        elif kind == b"EXIF":
            found.exif = reader.at(position + 8, length).removeprefix(b"Exif\0\0")
        elif kind == b"XMP ":
            found.ask_pillow |= b"tiff:Orientation" in reader.at(position + 8, length)
        position += 8 + length + length % 2
    if not found.pixels:
        raise ImageError("holds no pixels (no VP8 chunk); save it again")
    return found


def _size_vp8x(data: bytes) -> tuple[int, int]:
    return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")


def _size_vp8(data: bytes) -> tuple[int, int]:
    if data[3:6] != b"\x9d\x01\x2a":
        return 0, 0
    width, height = struct.unpack("<HH", data[6:10])
    return width & 0x3FFF, height & 0x3FFF


def _size_vp8l(data: bytes) -> tuple[int, int]:
    bits = int.from_bytes(data[1:5], "little")
    return (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)) if data[0] == 0x2F else (0, 0)


_SIZES = {b"VP8 ": _size_vp8, b"VP8L": _size_vp8l}


def _orientation(path: str | os.PathLike[str], found: _Found) -> int:
    """EXIF orientation, 1 to 8. Pillow is asked only where the file may have one: parsing costs more than the walk."""
    if not found.ask_pillow and not any(entry in found.exif for entry in _ORIENTATION_ENTRY):
        return 1
    try:
        with Image.open(path, formats=FORMATS) as image:
            return orientation(image)
    except Image.DecompressionBombError:
        return 1  # the caller refuses it for its size
    except Exception as error:  # Pillow raises many types on damaged headers
        raise ImageError(f"is damaged ({error}); copy or save it again") from error
