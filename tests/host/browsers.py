"""The program and the browser that the scripts of the page's tests need; a test is skipped where they are absent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def node_program(script: Path, *, axe: bool = False) -> str:
    """The program `node`, where the script finds playwright-core, axe-core if it is asked for, and a browser."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    needed = {"playwright-core": "playwright-core"} | ({"axe-core": "axe-core/axe.min.js"} if axe else {})
    look = [node, "-e", "".join(f"require.resolve('{module}');" for module in needed.values())]
    if subprocess.run(look, cwd=script.parent, capture_output=True, timeout=60).returncode:
        pytest.skip(f"{' and '.join(needed)} are not found; name their node_modules folder by NODE_PATH")
    if not Path(os.environ.get("CHROMIUM", "/usr/bin/chromium")).exists():
        pytest.skip("no browser; name one by CHROMIUM")
    return node


def report_of(script: Path, seconds: float, **settings: str) -> dict[str, Any]:
    """What a script of ours prints: JSON. `settings`: environment variables that it reads."""
    done = subprocess.run(
        [node_program(script, axe=True), str(script)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=seconds,
    )
    assert done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout)
