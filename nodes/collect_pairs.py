"""DSPO Collect Pairs: pictures of one prompt become questions, to be answered in the page at any time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import folder_paths
import torch
from comfy_api.v0_0_2 import io, ui

from ..dspo_train.exceptions import ConfigError
from ..dspo_train.preferences import Group, QuestionSchedule
from ..dspo_train.preferences.entries import MAX_IMAGES
from ..dspo_train.sheets.text_inputs import read_seeds
from . import collecting
from .collecting import CandidateInfo, Candidates, Shot
from .images import to_pil
from .sockets import CATEGORY


class CollectPairs(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOCollectPairs",
            display_name="DSPO Collect Pairs",
            category=CATEGORY,
            description="Puts pictures into a preference set, to be compared in the DSPO panel whenever you like. The "
            "queue goes on meanwhile.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("images", tooltip="At least two pictures of one prompt."),
                io.String.Input(
                    "set",
                    default="my-taste",
                    tooltip="Name of the set in ComfyUI's input folder, or of one collected before; made if it is new.",
                ),
                io.Combo.Input(
                    "schedule",
                    options=list(get_args(QuestionSchedule)),
                    default="all",
                    tooltip="Which pairs are asked. all: every picture against every other; neighbours: each against "
                    "the next; swiss: a few rounds, for many pictures.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="What the pictures show. Empty: read from the graph that leads to the pictures.",
                ),
                io.String.Input(
                    "seeds",
                    default="",
                    optional=True,
                    tooltip="Seeds of the pictures, separated by commas; may stay empty.",
                ),
                Candidates.Input(
                    "candidates",
                    optional=True,
                    tooltip="From DSPO Candidates: each picture's prompt and seed; goes before `prompt` and `seeds`.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def fingerprint_inputs(cls, set: str | None = None, **_: object) -> int:
        """Changes once the set was deleted, so that ComfyUI's cache does not stand for it."""
        return collecting.kept.losses(_key(_plain(set))) if set else 0

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        set: str,
        schedule: QuestionSchedule,
        prompt: str = "",
        seeds: str = "",
        candidates: CandidateInfo | None = None,
    ) -> io.NodeOutput:
        name = _plain(set)
        folder = collecting.set_to_extend(name)
        shots = _by_prompt(to_pil(images), candidates or _asked(cls, prompt, seeds, len(images)))
        settings = dict(candidates.settings) if candidates else {}
        before = _total(folder)
        groups = []
        for text, of_prompt in shots.items():
            group = collecting.add_group(folder, text, of_prompt, schedule, cls, settings)
            if group is not None:
                groups.append(group)
        store = collecting.stores.get(folder)
        progress = store.progress()
        collecting.kept.note(_key(name), folder, store.id)
        added = progress.total - before
        collecting.tell("collected", place="sets", set=name, added=added, open=progress.open)
        dropped = len(images) - sum(len(group.images) for group in groups)
        text = _told(name, added, progress.open, dropped)
        return io.NodeOutput(ui={"images": _shown(folder, groups, images, cls), "text": [text]})


def _plain(set: str) -> str:
    return set.strip().replace("\\", "/")


def _key(name: str) -> str:
    return f"sets/{name}"


def _asked(cls: Any, prompt: str, seeds: str, count: int) -> CandidateInfo:
    """What the widgets say of a batch, or the graph."""
    text = prompt.strip() or collecting.traced_prompt(cls, "images")
    if not text:
        raise ConfigError("the graph does not say with which prompt the pictures were made; write it into `prompt`")
    return CandidateInfo((text,) * count, tuple(read_seeds(seeds, count) or ()))


def _by_prompt(batch: list[Any], info: CandidateInfo) -> dict[str, list[Shot]]:
    """
    Raises:
        ConfigError: another number of pictures than the wire speaks of, too many, or nothing to compare.
    """
    if len(batch) != len(info.prompts):
        raise ConfigError(
            f"{len(batch)} pictures came in, but `candidates` speaks of {len(info.prompts)}; wire both from one node"
        )
    found: dict[str, list[Shot]] = {}
    for n, picture in enumerate(batch):
        seed = info.seeds[n] if info.seeds else None
        found.setdefault(info.prompts[n], []).append(Shot(picture, seed))
    most = max(map(len, found.values()))
    if most > MAX_IMAGES:
        raise ConfigError(f"{most} pictures of one prompt came in; at most {MAX_IMAGES} are compared with each other")
    if all(len({shot.digest() for shot in shots}) < 2 for shots in found.values()):
        kind = "one picture alone" if len(batch) == 1 else "pictures that are all the same"
        raise ConfigError(f"{kind} cannot be compared; draw two or more of each prompt at once, with different seeds")
    return found


def _total(folder: Path) -> int:
    return collecting.stores.get(folder).progress().total


def _told(name: str, added: int, waiting: int, dropped: int) -> str:
    note = f"\n{dropped} left out: the same picture twice, or the only one of its prompt." if dropped else ""
    return f"{added} new pairs in {name}; {waiting} wait to be judged.{note}"


def _shown(folder: Path, groups: list[Group], images: torch.Tensor, cls: Any) -> list[Any]:
    """The stored files where ComfyUI serves them, else copies in its temporary folder."""
    root = Path(folder_paths.get_input_directory()).resolve()
    if not folder.is_relative_to(root):
        return ui.PreviewImage(images, cls=cls).as_dict()["images"]
    below = folder.relative_to(root)
    files = [below / picture.image for group in groups for picture in group.images]
    return [{"filename": f.name, "subfolder": f.parent.as_posix(), "type": "input"} for f in files]
