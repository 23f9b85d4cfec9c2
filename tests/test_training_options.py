"""What a run can do besides its objective: each option trains, is resumed to the bit, and does what it says."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_models import HIDDEN
from tiny_runs import config, foretell, train_and_cut, write_base, write_pairs

from dspo_train import objectives
from dspo_train.config import TrainConfig
from dspo_train.data import draws
from dspo_train.data.paired import one_per_prompt
from dspo_train.exceptions import ConfigError
from dspo_train.pairs import scan_pairs
from dspo_train.runs import choosing
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.folder import RunFolder
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session

HELD = {"share": 0.5, "draws": 4, "every": 2}
FORETOLD = (0.75, 0.5)  # accuracies at steps 2 and 4: with a patience of 1 the run is over

OPTIONS: dict[str, dict[str, Any]] = {
    "average": {"ema": 0.5},
    "moving reference": {"moving_reference": 0.5},
    "automatic sharpness": {"objective": "diffusion_dpo", "loss": {"sharpness": "auto"}},
    "weights by margin": {"loss": {"sharpness": 300.0}},
    "min-SNR": {"loss": {"min_snr": 5.0}},
    "what the words do": {"loss": {"word_budget": 0.05}},
    "all guards": {"loss": {"sft_mix": 0.25, "label_smoothing": 0.1, "safeguard": 0.5, "margin_cap": 1e-3}},
    "held out": {"held_out": HELD},
    "best": {"held_out": HELD, "keep": "best"},
    "early stop": {"held_out": {**HELD, "patience": 1}},
    "part of the schedule": {"data": {"resolution": 64, "bucket_step": 16, "least_noise": 0.5, "most_noise": 0.9}},
    "swapped": {"labels": "swapped"},
    "whole UNet": {"method": "full", "optim": {"lr": 1e-5}},
    "whole UNet, all moving": {"method": "full", "optim": {"lr": 1e-5}, "ema": 0.5, "moving_reference": 0.5},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_base(folder / "base")
    write_pairs(folder / "pairs")
    return folder


def job(world: Path, out: Path, settings: TrainConfig, **more: Any) -> Job:
    return Job(DiffusersSource(world / "base"), world / "pairs", out, settings, **more)


def train(world: Path, out: Path, settings: TrainConfig, stop: int | None = None) -> list[dict[str, Any]]:
    """Train, perhaps only some steps; -> the reports of this part, flat."""
    with open_session(job(world, out, settings)) as session:
        reports = session.reports()
        seen = [report.flat() for report in itertools.islice(reports, stop)]
        reports.close()
    return seen


def result(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / f"{out.name}.safetensors")


STOP = 3
Wholes = Callable[[str], tuple[Path, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def whole_run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    """The uninterrupted run with an option, trained once for all tests: its folder and its reports.

    `cut/x` beside it is its folder as it was after step 3.
    """

    @cache
    def trained(name: str) -> tuple[Path, list[dict[str, Any]]]:
        out = tmp_path_factory.mktemp("whole") / "x"
        with pytest.MonkeyPatch.context() as patch:
            if name == "early stop":
                foretell(patch, *FORETOLD)
            task = job(world, out, option(name))
            return out, [report.flat() for report in train_and_cut(task, STOP, out.parent / "cut" / "x")]

    return trained


def option(name: str) -> TrainConfig:
    return config(save_every=STOP, **OPTIONS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_a_stopped_run_ends_with_the_same_bits(
    world: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, whole_run: Wholes
):
    folder, whole = whole_run(name)
    if name == "early stop":
        foretell(monkeypatch, *FORETOLD[1:])
    assert [report["step"] for report in whole] == list(range(1, 5 if name == "early stop" else 7))
    shutil.copytree(folder.parent / "cut" / "x", tmp_path / "x")
    rest = train(world, tmp_path / "x", option(name))

    measured = [key for key in whole[0] if key not in ("seconds", "pairs_per_second")]
    assert [[r.get(k) for k in measured] for r in rest] == [[r.get(k) for k in measured] for r in whole[STOP:]]
    assert_equal(result(folder), result(tmp_path / "x"))


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
def test_every_option_changes_the_weights(world: Path, tmp_path: Path, whole_run: Wholes):
    train(world, tmp_path / "x", config())
    plain = result(tmp_path / "x")
    for name, settings in OPTIONS.items():
        if "objective" in settings or "method" in settings:
            continue  # another base of comparison
        other = result(whole_run(name)[0])
        assert any(not torch.equal(plain[key], other[key]) for key in plain), name


def test_the_average_is_what_is_saved(world: Path, tmp_path: Path):
    """decay = min(0.5, (1 + n) / (10 + n)) is 2/11, 3/12, 4/13, ... after step n = 1, 2, 3, ..."""
    parameters = []
    with open_session(job(world, tmp_path / "run", config(ema=0.5, steps=3))) as session:
        name = next(key for key in session.trained.parameters if key.endswith(".up"))
        for _ in session.reports():
            parameters.append(session.trained.parameters[name].detach().clone())
        expected = torch.zeros_like(parameters[0])  # the matrix `up` begins at zero
        for n, value in enumerate(parameters, start=1):
            decay = (1 + n) / (10 + n)
            expected = decay * expected + (1 - decay) * value
        torch.testing.assert_close(session.training.average[name], expected)
        with session.training.averaged():
            torch.testing.assert_close(session.trained.parameters[name].detach(), expected)
        assert torch.equal(session.trained.parameters[name], parameters[-1])


def test_a_moving_reference_follows_and_the_origin_does_not(world: Path, tmp_path: Path):
    with open_session(job(world, tmp_path / "run", config(moving_reference=0.5, steps=2))) as session:
        moving = session.trained.reference_tensors()
        name = next(key for key in moving if key.endswith(".up"))
        seen = [session.trained.parameters[name].detach().clone() for _ in session.reports()]
        torch.testing.assert_close(moving[name], 0.5 * (0.5 * seen[0]) + 0.5 * seen[1])
        x, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
        text = torch.randn(1, 4, HIDDEN)

        def predicted() -> torch.Tensor:
            with torch.no_grad():
                return session.model.network(x, t, encoder_hidden_states=text).sample

        with session.trained.reference():
            reference = predicted()
        with session.trained.origin():
            origin = predicted()
        with session.trained.off():
            base = predicted()
        assert torch.equal(origin, base)
        assert not torch.equal(reference, origin)
        assert not torch.equal(reference, predicted())


def test_automatic_sharpness_follows_the_margin(world: Path, tmp_path: Path):
    """ln 4 over the running |margin|, between 1 and 10000; before any margin was seen it is the most.

    After 1e-3 and 3e-3, at a decay of 0.95: (0.95 x 1e-3 + 3e-3) / (0.95 + 1) = 2.0256e-3; ln 4 / 2.0256e-3 = 684.4.
    """
    settings = config(objective="diffusion_dpo", loss={"sharpness": "auto"}, steps=2)
    with open_session(job(world, tmp_path / "run", settings)) as session:
        training = session.training
        assert training.sharpness(settings) == 10000.0
        training.saw_margin(1e-3)
        assert training.sharpness(settings) == pytest.approx(1386.294)
        training.saw_margin(3e-3)
        assert training.sharpness(settings) == pytest.approx(684.4, abs=0.05)
        training.saw_margin(10.0)
        assert training.sharpness(settings) == 1.0
        assert next(session.reports()).sharpness == 1.0


@pytest.mark.slow
def test_held_out_prompts_are_not_trained_on(world: Path, tmp_path: Path, whole_run: Wholes):
    with open_session(job(world, tmp_path / "run", option("held out"))) as session:
        assert session.data.bank is not None
        trained = {pair.caption for pair in session.data.source.pairs}  # type: ignore[union-attr]
        held = {pair.caption for pair in session.data.bank.source.pairs}
        assert trained and held and not trained & held
    folder, reports = whole_run("held out")
    assert [r["step"] for r in reports if "held_out_accuracy" in r] == [2, 4, 6]
    lines = [json.loads(line) for line in (folder / "reports.jsonl").read_text("utf-8").splitlines()]
    assert lines == reports


@pytest.mark.slow
def test_two_runs_measure_alike_to_the_digit(world: Path, tmp_path: Path, whole_run: Wholes):
    first, second = whole_run("held out")[1], train(world, tmp_path / "x", option("held out"), stop=4)
    keys = [key for key in first[1] if key.startswith("held_out")]
    assert keys and [[r.get(k) for k in keys] for r in first[:4]] == [[r.get(k) for k in keys] for r in second]


@pytest.mark.slow
def test_a_run_stops_when_held_out_accuracy_no_longer_rises(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The accuracies at steps 2, 4, 6 and 8: the second is the highest, and two looks in vain are the end."""
    foretell(monkeypatch, 0.5, 0.75, 0.625, 0.5)
    settings = config(steps=40, held_out={**HELD, "patience": 2}, save_every=2, keep_checkpoints=20)
    reports = train(world, tmp_path / "run", settings)
    assert len(reports) == 8
    assert [r["step"] for r in reports if r.get("stopped")] == [8]
    best = choosing.best(choosing.evaluations(reports))
    assert best is not None and best.step == 4
    assert_the_result_is_of_step(4, tmp_path / "run")  # though the last step's were asked for
    assert train(world, tmp_path / "run", settings) == []  # it is finished


