"""`inspect`: report what a pair folder holds."""

from __future__ import annotations

import argparse

from ..models.tokenizers import prompt_remarks
from ..pairs import format_report, scan_folder
from .main import OK, USER, say


def run(arguments: argparse.Namespace) -> int:
    scan = scan_folder(arguments.folder, deep=arguments.deep)
    report = format_report(
        scan,
        resolution=arguments.resolution,
        shown=None if arguments.all else 20,
        more="; --all lists all",
        remarks=prompt_remarks(scan.prompts),
    )
    say(report)
    return USER if scan.lack else OK
