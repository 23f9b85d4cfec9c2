"""Whole runs on a tiny model: what is written, what a resumed run repeats, what two processes share."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_pairs import damage
from tiny_runs import config, flags, train_and_cut, write_base, write_pairs

from dspo_train import files
from dspo_train.config import TrainConfig
from dspo_train.exceptions import ConfigError, DatasetError, RunError
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.folder import RunFolder
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session
from dspo_train.training import trainer
from dspo_train.training.trainer import StepReport


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_base(folder / "base")
    write_base(folder / "base-xl", "sdxl")
    write_pairs(folder / "pairs")
    return folder


def job(inputs: Path, out: Path, *, base: str = "base", refine: Path | None = None, **changes) -> Job:
    return Job(DiffusersSource(inputs / base), inputs / "pairs", out, config(**changes), refine)


def run(task: Job, stop_after: int | None = None) -> list[StepReport]:
    reports = []
    with open_session(task) as session, contextlib.closing(session.reports()) as steps:
        for report in steps:
            reports.append(report)
            if report.step == stop_after:
                break
    return reports


def result(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / f"{out.name}.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def figures(report: StepReport) -> dict[str, float]:
    """What does not depend on the clock."""
    values = dataclasses.asdict(report)
    return {key: value for key, value in values.items() if key not in ("seconds", "pairs_per_second")}


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[StepReport]]:
    """A run that nothing interrupted. `cut/taste` beside its folder is that as it was after step 4."""
    out = tmp_path_factory.mktemp("whole") / "taste"
    return out, train_and_cut(job(inputs, out), 4, out.parent / "cut" / "taste")


def test_a_run_folder_holds_it_all(inputs, whole):
    out, reports = whole
    info = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert info["config"] == config().to_dict()
    assert info["dataset"]["pairs"] == 6
    assert len(info["dataset"]["hash"]) == 64
    lines = [json.loads(line) for line in (out / "reports.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == [report.flat() for report in reports]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == ["step-000004", "step-000006"]
    assert Image.open(out / "curve.png").size == (1200, 900)
    assert not list(out.rglob("*.tmp"))
    with safe_open(out / "taste.safetensors", "pt") as file:
        metadata = file.metadata()
        assert all(key.startswith("lora_unet_") for key in file.keys())  # noqa: SIM118
    assert metadata["dspo.objective"] == "dspo"
    assert metadata["ss_network_dim"] == "2"
    assert str(inputs) not in json.dumps(metadata)


def test_damaged_images_are_left_out_and_listed_before_the_model_is_loaded(inputs, tmp_path, monkeypatch):
    """Bytes under a correct checksum, so that the scan cannot see it: two of six pairs go, and training starts."""
    shutil.copytree(inputs / "pairs", tmp_path / "pairs", ignore=shutil.ignore_patterns(".*"))
    for name in ("pair1_l.png", "pair4_w.png"):
        damage(tmp_path / "pairs" / name, checksum=True)
    task = dataclasses.replace(job(inputs, tmp_path / "taste", steps=1), pairs=tmp_path / "pairs")
    with open_session(task) as session:
        list(session.reports())
        assert [pair.key for pair in session.scan.pairs] == ["pair0", "pair2", "pair3", "pair5"]
        assert session.notes.texts[0] == ("2 pairs left out; these images cannot be decoded: pair1_l.png, pair4_w.png")
    for name in ("pair0_w.png", "pair2_w.png", "pair3_w.png", "pair5_w.png"):
        damage(tmp_path / "pairs" / name, checksum=True)
    monkeypatch.setattr("dspo_train.runs.diffusers_model.load_base", lambda *args, **more: pytest.fail("loaded"))
    with pytest.raises(DatasetError, match=r"no usable pair(.|\n)*pair0_w\.png: cannot be decoded"):
        run(dataclasses.replace(task, out=tmp_path / "other"))


def test_what_of_the_prompts_is_not_read_is_told_on_every_run(inputs, tmp_path):
    """Also where all encodings are there already; prompts that read alike share one."""
    shutil.copytree(inputs / "pairs", tmp_path / "pairs", ignore=shutil.ignore_patterns(".*"))
    (tmp_path / "pairs" / "pair0.txt").write_text("red dog (dog:1.5)")
    (tmp_path / "pairs" / "pair1.txt").write_text("red dog dog")
    told = []
    for name in ("a", "b"):
        task = dataclasses.replace(job(inputs, tmp_path / name, steps=1), pairs=tmp_path / "pairs")
        with open_session(task) as session:
            told.append(session.notes.texts)
    assert told == [["1 prompt holds weights or tags, such as (dog:1.5): only the words are read"]] * 2
    assert len(list((tmp_path / "pairs" / ".dspo_cache" / "captions").rglob("*.safetensors"))) == 3


def test_the_first_step_starts_from_the_reference(whole):
    """Before any step the policy is the reference: margin 0, and a tie counts as half."""
    first = whole[1][0]
    assert first.margin == 0
    assert first.accuracy == 0.5
    assert first.drift == 0
    assert whole[1][-1].drift > 0


def test_the_same_command_gives_the_same_run(inputs, whole, tmp_path):
    reports = run(job(inputs, tmp_path / "taste"))
    assert [figures(r) for r in reports] == [figures(r) for r in whole[1]]
    assert same(result(tmp_path / "taste"), result(whole[0]))


@pytest.mark.parametrize("stop", [1, 3, 4])
@pytest.mark.slow
def test_cancelled_and_resumed_is_bit_identical(inputs, whole, tmp_path, stop):
    out = tmp_path / "taste"
    run(job(inputs, out), stop_after=stop)
    assert not (out / "taste.safetensors").exists()
    rest = run(job(inputs, out))
    assert rest[0].step == stop + 1  # cancelling keeps the very last step
    assert same(result(out), result(whole[0]))
    assert [r["step"] for r in map(json.loads, (out / "reports.jsonl").open())] == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_is_not_trained_again(inputs, whole):
    before = (whole[0] / "taste.safetensors").stat().st_mtime_ns
    with open_session(job(inputs, whole[0])) as session:
        assert session.finished
        assert list(session.reports()) == []
    assert (whole[0] / "taste.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_dropout_resumes_bit_identically_and_leaves_the_global_generator_alone(inputs, tmp_path):
    changes = {"lora": {"rank": 2, "alpha": 2, "dropout": 0.3}, "steps": 4}
    torch.manual_seed(11)
    train_and_cut(job(inputs, tmp_path / "a", **changes), 2, tmp_path / "b")
    after = torch.rand(3)
    torch.manual_seed(11)
    assert torch.equal(torch.rand(3), after)
    torch.manual_seed(5)
    assert [report.step for report in run(job(inputs, tmp_path / "b", **changes))] == [3, 4]
    assert same(result(tmp_path / "a"), result(tmp_path / "b"))
    run(job(inputs, tmp_path / "c", steps=4))
    assert not same(result(tmp_path / "a"), result(tmp_path / "c"))  # dropout did act


@pytest.mark.slow
def test_accumulation_equals_the_larger_batch(inputs, tmp_path):
    """The same six pairs a step, in one pass, in three and in six; only the order of summation differs."""
    runs = [(6, 1), (2, 3), (1, 6)]
    losses, grads = [], []
    for batch, accumulate in runs:
        out = tmp_path / f"{batch}x{accumulate}"
        reports = run(job(inputs, out, batch_size=batch, accumulate=accumulate, steps=2))
        losses.append([r.loss for r in reports])
        grads.append([r.grad_norm for r in reports])
    for other in (1, 2):
        # a difference of errors near 1, which float32 rounds by some 1e-7
        assert losses[other] == pytest.approx(losses[0], rel=1e-5, abs=1e-6)
        assert grads[other] == pytest.approx(grads[0], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["sft", "dspo_paper", "diffusion_dpo", "dspo"])
def test_every_objective_trains_both_families(inputs, tmp_path, objective):
    for base in ("base", "base-xl"):
        reports = run(job(inputs, tmp_path / base / objective, base=base, objective=objective, steps=2))
        assert all(abs(r.loss) < 1e6 and r.grad_norm > 0 for r in reports)
        assert reports[-1].drift > 0


def test_gradient_checkpointing_changes_nothing_but_memory(inputs, whole, tmp_path):
    run(job(inputs, tmp_path / "taste", gradient_checkpointing=True))
    ours, plain = result(tmp_path / "taste"), result(whole[0])
    assert all(torch.allclose(ours[key].float(), plain[key].float(), atol=2e-4) for key in plain)


def test_bf16_keeps_the_lora_in_float32(inputs, tmp_path):
    with open_session(job(inputs, tmp_path / "taste", precision="bf16", steps=2)) as session:
        assert next(session.model.network.parameters()).dtype == torch.bfloat16
        assert {p.dtype for p in session.trained.parameters.values()} == {torch.float32}
        reports = list(session.reports())
    assert reports[-1].drift > 0


def test_the_base_is_untouched_by_a_run(inputs, tmp_path):
    with open_session(job(inputs, tmp_path / "taste", steps=3)) as session:
        before = {k: v.clone() for k, v in session.model.network.state_dict().items() if "lora" not in k}
        list(session.reports())
        after = {k: v for k, v in session.model.network.state_dict().items() if "lora" not in k}
    assert same(before, after)
    assert not any("lora" in key for key in session.model.network.state_dict())


def scale(weights: Path) -> None:
    save_file({key: value * 1.1 for key, value in load_file(weights).items()}, weights)


def set_beta_end(scheduler: Path) -> None:
    config = json.loads(scheduler.read_text(encoding="utf-8"))
    scheduler.write_text(json.dumps({**config, "beta_end": 0.013}), encoding="utf-8")


class TestRefining:
    @pytest.mark.slow
    def test_the_reference_is_the_frozen_lora_also_after_a_resume(self, inputs, whole, tmp_path):
        first = whole[0] / "taste.safetensors"
        task = job(inputs, tmp_path / "more", refine=first, steps=4)
        twin = dataclasses.replace(task, out=tmp_path / "twin" / "more")
        reports = train_and_cut(twin, 2, task.out)
        assert reports[0].margin == 0  # policy and reference start as the same LoRA
        assert reports[0].drift == 0
        assert (tmp_path / "more" / "beginning" / "reference.safetensors").read_bytes() == first.read_bytes()
        rest = run(task)
        assert rest[0].drift > 0  # the reference did not become the half-trained policy
        assert same(result(task.out), result(twin.out))

    def test_another_reference_is_refused_on_resume(self, inputs, whole, tmp_path):
        first = tmp_path / "first.safetensors"
        shutil.copy(whole[0] / "taste.safetensors", first)
        run(job(inputs, tmp_path / "more", refine=first, steps=4), stop_after=2)
        shutil.copy(whole[0] / "checkpoints" / "step-000004" / "lora.safetensors", first)
        with pytest.raises(RunError, match=r"holds another run: refine\.hash was"):
            run(job(inputs, tmp_path / "more", refine=first, steps=4))

    def test_the_copy_in_the_run_folder_stands_in_for_a_lost_original(self, inputs, whole, tmp_path):
        first = tmp_path / "first.safetensors"
        shutil.copy(whole[0] / "taste.safetensors", first)
        task = job(inputs, tmp_path / "more", refine=first, steps=3)
        run(task, stop_after=1)
        first.unlink()
        assert [r.step for r in run(task)] == [2, 3]

    @pytest.mark.slow
    def test_a_run_named_as_its_reference_keeps_both_apart(self, inputs, whole, tmp_path):
        task = job(inputs, tmp_path / "reference", refine=whole[0] / "taste.safetensors", steps=3)
        run(task, stop_after=2)
        assert not RunFolder(task.out).result.exists()
        run(task)
        run(dataclasses.replace(task, out=tmp_path / "more"))
        assert same(result(tmp_path / "reference"), result(tmp_path / "more"))

    @pytest.mark.slow
    def test_a_leftover_copy_of_a_run_that_never_began_is_not_used(self, inputs, whole, tmp_path):
        other = whole[0] / "checkpoints" / "step-000004" / "lora.safetensors"
        task = job(inputs, tmp_path / "more", refine=whole[0] / "taste.safetensors", steps=2)
        (tmp_path / "more" / "beginning").mkdir(parents=True)
        shutil.copy(other, tmp_path / "more" / "beginning" / "reference.safetensors")
        run(task)
        run(dataclasses.replace(task, out=tmp_path / "clean" / "more"))
        assert same(result(tmp_path / "more"), result(tmp_path / "clean" / "more"))


class TestDamage:
    def test_a_damaged_last_checkpoint_is_made_again(self, inputs, whole, tmp_path):
        out = tmp_path / "taste"
        shutil.copytree(whole[0].parent / "cut" / "taste", out)
        state = out / "checkpoints" / "step-000004" / "state.safetensors"
        state.write_bytes(state.read_bytes()[:-100])
        assert run(job(inputs, out))[0].step == 3
        assert same(result(out), result(whole[0]))

    def test_a_finished_run_stays_finished_without_its_checkpoints(self, inputs, tmp_path):
        out = tmp_path / "taste"
        run(job(inputs, out, steps=2))
        shutil.rmtree(out / "checkpoints")
        assert run(job(inputs, out, steps=2)) == []
        assert len((out / "reports.jsonl").read_text(encoding="utf-8").splitlines()) == 2

    def test_a_first_step_too_small_for_float16_is_kept(self, inputs, tmp_path):
        """lr 1e-5 over a warm-up of 1000 steps: the first update is 1e-8, a sixth of float16's smallest number."""
        task = job(inputs, tmp_path / "taste", steps=2000, optim={"lr": 1e-5, "warmup": 1000})
        run(task, stop_after=1)
        kept = load_file(tmp_path / "taste" / "checkpoints" / "step-000001" / "lora.safetensors")
        assert any(value.any() for key, value in kept.items() if key.endswith("lora_up.weight"))


