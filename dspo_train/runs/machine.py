"""The memory of a run's device: the graphics card's, or the host's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil  # comes with accelerate
import torch

from ..config import Device
from ..training.devices import has_accelerator

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """The device that a run will use, and its memory in bytes, free or not.

    Attributes:
        kind: `cuda` (which ROCm answers to as well), `xpu`, `mps` or `cpu`.
    """

    kind: str
    total: int
    free: int

    @property
    def shared(self) -> bool:
        """Is its memory the host's?"""
        return shares_memory(self.kind)


def shares_memory(kind: str) -> bool:
    """Does a device of this kind use the host's memory?"""
    return kind in ("cpu", "mps")


def this_machine(asked: Device) -> Machine:
    """The device that `devices.accelerator` will choose for this process; several on one host each have their own."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    if asked != "cpu" and has_accelerator():
        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info(local)
            return Machine("cuda", total, free)
        if not torch.backends.mps.is_available():
            total = torch.xpu.get_device_properties(local).total_memory
            return Machine("xpu", total, total)
    total, free = host_memory()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    on_cpu = asked == "cpu" or not torch.backends.mps.is_available()
    return Machine("cpu" if on_cpu else "mps", total // processes, free // processes)


def host_memory() -> tuple[int, int]:
    """Total and free bytes of the host, or of the container that this process is in."""
    memory = psutil.virtual_memory()
    groups = _containers()
    total = min([memory.total, *(limit for limit, _ in groups)])
    free = min([memory.available, *(max(0, limit - used) for limit, used in groups)])
    return total, min(free, total)


def _containers(groups: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> list[tuple[int, int]]:
    """Limit and use, in bytes, of this process's control groups with a limit, as far as they can be read (on Linux).

    In a container that does not see its own path on the host, the limit is at the root.
    """
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[tuple[int, int]] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in {*controllers.split(",")} & {"", "memory"}:
            folder, files = (root, _SECOND) if not controller else (root / "memory", _FIRST)
            inner = folder / path.strip("/")
            found += [
                (limit, _used(group, files))
                for group in (inner, *inner.parents)
                if group == folder or folder in group.parents
                if (limit := _number(group / files.limit)) is not None
            ]
    return found


@dataclass(frozen=True)
class _Files:
    """The files of a control group: its limit, its use, and the part of that which is cache to be dropped."""

    limit: str
    used: str
    cache: str


_FIRST = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SECOND = _Files("memory.max", "memory.current", "inactive_file")


def _used(group: Path, files: _Files) -> int:
    """Bytes in use, without the file cache that makes room by itself."""
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        cache = dict(line.split() for line in lines if len(line.split()) == 2).get(files.cache, "0")
    except OSError:
        cache = "0"
    return max(0, (_number(group / files.used) or 0) - int(cache))


def _number(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # `max`: no limit
