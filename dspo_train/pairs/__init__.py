"""Preference pairs on disk: every dataset layout read, and its defects listed."""

from .prompts import prompt_from_image
from .report import format_report
from .scan import scan_pairs
from .types import Defect, DefectKind, Layout, PairScan, PreferencePair

__all__ = [
    "Defect",
    "DefectKind",
    "Layout",
    "PairScan",
    "PreferencePair",
    "format_report",
    "prompt_from_image",
    "scan_pairs",
]
