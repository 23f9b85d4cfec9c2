"""What a run says of itself is true: while it trains, after it ended well or not, and after it was killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from test_training import ENVIRONMENT, command, inputs, job, run, wait_for_step  # noqa: F401

from dspo_train import files
from dspo_train.exceptions import RunError
from dspo_train.runs import status as run_status
from dspo_train.runs.folder import RunFolder
from dspo_train.runs.overview import overview
from dspo_train.runs.session import open_session
from dspo_train.runs.status import recorded, status_of, while_training
from dspo_train.training import trainer


class CancelError(Exception):
    pass


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "taste").mkdir()
    return RunFolder(tmp_path / "taste")


def state(folder: RunFolder) -> str | None:
    said = status_of(folder)
    return said and said.state


def complete(folder: RunFolder, step: int) -> None:
    folder.reports_file.write_text(json.dumps({"step": step}) + "\n", encoding="utf-8")
    folder.result.write_bytes(b"x")


def test_nothing_recorded(folder: RunFolder) -> None:
    assert status_of(folder) is None


def test_running_and_then_stopped_or_finished(folder: RunFolder) -> None:
    with recorded(folder, 3):
        assert state(folder) == "running"
    assert state(folder) == "stopped"
    with recorded(folder, 3):
        assert state(folder) == "running"
        complete(folder, 3)
    said = status_of(folder)
    assert said is not None and (said.state, said.reason) == ("finished", "")
    assert said.since.endswith("Z")


def test_a_finished_run_does_not_run_again(folder: RunFolder) -> None:
    complete(folder, 3)
    with recorded(folder, 3):
        assert status_of(folder) is None
    assert not folder.status.exists()


def test_a_run_with_more_to_do_is_not_finished_by_its_steps(folder: RunFolder) -> None:
    complete(folder, 3)
    rounds: list[int] = []
    with recorded(folder, 3, complete=lambda: bool(rounds)):
        assert state(folder) == "running"
    assert state(folder) == "stopped"
    with recorded(folder, 3, complete=lambda: bool(rounds)):
        rounds.append(2)
    assert state(folder) == "finished"


@pytest.mark.parametrize(
    ("error", "found", "reason"),
    [
        (CancelError(), "stopped", ""),
        (KeyboardInterrupt(), "stopped", ""),
        (RunError("`optim.lr` is too high. Lower it"), "failed", "learning_rate is too high. Lower it"),
        (MemoryError("cannot allocate"), "failed", "not enough memory"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "failed", "not enough memory"),
        (RuntimeError("no file /home/me/out/dspo/runs/a/x.bin here"), "failed", "RuntimeError: no file x.bin here"),
        (ValueError(r"C:\Users\me\out\x.bin: 3 pairs/s"), "failed", "ValueError: x.bin: 3 pairs/s"),
    ],
)
def test_how_a_run_ends_by_the_exception(folder: RunFolder, error: BaseException, found: str, reason: str) -> None:
    words = {"`optim.lr`": "learning_rate"}
    with (
        pytest.raises(type(error)),
        recorded(folder, 3, cancelled=(CancelError,), words=lambda text: text.replace(*next(iter(words.items())))),
    ):
        raise error
    said = status_of(folder)
    assert said is not None and (said.state, said.reason) == (found, reason)


def test_a_state_that_another_process_left_is_not_believed(folder: RunFolder) -> None:
    said = {"state": "running", "reason": "", "since": "2026-01-01T00:00:00Z", "process": "another"}
    folder.status.write_text(json.dumps(said), encoding="utf-8")
    assert state(folder) == "crashed"
    folder.status.write_text(json.dumps({**said, "state": "stopped"}), encoding="utf-8")
    assert state(folder) == "stopped"
    for damaged in ("", "{", "[]", '{"state": "dancing"}', "null"):
        folder.status.write_text(damaged, encoding="utf-8")
        assert status_of(folder) is None, damaged


def test_the_outer_record_counts(folder: RunFolder) -> None:
    """A front end knows more of an exception than the session inside."""
    with pytest.raises(RunError), recorded(folder, 3):
        try:
            with recorded(folder, 3):
                raise MemoryError
        except MemoryError:
            assert state(folder) == "running"
            raise RunError("the pairs are too large") from None
    said = status_of(folder)
    assert said is not None and said.reason == "the pairs are too large"


def test_only_a_run_that_trains_here_is_acted_on(folder: RunFolder) -> None:
    acted: list[str] = []
    assert not while_training(folder, lambda: acted.append("before"))
    with recorded(folder, 3):
        assert while_training(folder, lambda: acted.append("in"))
        other = threading.Thread(target=lambda: while_training(folder, lambda: acted.append("other thread")))
        other.start()
        other.join()
    assert not while_training(folder, lambda: acted.append("after"))
    assert acted == ["in", "other thread"]


def test_a_full_disk_at_the_end_takes_the_reserve(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(number: int) -> None:
        if folder.reserve.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    with pytest.raises(RunError, match="full"), recorded(folder, 3):
        assert folder.reserve.stat().st_size == 4096
        monkeypatch.setattr(files.writing.os, "fsync", fsync)
        raise RunError("the disk is full")
    assert json.loads(folder.status.read_text(encoding="utf-8"))["state"] == "failed"
    assert not folder.reserve.exists()


def test_a_disk_that_takes_nothing_is_remembered_by_the_process(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match="full"), recorded(folder, 3):
        monkeypatch.setattr(files.writing.os, "fsync", fsync)
        raise RunError("the disk is full")
    assert json.loads(folder.status.read_text(encoding="utf-8"))["state"] == "running"
    said = status_of(folder)
    assert said is not None and (said.state, said.reason) == ("failed", "the disk is full")
    monkeypatch.undo()
    monkeypatch.setattr(run_status, "_process", "after a restart")
    assert state(folder) == "crashed"


# Whole runs on a tiny model


def test_a_session_records_itself(inputs, tmp_path, monkeypatch):  # noqa: F811
    folder, task = RunFolder(tmp_path / "taste"), job(inputs, tmp_path / "taste")
    with open_session(task) as session, contextlib.closing(session.reports()) as reports:
        next(reports)
        assert state(folder) == "running"
    found = overview(folder)
    assert (found.status.state, found.step, found.steps, found.resumes_from) == ("stopped", 1, 6, 1)

    def overflow(*_):
        raise RunError("step 2: the gradient is not finite (nan). Lower `optim.lr`")

    monkeypatch.setattr(trainer, "_apply_gradients", overflow)
    with pytest.raises(RunError):
        run(task)
    failed = status_of(folder)
    assert failed is not None and failed.state == "failed" and "not finite" in failed.reason
    monkeypatch.undo()
    run(task)
    assert state(folder) == "finished"
    assert overview(folder).status.state == "finished"


def test_a_refused_call_says_nothing_of_the_run_that_is_there(inputs, tmp_path):  # noqa: F811
    folder = RunFolder(tmp_path / "taste")
    run(job(inputs, tmp_path / "taste"), stop_after=1)
    before = folder.status.read_bytes()
    with pytest.raises(RunError, match="holds another run"):
        run(job(inputs, tmp_path / "taste", optim={"lr": 2e-3}))
    assert folder.status.read_bytes() == before


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.slow
def test_a_run_of_the_command_line_as_others_see_it(inputs, tmp_path):  # noqa: F811
    """Running while its process lives, crashed once it was killed, finished after the same command again."""
    out = tmp_path / "taste"
    arguments = [sys.executable, "-m", "dspo_train", *command(inputs, out, "--set", "save_every=3")]
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_step(out / "reports.jsonl", 4, process)
    assert overview(RunFolder(out)).status.state == "running"
    process.kill()
    process.wait()
    found = overview(RunFolder(out))
    assert (found.status.state, found.resumes_from) == ("crashed", 3 * (found.step // 3))
    done = subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert overview(RunFolder(out)).status.state == "finished"


@pytest.mark.skipif(sys.platform == "win32", reason="the signal is POSIX's")
@pytest.mark.slow
def test_an_interrupted_command_has_stopped(inputs, tmp_path):  # noqa: F811
    out = tmp_path / "taste"
    arguments = [sys.executable, "-m", "dspo_train", *command(inputs, out, "--set", "steps=500")]
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_step(out / "reports.jsonl", 2, process)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    found = overview(RunFolder(out))
    assert (found.status.state, found.resumes_from) == ("stopped", found.step)


def test_many_looks_leave_a_starting_run_alone(folder: RunFolder) -> None:
    """Other processes take the lock for a moment to see whether it is free."""
    folder.status.write_text('{"state": "running", "process": "another"}', encoding="utf-8")
    folder.alive.touch()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            run_status._is_held(folder.alive)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(20):
            with recorded(folder, 3):
                assert state(folder) == "running"
            time.sleep(0.001)
    finally:
        ended.set()
        looking.join()
