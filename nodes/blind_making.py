"""Blind tests as nodes make them: found again or made, shown on the page, and their images once all is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from comfy_api.v0_0_2 import io
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image

from ..dspo_train.evaluate.blind import BASE, LORA, claim_test, note_facts
from ..dspo_train.exceptions import ConfigError, DspoError
from ..dspo_train.files import digest
from ..dspo_train.files.names import file_name
from . import collecting, places, tested
from .collecting import Shot
from .images import to_tensor

WHAT = "the test's name"


@dataclass(frozen=True)
class Compared:
    """What a test compares, image by image: without the LoRA and with it.

    Attributes:
        called: the LoRA's name in the result.
        seeds: of the images; empty where unknown.
        facts: what `note_facts` writes beside the test.
    """

    base: Sequence[Image.Image]
    aligned: Sequence[Image.Image]
    prompts: Sequence[str]
    called: str
    seeds: Sequence[int] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def blind_outputs() -> list[io.Output]:
    """Every blind test's."""
    return [
        io.String.Output("test", display_name="test", tooltip="The test's name, including its number."),
        io.Image.Output(
            "base_images",
            display_name="without LoRA",
            tooltip="The judged images without the LoRA. What is wired behind waits until all votes are in.",
        ),
        io.Image.Output(
            "aligned_images",
            display_name="with LoRA",
            tooltip="The judged images with the LoRA, in the same order. What is wired behind waits until all votes "
            "are in.",
        ),
        io.String.Output(
            "prompts_used",
            display_name="prompts",
            tooltip="The prompt of each of these images, one per line, for DSPO A/B Grid.",
        ),
    ]


def stamp(name: str | None) -> str:
    """Changes when a test of that name was deleted or answered, so that ComfyUI does not answer from its cache."""
    try:
        if not name:
            return ""
        key = _key(file_name(name, WHAT))
        losses = collecting.kept.losses(key)
        return f"{losses} {sorted(str(folder) for folder in collecting.kept.folders(key) if _answered(folder))}"
    except DspoError:  # `execute` reports it
        return ""


def make(cls: Any, stem: str, compared: Compared) -> io.NodeOutput:
    """Make the test, or find the one of that name with the same images.

    Raises:
        ConfigError: all images are alike on both sides.
    """
    seeds = compared.seeds or [None] * len(compared.base)
    sides = zip(compared.prompts, seeds, compared.base, compared.aligned, strict=True)
    every = [(text, (Shot(base, seed, BASE), Shot(lora, seed, LORA))) for text, seed, base, lora in sides]
    unlike = [(text, pair) for text, pair in every if pair[0].digest != pair[1].digest]
    if not unlike:
        raise ConfigError(
            "the images with the LoRA are identical to those without it; check its strength and the wiring"
        )
    marks = [digest(text, *(shot.digest for shot in pair)) for text, pair in unlike]
    folder = claim_test(places.blind_tests(), stem, digest(compared.called, *marks)).resolve()
    settings = {**compared.settings, "names": {BASE: BASE, LORA: compared.called}}
    for text, pair in unlike:
        collecting.add_group(folder, text, pair, "all", cls, settings)
    note_facts(folder, {**compared.facts, "alike": len(every) - len(unlike)})
    return told(cls, stem, folder, len(every) - len(unlike))


def told(cls: Any, stem: str, folder: Path, alike: int) -> io.NodeOutput:
    """The node's outputs for a test, and its message to the page.

    Args:
        alike: pairs that were left out.
    """
    store = collecting.stores.get(folder)
    collecting.kept.note(_key(stem), folder, store.id)
    waiting = store.progress().open
    collecting.send("blind", set=folder.name, open=waiting, node=cls.hidden.unique_id)
    shown = {"dspo_blind": [folder.name], "text": [_summary(folder.name, waiting, alike)]}
    tested.keep_result(folder)
    if waiting:
        return io.NodeOutput(folder.name, *[ExecutionBlocker(None)] * 3, ui=shown)
    return io.NodeOutput(folder.name, *_images(folder), ui=shown)


def _answered(folder: Path) -> bool:
    return not collecting.stores.get(folder).progress().open


def _images(folder: Path) -> tuple[torch.Tensor, torch.Tensor, str]:
    """What was judged, by its two sides, and its prompts, one per line."""
    sides: dict[str, list[Image.Image]] = {BASE: [], LORA: []}
    prompts = []
    for group in collecting.stores.get(folder).groups():
        named = {image.arm: folder / image.image for image in group.images}
        if named.keys() == sides.keys():
            prompts.append(" ".join(group.prompt.split()))
            for arm, path in named.items():
                with Image.open(path) as image:
                    sides[arm or ""].append(image.convert("RGB"))
    return to_tensor(sides[BASE]), to_tensor(sides[LORA]), "\n".join(prompts)


def _key(stem: str) -> str:
    return f"blind/{stem}"


def _summary(name: str, waiting: int, alike: int) -> str:
    note = f" {alike} omitted: the LoRA changed nothing in them." if alike else ""
    if not waiting:
        return f"Blind test {name}: all pairs are answered; see the result in the DSPO panel.{note}"
    return f"Blind test {name}: {waiting} pairs to judge in the DSPO panel.{note}"
