"""How much memory there is: the host's, or what a container may use."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from dspo_train.runs import machine
from dspo_train.runs.machine import host_memory, this_machine


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="ascii")


def test_the_host_has_what_it_says_at_most():
    total, free = host_memory()
    assert 0 < free <= total <= psutil.virtual_memory().total


def test_limits_of_all_control_groups_above_this_process_count(tmp_path: Path):
    """Version 2: one tree; a group without a limit says `max`."""
    write(tmp_path / "groups", "0::/user/job\n")
    write(tmp_path / "fs" / "user" / "memory.max", "3000\n")
    write(tmp_path / "fs" / "user" / "job" / "memory.max", "max\n")
    write(tmp_path / "memory.max", "1\n")  # above the root: not of this tree
    assert machine._containers(tmp_path / "groups", tmp_path / "fs") == [(3000, 0)]


def test_a_container_finds_its_limit_at_the_root(tmp_path: Path):
    """Its path is the host's, which it does not see."""
    write(tmp_path / "groups", "0::/docker/0123\n")
    write(tmp_path / "fs" / "memory.max", "2000\n")
    assert machine._containers(tmp_path / "groups", tmp_path / "fs") == [(2000, 0)]


def test_the_first_version_has_a_tree_for_each_controller(tmp_path: Path):
    write(tmp_path / "groups", "5:cpu,cpuacct:/job\n4:memory:/job\n")
    write(tmp_path / "fs" / "memory" / "job" / "memory.limit_in_bytes", "4000\n")
    assert machine._containers(tmp_path / "groups", tmp_path / "fs") == [(4000, 0)]


@pytest.mark.parametrize(
    ("groups", "folder", "limit", "used", "cache"),
    [
        ("0::/job\n", "job", "memory.max", "memory.current", "inactive_file"),
        ("4:memory:/job\n", "memory/job", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_what_a_container_uses_already_is_not_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, folder: str, limit: str, used: str, cache: str
):
    """Of 8 GiB 5 are used, one of them by the cache of files, which makes room by itself: 4 are free."""
    gib = 2**30
    write(tmp_path / "groups", groups)
    write(tmp_path / "fs" / folder / limit, f"{8 * gib}\n")
    write(tmp_path / "fs" / folder / used, f"{5 * gib}\n")
    write(tmp_path / "fs" / folder / "memory.stat", f"active_file 7\n{cache} {gib}\n")
    found = machine._containers(tmp_path / "groups", tmp_path / "fs")
    assert found == [(8 * gib, 4 * gib)]
    monkeypatch.setattr(machine, "_containers", lambda: found)
    memory = namedtuple("memory", "total available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(64 * gib, 60 * gib))
    assert host_memory() == (8 * gib, 4 * gib)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(64 * gib, 2 * gib))
    assert host_memory() == (8 * gib, 2 * gib)


def test_where_there_are_no_control_groups_there_is_no_limit(tmp_path: Path):
    assert machine._containers(tmp_path / "gone", tmp_path) == []


def test_processes_on_one_host_share_its_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "host_memory", lambda: (1000, 600))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    found = this_machine("cpu")
    assert (found.kind, found.total, found.free, found.shared) == ("cpu", 250, 150, True)
