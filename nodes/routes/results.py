"""The result of a blind test, as numbers and as an image."""

from __future__ import annotations

import dataclasses
import io
from typing import Any, Literal

from ...dspo_train.evaluate.blind import BASE, LORA, arm_names, blind_result
from ..collecting import Place
from .opening import opened
from .serve import ImageAnswer


def result(place: Place, set: str) -> dict[str, Any]:
    store = opened(place, set)
    return {**dataclasses.asdict(blind_result(store)), "open": store.progress().open, "names": arm_names(store)}


def card(place: Place, set: str, theme: Literal["light", "dark"]) -> ImageAnswer:
    from ...dspo_train.drawing.result_card import ResultCard, draw_result_card
    from ...dspo_train.drawing.themes import DARK, LIGHT

    store = opened(place, set)
    found, called = blind_result(store), arm_names(store)
    contents = ResultCard(
        title=set,
        rate=found.win_rate,
        low=found.low,
        high=found.high,
        counts=(found.wins, found.ties, found.losses),
        names=(called[BASE], called[LORA]),
        text=found.text,
    )
    buffer = io.BytesIO()
    draw_result_card(contents, {"light": LIGHT, "dark": DARK}[theme]).save(buffer, format="PNG")
    return ImageAnswer(buffer.getvalue(), "png")
