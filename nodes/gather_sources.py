"""Where images that are there already lie: ComfyUI's output and input folders, its history, and the tray of drops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import folder_paths
from server import PromptServer

from ..dspo_train.exceptions import ConfigError, DatasetError
from ..dspo_train.files.names import inside
from ..dspo_train.images.formats import SUFFIXES
from ..dspo_train.pairs.comfy_recipe import Recipe, recipe_upstream
from ..dspo_train.pairs.image_files import ImageFile, images_below
from ..dspo_train.pairs.image_index import ImageIndex
from ..dspo_train.preferences import LOG_NAME

Source = Literal["output", "history", "input", "dropped"]
SOURCES: tuple[Source, ...] = ("output", "history", "input", "dropped")

_OWN = "dspo"  # below output: previews, blind tests and exports of ours
_SHOWN_BY_HISTORY = ("output", "temp")
_MOST_RECIPES = 20_000


class SourceFiles(NamedTuple):
    """The images of a source, newest first, and the recipes that are known better than from their files."""

    files: list[ImageFile]
    recipes: dict[str, Recipe]


def own_folder() -> Path:
    return Path(folder_paths.get_output_directory()) / _OWN


def tray() -> Path:
    """Where dropped files wait until they are collected."""
    return own_folder() / "dropped"


index = ImageIndex(own_folder())
_recipes: dict[tuple[str, str], Recipe] = {}


def files_of(source: Source) -> SourceFiles:
    if source == "history":
        return _history()
    root = root_of(source)
    return SourceFiles(images_below(root, lambda name: _enter(source, root, name)), {})


def below(folder: str, files: list[ImageFile]) -> list[ImageFile]:
    """Those in a folder: found from the top, so that what is not shown of a source cannot be named either."""
    return [file for file in files if file.name.startswith(f"{folder}/")] if folder else files


def check_folder(source: Source, folder: str) -> None:
    """
    Raises:
        DatasetError: there is no folder of that name.
        ConfigError: the name leads out of the source.
    """
    if folder and source != "history" and not inside(root_of(source), folder, "the folder's name").is_dir():
        raise DatasetError(f"there is no folder {folder!a} in {source}; choose another one")


def path_of(source: Source, name: str) -> Path:
    """The file of an image that a source lists.

    Raises:
        ConfigError: the name leads out of the source, or into what is not shown of it.
    """
    if source != "history":
        first = name.split("/")[0]
        if source == "output" and first == _OWN:
            raise ConfigError("the folder dspo is not shown; choose another image")
        return inside(root_of(source), name, "the image's name")
    kind, _, rest = name.partition("/")
    if kind not in _SHOWN_BY_HISTORY or (kind == "output" and rest.split("/")[0] == _OWN):
        raise ConfigError("the history shows no such image; choose another one")
    return inside(Path(folder_paths.get_directory_by_type(kind) or ""), rest, "the image's name")


def root_of(source: Source) -> Path:
    if source == "dropped":
        return tray()
    return Path(folder_paths.get_input_directory() if source == "input" else folder_paths.get_output_directory())


def _enter(source: Source, root: Path, name: str) -> bool:
    if source == "output" and name == _OWN:
        return False
    return not (root / name / LOG_NAME).exists()  # the images of a collected set are in a set already


def _history() -> SourceFiles:
    """What this server has drawn since it started, as the page's own history lists it."""
    found: dict[str, ImageFile] = {}
    recipes: dict[str, Recipe] = {}
    entries = PromptServer.instance.prompt_queue.get_history()
    for prompt_id, entry in reversed(list(entries.items())):
        for node, image in _shown(entry):
            name = _name(image)
            if name is None or name in found or (file := _stat(name)) is None:
                continue
            found[name] = file
            recipe = _recipe(prompt_id, entry, node)
            if recipe.prompt:
                recipes[name] = recipe
    return SourceFiles(sorted(found.values(), key=lambda it: (-it.time, it.name)), recipes)


def _shown(entry: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(node, image) of each image that a node showed."""
    outputs = entry.get("outputs") if isinstance(entry, Mapping) else None
    for node, output in list(outputs.items()) if isinstance(outputs, Mapping) else ():
        images = output.get("images") if isinstance(output, Mapping) else None
        for image in images if isinstance(images, (list, tuple)) else ():
            if isinstance(image, Mapping):
                yield str(node), image


def _name(image: Mapping[str, Any]) -> str | None:
    kind, subfolder, filename = (image.get(key) for key in ("type", "subfolder", "filename"))
    if kind not in _SHOWN_BY_HISTORY or not isinstance(filename, str) or not isinstance(subfolder, (str, type(None))):
        return None
    if Path(filename).suffix.lower() not in SUFFIXES:
        return None
    return "/".join(filter(None, (kind, *(subfolder or "").replace("\\", "/").split("/"), filename)))


def _stat(name: str) -> ImageFile | None:
    try:
        path = path_of("history", name)
        status = path.stat()
    except (ConfigError, OSError):  # deleted since, or a name that we do not accept
        return None
    return ImageFile(name, str(path), status.st_size, status.st_mtime_ns)


def _recipe(prompt_id: str, entry: Any, node: str) -> Recipe:
    """From the graph as it was queued: it says which of several samplers led to this node."""
    key = (prompt_id, node)
    if key not in _recipes:
        if len(_recipes) >= _MOST_RECIPES:
            _recipes.clear()
        queued = entry.get("prompt")
        graph = queued[2] if isinstance(queued, (list, tuple)) and len(queued) > 2 else None
        _recipes[key] = recipe_upstream(graph, node, "images")
    return _recipes[key]
