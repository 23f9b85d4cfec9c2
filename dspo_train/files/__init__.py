"""Files and names: written whole or not at all, kept inside their folders, numbered."""

from .writing import (
    cannot_write,
    digest,
    is_full,
    read_json_lines,
    read_json_object,
    sha256_of,
    write_bytes,
    write_chunks,
    write_image,
    write_json,
    write_text,
)

__all__ = [
    "cannot_write",
    "digest",
    "is_full",
    "read_json_lines",
    "read_json_object",
    "sha256_of",
    "write_bytes",
    "write_chunks",
    "write_image",
    "write_json",
    "write_text",
]
