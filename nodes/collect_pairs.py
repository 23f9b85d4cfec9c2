"""DSPO Collect Pairs: images of one prompt become questions, to be answered in the panel at any time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import folder_paths
import torch
from comfy_api.v0_0_2 import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..dspo_train.exceptions import ConfigError, DspoError
from ..dspo_train.files import digest
from ..dspo_train.files.words import many
from ..dspo_train.pairs.upstream import is_linked_to, upstream_digest
from ..dspo_train.preferences import Group, PreferenceStore, QuestionSchedule, StoredImage
from ..dspo_train.preferences.drawn import DrawnPart, find_drawn, note_drawn
from ..dspo_train.preferences.entries import MAX_IMAGES, digits
from ..dspo_train.preferences.images import pixel_digits
from ..dspo_train.preferences.recognise import is_collected
from ..dspo_train.sheets.text_inputs import read_seeds
from ..dspo_train.taste.kept import keep_features
from . import collecting
from .collecting import CandidateInfo, Candidates, Shot
from .images import to_pil
from .pair_sets import pair_set, votes_stamp
from .sockets import CATEGORY, Pairs

ENOUGH = 50  # votes with which a first LoRA is worth its time

log = logging.getLogger("dspo")


class CollectPairs(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOCollectPairs",
            display_name="DSPO Collect Pairs",
            category=CATEGORY,
            description="Adds images to a preference set, to be compared in the DSPO panel whenever you like. The "
            "queue does not wait: what is wired to `pairs` runs once there are enough votes.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=_inputs(),
            outputs=[
                Pairs.Output(
                    "pairs",
                    display_name="pairs",
                    tooltip="The pairs voted on, for DSPO Train LoRA. With too few votes, what is wired here waits.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, set: str | None = None, **_: object) -> str:
        """Changes when the set has been deleted or voted on, so that ComfyUI does not answer from its cache."""
        if not set:
            return ""
        try:
            votes = votes_stamp(collecting.set_to_extend(_plain(set)))
        except DspoError:  # `execute` reports it
            votes = ""
        return f"{collecting.kept.losses(_key(_plain(set)))} {votes}"

    @classmethod
    def check_lazy_status(
        cls, set: str, schedule: QuestionSchedule, prompt: str = "", seeds: str = "", **wired: Any
    ) -> list[str]:
        """The images are needed only if the set does not hold them already, as after a restart of ComfyUI."""
        folder = collecting.set_to_extend(_plain(set))
        if _find(folder, _part(cls, schedule, prompt, seeds)) is not None:
            return []
        return [name for name in ("images", "candidates") if name in wired and wired[name] is None]

    @classmethod
    def execute(
        cls,
        set: str,
        schedule: QuestionSchedule,
        images: torch.Tensor | None = None,
        prompt: str = "",
        seeds: str = "",
        candidates: CandidateInfo | None = None,
        train_after: int = ENOUGH,
    ) -> io.NodeOutput:
        name = _plain(set)
        folder = collecting.set_to_extend(name)
        part = _part(cls, schedule, prompt, seeds)
        if images is None:
            drawn, added = _find(folder, part) or DrawnPart(()), 0
        else:
            info = candidates or _info(cls, prompt, seeds, len(images))
            drawn, added = _collected(folder, _by_prompt(to_pil(images), info), schedule, cls, info)
        store = collecting.stores.get(folder)
        if images is not None and part is not None:
            _note(folder, store.id, part, drawn)
        progress = store.progress()
        collecting.kept.note(_key(name), folder, store.id)
        enough = progress.wins >= max(1, train_after)
        state = {"set": name, "open": progress.open, "votes": progress.wins, "train_after": train_after}
        collecting.send("collected", place="sets", added=added, **state)
        text = [_summary(name, added, progress.open, drawn.dropped), _votes(progress.wins, train_after, enough)]
        shown = {"images": _shown(folder, store, drawn, images, cls), "text": ["\n".join(text)]}
        return io.NodeOutput(pair_set(name, folder) if enough else ExecutionBlocker(None), ui=shown)


def _inputs() -> list[io.Input]:
    return [
        io.Image.Input("images", lazy=True, tooltip="At least two images of one prompt."),
        io.String.Input(
            "set",
            default="my-taste",
            tooltip="Name of the set in ComfyUI's input folder, or of one collected before; created if it is new.",
        ),
        io.Combo.Input(
            "schedule",
            options=list(get_args(QuestionSchedule)),
            default="all",
            tooltip="Which pairs you are asked about. all: every image against every other; neighbours: each against "
            "the next; swiss: a few rounds, for many images.",
        ),
        io.String.Input(
            "prompt",
            default="",
            multiline=True,
            optional=True,
            tooltip="What the images show. Empty: read from the graph that leads to the images.",
        ),
        io.String.Input(
            "seeds", default="", optional=True, tooltip="Seeds of the images, separated by commas; may be empty."
        ),
        Candidates.Input(
            "candidates",
            optional=True,
            lazy=True,
            tooltip="From DSPO Candidates: each image's prompt and seed; overrides `prompt` and `seeds`.",
        ),
        io.Int.Input(
            "train_after",
            default=ENOUGH,
            min=0,
            max=100_000,
            optional=True,
            tooltip="Votes with a winner from which the pairs go on to DSPO Train LoRA; about 50 make a first LoRA. 0: "
            "from the first vote.",
        ),
    ]


def _collected(
    folder: Path, shots: dict[str, list[Shot]], schedule: QuestionSchedule, cls: Any, info: CandidateInfo
) -> tuple[DrawnPart, int]:
    """What the images became, and how many pairs are new."""
    before, settings = _total(folder), dict(info.settings)
    found = [collecting.add_group(folder, text, each, schedule, cls, settings) for text, each in shots.items()]
    groups = [group for group in found if group is not None]
    if info.vectors is not None:
        _keep(folder, info.vectors.identity, groups, [shot for each in shots.values() for shot in each])
    dropped = sum(map(len, shots.values())) - sum(len(group.images) for group in groups)
    return DrawnPart(tuple(group.id for group in groups), dropped), _total(folder) - before


def _keep(folder: Path, identity: str, groups: Sequence[Group], shots: Sequence[Shot]) -> None:
    """Put the features of the stored images beside the set."""
    vectors = {pixel_digits(shot.image): shot.vector for shot in shots if shot.vector is not None}
    names = [stored.image for group in groups for stored in group.images]
    found = {name: vectors[digits(name)] for name in names if digits(name) in vectors}
    try:
        if found:
            keep_features(folder, identity, found)
    except DspoError as error:  # the images are in the set; the questions are then asked in their usual order
        log.warning("%s", error)


def _part(cls: Any, schedule: str, prompt: str, seeds: str) -> str | None:
    """Names what is collected by what it is made from; None where the graph does not tell."""
    graph: dict[str, Any] = (cls.hidden.prompt if cls.hidden else None) or {}
    node = str(cls.hidden.unique_id) if cls.hidden else ""
    linked = graph.get(node, {}).get("inputs", {})
    sockets = [socket for socket in ("images", "candidates") if socket in linked]
    upstream = upstream_digest(graph, node, sockets) if sockets else None
    return None if upstream is None else digest("collected", upstream, schedule, prompt, seeds)


def _find(folder: Path, part: str | None) -> DrawnPart | None:
    """What the set holds of that part of the graph, if it holds all of it."""
    if part is None or not is_collected(folder):
        return None
    store = collecting.stores.get(folder)
    drawn = find_drawn(folder, store.id, part)
    return drawn if drawn and {group.id for group in store.groups()}.issuperset(drawn.groups) else None


def _note(folder: Path, set_id: str, part: str, drawn: DrawnPart) -> None:
    try:
        note_drawn(folder, set_id, part, drawn)
    except DspoError as error:  # the images are in the set; they would only be drawn again
        log.warning("%s", error)


def _plain(set: str) -> str:
    return set.strip().replace("\\", "/")


def _key(name: str) -> str:
    return f"sets/{name}"


def _info(cls: Any, prompt: str, seeds: str, count: int) -> CandidateInfo:
    """Prompt and seeds of a batch, from the widgets or the graph."""
    graph: dict[str, Any] = cls.hidden.prompt or {}
    if is_linked_to(graph, str(cls.hidden.unique_id), "images", "DSPOCandidates"):
        raise ConfigError(
            "wire `candidates` of DSPO Candidates into this node too: it says which image is of which prompt"
        )
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
        vector = info.vectors.rows[n] if info.vectors else None
        found.setdefault(info.prompts[n], []).append(Shot(image, seed, vector=vector))
    most = max(map(len, found.values()))
    if most > MAX_IMAGES:
        raise ConfigError(f"{most} images of one prompt came in; at most {MAX_IMAGES} can be compared")
    if all(len({shot.digest for shot in shots}) < 2 for shots in found.values()):
        kind = "a single image" if len(batch) == 1 else "identical images"
        raise ConfigError(f"{kind} cannot be compared; draw two or more of each prompt, with different seeds")
    return found


def _total(folder: Path) -> int:
    return collecting.stores.get(folder).progress().total


def _summary(name: str, added: int, waiting: int, dropped: int) -> str:
    note = f"\n{dropped} omitted: duplicates, or the only image of a prompt." if dropped else ""
    return f"{many(added, 'new pair')} in {name}; {waiting} waiting for your vote.{note}"


def _votes(votes: int, train_after: int, enough: bool) -> str:
    if enough:
        return f"{many(votes, 'vote')}: enough to train."
    wanted = f"{votes} of about {train_after} votes" if train_after else "No vote yet"
    return f"{wanted}: press Vote now, then run again to train."


def _shown(folder: Path, store: PreferenceStore, drawn: DrawnPart, images: torch.Tensor | None, cls: Any) -> list[Any]:
    """The stored files if ComfyUI serves them, otherwise copies in its temporary folder."""
    root = Path(folder_paths.get_input_directory()).resolve()
    if not folder.is_relative_to(root):
        return [] if images is None else ui.PreviewImage(images, cls=cls).as_dict()["images"]
    below = folder.relative_to(root)
    groups = {group.id: group.images for group in store.groups()}
    stored: list[StoredImage] = [image for each in drawn.groups for image in groups.get(each, ())]
    files = [below / image.image for image in stored]
    return [{"filename": f.name, "subfolder": f.parent.as_posix(), "type": "input"} for f in files]
