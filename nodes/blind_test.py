"""DSPO Blind Test: the same prompts without the LoRA and with it, judged without knowing which is which."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.v0_0_2 import io
from PIL import Image

from ..dspo_train.evaluate.blind import BASE, LORA, claim_test
from ..dspo_train.exceptions import ConfigError, DspoError
from ..dspo_train.files import digest
from ..dspo_train.files.names import file_name
from ..dspo_train.sheets.text_inputs import prompts_for, read_prompts
from . import collecting, places
from .collecting import Shot
from .images import to_pil
from .sockets import CATEGORY


class BlindTest(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOBlindTest",
            display_name="DSPO Blind Test",
            category=CATEGORY,
            description="Sets up a blind test of whether the LoRA is better: the DSPO panel shows its images beside "
            "the base model's without saying which is which, and counts your preferences.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("base", tooltip="Images without the LoRA."),
                io.Image.Input(
                    "aligned",
                    tooltip="Images with the LoRA: the same prompts and seeds in the same order, at one strength.",
                ),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    tooltip="One prompt per line. With fewer lines than images, each line covers an equal number of "
                    "consecutive images. Empty: read from the graph, if it can be.",
                ),
                io.String.Input("name", default="my-taste", tooltip="Name of the test; a number is added."),
                io.String.Input(
                    "lora_name",
                    default="",
                    optional=True,
                    tooltip="Name of the LoRA in the result, such as the one from DSPO Train LoRA. Empty: the test's "
                    "name.",
                ),
            ],
            outputs=[io.String.Output("test", display_name="test", tooltip="The test's name, including its number.")],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, **_: object) -> int:
        """Changes when a test of that name has been deleted, so that ComfyUI does not answer from its cache."""
        try:
            return collecting.kept.losses(_key(file_name(name, "the test's name"))) if name else 0
        except DspoError:  # `execute` reports it
            return 0

    @classmethod
    def execute(
        cls, base: torch.Tensor, aligned: torch.Tensor, prompts: str, name: str, lora_name: str = ""
    ) -> io.NodeOutput:
        shots = _shots(to_pil(base), to_pil(aligned))
        texts = _prompts(prompts, collecting.traced_prompt(cls, "base"), len(shots))
        differing = [
            (text, pair) for text, pair in zip(texts, shots, strict=True) if pair[0].digest() != pair[1].digest()
        ]
        if not differing:
            raise ConfigError(
                "the images with the LoRA are identical to those without it; check its strength and the wiring"
            )
        stem = file_name(name, "the test's name")
        marks = [digest(text, *(shot.digest() for shot in pair)) for text, pair in differing]
        called = lora_name.strip()[:200] or stem
        folder = claim_test(places.blind_tests(), stem, digest(called, *marks)).resolve()
        settings = {"names": {BASE: BASE, LORA: called}}
        for text, pair in differing:
            collecting.add_group(folder, text, pair, "all", cls, settings)
        store = collecting.stores.get(folder)
        collecting.kept.note(_key(stem), folder, store.id)
        waiting = store.progress().open
        collecting.send("blind", set=folder.name, open=waiting, node=cls.hidden.unique_id)
        summary = _summary(folder.name, waiting, len(shots) - len(differing))
        return io.NodeOutput(folder.name, ui={"dspo_blind": [folder.name], "text": [summary]})


def _prompts(written: str, traced: str, count: int) -> list[str]:
    """The prompt of each pair: as written, one per line, or the one traced in the graph, whose lines are one prompt.

    Raises:
        ConfigError: there is neither. The interval would otherwise treat every pair as a prompt of its own.
    """
    if written.strip():
        return prompts_for("\n".join(read_prompts(written)), count)
    text = " ".join(traced.split())
    if not text:
        raise ConfigError(
            "the prompts of the images cannot be read from the graph; wire in the prompts of DSPO Candidates, "
            "or write them into `prompts`"
        )
    return prompts_for(text, count)


def _key(stem: str) -> str:
    return f"blind/{stem}"


def _shots(base: Sequence[Image.Image], aligned: Sequence[Image.Image]) -> list[tuple[Shot, Shot]]:
    """
    Raises:
        ConfigError: the two differ in number.
    """
    if len(aligned) != len(base):
        several = len(aligned) % len(base) == 0 and len(aligned) > len(base)
        advice = "use one strength only" if several else "use the same prompts and seeds for both"
        raise ConfigError(f"{len(aligned)} images with the LoRA do not fit {len(base)} without it; {advice}")
    return [(Shot(a, arm=BASE), Shot(b, arm=LORA)) for a, b in zip(base, aligned, strict=True)]


def _summary(name: str, waiting: int, same: int) -> str:
    note = f" {same} omitted: the LoRA changed nothing in them." if same else ""
    return f"Blind test {name}: {waiting} pairs to judge in the DSPO panel.{note}"
