"""The command line: what a user's mistakes are answered with, and that the ordinary commands work."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import write_single_file
from tiny_runs import flags, foretell, write_base, write_pairs
from tqdm import tqdm

from dspo_train.cli.main import OK, USER, Messages, Plain, main
from dspo_train.cli.training import Stages


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, pairs, prompts and a trained LoRA, and several things that are none of these."""
    folder = tmp_path_factory.mktemp("world")
    write_base(folder / "base")
    write_base(folder / "xl", "sdxl")
    write_pairs(folder / "pairs")
    (folder / "prompts.txt").write_text("# a comment\nred dog\n\ndog\n", encoding="utf-8")
    (folder / "empty.txt").write_text("\n# nothing\n", encoding="utf-8")
    (folder / "latin.txt").write_bytes("Übung".encode("latin-1"))
    (folder / "empty").mkdir()
    (folder / "notes.safetensors").write_bytes(b"not a model")
    (folder / "model.ckpt").write_bytes(b"pickle")
    (folder / "broken.toml").write_text("steps = = 3", encoding="utf-8")
    (folder / "unknown.toml").write_text("[optim]\nlearning_rate = 1", encoding="utf-8")
    (folder / "latin.toml").write_bytes('objective = "dspö"'.encode("latin-1"))
    assert main(train(folder, "lora")) == OK
    return folder


def train(world: Path, out: str, *more: str, base: str = "base", pairs: str = "pairs") -> list[str]:
    paths = ["--base", str(world / base), "--pairs", str(world / pairs), "--out", str(world / out)]
    return ["train", *paths, *flags(steps=2), *more]


def pictures(world: Path, command: str, out: str, *more: str, base: str = "base", prompts: str = "prompts.txt"):
    paths = ["--base", str(world / base), "--prompts", str(world / prompts), "--out", str(world / out)]
    return [command, *paths, "--steps", "2", "--width", "64", "--height", "64", *more]


def lora(world: Path) -> list[str]:
    return ["--lora", str(world / "lora" / "lora.safetensors")]


Case = tuple[str, Callable[[Path], list[str]], str]
MISTAKES: list[Case] = [
    ("no such pairs", lambda w: train(w, "o", pairs="gone"), "gone"),
    ("pairs are a file", lambda w: train(w, "o", pairs="prompts.txt"), "prompts.txt"),
    ("no pairs in it", lambda w: train(w, "o", pairs="empty"), "empty"),
    ("no such base", lambda w: train(w, "o", base="gone"), "gone: no such file or folder"),
    ("base is an empty folder", lambda w: train(w, "o", base="empty"), "is an empty folder"),
    ("base is no model", lambda w: train(w, "o", base="notes.safetensors"), "notes.safetensors"),
    ("base is a pickle", lambda w: train(w, "o", base="model.ckpt"), "convert it to .safetensors"),
    ("base is a LoRA", lambda w: train(w, "o", base="lora/lora.safetensors"), "LoRA"),
    ("base is a folder of pairs", lambda w: train(w, "o", base="pairs"), "not a complete diffusers pipeline"),
    ("unknown objective", lambda w: train(w, "o", "--objective", "dpo"), "unknown objective 'dpo'; known: dspo"),
    ("unknown argument", lambda w: train(w, "o", "--set", "objective_args.beta=1"), "has no argument 'beta'"),
    ("setting without a value", lambda w: train(w, "o", "--set", "steps"), "expected KEY=VALUE"),
    ("unknown setting", lambda w: train(w, "o", "--set", "step=3"), "unknown setting step; did you mean steps?"),
    ("setting into a value", lambda w: train(w, "o", "--set", "steps.x=3"), "'steps' is a single value"),
    ("wrong type", lambda w: train(w, "o", "--set", "steps=many"), "steps: expected a whole number, got 'many'"),
    ("out of range", lambda w: train(w, "o", "--set", "lora.rank=0"), "lora.rank must be between 1 and 1024"),
    ("fp16 on a cpu", lambda w: train(w, "o", "--set", "precision=fp16"), "fp16 does not train on a CPU"),
    ("resolution off the step", lambda w: train(w, "o", "--set", "data.bucket_step=20"), "multiple of 8"),
    ("no such config", lambda w: train(w, "o", "--config", str(w / "gone.toml")), "gone.toml"),
    ("broken config", lambda w: train(w, "o", "--config", str(w / "broken.toml")), "not valid TOML"),
    ("config of another program", lambda w: train(w, "o", "--config", str(w / "unknown.toml")), "optim.learning_rate"),
    ("config not in UTF-8", lambda w: train(w, "o", "--config", str(w / "latin.toml")), "save it as UTF-8"),
    ("8-bit without bitsandbytes", lambda w: train(w, "o8", "--set", "optim.name=adamw8bit"), "bitsandbytes"),
    ("another run's folder", lambda w: train(w, "lora", "--set", "seed=4"), "config.seed was 0, now 4"),
    ("a folder of pictures", lambda w: train(w, "pairs"), "is not empty but has no run.json"),
    ("out is a file", lambda w: train(w, "prompts.txt"), "prompts.txt"),
    ("refining nothing", lambda w: train(w, "o2", "--refine", str(w / "gone.safetensors")), "cannot be read"),
    ("refining another family's", lambda w: train(w, "o3", "--refine", lora(w)[1], base="xl"), "lora.safetensors"),
    ("no such prompts", lambda w: pictures(w, "sample", "o", prompts="gone.txt"), "gone.txt"),
    ("no prompts in it", lambda w: pictures(w, "sample", "o", prompts="empty.txt"), "no prompts in it"),
    ("prompts not in UTF-8", lambda w: pictures(w, "sample", "o", prompts="latin.txt"), "save it as UTF-8"),
    ("odd size", lambda w: [*pictures(w, "sample", "o"), "--width", "100"], "multiple of 8, got 100"),
    ("no steps", lambda w: [*pictures(w, "sample", "o"), "--steps", "0"], "steps must be at least 1"),
    ("no pictures", lambda w: [*pictures(w, "sample", "o"), "--count", "0"], "--count must be at least 1"),
    ("LoRA is no LoRA", lambda w: pictures(w, "compare", "o.png", "--lora", str(w / "prompts.txt")), "prompts.txt"),
    ("no such LoRA", lambda w: pictures(w, "compare", "o.png", "--lora", str(w / "gone.safetensors")), "gone"),
    ("strengths", lambda w: pictures(w, "compare", "o.png", *lora(w), "--strengths", "1 2"), "separated by commas"),
    ("a batch of none", lambda w: [*pictures(w, "sample", "o"), "--batch-size", "0"], "batch_size must be at least 1"),
    ("a seed too large", lambda w: [*pictures(w, "sample", "o"), "--seed", "9" * 20], "seeds must be between 0"),
    ("guidance is no number", lambda w: [*pictures(w, "sample", "o"), "--guidance", "nan"], "guidance must be"),
    (
        "strength is no number",
        lambda w: [*pictures(w, "sample", "o", *lora(w)), "--strength", "nan"],
        "between -100 and 100",
    ),
    ("sample into a file", lambda w: pictures(w, "sample", "prompts.txt"), "is a file; give a folder"),
    ("compare into a folder", lambda w: pictures(w, "compare", "empty", *lora(w)), "give the name of a .png file"),
    ("demo into a file", lambda w: ["demo", "--out", str(w / "prompts.txt")], "is a file; give a folder"),
    ("no folder to inspect", lambda w: ["inspect", str(w / "gone")], "gone"),
    ("nothing to inspect", lambda w: ["inspect", str(w / "empty")], "empty"),
]


