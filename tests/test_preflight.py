"""What the command line refuses before the long work begins, and how it says what would help."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import flags, write_base, write_pairs

from dspo_train.cli import training
from dspo_train.cli.main import OK, USER, main
from dspo_train.runs import machine, preflight
from dspo_train.runs.memory import GIB


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Of each test's own: what is refused must not have touched it."""
    write_base(tmp_path / "base")
    write_pairs(tmp_path / "pairs")
    return tmp_path


def train(world: Path, *more: str, out: str = "run", **settings: object) -> list[str]:
    paths = ["--base", str(world / "base"), "--pairs", str(world / "pairs"), "--out", str(world / out)]
    return ["train", *paths, *flags(steps=1, **settings), *more]


def untouched(world: Path) -> bool:
    return not (world / "run").exists() and not (world / "pairs" / ".dspo_cache").exists()


def test_a_batch_that_does_not_fit_the_host_is_refused_before_anything_is_encoded(world, capsys, monkeypatch):
    monkeypatch.setattr(machine, "host_memory", lambda: (4 * GIB, 4 * GIB))
    assert main(train(world, batch_size=4096, accumulate=2)) == USER
    error = capsys.readouterr().err
    assert error.count("error: out of memory: this run needs about") == 1
    assert "but the device has 4.0 GiB. What helps:\n" in error
    assert "- turn gradient_checkpointing on: about" in error
    assert "lower batch_size to " in error and "raise accumulate to " in error
    assert "`" not in error and "optim.name" not in error, "bitsandbytes is for GPUs"
    assert untouched(world)


def test_a_disk_that_is_too_small_is_refused(world, capsys):
    """A million checkpoints of a LoRA of rank 1024 are more than any disk holds."""
    assert main(train(world, keep_checkpoints=10**6, lora__rank=1024)) == USER
    error = capsys.readouterr().err
    assert error.count("error: the disk of ") == 1 and "but this run may write up to" in error
    assert untouched(world)


def test_tight_memory_is_a_note(world, capsys, monkeypatch):
    """The smallest run needs the allowance of 0.75 GiB."""
    monkeypatch.setattr(machine, "host_memory", lambda: (int(0.8 * GIB), GIB // 2))
    assert main(train(world, out="tight")) == OK
    error = capsys.readouterr().err
    assert "note: the device's 0.8 GiB are just enough if no other program uses the memory\n" in error
    assert "note: only 0.5 GiB are free, but about 0.8 GiB are needed: close other programs\n" in error
    assert main(train(world, out="tight")) == OK  # finished: nothing to check
    assert "note: " not in capsys.readouterr().err


def test_a_run_that_fits_the_host_but_not_what_is_free_of_it_is_refused(world, capsys, monkeypatch):
    """The system would end the process without a word."""
    monkeypatch.setattr(machine, "host_memory", lambda: (512 * GIB, 2 * GIB))
    assert main(train(world, batch_size=4096, accumulate=2)) == USER
    error = capsys.readouterr().err
    assert "but only 2.0 GiB are free. What helps:\n" in error
    assert "lower batch_size to " in error
    assert untouched(world)


def test_running_out_of_memory_in_the_run_says_what_would_help(world, capsys, monkeypatch):
    def full(session: object) -> int:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(training, "_train", full)
    assert main(train(world, out="full", batch_size=64)) == USER
    error = capsys.readouterr().err
    assert "error: out of memory: this run needs about" in error
    assert "lower batch_size to 32" in error


def test_torch_says_of_the_hosts_memory_that_it_is_full():
    assert preflight.ran_out_of_memory(lambda: torch.empty(2**53))
    assert not preflight.ran_out_of_memory(lambda: None)
    with pytest.raises(RuntimeError, match="shape"):
        preflight.ran_out_of_memory(lambda: torch.zeros(2).view(3))
