"""`inspect`: what a pair folder holds."""

from __future__ import annotations

import argparse

from ..pairs import format_opinions, format_report, looks_unpaired, scan_opinions, scan_pairs
from .main import OK, USER, say


def run(arguments: argparse.Namespace) -> int:
    if looks_unpaired(arguments.folder):
        opinions = scan_opinions(arguments.folder, deep=arguments.deep)
        say(format_opinions(opinions, resolution=arguments.resolution))
        return OK if opinions.liked and opinions.disliked else USER
    scan = scan_pairs(arguments.folder, deep=arguments.deep)
    say(format_report(scan, resolution=arguments.resolution))
    return OK if scan.pairs else USER
