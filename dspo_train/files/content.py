"""What a file is that should be safetensors and is not: told by its first bytes, not by its name."""

from __future__ import annotations

from pathlib import Path

_PICKLE = "is a pickle, whatever its name (a pickle can run code); convert it to .safetensors"
_PAGE = "is a web page, not a model: the download was refused or needed a login; download it in a browser"
_ARCHIVE = "is an archive; unpack it"
_IMAGE = "is an image, not a model"
_STARTS = (  # the first bytes -> what the file is
    (b"version https://git-lfs", "is a git-lfs pointer, not the file itself; fetch it with 'git lfs pull'"),
    (b"GGUF", "is a GGUF file, whose quantised weights are not read; give the .safetensors of the same model"),
    *((b"\x80" + bytes([protocol]), _PICKLE) for protocol in range(2, 6)),
    *((start, _PAGE) for start in (b"<!", b"<html", b"<HTML", b"<?xml", b"<Error")),
    (b'{"error', "is an error message of the server, not a model; download it in a browser"),
    *((start, _ARCHIVE) for start in (b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b")),
    *((start, _IMAGE) for start in (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")),
)
_TORCH = (b"data.pkl", b".data/serialization", b"/byteorder", b"/version")  # names in the zip archives of torch.save
_OTHER_NAMES = (".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")


def damage(path: Path) -> str:
    """What is wrong with a file that cannot be read as safetensors, and what to do: 'is a web page, ...'."""
    with path.open("rb") as file:
        start = file.read(256)
    if start.startswith(b"PK\x03\x04") and any(name in start for name in _TORCH):
        return _PICKLE
    for magic, what in _STARTS:
        if start.lstrip()[: len(magic)] == magic:
            return what
    if (suffix := path.suffix.lower()) in _OTHER_NAMES:
        return f"is not a safetensors file, and {suffix} files are not read; convert it to .safetensors"
    size = f"{path.stat().st_size:,} bytes"
    if start and not start.strip(b"\0"):
        return f"begins with zeros: {size}, not fully downloaded or copied; download it again"
    if start and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "is a text file, not a model"
    return f"cannot be read as safetensors: {size}, damaged or not fully downloaded; download it again"
