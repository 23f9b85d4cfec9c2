"""The prompt that a generator wrote into an image: ComfyUI, A1111/Forge, SwarmUI, InvokeAI.

Where they write it: PNG text chunks `prompt` (ComfyUI's API graph), `parameters` (A1111's text, SwarmUI's JSON) and
`invokeai_metadata`; in JPEG and WebP, EXIF UserComment (A1111 and others) and string tags of the form
`prompt:{graph}` (ComfyUI uses Model, 0x0110).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from ..images.formats import FORMATS
from .comfy_graph import positive_prompt

_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_END_OF_PROMPT = re.compile(r"(?:^|\n)(?:Negative prompt:|Steps: \d)")


def prompt_from_image(path: str | os.PathLike[str]) -> str:
    """The positive prompt in an image's metadata, or an empty string where there is none or it is ambiguous."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            info = {key: value for key, value in image.info.items() if isinstance(value, str)}
            return next(filter(None, _prompts(info, image)), "")
    except Exception:  # foreign metadata: whatever is wrong with it, there is no prompt in it
        return ""


def prompt_from_parameters(text: str) -> str:
    """The prompt in A1111's parameter text: what precedes `Negative prompt:` and `Steps:`."""
    end = _END_OF_PROMPT.search(text)
    return (text[: end.start()] if end else text).strip()


def _prompts(info: Mapping[str, str], image: Image.Image) -> Iterator[str]:
    if "prompt" in info:
        yield positive_prompt(_json(info["prompt"]))
    if "parameters" in info:
        yield _from_text(info["parameters"])
    if "invokeai_metadata" in info:
        yield _from_text(info["invokeai_metadata"])
    if "exif" not in image.info:  # for a PNG, asking all the same decodes the whole image
        return
    exif = image.getexif()
    for value in exif.values():
        if isinstance(value, str) and value[:7].lower() == "prompt:":
            yield positive_prompt(_json(value[7:]))
    comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    if comment:
        yield _from_text(comment if isinstance(comment, str) else _decode_comment(comment))


def _from_text(text: str) -> str:
    """A1111's text, or one of the JSON objects that others write in its place."""
    data = _json(text)
    if not isinstance(data, Mapping):
        return prompt_from_parameters(text) if _END_OF_PROMPT.search(text) or not _looks_json(text) else ""
    swarm = data.get("sui_image_params")
    found = swarm.get("prompt") if isinstance(swarm, Mapping) else data.get("positive_prompt")
    if isinstance(found, str):
        return found.strip()
    graph = data.get("prompt")
    return positive_prompt(_json(graph) if isinstance(graph, str) else graph)


def _looks_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _decode_comment(raw: bytes) -> str:
    """EXIF UserComment: an 8-byte character code, then text. UTF-16 comes in either byte order, often without mark."""
    code, body = raw[:8], raw[8:]
    if code == b"UNICODE\0":
        if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return body.decode("utf-16", "replace").rstrip("\0")
        big = body[::2].count(0) > body[1::2].count(0)  # the parameters always hold ASCII, whose high byte is zero
        return body.decode("utf-16-be" if big else "utf-16-le", "replace").rstrip("\0")
    return (body if code in (b"ASCII\0\0\0", b"\0" * 8) else raw).decode("utf-8", "replace").strip("\0")
