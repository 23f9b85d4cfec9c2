"""Defaults and ranges of settings as text."""

from __future__ import annotations

from typing import Any

from .setting import Setting


def default_text(value: Any) -> str:
    """As it is written in a TOML file; `none` stands for leaving the setting out.

    >>> [default_text(value) for value in (None, True, 16.0, 1e-8, "auto", {})]
    ['none', 'true', '16', '1e-8', 'auto', '']
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return number_text(value)
    return value if isinstance(value, str) else ""


def number_text(value: float) -> str:
    """Short: `4096`, `0.99999`, `1e7`.

    >>> [number_text(value) for value in (4096, 0.99999, 10**7, 2**63 - 1, 1e-6)]
    ['4096', '0.99999', '1e7', '9.2e18', '1e-6']
    """
    if value == 0 or 1e-4 < abs(value) < 1e5:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def range_text(setting: Setting) -> str:
    """The values that a setting accepts: its choices or its range; empty if it accepts any.

    >>> from .run import SETTINGS
    >>> [range_text(SETTINGS[name]) for name in ("keep", "lora.rank", "loss.sharpness", "data.flip", "objective")]
    ['last, best', '1 to 1024', '1e-6 to 1e7, or auto', 'true, false', '']
    """
    if setting.kind is bool:
        return "true, false"
    words = ", ".join(setting.choices)
    if setting.low is None or setting.high is None:
        return words
    numbers = f"{number_text(setting.low)} to {number_text(setting.high)}"
    return f"{numbers}, or {words}" if words else numbers
