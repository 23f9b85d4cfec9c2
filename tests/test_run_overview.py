"""What lists show of runs: from few and unchanged files nothing is read again; figures and their words are right."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from dspo_train.runs import overview as run_overview
from dspo_train.runs.folder import RunFolder
from dspo_train.runs.learning import Learned, learned, learned_in_words, seconds_left, time_left_in_words
from dspo_train.runs.overview import About, is_run, overview, write_about
from dspo_train.runs.status import recorded


def put(
    parent: Path, name: str = "taste-01", steps: int = 60, done: int = 25, every: int = 20, **last: Any
) -> RunFolder:
    """A run folder as it is in the middle of a run; a checkpoint at every `every` steps."""
    folder = RunFolder(parent / name)
    (folder.folder / "previews").mkdir(parents=True)
    identity = {
        "config": {"steps": steps, "objective": "dspo", "held_out": {"share": 0.0, "every": 50}},
        "base": {"name": "sd15"},
        "refine": {"name": "older-03", "hash": "x"},
    }
    folder.identity.write_text(json.dumps(identity), encoding="utf-8")
    folder.request.write_text(json.dumps({"pairs": ["cats", "stamp"]}), encoding="utf-8")
    reports = [{"step": step, "accuracy": 0.75, "seconds": 2.0} for step in range(1, done + 1)]
    if reports:
        reports[-1] |= last
    folder.reports_file.write_text("".join(json.dumps(it) + "\n" for it in reports), encoding="utf-8")
    for step in range(every, done + 1, every):
        (folder.folder / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
        folder.preview(step).write_bytes(b"png")
    return folder


def test_a_running_run(tmp_path):
    folder = put(tmp_path)
    with recorded(folder, 60):
        found = overview(folder)
    assert (found.status.state, found.step, found.steps, found.resumes_from) == ("running", 25, 60, 20)
    assert found.seconds_left == 70.0  # 35 steps of 2 seconds
    assert found.previews == ("step-000020.png",)
    assert (found.objective, found.early, found.learned) == ("dspo", False, Learned(0.75))
    assert overview(folder).seconds_left is None, "it runs no longer"


def test_names_are_recorded_or_else_taken_from_what_is_there(tmp_path):
    folder = put(tmp_path)
    assert overview(folder).about == About(set="cats", base="sd15", parent="older-03")
    write_about(folder, About(set="cats", preset="Gentle", base="dream", parent="dspo/older-03.safetensors"))
    assert json.loads(folder.about.read_text(encoding="utf-8"))["preset"] == "Gentle"
    assert overview(folder).about == About("cats", "Gentle", "dream", "dspo/older-03.safetensors")


@pytest.mark.parametrize(
    ("done", "every", "result", "state"),
    [(25, 20, False, "crashed"), (40, 20, False, "stopped"), (60, 20, True, "finished"), (60, 25, False, "crashed")],
)
def test_runs_of_earlier_versions_recorded_no_state(tmp_path, done, every, result, state):
    """After Cancel, there is a checkpoint of the last step."""
    folder = put(tmp_path, done=done, every=every)
    if result:
        folder.result.write_bytes(b"x")
    assert overview(folder).status.state == state


def test_the_files_say_that_a_run_is_finished(tmp_path):
    """Killed between the result and the record; and a result that somebody removed."""
    folder = put(tmp_path, done=60)
    folder.status.write_text('{"state": "running", "process": "gone"}', encoding="utf-8")
    assert overview(folder).status.state == "crashed"
    with recorded(folder, 60):
        folder.result.write_bytes(b"x")
        assert overview(folder).status.state == "running", "its result is not where ComfyUI lists it yet"
    folder.status.write_text('{"state": "running", "process": "gone"}', encoding="utf-8")
    assert overview(folder).status.state == "finished"
    folder.status.write_text('{"state": "finished", "process": "gone"}', encoding="utf-8")
    folder.result.unlink()
    assert overview(folder).status.state == "stopped"


def test_an_early_stop_is_a_finish(tmp_path):
    folder = put(tmp_path, done=40, stopped=True)
    folder.result.write_bytes(b"x")
    found = overview(folder)
    assert (found.status.state, found.early, found.step) == ("finished", True, 40)


def rounds_begun(folder: RunFolder) -> Path:
    place = folder.folder / "rounds"
    place.mkdir()
    (place / "asked.json").write_text("{}", encoding="utf-8")
    return place


def test_rounds_after_the_first(tmp_path):
    """Round 2 is trained and round 3 has begun; then the second is kept."""
    folder = put(tmp_path, done=60)
    folder.result.write_bytes(b"x")
    assert overview(folder).rounds is None
    place = rounds_begun(folder)
    assert overview(folder).status.state == "stopped"
    second = put(place / "2", "taste-01-r2", 30, 30)
    second.result.write_bytes(b"x")
    found = overview(folder).rounds
    assert found is not None and (found.number, found.open, found.upcoming) == (2, True, None)
    assert found.run.folder == second.folder
    third = put(place / "3", "taste-01-r3", 30, 5)
    found = overview(folder).rounds
    assert found is not None and found.upcoming is not None and found.upcoming.folder == third.folder
    (place / "end.json").write_text('{"round": 2, "reason": "why", "asked": 3}', encoding="utf-8")
    found = overview(folder).rounds
    assert found is not None and (found.number, found.asked, found.upcoming) == (2, 3, None)
    assert overview(folder).status.state == "finished"
    (place / "end.json").write_text('{"round": "two"}', encoding="utf-8")
    assert overview(folder).status.state == "stopped"


def test_a_round_that_another_program_trains_is_running(tmp_path):
    """The command line records each training by itself."""
    folder = put(tmp_path, done=60)
    folder.result.write_bytes(b"x")
    folder.status.write_text('{"state": "finished", "process": "gone"}', encoding="utf-8")
    second = put(rounds_begun(folder) / "2", "taste-01-r2", 30, 5)
    with recorded(second, 30):
        assert overview(folder).status.state == "running"
    assert overview(folder).status.state == "stopped"


def test_damaged_files_are_shown_as_little_known(tmp_path):
    folder = put(tmp_path)
    for name in ("run.json", "request.json", "about.json"):
        (folder.folder / name).write_text("[1,", encoding="utf-8")
    folder.reports_file.write_bytes(b"\xff\xfe")
    found = overview(folder)
    assert (found.step, found.steps, found.about, found.status.state) == (0, None, About(), "crashed")


def test_a_folder_that_was_only_claimed(tmp_path):
    folder = RunFolder(tmp_path / "new-01")
    folder.folder.mkdir()
    assert not is_run(folder)
    folder.request.write_text(json.dumps({"settings": {"steps": 9}, "pairs": ["cats"]}), encoding="utf-8")
    assert is_run(folder)
    found = overview(folder)
    assert (found.status.state, found.step, found.steps, found.about.set) == ("stopped", 0, 9, "cats")


@pytest.mark.slow
def test_a_thousand_runs_are_read_once(tmp_path, monkeypatch):
    first = put(tmp_path, "run-0000", done=60)
    folders = [first]
    for number in range(1, 1000):
        shutil.copytree(first.folder, tmp_path / f"run-{number:04d}")
        folders.append(RunFolder(tmp_path / f"run-{number:04d}"))
    read: list[RunFolder] = []
    real = run_overview._read
    monkeypatch.setattr(run_overview, "_read", lambda folder, changed: read.append(folder) or real(folder, changed))
    before = [overview(folder) for folder in folders]
    assert len(read) == 1000
    started = time.perf_counter()
    assert [overview(folder) for folder in folders] == before
    assert time.perf_counter() - started < 3, "about a tenth of a second on an idle machine"
    assert len(read) == 1000
    with folders[7].reports_file.open("a", encoding="utf-8") as file:
        file.write('{"step": 61, "accuracy": 0.5}\n')
    assert overview(folders[7]).step == 61
    assert read[1000:] == [folders[7]]


# What was learned


def test_the_latest_twenty_steps_and_the_last_measurement_count():
    reports: list[dict[str, Any]] = [{"step": n, "accuracy": 0.0} for n in range(30)]
    reports += [{"step": 30 + n, "accuracy": 0.5 + n % 2 / 2, "seconds": 1.0} for n in range(20)]
    assert learned(reports) == Learned(0.75)
    reports[3] |= {"held_out_pair_accuracy": 0.1, "held_out_pairs": 10}
    reports[35] |= {"held_out_pair_accuracy": 0.85, "held_out_pairs": 10}  # a tie counts one half
    assert learned(reports) == Learned(0.75, 8, 10)
    assert learned([{"step": 1, "accuracy": None}]) == learned([]) == Learned()


def test_seconds_left_by_the_median():
    reports = [{"step": n + 1, "seconds": seconds} for n, seconds in enumerate((1, 2, 1, 60, 1))]
    assert seconds_left(reports, 25) == 20
    assert seconds_left([{"step": 1}], 25) is None


def test_words_for_people():
    assert learned_in_words(Learned(0.784, 8, 10)) == "Prefers 8 of 10 held-out winners"
    assert learned_in_words(Learned(0.784)) == "Prefers winners: 78% (chance: 50%)"
    assert learned_in_words(Learned()) == ""
    texts = [time_left_in_words(seconds) for seconds in (0, 29, 30, 90, 3540, 3590, 4000, 9100)]
    assert texts == [
        "less than a minute left",
        "less than a minute left",
        "about 1 minute left",
        "about 2 minutes left",
        "about 59 minutes left",
        "about 1 hour left",
        "about 1 hour left",
        "about 3 hours left",
    ]