@pytest.mark.parametrize(("arguments", "message"), [c[1:] for c in MISTAKES], ids=[c[0] for c in MISTAKES])
@pytest.mark.slow
def test_a_mistake_gets_one_message_and_no_traceback(world, capsys, arguments, message):
    assert main(arguments(world)) == USER
    error = capsys.readouterr().err
    assert message in error
    assert error.count("error: ") == 1
    assert "Traceback" not in error


@pytest.mark.slow
def test_a_mistake_leaves_the_run_folder_free_for_the_next_try(world):
    """What is refused before training has not named the folder's run."""
    assert main(train(world, "tried", "--set", "optim.name=adamw8bit")) == USER
    assert main(train(world, "tried")) == OK


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["tarin"], "invalid choice: 'tarin'"),
        (["train"], "--base, --pairs, --out"),
        (["inspect", "x", "--resolution", "big"], "invalid int value: 'big'"),
    ],
)
def test_argparse_answers_what_it_can(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == USER
    assert message in capsys.readouterr().err


def test_inspect_reports_a_folder(world, capsys):
    assert main(["inspect", str(world / "pairs"), "--resolution", "64"]) == OK
    out = capsys.readouterr().out
    assert "6" in out
    assert "suffixes" in out


def test_inspect_of_a_folder_with_defects(tmp_path, capsys):
    write_pairs(tmp_path, 2)
    (tmp_path / "pair1_l.png").unlink()
    assert main(["inspect", str(tmp_path)]) == OK
    assert "pair1" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_single_file_trains_like_its_folder(world, tmp_path, family):
    """The original layout, with the tokenizer from a folder, gives the weights that the diffusers folder gives."""
    base = world / {"sd15": "base", "sdxl": "xl"}[family]
    file = write_single_file(tmp_path / "base.safetensors", family)
    for model, out in ((base, "a/lora"), (file, "b/lora")):
        arguments = train(world, out, "--tokenizer", str(base / "tokenizer"))
        arguments[arguments.index("--base") + 1] = str(model)
        arguments[arguments.index("--out") + 1] = str(tmp_path / out)
        assert main(arguments) == OK
    folder, single = (load_file(tmp_path / out / "lora" / "lora.safetensors") for out in ("a", "b"))
    assert folder.keys() == single.keys()
    for key, value in folder.items():
        torch.testing.assert_close(single[key], value, rtol=1e-3, atol=1e-6)


def test_train_ends_with_the_files_it_names(world, capsys):
    assert main(train(world, "again")) == OK
    out = capsys.readouterr().out
    assert f"LoRA:  {world / 'again' / 'again.safetensors'}" in out
    assert main(train(world, "again")) == OK
    assert "already finished" in capsys.readouterr().out


def test_settings_come_from_the_file_then_the_command_line(world, tmp_path):
    import json

    config = tmp_path / "c.toml"
    config.write_text('objective = "sft"\nsteps = 9\n[optim]\nlr = 0.5\nweight_decay = 0.25\n', encoding="utf-8")
    assert main(train(world, "mixed", "--config", str(config), "--set", "optim.lr=1e-3", "--objective", "dspo")) == OK
    info = json.loads((world / "mixed" / "run.json").read_text(encoding="utf-8"))["config"]
    assert (info["objective"], info["steps"], info["optim"]["lr"]) == ("dspo", 2, 1e-3)
    assert info["optim"]["weight_decay"] == 0.25


def test_sample_writes_pictures_with_their_prompts(world):
    assert main([*pictures(world, "sample", "drawn", *lora(world)), "--count", "2", "--seed", "7"]) == OK
    names = sorted(p.name for p in (world / "drawn").iterdir())
    assert names == [f"{seed:06d}.{kind}" for seed in (7, 8, 9, 10) for kind in ("png", "txt")]
    assert (world / "drawn" / "000009.txt").read_text(encoding="utf-8") == "dog\n"
    assert Image.open(world / "drawn" / "000007.png").size == (64, 64)


def test_sample_starts_from_an_image(world):
    """Scaled and cropped to the size that is asked for; two start images give two images from one seed."""
    drawn = []
    for colour in ("black", "white"):
        Image.new("RGB", (90, 70), colour).save(world / f"{colour}.png")
        started = ("--image", str(world / f"{colour}.png"), "--image-strength", "0.5")
        assert main([*pictures(world, "sample", f"from-{colour}"), *started]) == OK
        drawn.append(sorted((world / f"from-{colour}").glob("*.png"))[0].read_bytes())
    assert drawn[0] != drawn[1]


def test_what_a_lora_holds_besides_is_said(world, caplog):
    tensors = load_file(world / "lora" / "lora.safetensors")
    extra = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.zeros(2, 32)}
    save_file({**tensors, **extra}, world / "both.safetensors")
    assert main(pictures(world, "sample", "drawn2", "--lora", str(world / "both.safetensors"))) == OK
    assert "both.safetensors: not applied: 1 tensor of the text encoder" in caplog.text


