"""The library's settings as inputs of nodes, and its messages in the graph's own terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from comfy_api.v0_0_2 import io

from ..dspo_train.config.forms import Form, Input, inputs_of
from ..dspo_train.config.naming import rendered
from ..dspo_train.exceptions import DspoError
from ..dspo_train.runs.graph_words import GRAPH_WORDS
from ..dspo_train.runs.presets import COMMON

FOLDED = {"advanced": True}  # by extra_dict: the argument `advanced` is newer than the oldest core


def setting_inputs(form: Form, *, after: str = "", optional: bool = False) -> list[io.Input]:
    """The settings a form offers, in order; with `after`, those following that input."""
    found = inputs_of(form)
    begin = [one.name for one in found].index(after) + 1 if after else 0
    return [_input(one, optional=optional) for one in found[begin:]]


def setting_input(form: Form, name: str, *, optional: bool = False, choices: Sequence[str] = ()) -> io.Input:
    """One of them; `choices` turns a text into a combo."""
    (found,) = [one for one in inputs_of(form) if one.name == name]
    return _input(found, optional=optional, choices=choices)


def in_graph(message: str) -> str:
    """A message of the library, with settings named as the nodes name them."""
    return rendered(message, GRAPH_WORDS)


@contextmanager
def errors_in_graph() -> Iterator[None]:
    """Errors raised inside name settings as the nodes do."""
    try:
        yield
    except DspoError as error:
        error.args = (in_graph(str(error)),)
        raise


def _input(one: Input, *, optional: bool, choices: Sequence[str] = ()) -> io.Input:
    common: dict[str, Any] = {"tooltip": one.tooltip, "default": COMMON.get(one.setting, one.default)}
    if optional:
        common["optional"] = True
    if one.folded:
        common["extra_dict"] = FOLDED
    if one.empty:
        return io.String.Input(one.name, **common)
    if listed := choices or one.choices:
        return io.Combo.Input(one.name, options=list(listed), **common)
    if one.kind is bool:
        return io.Boolean.Input(one.name, **common)
    widget = {"min": one.low, "max": one.high, "step": one.step}
    kind = io.Float if one.kind is float else io.Int
    return kind.Input(one.name, **common, **{key: value for key, value in widget.items() if value is not None})
