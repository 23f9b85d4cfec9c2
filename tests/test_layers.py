"""Who may import whom; see CONTRIBUTING."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import dspo_train

ROOT = Path(dspo_train.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py"))
HOST = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "server", "nodes", "execution", "web"}
DIFFUSERS = {
    "models/base.py",
    "models/blueprint.py",
    "models/single_file.py",
    "models/unet.py",
    "models/encoder.py",
    "models/sampling.py",
    "training/forward.py",
    "demo/build_model.py",
}


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports, and `.name` for our own modules."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                found.add((node.module or "").split(".")[0])
            else:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                found |= {"." + name.split(".")[0] for name in names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_point_the_right_way(path):
    found, name = imports(path), path.relative_to(ROOT).as_posix()
    assert not found & HOST
    assert "dspo_train" not in found, "inside ComfyUI the package has another name: import relatively"
    assert "diffusers" not in found or name in DIFFUSERS
    if name.startswith("objectives/"):
        own = {".dspo", ".others", ".options", ".table"}
        assert {n for n in found if n.startswith(".")} <= own | {".config", ".training", ".exceptions"}
    if name.startswith("config/"):
        assert {n for n in found if n.startswith(".")} <= {".exceptions", ".specs", ".run"}
