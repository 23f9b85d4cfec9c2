"""Sets that are voted on in the panel: where they are, one store per set, and how images are added."""

from __future__ import annotations

import io as bytes_io
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import folder_paths
import numpy as np
from comfy.cli_args import args
from comfy_api.v0_0_2 import io
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from server import PromptServer

from ..dspo_train.exceptions import ConfigError, DatasetError
from ..dspo_train.files import digest
from ..dspo_train.files.names import inside, parts_of
from ..dspo_train.images.decode import pixel_hash
from ..dspo_train.pairs.comfy_graph import prompt_upstream
from ..dspo_train.pairs.discover import DEPTH
from ..dspo_train.preferences import LOG_NAME, Group, NewImage, PreferenceStore
from ..dspo_train.preferences.entries import QuestionSchedule
from ..dspo_train.preferences.kept import Kept
from ..dspo_train.preferences.recognise import is_collected
from ..dspo_train.sheets.text_inputs import prompts_for, read_prompts
from . import places

Place = Literal["sets", "blind"]
Candidates = io.Custom("DSPO_CANDIDATES")

_STORES = 32  # kept open; about 2 KB of memory per vote


@dataclass(frozen=True)
class ImageVectors:
    """Features of a batch of images.

    Attributes:
        identity: of the features; see `taste.features.ImageFeatures`.
        rows: (N, F) float16, as they are kept
    """

    identity: str
    rows: np.ndarray


@dataclass(frozen=True)
class CandidateInfo:
    """What a `DSPO_CANDIDATES` wire carries: prompt and seed of each image of the batch, the settings, and features.

    Attributes:
        vectors: None where the model gives none.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    vectors: ImageVectors | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Shot:
    """An image to be voted on, its noise seed, the arm (`base`, `lora`) that drew it, and its features, (F,)."""

    image: Image.Image
    seed: int | None = None
    arm: str | None = None
    vector: np.ndarray | None = field(default=None, compare=False)

    @cached_property
    def digest(self) -> str:
        """Of the pixels alone: the file also holds the workflow, which changes whenever a node is moved."""
        return pixel_hash(self.image).hex()


class Stores:
    """One store per folder, so that a set is read once, and after that only what is new in it."""

    def __init__(self, most: int = _STORES) -> None:
        self._most = most
        self._open: OrderedDict[Path, PreferenceStore] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, folder: Path) -> PreferenceStore:
        """See `PreferenceStore`, which creates a set that does not exist."""
        with self._lock:
            store = self._open.get(folder)
        store = store or PreferenceStore(folder)  # outside the lock: a locked set must not hold up the others
        with self._lock:
            store = self._open.setdefault(folder, store)
            self._open.move_to_end(folder)
            while len(self._open) > self._most:
                self._open.popitem(last=False)
            return store

    def opened(self, folder: Path) -> PreferenceStore | None:
        """The store of a folder if it is open now; opens none."""
        with self._lock:
            return self._open.get(folder)

    @contextmanager
    def leaving(self, folder: Path) -> Iterator[None]:
        """Move a set's folder inside this block: votes under way end before, and none is written at its old place."""
        store = self.opened(folder)
        with store.retired() if store else nullcontext():
            yield
        with self._lock:
            self._open.pop(folder, None)


stores = Stores()
kept = Kept()
renamed: dict[str, str] = {}  # sets by their former names: a dialog that was open meanwhile goes on


def folder_of(place: Place, name: str) -> Path:
    """The folder of a set, collected or not.

    Raises:
        DatasetError: there is none of that name.
        ConfigError: the name leads outside the place.
    """
    if place == "sets":
        return _dataset(name)
    folder = inside(places.blind_tests(), name, "the test's name")
    if not places.is_there(folder) or not folder.is_dir():
        raise DatasetError(f"there is no blind test {name!a}; run DSPO Blind Test to make one")
    return folder


def _dataset(name: str) -> Path:
    try:
        return places.dataset(name)
    except DatasetError as error:
        if name not in renamed or isinstance(error.__cause__, OSError):
            raise
        return places.dataset(renamed[name])


