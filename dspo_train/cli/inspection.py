"""`inspect`: what a pair folder holds."""

from __future__ import annotations

import argparse

from ..pairs.any_folder import format_scan, is_usable, scan_folder
from .main import OK, USER, say


def run(arguments: argparse.Namespace) -> int:
    scan = scan_folder(arguments.folder, deep=arguments.deep)
    say(format_scan(scan, resolution=arguments.resolution))
    return OK if is_usable(scan) else USER
