"""What a generator wrote into an image: prompt, seed and settings by ComfyUI, A1111/Forge, SwarmUI or InvokeAI.

Where they write it: PNG text chunks `prompt` (ComfyUI's API graph), `parameters` (A1111's text, SwarmUI's JSON) and
`invokeai_metadata`; in JPEG and WebP, EXIF UserComment (A1111 and others) and string tags of the form
`prompt:{graph}` (ComfyUI uses Model, 0x0110).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..images.formats import FORMATS, MAX_PIXELS, ORIENTATION
from ..preferences.entries import MAX_PROMPT
from .comfy_recipe import Recipe, RecipeValue, plain_of, recipe_of_graph, seed_of

LARGEST_FILE = 128 * 1024 * 1024
"""Bytes; a larger file is not opened. 64 megapixels of noise are 192 MB, pictures a third of that."""
MAX_TEXT = 2 * 1024 * 1024
"""Characters of one text; a longer one is not read. Large workflows have a tenth of that."""

_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_END_OF_PROMPT = re.compile(r"(?:^|\n)(?:Negative prompt:|Steps: \d)")
_LAST_LINE = re.compile(r"(?:^|\n)(Steps: \d[^\n]*)")
_PARAMETERS = {  # A1111's names
    "steps": re.compile(r"(?:^|, )Steps: ([^,]+)"),
    "cfg": re.compile(r", CFG scale: ([^,]+)"),
    "sampler": re.compile(r", Sampler: ([^,]+)"),
    "scheduler": re.compile(r", Schedule type: ([^,]+)"),
    "denoise": re.compile(r", Denoising strength: ([^,]+)"),
    "model": re.compile(r", Model: ([^,]+)"),
}
_SEED = re.compile(r", Seed: (\d{1,20})(?:,|$)")
_SWARM = {"steps": "steps", "cfg": "cfgscale", "sampler": "sampler", "scheduler": "scheduler", "model": "model"}
_INVOKE = {"steps": "steps", "cfg": "cfg_scale", "scheduler": "scheduler"}
_NUMERIC = ("steps", "cfg", "denoise")


@dataclass(frozen=True)
class ImageMetadata:
    """How an image was drawn, as far as its file says, and its (width, height) in pixels, upright."""

    recipe: Recipe
    size: tuple[int, int]


def image_metadata(path: str | os.PathLike[str]) -> ImageMetadata | None:
    """Read the head of an image file; no pixels are decoded, and metadata that is broken or too long counts as none.

    None of what cannot be used as an image: not PNG, JPEG or WebP, damaged, or too large.
    """
    try:
        if os.stat(path).st_size > LARGEST_FILE:
            return None
        with Image.open(path, formats=FORMATS) as image:
            if not 0 < image.width * image.height <= MAX_PIXELS:
                return None
            return ImageMetadata(_recipe(image), _upright(image))
    except Exception:  # decoders raise OSError, ValueError, SyntaxError, struct.error, zlib.error, ...
        return None


def prompt_from_image(path: str | os.PathLike[str]) -> str:
    """The positive prompt in an image's metadata, or an empty string where there is none or it is ambiguous."""
    found = image_metadata(path)
    return found.recipe.prompt if found else ""


def prompt_from_parameters(text: str) -> str:
    """The prompt in A1111's parameter text: what precedes `Negative prompt:` and `Steps:`."""
    end = _END_OF_PROMPT.search(text)
    return (text[: end.start()] if end else text).strip()


def _upright(image: Image.Image) -> tuple[int, int]:
    try:
        turned = "exif" in image.info and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:  # Pillow raises many types on broken EXIF
        turned = False
    return (image.height, image.width) if turned else image.size


def _recipe(image: Image.Image) -> Recipe:
    """The first place that gives a prompt is believed."""
    best = Recipe()
    try:
        for recipe in _recipes(image):
            if 0 < len(recipe.prompt) <= MAX_PROMPT:
                return recipe
            best = best if best.settings or recipe.prompt else recipe
    except Exception:  # foreign metadata: whatever is wrong with it, there is no prompt in it
        pass
    return best


def _recipes(image: Image.Image) -> Iterator[Recipe]:
    info = {key: value for key, value in image.info.items() if isinstance(value, str) and len(value) <= MAX_TEXT}
    if "prompt" in info:
        yield recipe_of_graph(_json(info["prompt"]))
    for key in ("parameters", "invokeai_metadata"):
        if key in info:
            yield _from_text(info[key])
    if "exif" not in image.info:  # for a PNG, asking all the same decodes the whole image
        return
    exif = image.getexif()
    for value in exif.values():
        if isinstance(value, str) and value[:7].lower() == "prompt:":
            yield recipe_of_graph(_json(value[7:]))
    comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    if comment and len(comment) <= 2 * MAX_TEXT:
        yield _from_text(comment if isinstance(comment, str) else _decode_comment(comment))


def _from_text(text: str) -> Recipe:
    """A1111's text, or one of the JSON objects that others write in its place."""
    data = _json(text)
    if not isinstance(data, Mapping):
        return _from_parameters(text) if _END_OF_PROMPT.search(text) or not _looks_json(text) else Recipe()
    swarm = data.get("sui_image_params")
    if isinstance(swarm, Mapping) and isinstance(swarm.get("prompt"), str):
        return _named(swarm["prompt"], swarm, _SWARM)
    if isinstance(data.get("positive_prompt"), str):
        return _named(data["positive_prompt"], data, _INVOKE)
    graph = data.get("prompt")
    return recipe_of_graph(_json(graph) if isinstance(graph, str) else graph)


def _named(prompt: str, data: Mapping[str, Any], names: Mapping[str, str]) -> Recipe:
    found = {ours: plain_of(data.get(theirs)) for ours, theirs in names.items()}
    return Recipe(prompt.strip(), seed_of(data.get("seed")), _known(found))


def _from_parameters(text: str) -> Recipe:
    line = _LAST_LINE.findall(text)
    if not line:
        return Recipe(prompt_from_parameters(text))
    found = {name: _value(name, match[1]) for name, rule in _PARAMETERS.items() if (match := rule.search(line[-1]))}
    seed = _SEED.search(line[-1])
    return Recipe(prompt_from_parameters(text), seed_of(int(seed[1])) if seed else None, _known(found))


def _value(name: str, text: str) -> RecipeValue | None:
    if name not in _NUMERIC:
        return plain_of(text)
    try:
        number = float(text)
    except ValueError:
        return None
    return plain_of(int(number) if number.is_integer() else number)


def _known(values: Mapping[str, RecipeValue | None]) -> dict[str, RecipeValue]:
    return {name: value for name, value in values.items() if value is not None}


def _looks_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def _json(text: str) -> Any:
    try:
        return json.loads(text) if len(text) <= MAX_TEXT else None
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
