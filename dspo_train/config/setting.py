"""A setting: one dataclass field that carries its range, its help text and its place in the graph."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from ..exceptions import ConfigError

Form = Literal["train", "options"]

_KEY = "setting"  # of a field's metadata
_WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Shown:
    """How a node offers a setting.

    Attributes:
        form: the node: DSPO Train LoRA or DSPO Training Options.
        place: position in the form. Saved workflows store values by position, so a new setting goes last.
        name: of the input; by default the last part of the setting's name.
        step: of the number's widget.
        high: the form's own limit, if the setting's is more than a widget should offer.
        blank: the value that keeps the preset's.
        empty: what an empty input stands for, such as "off"; the number is then written as text.
        example: a number to write there.
        note: added to the help text in the tooltip.
        folded: whether the node shows the input only when asked for more.
    """

    form: Form
    place: int
    name: str = ""
    step: float | None = None
    high: float | None = None
    blank: float | str | None = None
    empty: str = ""
    example: str = ""
    note: str = ""
    folded: bool = False


@dataclass(frozen=True)
class _Declared:
    help: str
    low: float | None
    high: float | None
    shown: Shown | None


def setting(
    default: Any = None,
    help: str = "",
    low: float | None = None,
    high: float | None = None,
    *,
    factory: Callable[[], Any] | None = None,
    shown: Shown | None = None,
) -> Any:
    """A field of a `SettingGroup`.

    Args:
        help: one sentence for users, shown in the documentation and in the tooltip.
        low, high: inclusive range of a number.
        factory: makes the default; replaces `default`.
    """
    metadata = {_KEY: _Declared(help, low, high, shown)}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """A declared setting.

    Attributes:
        name: dotted, as in `optim.lr`.
        kind: bool, int, float, str or Mapping; str for a choice.
        choices: the words accepted; some settings accept a number too.
        optional: whether None is accepted.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    optional: bool
    default: Any
    help: str
    low: float | None
    high: float | None
    shown: Shown | None

    @property
    def key(self) -> str:
        """The field's own name."""
        return self.name.rpartition(".")[2]

    def read(self, value: Any) -> Any:
        """The value in the setting's type, strictly: no text for a number, no fraction for a count.

        Raises:
            ConfigError: the value has another type.
        """
        if (value is None and self.optional) or (self.choices and (self.kind is str or isinstance(value, str))):
            return value
        if self.kind is Mapping and isinstance(value, Mapping):
            return {str(key): _read(float, part, f"{self.name}.{key}") for key, part in value.items()}
        return _read(self.kind, value, self.name)

    def check(self, value: Any) -> None:
        """Refuse a number out of range or an unknown choice with a ConfigError."""
        if value is None and self.optional:
            return
        if self.choices and (self.kind is str or isinstance(value, str)):
            if value not in self.choices:
                raise ConfigError(f"`{self.name}`: unknown value {value!r}; known: {', '.join(self.choices)}")
        elif self.low is not None and self.high is not None:
            check_range(self.name, value, self.low, self.high)


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Refuse a number that is not finite or outside [low, high] with a ConfigError."""
    if not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"`{name}` must be between {low:g} and {high:g}, got {value!r}")


def _read(kind: type, value: Any, name: str) -> Any:
    if kind in (bool, str) and isinstance(value, kind):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if kind is float:
            return float(value)
        if kind is int and (isinstance(value, int) or value.is_integer()):
            return int(value)
    raise ConfigError(f"`{name}`: expected {_WANTED.get(kind, 'a group of numbers')}, got {value!r}")


class SettingGroup:
    """Base of the frozen dataclasses that hold settings; every value is checked on construction.

    `class LoraSpec(SettingGroup, name="lora")` holds the settings `lora.*`.
    """

    prefix: ClassVar[str] = ""

    def __init_subclass__(cls, name: str = "") -> None:
        cls.prefix = f"{name}." if name else ""

    def __post_init__(self) -> None:
        for declared in settings_of(type(self)):
            declared.check(getattr(self, declared.key))
        self.check_together()

    def check_together(self) -> None:
        """Check the rules between several settings; a broken one raises a ConfigError."""


@lru_cache
def settings_of(group: type[SettingGroup]) -> tuple[Setting, ...]:
    """A group's own settings, without those of nested groups."""
    return tuple(_settings(group))


def _settings(group: type[SettingGroup]) -> Iterator[Setting]:
    hints = get_type_hints(group)
    for one in dataclasses.fields(group):  # type: ignore[arg-type]
        if (declared := one.metadata.get(_KEY)) is None:
            continue
        hint = hints[one.name]
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        choices = tuple(word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind))
        plain = [get_origin(k) or k for k in kinds if k is not NoneType and get_origin(k) is not Literal]
        yield Setting(
            name=group.prefix + one.name,
            kind=plain[0] if plain else str,
            choices=choices,
            optional=NoneType in kinds,
            default=one.default if one.default_factory is dataclasses.MISSING else one.default_factory(),
            **vars(declared),
        )