def test_compare_makes_one_picture(world):
    assert main(pictures(world, "compare", "grid.png", *lora(world), "--strengths", "0.5,1,2")) == OK
    grid = Image.open(world / "grid.png")
    assert grid.width > 4 * 160
    assert grid.height > 2 * 160


@pytest.mark.slow
def test_the_module_runs_as_a_program(tmp_path):
    """One real process: exit code 2, one sentence, no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "dspo_train", "inspect", str(tmp_path / "gone")], capture_output=True, text=True
    )
    assert done.returncode == USER
    assert done.stderr.strip().startswith("error: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_an_early_stop_is_a_success(world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """The second measurement is worse than the first, and one in vain is all the patience there is."""
    foretell(monkeypatch, 0.75, 0.5)
    early = ["held_out.share=0.5", "held_out.every=1", "held_out.patience=1", "steps=40"]
    command = train(world, "early", *[word for setting in early for word in ("--set", setting)])
    assert main(command) == OK
    told = capsys.readouterr().out
    assert "stopped early, after step 2 of 40" in told and str(world / "early" / "early.safetensors") in told
    assert main(command) == OK
    assert "already finished" in capsys.readouterr().out


def test_a_message_during_a_progress_bar_has_a_line_of_its_own(capsys):
    """What is on a line is what follows the last carriage return in it."""
    record = logging.LogRecord("dspo", logging.WARNING, __file__, 1, "lower `optim.lr`, see `prediction`", (), None)
    with tqdm(total=3, file=sys.stderr) as bar:
        bar.update()
        handler = Messages()
        handler.setFormatter(Plain())
        handler.emit(record)
    lines = [line.rpartition("\r")[2] for line in capsys.readouterr().err.splitlines()]
    assert "lower optim.lr, see --prediction" in lines


def test_each_stage_has_one_bar_and_closes_it(capsys):
    stages = Stages()
    for stage in ("check", "encode"):
        for done in range(1, 4):
            stages(stage, done, 3)
    written = capsys.readouterr().err
    assert written.count("check:   0%") == written.count("encode:   0%") == 1
