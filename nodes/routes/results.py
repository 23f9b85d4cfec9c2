"""The result of a blind test, as numbers and as an image, and the card of a run."""

from __future__ import annotations

import dataclasses
import io
from typing import TYPE_CHECKING, Any, Literal

from ...dspo_train.evaluate.blind import arm_names, blind_result
from ...dspo_train.exceptions import DatasetError
from ...dspo_train.files.names import inside
from ...dspo_train.runs.folder import RunFolder
from .. import places, tested
from ..collecting import Place
from .opening import opened
from .serve import ImageAnswer

if TYPE_CHECKING:
    from PIL import Image

Shade = Literal["light", "dark"]


def result(place: Place, set: str) -> dict[str, Any]:
    """The figures; once all is answered, they are also written beside the LoRA."""
    store = opened(place, set)
    tested.keep_result(store.folder)
    return {**dataclasses.asdict(blind_result(store)), "open": store.progress().open, "names": arm_names(store)}


def card(place: Place, set: str, theme: Shade) -> ImageAnswer:
    from ...dspo_train.drawing.result_card import draw_result_card

    return _answer(draw_result_card(tested.result_card(opened(place, set)), _theme(theme)))


def run_card(run: str, theme: Shade) -> ImageAnswer:
    """What a run's LoRA does, how a blind test of it went, and how it was made."""
    from ...dspo_train.drawing.run_card import draw_run_card
    from ...dspo_train.runs.keepsake import card_of

    folder = RunFolder(inside(places.runs(), run, "the run's name"))
    if not folder.result.is_file():
        raise DatasetError(f"the run {run!a} has no LoRA yet; the card is drawn once it is finished")
    found = tested.best_test(places.new_lora(folder.folder.name)[0])
    return _answer(draw_run_card(card_of(folder, None if found is None else tested.result_card(found)), _theme(theme)))


def _theme(name: Shade) -> Any:
    from ...dspo_train.drawing.themes import DARK, LIGHT

    return {"light": LIGHT, "dark": DARK}[name]


def _answer(image: Image.Image) -> ImageAnswer:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return ImageAnswer(buffer.getvalue(), "png")
