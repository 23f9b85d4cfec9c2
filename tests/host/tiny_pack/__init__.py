"""A node for the tests' servers: MODEL, CLIP and VAE of a tiny family, by its name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]


class TinyFamily:
    """As a loader's node: what it makes is made in the graph's inference mode."""

    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "load"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"family": ("STRING", {}), "stored": ("STRING", {"default": ""})}}

    def load(self, family: str, stored: str) -> tuple[Any, Any, Any]:
        if str(HERE) not in sys.path:
            sys.path.append(str(HERE))
        return importlib.import_module("tiny_families").make(family, quantised=stored or None)


NODE_CLASS_MAPPINGS = {"TestTinyFamily": TinyFamily}
