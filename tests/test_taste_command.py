"""`taste` on the command line, with the embedded model."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

import dspo_train
from dspo_train.cli.main import OK, USER, main
from dspo_train.taste.kept import FOLDER
from dspo_train.taste.model import load_taste

EMBEDDED = Path(dspo_train.__file__).parent / "demo" / "model"
MODEL = ["--model", str(EMBEDDED)]


def shade(path: Path, light: int, about: PngImagePlugin.PngInfo | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (light, light, 255 - light)).save(path, pnginfo=about)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of which the lighter image always wins, a taste learned from them, and three images to judge."""
    folder = tmp_path_factory.mktemp("tastes")
    for row in range(13):
        shade(folder / f"pairs/pair{row}_w.png", 160 + 5 * row)
        shade(folder / f"pairs/pair{row}_l.png", 30 + 5 * row)
        (folder / f"pairs/pair{row}.txt").write_text(f"a red heart {row}", encoding="utf-8")
    for name, light in (("dark", 20), ("light", 230), ("grey", 120)):
        shade(folder / f"new/{name}.png", light)
        (folder / f"new/{name}.txt").write_text("a red heart\n", encoding="utf-8")
    (folder / "two.txt").write_text("a red heart\na blue star\n", encoding="utf-8")
    (folder / "empty").mkdir()
    assert main(["taste", "fit", str(folder / "pairs"), *MODEL, "--out", str(folder / "light.safetensors")]) == OK
    return folder


def on(world: Path, action: str, images: str, *more: str) -> list[str]:
    return ["taste", action, str(world / "light.safetensors"), str(world / images), *MODEL, *more]


def test_a_taste_is_learned_and_its_features_are_kept(world: Path, capsys: pytest.CaptureFixture[str]):
    taste = load_taste(world / "light.safetensors")
    assert (taste.name, taste.trained_on, taste.assessment.accuracy) == ("light", 13, 1.0)
    assert len(list((world / "pairs" / FOLDER).iterdir())) == 1
    more = ["--out", str(world / "again.safetensors"), "--chart", str(world / "chart.png")]
    assert main(["taste", "fit", str(world / "pairs"), *MODEL, *more]) == OK
    told = capsys.readouterr().out
    assert "13 comparisons of 13 prompts. We know your taste to 100%" in told
    assert "came true" in told
    assert len(list((world / "pairs" / FOLDER).iterdir())) == 1  # they were used again
    with Image.open(world / "chart.png") as chart:
        assert chart.size == (800, 600)
    again = load_taste(world / "again.safetensors")
    assert again.head.weights.tobytes() == taste.head.weights.tobytes()


