"""More steps for a run that was trained before: which state is gone on from, and what the run that goes on is."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import config, foretell, write_base, write_pairs

from dspo_train.exceptions import RunError
from dspo_train.runs.continuing import beginning, request_of
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.folder import RunFolder
from dspo_train.runs.job import Job, Start
from dspo_train.runs.names import claim
from dspo_train.runs.session import open_session
from dspo_train.training.optim import learning_rate

CHANGES: dict[str, Any] = {"optim": {"lr": 1e-3, "schedule": "cosine", "warmup": 0}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_base(folder / "base")
    write_pairs(folder / "pairs")
    return folder


def job(inputs: Path, out: Path, steps: int, start: Start | None = None, **changes: Any) -> Job:
    settings = config(**{**CHANGES, "steps": steps, **changes})
    return Job(DiffusersSource(inputs / "base"), inputs / "pairs", out, settings, start=start)


def trained(task: Job, stop_after: int | None = None) -> list[float]:
    """The learning rates of the steps that were done."""
    rates = []
    with open_session(task) as session, contextlib.closing(session.reports()) as steps:
        for report in steps:
            rates.append(report.lr)
            if report.step == stop_after:
                break
    return rates


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / f"{out.name}.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def reported(out: Path) -> list[int]:
    return [report["step"] for report in RunFolder(out).reports()]


@pytest.fixture(scope="module")
def short(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 4 steps."""
    out = tmp_path_factory.mktemp("runs") / "taste-01"
    trained(job(inputs, out, 4))
    return out


def test_a_continued_run_follows_the_learning_rate_of_its_own_length(inputs, short, tmp_path):
    out = tmp_path / "taste-02"
    task = job(inputs, out, 8, Start(short, 4))
    rates = trained(task)
    assert rates == [learning_rate(task.config.optim, step, 8) for step in (4, 5, 6, 7)]
    assert rates[0] == pytest.approx(1e-3 * 0.5)  # half of the cosine
    assert reported(out) == [1, 2, 3, 4, 5, 6, 7, 8]
    info = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert info["continued"] == {"run": "taste-01", "step": 4}
    assert info["config"]["steps"] == 8
    scratch = tmp_path / "scratch"
    trained(job(inputs, scratch, 8))
    assert not same(out, scratch)


def test_with_a_constant_rate_it_is_the_run_from_scratch(inputs, tmp_path):
    """The draws depend on seed and step alone, and the state holds the rest: nothing but the rate tells them apart."""
    constant: dict[str, Any] = {"optim": {"lr": 1e-3}, "ema": 0.9, "moving_reference": 0.9}
    trained(job(inputs, tmp_path / "short", 3, **constant))
    trained(job(inputs, tmp_path / "long", 6, Start(tmp_path / "short", 3), **constant))
    trained(job(inputs, tmp_path / "scratch", 6, **constant))
    assert same(tmp_path / "long", tmp_path / "scratch")


def test_stopped_and_begun_again_it_ends_with_the_same_bits_without_the_earlier_run(inputs, short, tmp_path):
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    earlier = tmp_path / "earlier"
    shutil.copytree(short, earlier)
    trained(job(inputs, straight, 9, Start(earlier, 4)))
    trained(job(inputs, cut, 9, Start(earlier, 4)), stop_after=5)
    shutil.rmtree(cut / "checkpoints")  # as if it had been killed before the first one
    shutil.rmtree(earlier)
    trained(job(inputs, cut, 9, Start(earlier, 4)))
    assert same(straight, cut)
    assert reported(cut) == list(range(1, 10))


def test_killed_while_the_state_was_copied_it_begins_anew(inputs, short, tmp_path):
    out, straight = tmp_path / "out", tmp_path / "straight"
    (out / "beginning").mkdir(parents=True)
    (out / "beginning" / "state.safetensors").write_bytes(b"half of")
    trained(job(inputs, out, 6, Start(short, 4)))
    trained(job(inputs, straight, 6, Start(short, 4)))
    assert same(out, straight)


def test_without_its_beginning_it_does_not_train_from_zero_under_the_same_name(inputs, short, tmp_path):
    task = job(inputs, tmp_path / "out", 9, Start(short, 4))
    trained(task, stop_after=5)
    shutil.rmtree(task.out / "checkpoints")
    (task.out / "beginning" / "state.safetensors").write_bytes(b"torn")
    with pytest.raises(RunError, match=r"beginning: the state that this run goes on from cannot be read"):
        trained(task)
    with pytest.raises(RunError, match=r"continued was .*, now null"):
        trained(dataclasses.replace(task, start=None))


