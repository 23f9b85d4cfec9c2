"""Start ComfyUI's main.py in a Python where torchvision and torchaudio do not match torch.

    cd ComfyUI && python boot.py --cpu --port 8188 ...

Package indexes carry CPU builds of torch beside CUDA builds of torchvision, whose compiled half then does not load, and
have no matching torchaudio. ComfyUI imports both at start and needs neither for pictures. Where they work, nothing is
touched.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

OPERATORS = ("nms", "qnms")  # the ones that torchvision's Python half refers to when it is imported
AUDIO = ("torchaudio", "torchaudio.transforms", "torchaudio.functional")
KEPT: list[Any] = []  # an operator lives as long as the library object that declared it


def declare_vision_operators() -> None:
    """Make `import torchvision` work; its operators then exist, and fail only when called."""
    try:
        import torchvision  # noqa: F401  # pyright: ignore[reportMissingImports]
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return
    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    for name in OPERATORS:
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT.append(library)


def stub_audio() -> None:
    """Stand in for an absent torchaudio: importable, and a clear error where something is called."""
    if importlib.util.find_spec("torchaudio") is not None:
        return
    for name in AUDIO:
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)  # transformers looks for a spec
        module.__version__ = "0"  # type: ignore[attr-defined]
        module.__getattr__ = _absent  # type: ignore[method-assign]
        sys.modules[name] = module
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)


def _absent(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"torchaudio is not installed here; {name} was called")

    return fail


def main() -> None:
    script = Path.cwd() / "main.py"
    sys.path[0] = str(script.parent)
    sys.argv[0] = str(script)
    declare_vision_operators()
    stub_audio()
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
