"""The inputs with which a node offers settings, and the settings that their values give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .run import SETTINGS, from_names
from .setting import Form, Setting, Shown

VALUE = "value"  # the choice that asks for the number beside it


@dataclass(frozen=True)
class Input:
    """One input of a form.

    Attributes:
        setting: dotted name.
        kind: bool, int, float or str; a str with choices is one of them.
        step, round: of a number's widget; None is ComfyUI's default.
    """

    name: str
    setting: str
    kind: type
    default: Any
    tooltip: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None
    round: float | None = None


@dataclass(frozen=True)
class Overrides:
    """Values by dotted setting name that override a preset's.

    Raises:
        ConfigError: a value is out of range, or needs another setting.
    """

    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        from_names(self.values)


@lru_cache
def inputs_of(form: Form) -> tuple[Input, ...]:
    """A form's inputs, in display order."""
    return tuple(one for declared, shown in _shown(form) for one in _inputs(declared, shown))


def read_form(form: Form, given: Mapping[str, Any]) -> dict[str, Any]:
    """Turn input values into setting values by dotted name; blank and absent inputs are left out."""
    values = {}
    for declared, shown in _shown(form):
        name = shown.name or declared.key
        value = given.get(name, shown.blank)
        if shown.number is not None and value == VALUE:
            value = given.get(f"{name}_value", shown.number)
        if value is not None and value != shown.blank:
            values[declared.name] = value
    return values


def _shown(form: Form) -> list[tuple[Setting, Shown]]:
    found = [(one, one.shown) for one in SETTINGS.values() if one.shown is not None and one.shown.form == form]
    return sorted(found, key=lambda pair: pair[1].place)


def _inputs(declared: Setting, shown: Shown) -> Iterator[Input]:
    name = shown.name or declared.key
    tooltip = f"{declared.help} {shown.note}".rstrip()
    default = declared.default if shown.blank is None else shown.blank
    if declared.kind is bool or not (declared.choices or declared.low is not None):
        yield Input(name, declared.name, declared.kind, default, tooltip)
        return
    if declared.choices:
        blank = () if shown.blank is None else (str(shown.blank),)
        number = () if shown.number is None else (VALUE,)
        yield Input(name, declared.name, str, default, tooltip, (*blank, *declared.choices, *number))
        if shown.number is None:
            return
        name, default, tooltip = f"{name}_value", shown.number, shown.number_note
    low = shown.blank if isinstance(shown.blank, (int, float)) else declared.low
    high = declared.high if shown.high is None else shown.high
    yield Input(name, declared.name, declared.kind, default, tooltip, (), low, high, shown.step, shown.round)
