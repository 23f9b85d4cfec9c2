"""What a blind test says, as numbers and as a picture."""

from __future__ import annotations

import dataclasses
import io
from typing import Any, Literal

from ...dspo_train.evaluate.blind import BASE, LORA, blind_result, names
from ..collecting import Place
from .opening import opened
from .serve import Picture


def result(place: Place, set: str) -> dict[str, Any]:
    store = opened(place, set)
    return {**dataclasses.asdict(blind_result(store)), "open": store.progress().open, "names": names(store)}


def picture(place: Place, set: str, theme: Literal["light", "dark"]) -> Picture:
    from ...dspo_train.drawing.themes import DARK, LIGHT
    from ...dspo_train.drawing.result_card import Verdict, draw_verdict

    store = opened(place, set)
    found, called = blind_result(store), names(store)
    verdict = Verdict(
        title=set,
        rate=found.win_rate,
        low=found.low,
        high=found.high,
        counts=(found.wins, found.ties, found.losses),
        names=(called[BASE], called[LORA]),
        text=found.text,
    )
    buffer = io.BytesIO()
    draw_verdict(verdict, {"light": LIGHT, "dark": DARK}[theme]).save(buffer, format="PNG")
    return Picture(buffer.getvalue(), "png")
