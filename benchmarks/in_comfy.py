"""The start of the benchmarks that run in ComfyUI's own Python, from its checkout."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path.cwd()), str(ROOT / "tests" / "host")]


def started() -> Any:
    """ComfyUI's modules and the pack, as the tests start them."""
    arguments, sys.argv = sys.argv, ["main.py"]
    inside = importlib.import_module("inside")
    sys.argv = ["main.py", "--cpu"] if not importlib.import_module("torch").cuda.is_available() else ["main.py"]
    boot = inside._module("boot", ROOT / "tests" / "host" / "boot.py")
    boot.declare_vision_operators()
    boot.stub_audio()
    importlib.import_module("comfy.options").enable_args_parsing()
    importlib.import_module("utils.extra_config")
    inside._pack()
    sys.argv = arguments
    return importlib.import_module("inside_wired").Pack(inside.PACKAGE)
