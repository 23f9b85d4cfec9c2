"""Preference datasets on disk, pairs or liked and disliked images: every layout read, and its defects listed."""

from .decoding import decodable
from .fit import crop_note
from .image_metadata import prompt_from_image
from .report import format_report
from .scan import scan_folder, scan_opinions, scan_pairs
from .types import Defect, DefectKind, Layout, PreferencePair, RatedImage, Scan

__all__ = [
    "Defect",
    "DefectKind",
    "Layout",
    "PreferencePair",
    "RatedImage",
    "Scan",
    "crop_note",
    "decodable",
    "format_report",
    "prompt_from_image",
    "scan_folder",
    "scan_opinions",
    "scan_pairs",
]
