"""Fixtures that run a real ComfyUI; tests marked `comfy` are skipped where there is none.

COMFYUI_PATH=~/ComfyUI COMFYUI_PYTHON=~/ComfyUI/venv/bin/python pytest tests/host
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the modules that all tests share

from comfy_server import ComfyServer, Core, link, prepare, running

CHECKPOINT = "sd15.safetensors"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("comfy")]
    reason = _reason() if marked else None
    if reason is not None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


@lru_cache(maxsize=1)
def _reason() -> str | None:
    core = Core.from_env()
    return "COMFYUI_PATH does not name a ComfyUI checkout" if core is None else core.trouble()


@pytest.fixture(scope="session")
def core() -> Core:
    found = Core.from_env()
    assert found is not None, "only tests marked comfy may ask for a ComfyUI"
    return found


@pytest.fixture(scope="session")
def server(core: Core, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """One server for all tests, with sd15.safetensors; leave it running, with nothing queued."""
    base = _base(tmp_path_factory.mktemp("comfy"))
    with running(core, base) as started:
        yield started


@pytest.fixture
def fresh_server(core: Core, tmp_path: Path) -> Iterator[Callable[..., ComfyServer]]:
    """`fresh_server(*flags)`: a server of the test's own, with sd15.safetensors; ended with the test."""
    with ExitStack() as stack:

        def start(*flags: str) -> ComfyServer:
            number = len(list(tmp_path.glob("comfy*")))
            return stack.enter_context(running(core, _base(tmp_path / f"comfy{number}"), *flags))

        yield start


def _base(folder: Path) -> Path:
    from checkpoints import cached  # diffusers takes seconds to import, and a run that skips has no use for it

    prepare(folder)
    link(cached("sd15"), folder / "models" / "checkpoints" / CHECKPOINT)
    return folder