def test_the_lighter_image_scores_higher(world: Path, capsys: pytest.CaptureFixture[str]):
    assert main(on(world, "score", "new", "--csv", str(world / "scores.csv"))) == OK
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    scores = {Path(name).stem: float(score) for score, name in lines}
    assert scores["light"] > scores["grey"] > scores["dark"]
    rows = list(csv.DictReader((world / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert [(Path(row["image"]).stem, row["prompt"]) for row in rows] == [
        (name, "a red heart") for name in ("dark", "grey", "light")
    ]


@pytest.mark.parametrize(("more", "copied"), [((), 3), (("--best", "1", "--link"), 1)])
def test_images_are_sorted_the_best_first(world: Path, tmp_path: Path, more: tuple[str, ...], copied: int):
    before = sorted(path.name for path in (world / "new").iterdir())
    assert main(on(world, "sort", "new", "--out", str(tmp_path / "sorted"), *more)) == OK
    expected = ["001_light", "002_grey", "003_dark"][:copied]
    found = sorted(path.name for path in (tmp_path / "sorted").iterdir())
    assert found == sorted(["scores.csv", *(f"{name}.{end}" for name in expected for end in ("png", "txt"))])
    assert (tmp_path / "sorted/001_light.png").read_bytes() == (world / "new/light.png").read_bytes()
    rows = list(csv.DictReader((tmp_path / "sorted/scores.csv").read_text(encoding="utf-8").splitlines()))
    assert [Path(row["image"]).stem for row in rows] == ["light", "grey", "dark"]
    assert [row["file"] for row in rows] == [f"{name}.png" for name in expected] + [""] * (3 - copied)
    assert sorted(path.name for path in (world / "new").iterdir()) == before


def test_a_prompt_comes_from_the_image_itself(world: Path, tmp_path: Path):
    about = PngImagePlugin.PngInfo()
    about.add_text("parameters", "a blue star\nSteps: 20, Sampler: Euler")
    shade(tmp_path / "in/drawn.png", 100, about)
    shade(tmp_path / "in/plain.png", 100)
    taste = str(world / "light.safetensors")
    for number, (more, prompts) in enumerate(
        [
            ((), ["a blue star", ""]),
            (("--prompt", "a red heart"), ["a red heart"] * 2),
            (("--prompts", str(world / "two.txt")), ["a red heart", "a blue star"]),
        ]
    ):
        out = tmp_path / f"{number}.csv"
        assert main(["taste", "score", taste, str(tmp_path / "in"), *MODEL, *more, "--csv", str(out)]) == OK
        assert [row["prompt"] for row in csv.DictReader(out.read_text(encoding="utf-8").splitlines())] == prompts


MISTAKES: list[tuple[str, Callable[[Path], list[str]], str]] = [
    ("no pairs", lambda w: ["taste", "fit", str(w / "gone"), *MODEL, "--out", str(w / "o.safetensors")], "gone"),
    ("no name", lambda w: ["taste", "fit", str(w / "pairs"), *MODEL, "--out", str(w / "o")], ".safetensors file"),
    (
        "no chart",
        lambda w: [
            "taste",
            "fit",
            str(w / "pairs"),
            *MODEL,
            "--out",
            str(w / "o.safetensors"),
            "--chart",
            str(w / "c"),
        ],
        ".png file",
    ),
    ("no taste", lambda w: ["taste", "score", str(w / "two.txt"), str(w / "new"), *MODEL], "two.txt"),
    ("no images", lambda w: on(w, "score", "empty"), "no PNG"),
    ("no image", lambda w: on(w, "score", "gone.png"), "no such image"),
    ("no folder", lambda w: on(w, "sort", "two.txt", "--out", str(w / "o")), "give a folder of images"),
    ("taken", lambda w: on(w, "sort", "new", "--out", str(w / "pairs")), "nothing is replaced or deleted"),
    ("none best", lambda w: on(w, "sort", "new", "--out", str(w / "o"), "--best", "0"), "--best"),
    ("too few lines", lambda w: on(w, "score", "new", "--prompts", str(w / "two.txt")), "2 lines for 3 images"),
    ("no model", lambda w: [*on(w, "score", "new")[:-1], str(w / "gone")], "gone"),
    ("no tower", lambda w: [*on(w, "score", "new")[:-2], "--features", str(w / "empty")], "empty"),
]


@pytest.mark.parametrize(("arguments", "words"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
def test_a_mistake_is_answered_with_one_message(
    world: Path, capsys: pytest.CaptureFixture[str], arguments: Callable[[Path], list[str]], words: str
):
    assert main(arguments(world)) == USER
    told = capsys.readouterr().err
    assert words in told and "Traceback" not in told and told.count("error:") == 1
    assert not (world / "o").exists() and not (world / "o.safetensors").exists()


def test_a_taste_of_another_model_is_refused(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from safetensors.numpy import load_file, save_file

    about = json.loads(_metadata(world / "light.safetensors"))
    changed = json.dumps({**about, "identity": "0" * 64})
    save_file(load_file(world / "light.safetensors"), tmp_path / "other.safetensors", {"dspo.taste": changed})
    assert main(["taste", "score", str(tmp_path / "other.safetensors"), str(world / "new"), *MODEL]) == USER
    assert "000000000000 (model)" in capsys.readouterr().err


def _metadata(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return file.metadata()["dspo.taste"]