def test_an_earlier_run_whose_state_is_gone_is_told(inputs, short, tmp_path):
    with pytest.raises(RunError, match="taste-01: its state at step 3 cannot be read"):
        trained(job(inputs, tmp_path / "out", 9, Start(short, 3)))
    assert not (tmp_path / "out" / "run.json").exists()


def test_the_best_weights_of_the_earlier_run_may_become_the_result(inputs, tmp_path, monkeypatch):
    """Measured after steps 2 and 4 of the short run and step 6 of the long one, the first is the best."""
    best: dict[str, Any] = {"keep": "best", "held_out": {"share": 0.5, "every": 2}}
    foretell(monkeypatch, 0.9, 0.5, 0.5)
    trained(job(inputs, tmp_path / "short", 4, **best))
    trained(job(inputs, tmp_path / "long", 6, Start(tmp_path / "short", 4), **best))
    assert same(tmp_path / "long", tmp_path / "short")


# Which state is gone on from


def asked(steps: int, **settings: Any) -> dict[str, Any]:
    return {"settings": config(steps=steps, **settings).to_dict(), "pairs": ["set", "stamp"]}


def put_run(parent: Path, request: dict[str, Any], *checkpoints: int, stopped: bool = False) -> RunFolder:
    folder = claim(parent, "taste", request, parent / "loras")
    for step in checkpoints:
        folder.checkpoints.save(step, {"step": torch.tensor(step)}, None, keep=9)
    last = {"step": checkpoints[-1] if checkpoints else 0, **({"stopped": True} if stopped else {})}
    folder.reports_file.write_text(json.dumps(last) + "\n", encoding="utf-8")
    return folder


def test_more_steps_go_on_from_the_farthest_state(tmp_path):
    put_run(tmp_path, asked(40), 20, 40)
    put_run(tmp_path, asked(50), 15, 30)  # it was stopped at 30
    found = beginning(tmp_path, "taste", asked(60))
    assert (found.folder, found.start) == (None, Start(tmp_path / "taste-01", 40))
    assert found.notes(60) == [
        "this run goes on from taste-01 at step 40, with the learning rate of a run of 60 steps; "
        "to train all of them anew, set `continue_from` to from scratch"
    ]
    assert beginning(tmp_path, "taste", asked(60), scratch=True).start is None
    assert beginning(tmp_path, "other", asked(60)).start is None


def test_a_run_that_went_on_is_found_again_and_gone_on_from_again(tmp_path):
    put_run(tmp_path, asked(40), 40)
    start = beginning(tmp_path, "taste", asked(60)).start
    second = put_run(tmp_path, request_of(asked(60), start), 50)
    again = beginning(tmp_path, "taste", asked(60))
    assert again.folder is not None
    assert (again.folder.folder, again.start) == (second.folder, Start(tmp_path / "taste-01", 40))
    assert beginning(tmp_path, "taste", asked(60), scratch=True).folder is None
    assert beginning(tmp_path, "taste", asked(90)).start == Start(tmp_path / "taste-02", 50)
    third = put_run(tmp_path, asked(60), 60)  # from scratch
    found = beginning(tmp_path, "taste", asked(60), scratch=True)
    assert found.folder is not None
    assert found.folder.folder == third.folder


def test_the_warm_up_may_differ_as_it_follows_the_steps_and_nothing_else_may(tmp_path):
    put_run(tmp_path, asked(40, optim={"lr": 1e-3, "warmup": 2}), 40)
    found = beginning(tmp_path, "taste", asked(60, optim={"lr": 1e-3, "warmup": 3}))
    assert found.start == Start(tmp_path / "taste-01", 40)
    for changes in ({"optim": {"lr": 2e-3}}, {"seed": 1}, {"lora": {"rank": 4}}):
        assert beginning(tmp_path, "taste", asked(60, **changes)).start is None
    assert beginning(tmp_path, "taste", {**asked(60), "pairs": ["set", "more votes"]}).start is None


def test_fewer_steps_are_trained_from_scratch_and_the_longer_run_is_named(tmp_path):
    put_run(tmp_path, asked(60), 20, 60)
    found = beginning(tmp_path, "taste", asked(40))
    assert (found.folder, found.start) == (None, None)
    told = "taste-01 has the same settings and 60 steps; this run trains its 40 steps from scratch"
    assert found.notes(40) == [told]


def test_a_run_that_ended_by_itself_or_without_a_whole_state_is_not_gone_on_from(tmp_path):
    put_run(tmp_path, asked(40), 20, stopped=True)
    put_run(tmp_path, asked(41))
    torn = put_run(tmp_path, asked(42), 10, 42)
    state = torn.checkpoints.steps()[-1][1] / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-4])
    assert beginning(tmp_path, "taste", asked(60)).start == Start(torn.folder, 10)