class TestTheCache:
    def test_encodings_are_made_once_and_shared_between_runs(self, inputs, tmp_path, monkeypatch):
        task = dataclasses.replace(job(inputs, tmp_path / "a", steps=1), cache=tmp_path / "cache")
        run(task)
        encodings = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.safetensors")}
        assert len(encodings) == 12 + 2  # pictures and distinct captions

        def fail(*_):
            raise AssertionError("encoded again")

        monkeypatch.setattr("dspo_train.models.encoder.DiffusersEncoder.moments", fail)
        monkeypatch.setattr("dspo_train.models.encoder.DiffusersEncoder.prompts", fail)
        run(dataclasses.replace(task, out=tmp_path / "b"))
        assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.safetensors")} == encodings

    def test_a_changed_picture_is_encoded_anew_and_makes_another_run(self, inputs, tmp_path):
        shutil.copytree(inputs / "pairs", tmp_path / "pairs", ignore=shutil.ignore_patterns(".dspo_cache"))
        task = dataclasses.replace(job(inputs, tmp_path / "a", steps=1), pairs=tmp_path / "pairs")
        run(task)
        cache = tmp_path / "pairs" / ".dspo_cache"
        before = set(cache.rglob("*.safetensors"))
        Image.new("RGB", (64, 64), "red").save(tmp_path / "pairs" / "pair1_w.png")
        with pytest.raises(RunError, match=r"holds another run: dataset.hash was"):
            run(task)
        assert len(set(cache.rglob("*.safetensors")) - before) == 1

    @pytest.mark.slow
    def test_another_encoder_has_other_encodings(self, inputs, tmp_path):
        for base in ("base", "base-xl"):
            run(dataclasses.replace(job(inputs, tmp_path / base, base=base, steps=1), cache=tmp_path / "cache"))
        assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2 * (12 + 2)

    def test_a_damaged_encoding_is_made_again(self, inputs, tmp_path):
        task = dataclasses.replace(job(inputs, tmp_path / "a", steps=1), cache=tmp_path / "cache")
        run(task)
        victim = next((tmp_path / "cache" / "images").rglob("*.safetensors"))
        whole = victim.read_bytes()
        victim.write_bytes(whole[: len(whole) // 2])
        run(dataclasses.replace(task, out=tmp_path / "b"))
        assert victim.read_bytes() == whole


class TestRefusals:
    def test_other_settings_in_the_same_folder(self, inputs, whole):
        with pytest.raises(RunError, match=r"another run: config.optim.lr was 0.001, now 0.002"):
            run(job(inputs, whole[0], optim={"lr": 2e-3}))

    @pytest.mark.parametrize(
        ("part", "change", "named"),
        [
            ("vae", lambda base: scale(base / "vae" / "diffusion_pytorch_model.safetensors"), "base.vae was"),
            ("schedule", lambda base: set_beta_end(base / "scheduler" / "scheduler_config.json"), "base.schedule was"),
        ],
    )
    @pytest.mark.slow
    def test_another_vae_or_noise_schedule(self, inputs, tmp_path, part, change, named):
        shutil.copytree(inputs / "base", tmp_path / "base")
        task = dataclasses.replace(job(inputs, tmp_path / "taste"), model=DiffusersSource(tmp_path / "base"))
        run(task, stop_after=2)
        change(tmp_path / "base")
        with pytest.raises(RunError, match=named):
            run(task)

    def test_a_foreign_folder_is_left_as_it_was(self, inputs, tmp_path):
        (tmp_path / ".notes.tmp").write_text("mine", encoding="utf-8")
        (tmp_path / ".step-x").mkdir()
        (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
        with pytest.raises(RunError, match=r"is not empty but has no run\.json"):
            run(job(inputs, tmp_path))
        assert sorted(p.name for p in tmp_path.iterdir()) == [".notes.tmp", ".step-x", "thesis.txt"]

    @pytest.mark.slow
    def test_settings_that_leave_the_weights_alone_may_change(self, inputs, tmp_path):
        run(job(inputs, tmp_path / "taste"), stop_after=1)
        run(job(inputs, tmp_path / "taste", save_every=1, keep_checkpoints=5, gradient_checkpointing=True))
        assert len(list((tmp_path / "taste" / "checkpoints").iterdir())) == 5

    def test_a_folder_of_something_else(self, inputs, tmp_path):
        (tmp_path / "holiday.jpg").write_bytes(b"x")
        with pytest.raises(RunError, match=r"is not empty but has no run.json \(it holds 'holiday.jpg'\)"):
            run(job(inputs, tmp_path))

    def test_a_second_process_in_the_same_folder(self, inputs, tmp_path):
        task = job(inputs, tmp_path / "taste")
        with open_session(task), pytest.raises(RunError, match="another process is training in"):
            run(task)

    def test_fp16_on_a_cpu(self, inputs, tmp_path):
        with pytest.raises(ConfigError, match="`precision` fp16 does not train on a CPU"):
            run(job(inputs, tmp_path / "taste", precision="fp16"))

    def test_an_empty_pair_folder(self, inputs, tmp_path):
        (tmp_path / "none").mkdir()
        with pytest.raises(DatasetError):
            run(dataclasses.replace(job(inputs, tmp_path / "run"), pairs=tmp_path / "none"))

    def test_an_error_in_a_step_keeps_the_steps_before_it(self, inputs, whole, tmp_path, monkeypatch):
        """Step 4 of 6 fails once, as when another program takes the device's memory; no checkpoint was due yet."""
        task = job(inputs, tmp_path / "taste", save_every=50)
        apply, calls = trainer._apply_gradients, []

        def failing(training: trainer.Training, settings: TrainConfig) -> float:
            calls.append(1)
            if len(calls) == 4:
                raise MemoryError("the device is full")
            return apply(training, settings)

        monkeypatch.setattr(trainer, "_apply_gradients", failing)
        with pytest.raises(MemoryError):
            run(task)
        assert [step for step, _ in RunFolder(tmp_path / "taste").checkpoints.steps()] == [3]
        monkeypatch.undo()
        assert [report.step for report in run(task)] == [4, 5, 6]
        assert same(result(tmp_path / "taste"), result(whole[0]))

    def test_weights_that_are_not_finite_are_no_checkpoint(self, inputs, tmp_path, monkeypatch):
        task = job(inputs, tmp_path / "taste", save_every=50)
        with open_session(task) as session, contextlib.closing(session.reports()) as reports:
            next(reports)
            next(iter(session.training.parameters.values())).data.fill_(float("nan"))
            with pytest.raises(RunError, match="not finite"):
                next(reports)
        assert RunFolder(tmp_path / "taste").checkpoints.steps() == []

    def test_weights_that_break_up(self, inputs, tmp_path):
        """A weight turns into NaN after step 3; the checkpoints from before stay good."""
        task = job(inputs, tmp_path / "taste", steps=40, save_every=1)
        refused = pytest.raises(RunError, match=r"the gradient is not finite .* Lower `optim.lr`")
        with refused, open_session(task) as session:
            for report in session.reports():
                if report.step == 3:
                    next(iter(session.trained.parameters.values())).data.fill_(float("nan"))
        kept = sorted((tmp_path / "taste" / "checkpoints").iterdir())[0] / "lora.safetensors"
        assert all(tensor.isfinite().all() for tensor in load_file(kept).values())


def command(inputs: Path, out: Path, *more: str) -> list[str]:
    paths = ["--base", str(inputs / "base"), "--pairs", str(inputs / "pairs"), "--out", str(out)]
    return ["train", *paths, *flags(steps=12, save_every=2, optim__lr=1e-3), *more]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def finish(arguments: list[str]) -> None:
    done = subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


OWN_STEPS = ["--set", "stepwise.method=tailorpo_g", "--set", "stepwise.steps=5", "--set", "stepwise.trained=2"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.slow
@pytest.mark.parametrize("more", [[], OWN_STEPS], ids=["pairs", "own steps"])
def test_killed_twice_and_resumed_is_bit_identical(inputs, tmp_path, more):
    """SIGKILL as soon as some step was reported, twice, at different steps; then left to finish."""
    module = [sys.executable, "-m", "dspo_train"]
    finish([*module, *command(inputs, tmp_path / "whole" / "taste", *more)])
    out = tmp_path / "killed" / "taste"
    for target in (3, 8):
        begun = [*module, *command(inputs, out, *more)]
        process = subprocess.Popen(begun, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_step(out / "reports.jsonl", target, process)
        process.kill()
        process.wait()
        assert not (out / "taste.safetensors").exists()
    finish([*module, *command(inputs, out, *more)])
    assert same(result(out), result(tmp_path / "whole" / "taste"))
    steps = [json.loads(line)["step"] for line in (out / "reports.jsonl").open()]
    assert steps == list(range(1, 13))


def wait_for_step(reports: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not (reports.exists() and any(r["step"] >= step for r in files.read_json_lines(reports))):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], OWN_STEPS], ids=["pairs", "own steps"])
def test_two_processes_take_the_steps_of_one_with_twice_the_batch(inputs, tmp_path, more):
    # in the model's own errors, which are about 1: told as v, rounding counts up to 200 times at the noisiest steps
    common = [
        *more,
        "--set",
        "loss.errors=model",
        "--set",
        "steps=4",
        "--set",
        "held_out.share=0.3",
        "--set",
        "held_out.every=2",
    ]
    one, two = [*common, "--set", "batch_size=4"], [*common, "--set", "batch_size=2"]
    finish([sys.executable, "-m", "dspo_train", *command(inputs, tmp_path / "one", *one)])
    # `--multi_gpu` is accelerate's word for several processes here; its `--cpu` starts one unless there is MPI.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--main_process_port", "0"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"]
    finish([*launch, "-m", "dspo_train", *command(inputs, tmp_path / "two", *two)])

    def read(name: str) -> list[dict[str, float]]:
        return [json.loads(line) for line in (tmp_path / name / "reports.jsonl").open()]

    for alone, together in zip(read("one"), read("two"), strict=True):
        for key in ("step", "loss", "accuracy", "grad_norm", "lr"):
            # the loss is a difference of errors near 1, which float32 rounds by some 1e-7
            assert together[key] == pytest.approx(alone[key], rel=2e-4, abs=1e-6), key
        assert ("held_out_margin" in together) == ("held_out_margin" in alone) == (alone["step"] in (2, 4))
        if "held_out_margin" in alone:
            assert together["held_out_margin"] == pytest.approx(alone["held_out_margin"], rel=2e-2)
    alone, together = result(tmp_path / "one"), result(tmp_path / "two")
    for key, value in alone.items():
        assert torch.allclose(value.float(), together[key].float(), atol=1e-3), key


def test_a_full_disk_ends_in_one_error_and_keeps_the_last_checkpoint(inputs, tmp_path, monkeypatch):
    """The third checkpoint meets a full disk."""
    import errno

    out = tmp_path / "taste"
    real = os.fsync

    def fsync(number: int) -> None:
        if (out / "checkpoints" / "step-000004").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr(files.writing.os, "fsync", fsync)
    with pytest.raises(RunError, match=r"the disk is full: could not write .*start the same run again"):
        run(job(inputs, out))
    monkeypatch.undo()
    assert load_file(out / "checkpoints" / "step-000004" / "lora.safetensors")
    assert [p.name for p in sorted((out / "checkpoints").iterdir())] == ["step-000002", "step-000004"]
    assert run(job(inputs, out))[0].step == 5


def _run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs Linux and root")
@pytest.mark.slow
def test_a_really_full_disk(inputs, tmp_path):
    """A file system of 400 kB is refused; if it fills up after the check, the first checkpoints are kept."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a small disk")
    arguments = command(inputs, disk / "taste", "--set", "keep_checkpoints=50")
    filled_later = (
        "from dspo_train.runs import preflight; preflight.check_disk = lambda *_: None; "
        "from dspo_train.cli.main import main; raise SystemExit(main())"
    )
    try:
        refused = _run([sys.executable, "-m", "dspo_train", *arguments])
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "0.0 GB free" in refused.stderr and not list(disk.rglob("*.safetensors"))
        done = _run([sys.executable, "-c", filled_later, *arguments])
        assert done.returncode == 2, done.stdout + done.stderr
        assert "the disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        checkpoints = sorted((disk / "taste" / "checkpoints").glob("step-*"))
        assert checkpoints
        for name in ("lora.safetensors", "state.safetensors"):
            assert load_file(checkpoints[-1] / name)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
