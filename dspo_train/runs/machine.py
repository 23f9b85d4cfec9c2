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
    total = min([memory.total, *_container_limits()])
    return total, min(memory.available, total)


def _container_limits(groups: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> list[int]:
    """Memory limits of this process's control groups, as far as they can be read (on Linux only).

    In a container that does not see its own path on the host, the limit is at the root.
    """
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    limits: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in {*controllers.split(",")} & {"", "memory"}:
            folder, name = (root, "memory.max") if not controller else (root / "memory", "memory.limit_in_bytes")
            inner = folder / path.strip("/")
            limits += [
                limit
                for group in (inner, *inner.parents)
                if group == folder or folder in group.parents
                if (limit := _limit(group / name)) is not None
            ]
    return limits


def _limit(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # `max`: no limit