def set_to_extend(name: str) -> Path:
    """The folder of the collected set of that name, or of a new one in ComfyUI's input folder.

    Raises:
        ConfigError: ComfyUI would not list the name, or the folder holds something else.
    """
    name = name.strip()
    parts = parts_of(name, "the set's name")
    if len(parts) > DEPTH or any(part.startswith(".") for part in parts):
        raise ConfigError(f"the set's name {name!a} is hidden or has more than {DEPTH} parts; use a plain name")
    new = inside(Path(folder_paths.get_input_directory()), name, "the set's name")
    try:
        folder = places.dataset(name)
    except DatasetError as error:
        if isinstance(error.__cause__, OSError):  # an unreachable set must not be created a second time
            raise
        folder = new
    within = next((p for p in list(folder.parents)[: len(parts) - 1] if (p / LOG_NAME).exists()), None)
    if within is not None:
        raise ConfigError(f"the set's name {name!a} lies inside the set {within.name!a}; choose another name")
    if folder.exists() and not is_collected(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"the folder {name!a} holds something other than a collected set; choose another name, or import it into "
            "one"
        )
    return folder


def add_group(
    folder: Path,
    prompt: str,
    shots: Sequence[Shot],
    schedule: QuestionSchedule,
    cls: Any,
    settings: Mapping[str, Any] | None = None,
) -> Group | None:
    """Add images of one prompt to a set; None if fewer than two of them differ.

    The same images with the same prompt and schedule are one group, however often they are added. Another schedule
    makes another group of the same files, which asks only about pairs that the first does not.

    Args:
        cls: the node; its workflow is written into the files unless ComfyUI runs with --disable-metadata.

    Raises:
        DatasetError, RunError: see `PreferenceStore.add_group`.
    """
    different = {shot.digest: shot for shot in shots}
    if len(different) < 2:
        return None
    store = stores.get(folder)
    group = digest("group", prompt, schedule, *sorted(different))[:32]
    if store.has_group(group):
        images = []  # ignored: the store already has them
    else:
        images = [NewImage(_png(shot.image, cls), shot.seed, shot.arm) for shot in different.values()]
    return store.add_group(prompt, images, schedule, settings, id=group)


def _png(image: Image.Image, cls: Any) -> bytes:
    """As core's SaveImage writes it, workflow included."""
    about = PngInfo()
    if not args.disable_metadata and cls.hidden:
        texts = {"prompt": cls.hidden.prompt, **(cls.hidden.extra_pnginfo or {})}
        for key, value in texts.items():
            if value:
                about.add_text(key, json.dumps(value))
    buffer = bytes_io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=about, compress_level=4)
    return buffer.getvalue()


def traced_prompt(cls: Any, socket: str) -> str:
    """The prompt of the images on one of the node's sockets, read from the graph; empty if it has none.

    Only the nodes that lead to the socket are read: a graph may draw other images too.
    """
    graph: dict[str, Any] = (cls.hidden.prompt if cls.hidden else None) or {}
    return prompt_upstream(graph, cls.hidden.unique_id, socket) if graph else ""


def prompts_of_images(written: str, drawn: CandidateInfo | None, traced: str, count: int) -> list[str]:
    """The prompt of each image: as written, one per line, or of the candidates, or traced in the graph.

    Raises:
        ConfigError: there is none of these, or the lines cannot be spread evenly over the images.
    """
    if written.strip():
        return prompts_for("\n".join(read_prompts(written)), count)
    if drawn is not None:
        return list(drawn.prompts)
    text = " ".join(traced.split())
    if not text:
        raise ConfigError(
            "the prompts of the images cannot be read from the graph; wire in the prompts of DSPO Candidates, "
            "or write them into `prompts`"
        )
    return prompts_for(text, count)


def send(event: str, **data: Any) -> None:
    """Send `dspo.EVENT` to every page; may be called from any thread."""
    PromptServer.instance.send_sync(f"dspo.{event}", data)