@pytest.mark.slow
def test_the_best_step_becomes_the_result(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    foretell(monkeypatch, 0.5, 0.75, 0.625, 0.5)
    settings = config(steps=8, held_out=HELD, keep="best", save_every=2, keep_checkpoints=9)
    chosen = choosing.best(choosing.evaluations(train(world, tmp_path / "run", settings)))
    assert chosen is not None and chosen.step == 4
    assert_the_result_is_of_step(4, tmp_path / "run")


def assert_the_result_is_of_step(step: int, run: Path) -> None:
    """Of this step and of no other that was kept."""
    steps = {int(folder.name.removeprefix("step-")): folder for folder in (run / "checkpoints").iterdir()}
    assert len(steps) > 1
    written = result(run)
    for number, folder in steps.items():
        kept = load_file(folder / "lora.safetensors")
        assert all(torch.equal(written[key], kept[key]) for key in kept) == (number == step)


@pytest.mark.parametrize("data", [{}, {"one_per_prompt": True}, {"crop": "random"}])
@pytest.mark.slow
def test_runs_of_other_seeds_are_measured_alike(world: Path, tmp_path: Path, data: dict[str, Any]):
    """The same pairs are held out, at the same draws; what is trained at is another matter."""
    banks, steps = [], []
    for seed in (1, 2):
        settings = config(held_out=HELD, seed=seed, data={**config().to_dict()["data"], **data})
        with open_session(job(world, tmp_path / f"{seed}", settings)) as session:
            assert session.data.bank is not None
            banks.append(list(session.data.bank.batches()))
            steps.append(next(session.data.source.step(0)))
    for one, other in zip(*banks, strict=True):
        for name in ("noisy", "target", "t"):
            assert torch.equal(getattr(one, name), getattr(other, name))
    assert not torch.equal(steps[0].target, steps[1].target)  # the noise


def test_swapped_labels_train_on_the_loser(world: Path, tmp_path: Path):
    with open_session(job(world, tmp_path / "n", config(labels="swapped", objective="sft"))) as session:
        first = next(session.data.source.step(0))
    with open_session(job(world, tmp_path / "p", config(objective="sft"))) as session:
        other = next(session.data.source.step(0))
    (winners, losers), (other_winners, other_losers) = (batch.noisy.chunk(2) for batch in (first, other))
    assert torch.equal(first.target, other.target) and torch.equal(first.t, other.t)
    assert torch.equal(winners, other_losers) and torch.equal(losers, other_winners)
    assert not torch.equal(winners, losers)


def test_one_pair_of_each_prompt(world: Path):
    """Each pair draws a number by its name; the lowest of a prompt stays, whatever else is in the folder."""
    pairs = scan_pairs(world / "pairs").pairs
    kept = one_per_prompt(pairs, seed=3)
    for prompt in {pair.prompt for pair in pairs}:
        own = [pair for pair in pairs if pair.prompt == prompt]
        lowest = min(own, key=lambda pair: draws.number(3, "one per prompt", pair.key))
        assert [pair for pair in kept if pair.prompt == prompt] == [lowest]
        assert one_per_prompt(own[::-1], seed=3) == [lowest]  # whatever else is there, and in what order


@pytest.mark.parametrize(
    ("settings", "unpaired", "words"),
    [
        ({"objective": "sft", "loss": {"label_smoothing": 0.1}}, False, ("loss.label_smoothing", "'sft' does not")),
        ({"objective": "dspo_e", "loss": {"safeguard": 0.5}}, False, ("loss.safeguard", "dspo_e")),
        ({"objective": "dspo_ref", "method": "full"}, False, ("'dspo_ref' has no gradient", "would change nothing")),
        (
            {"objective": "diffusion_dpo", "objective_args": {"sharpness": 9.0}, "loss": {"sharpness": "auto"}},
            False,
            ("given twice",),
        ),
        ({"objective": "dspo"}, True, ("unpaired liked and disliked images", "diffusion_kto, sft")),
        ({"objective": "diffusion_kto", "loss": {"margin_cap": 0.1}}, True, ("loss.margin_cap",)),
        ({"objective": "diffusion_kto", "loss": {"min_snr": 5.0}}, True, ("loss.min_snr",)),
        ({"objective": "diffusion_kto", "loss": {"sharpness": "auto"}}, True, ("`loss.sharpness` auto",)),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], unpaired: bool, words: tuple[str, ...]):
    with pytest.raises(ConfigError) as caught:
        objectives.check_objective(config(**settings), unpaired=unpaired)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keep": "best"}, "held_out.share"),
        ({"held_out": {"patience": 2}}, "held_out.share"),
        ({"data": {"least_noise": 0.5, "most_noise": 0.5}}, "data.least_noise"),
        ({"loss": {"sharpness": "often"}}, "loss.sharpness"),
        ({"ema": 1.0}, "ema"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        config(**settings)


def test_the_best_weights_go_back_with_the_steps(tmp_path: Path):
    """Step 2 is the best and checkpointed, step 3 is better and lost in a crash: step 2 is the best again."""
    folder = RunFolder(tmp_path / "run")
    folder.folder.mkdir()
    for step in (1, 2):
        folder.best.save(step, {"w": torch.tensor([float(step)])}, folder.checkpoints.oldest())
        folder.checkpoints.save(step, {"step": torch.tensor(step)}, None, keep=1)
    folder.best.save(3, {"w": torch.tensor([3.0])}, folder.checkpoints.oldest())
    assert [folder.best.read(step) is not None for step in (1, 2, 3)] == [False, True, True]
    folder.rewind(2)
    assert folder.best.read(3) is None
    assert folder.best.read(2) == {"w": torch.tensor([2.0])}


def test_the_file_tells_what_was_trained(world: Path, tmp_path: Path):
    """The step that was kept, the sharpness that was used, and the options away from their defaults."""
    settings = config(
        objective="diffusion_dpo",
        loss={"sharpness": 3.0, "sft_mix": 0.25},
        held_out={"share": 0.5, "draws": 4, "every": 1},
        keep="best",
        steps=3,
    )
    seen = train(world, tmp_path / "run", settings)
    kept = choosing.best(choosing.evaluations(seen))
    assert kept is not None
    with safe_open(tmp_path / "run" / "run.safetensors", framework="pt") as file:
        told = file.metadata()
    assert told["ss_steps"] == str(kept.step)
    assert json.loads(told["dspo.objective_args"]) == {"sharpness": 3.0}
    options = json.loads(told["dspo.options"])
    assert (options["keep"], options["loss.sft_mix"], options["held_out.share"]) == ("best", 0.25, 0.5)
    assert "data.resolution" in options  # the tiny pairs are smaller than the default
    assert "ema" not in options


def _halves(weights: Mapping[str, torch.Tensor]) -> Counter[bytes]:
    """What the tensors hold in float16, whatever their names and shapes."""
    return Counter(value.detach().to(torch.float16).contiguous().numpy().tobytes() for value in weights.values())


def test_a_whole_unet_is_written_as_a_checkpoint(world: Path, tmp_path: Path):
    """The file has the trained weights to the bit, and most of them are no longer the base's."""
    settings = config(method="full", optim={"lr": 1e-4}, steps=2, objective="sft")
    with open_session(job(world, tmp_path / "run", settings)) as session:
        for _ in session.reports():
            pass
        trained = _halves(session.trained.parameters)
    (told,) = session.notes.texts
    assert told.startswith("run.safetensors is the best rank-2 LoRA approximation of what was trained")
    written = _halves(load_file(tmp_path / "run" / "run-checkpoint.safetensors"))
    assert written == trained
    base = _halves(load_file(world / "base" / "unet" / "diffusion_pytorch_model.safetensors"))
    assert base.total() == written.total()
    assert (written - base).total() > 0.5 * written.total()


@pytest.mark.parametrize("settings", [{"method": "full"}, {"moving_reference": 0.9}])
def test_refining_goes_with_a_fixed_reference(world: Path, tmp_path: Path, settings: dict[str, Any], whole_run: Wholes):
    lora = whole_run("average")[0] / "x.safetensors"
    refining = job(world, tmp_path / "second", config(**settings), refine=lora)
    for task in (refining, dataclasses.replace(refining, model=DiffusersSource(world / "no model is needed to tell"))):
        with pytest.raises(ConfigError, match="cannot refine a LoRA"), open_session(task):
            pass


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"objective": "dspo_ref"}, True),
        ({"objective": "dspo_ref", "ema": 0.5}, True),
        ({"objective": "dspo_ref", "loss": {"sft_mix": 0.25}}, False),
        ({"objective": "dspo"}, False),
    ],
)
@pytest.mark.slow
def test_a_training_that_changes_nothing_says_so_once(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], told: bool
):
    with (
        caplog.at_level("WARNING", "dspo"),
        open_session(job(world, tmp_path / "x", config(steps=3, **settings))) as session,
    ):
        before = {name: p.detach().clone() for name, p in session.trained.parameters.items() if name.endswith(".up")}
        list(session.reports())
        changed = any(not torch.equal(session.trained.parameters[name], value) for name, value in before.items())
    assert before and changed is not told
    notes = [record.getMessage() for record in caplog.records if "changes nothing" in record.getMessage()]
    assert len(notes) == int(told)
    assert session.notes.texts == notes


@pytest.mark.parametrize(
    ("objective", "batch_size", "told"), [("diffusion_kto", 3, 1), ("diffusion_kto", 4, 0), ("dspo", 1, 0)]
)
def test_a_mean_over_too_few_is_told(objective: str, batch_size: int, told: int):
    notes = list(objectives.warnings(config(objective=objective, batch_size=batch_size)))
    assert len(notes) == told
    assert all(f"a `batch_size` of {batch_size}; use 4 or more" in note for note in notes)
