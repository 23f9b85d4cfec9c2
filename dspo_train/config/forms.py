"""The inputs with which a node offers settings, and the settings that their values give."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..exceptions import ConfigError
from .run import SETTINGS, from_names
from .setting import Form, Setting, Shown

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Input:
    """One input of a form.

    Attributes:
        setting: dotted name.
        kind: bool, int, float or str; a str with choices is one of them.
        empty: what an empty input stands for, such as "off"; if there is such a word, the number, or one of the
            choices, is written as text.
        step: of a number's widget; None is ComfyUI's default.
        folded: whether the node shows it only when asked for more.
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
    empty: str = ""
    folded: bool = False


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
    return tuple(_input(declared, shown) for declared, shown in _shown(form))


def read_form(form: Form, given: Mapping[str, Any]) -> dict[str, Any]:
    """Turn input values into setting values by dotted name; blank and absent inputs are left out.

    Raises:
        ConfigError: a value has another type or is out of range, or what is written for a number is none.
    """
    values = {}
    for declared, shown in _shown(form):
        value = given.get(shown.name or declared.key, shown.blank)
        if shown.empty:
            value = read_number(
                declared.name,
                value,
                kind=declared.kind,
                words=declared.choices,
                example=shown.example,
                empty=shown.empty,
                blank=shown.blank,
            )
        if value is not None and value != shown.blank:
            values[declared.name] = declared.read(value)
            declared.check(values[declared.name])
    return values


def read_number(
    name: str,
    value: Any,
    *,
    kind: type = float,
    words: Collection[str] = (),
    example: str,
    empty: str,
    blank: float | str | None = None,
) -> Any:
    """The number that a text stands for, or one of `words`; None for an empty text and for the text of `blank`.

    A number is returned as it is, for those who send one.

    Args:
        name: of the setting, for the message.
        empty: what an empty text stands for, for the message.

    Raises:
        ConfigError: the text is neither.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text in ("", blank):
        return None
    if text in words:
        return text
    if not _NUMBER.fullmatch(text):
        said = " or ".join(["a number", *words])
        raise ConfigError(
            f"`{name}`: {value!a} is not {said}; write one such as {example}, or leave it empty for {empty}"
        )
    number = float(text)
    if kind is int and not number.is_integer():
        raise ConfigError(f"`{name}`: {value!a} is not a whole number; write one such as {example}")
    return kind(number)


def _shown(form: Form) -> list[tuple[Setting, Shown]]:
    found = [(one, one.shown) for one in SETTINGS.values() if one.shown is not None and one.shown.form == form]
    return sorted(found, key=lambda pair: pair[1].place)


def _input(declared: Setting, shown: Shown) -> Input:
    notes = [declared.help, shown.note, f"Empty: {shown.empty}." if shown.empty else ""]
    name, tooltip = shown.name or declared.key, " ".join(filter(None, notes))
    common = {"name": name, "setting": declared.name, "tooltip": tooltip, "folded": shown.folded}
    if shown.empty:
        low, high = declared.low, declared.high
        return Input(
            **common, kind=declared.kind, default="", choices=declared.choices, low=low, high=high, empty=shown.empty
        )
    default = declared.default if shown.blank is None else shown.blank
    if declared.choices:
        blank = () if shown.blank is None else (str(shown.blank),)
        return Input(**common, kind=str, default=default, choices=(*blank, *declared.choices))
    high = declared.high if shown.high is None else shown.high
    return Input(**common, kind=declared.kind, default=default, low=declared.low, high=high, step=shown.step)
