"""`settings`: every setting of a run, as `--set` and a TOML file take it."""

from __future__ import annotations

import argparse
import shutil
import textwrap

from ..config import SETTINGS
from ..config.describe import default_text, range_text
from ..objectives import OBJECTIVES
from .main import OK, say


def run(arguments: argparse.Namespace) -> int:
    width = max(40, min(120, shutil.get_terminal_size().columns))
    for one in SETTINGS.values():
        _say(one.name, default_text(one.default), range_text(one), one.help, width)
    for objective, info in OBJECTIVES.items():
        for name, argument in info.arguments.items():
            allowed = f"{argument.low:g} to {argument.high:g}"
            _say(f"objective_args.{name} ({objective})", default_text(argument.default), allowed, argument.help, width)
    return OK


def _say(name: str, default: str, allowed: str, meaning: str, width: int) -> None:
    say(name + (f" = {default}" if default else "") + (f"    {allowed}" if allowed else ""))
    say(textwrap.fill(meaning, width, initial_indent="    ", subsequent_indent="    "))
