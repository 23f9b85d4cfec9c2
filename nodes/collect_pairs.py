"""DSPO Collect Pairs: images of one prompt become questions, to be answered in the panel at any time."""

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
            description="Adds images to a preference set, to be compared in the DSPO panel whenever you like. The "
            "queue does not wait.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("images", tooltip="At least two images of one prompt."),
                io.String.Input(
                    "set",
                    default="my-taste",
                    tooltip="Name of the set in ComfyUI's input folder, or of one collected before; created if it is "
                    "new.",
                ),
                io.Combo.Input(
                    "schedule",
                    options=list(get_args(QuestionSchedule)),
                    default="all",
                    tooltip="Which pairs you are asked about. all: every image against every other; neighbours: each "
                    "against the next; swiss: a few rounds, for many images.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="What the images show. Empty: read from the graph that leads to the images.",
                ),
                io.String.Input(
                    "seeds",
                    default="",
                    optional=True,
                    tooltip="Seeds of the images, separated by commas; may be empty.",
                ),
                Candidates.Input(
                    "candidates",
                    optional=True,
                    tooltip="From DSPO Candidates: each image's prompt and seed; overrides `prompt` and `seeds`.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def fingerprint_inputs(cls, set: str | None = None, **_: object) -> int:
        """Changes when the set has been deleted, so that ComfyUI does not answer from its cache."""
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
        shots = _by_prompt(to_pil(images), candidates or _info(cls, prompt, seeds, len(images)))
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
        collecting.send("collected", place="sets", set=name, added=added, open=progress.open)
        dropped = len(images) - sum(len(group.images) for group in groups)
        text = _summary(name, added, progress.open, dropped)
        return io.NodeOutput(ui={"images": _shown(folder, groups, images, cls), "text": [text]})


def _plain(set: str) -> str:
    return set.strip().replace("\\", "/")


def _key(name: str) -> str:
    return f"sets/{name}"


def _info(cls: Any, prompt: str, seeds: str, count: int) -> CandidateInfo:
    """Prompt and seeds of a batch, from the widgets or the graph."""
    text = prompt.strip() or collecting.traced_prompt(cls, "images")
    if not text:
        raise ConfigError(
            "the prompt of the images cannot be read from the graph: wire `candidates` from DSPO Candidates or, if "
            "they are all of one prompt, write it into `prompt`"
        )
    return CandidateInfo((text,) * count, tuple(read_seeds(seeds, count) or ()))


def _by_prompt(batch: list[Any], info: CandidateInfo) -> dict[str, list[Shot]]:
    """
    Raises:
        ConfigError: a number of images other than `info` has, too many, or nothing to compare.
    """
    if len(batch) != len(info.prompts):
        raise ConfigError(
            f"{len(batch)} images came in, but `candidates` lists {len(info.prompts)}; wire both from the same node"
        )
    found: dict[str, list[Shot]] = {}
    for n, image in enumerate(batch):
        seed = info.seeds[n] if info.seeds else None
        found.setdefault(info.prompts[n], []).append(Shot(image, seed))
    most = max(map(len, found.values()))
    if most > MAX_IMAGES:
        raise ConfigError(f"{most} images of one prompt came in; at most {MAX_IMAGES} can be compared")
    if all(len({shot.digest() for shot in shots}) < 2 for shots in found.values()):
        kind = "a single image" if len(batch) == 1 else "identical images"
        raise ConfigError(f"{kind} cannot be compared; draw two or more of each prompt, with different seeds")
    return found


def _total(folder: Path) -> int:
    return collecting.stores.get(folder).progress().total


def _summary(name: str, added: int, waiting: int, dropped: int) -> str:
    note = f"\n{dropped} omitted: duplicates, or the only image of a prompt." if dropped else ""
    return f"{added} new pairs in {name}; {waiting} waiting for your vote.{note}"


def _shown(folder: Path, groups: list[Group], images: torch.Tensor, cls: Any) -> list[Any]:
    """The stored files if ComfyUI serves them, otherwise copies in its temporary folder."""
    root = Path(folder_paths.get_input_directory()).resolve()
    if not folder.is_relative_to(root):
        return ui.PreviewImage(images, cls=cls).as_dict()["images"]
    below = folder.relative_to(root)
    files = [below / stored.image for group in groups for stored in group.images]
    return [{"filename": f.name, "subfolder": f.parent.as_posix(), "type": "input"} for f in files]
