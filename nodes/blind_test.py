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
            description="Makes a test of whether the LoRA is better: the DSPO panel shows its pictures beside the "
            "base's, on hidden sides, and counts what you prefer.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("base", tooltip="Pictures without the LoRA."),
                io.Image.Input("aligned", tooltip="The same prompts and seeds in the same order, at one strength."),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    tooltip="One prompt a line. Fewer lines than pictures: each is for as many pictures in turn. "
                    "Empty: read from the graph, where it says one.",
                ),
                io.String.Input("name", default="my-taste", tooltip="The test is called so, with a number."),
                io.String.Input(
                    "lora_name",
                    default="",
                    optional=True,
                    tooltip="What to call the LoRA in the result, such as the name from DSPO Train LoRA. "
                    "Empty: the test's name.",
                ),
            ],
            outputs=[io.String.Output("test", display_name="test", tooltip="The test's name, with its number.")],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, **_: object) -> int:
        """Changes once a test of that name was deleted, so that ComfyUI's cache does not stand for it."""
        try:
            return collecting.kept.losses(_key(file_name(name, "the test's name"))) if name else 0
        except DspoError:  # which `execute` will report
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
            raise ConfigError("the pictures with the LoRA are the same as without it; check its strength and the wires")
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
        collecting.tell("blind", set=folder.name, open=waiting, node=cls.hidden.unique_id)
        told = _told(folder.name, waiting, len(shots) - len(differing))
        return io.NodeOutput(folder.name, ui={"dspo_blind": [folder.name], "text": [told]})


def _prompts(written: str, traced: str, count: int) -> list[str]:
    """The prompt of each pair: as written, one a line, else the one that the graph tells, whose lines belong together.

    Raises:
        ConfigError: neither; the interval would take every pair for a prompt of its own.
    """
    if written.strip():
        return prompts_for("\n".join(read_prompts(written)), count)
    text = " ".join(traced.split())
    if not text:
        raise ConfigError(
            "the graph does not say with which prompts the pictures were made; wire the prompts of DSPO Candidates in, "
            "or write them into `prompts`"
        )
    return prompts_for(text, count)


def _key(stem: str) -> str:
    return f"blind/{stem}"


def _shots(base: Sequence[Image.Image], aligned: Sequence[Image.Image]) -> list[tuple[Shot, Shot]]:
    """
    Raises:
        ConfigError: the two do not belong together.
    """
    if len(aligned) != len(base):
        several = len(aligned) % len(base) == 0 and len(aligned) > len(base)
        advice = "compare at one strength only" if several else "wire the same prompts and seeds to both"
        raise ConfigError(f"{len(aligned)} pictures with the LoRA do not fit {len(base)} without it; {advice}")
    return [(Shot(a, arm=BASE), Shot(b, arm=LORA)) for a, b in zip(base, aligned, strict=True)]


def _told(name: str, waiting: int, same: int) -> str:
    note = f" {same} left out: the LoRA changed nothing in them." if same else ""
    return f"Blind test {name}: {waiting} pairs to judge in the DSPO panel.{note}"
