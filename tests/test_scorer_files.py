"""The files of published scorers: where they are found, and what is said of one that is missing, wrong or damaged."""

from __future__ import annotations

import fractions
import socket
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from test_published_scorers import write_aesthetic, write_clip, write_open_clip, write_reward
from tiny_scorers import EMBEDDED, OpenClip, head_shapes, randomised, tiny, tiny_clip

from dspo_train.exceptions import ModelError
from dspo_train.scorers.keys import clip_names
from dspo_train.scorers.table import SCORERS, make_pixel_scorer, make_scorer

__all__ = ["tiny"]  # a fixture

HPS = "HPS v2.1 needs HPS_v2.1_compressed.pt of xswu/HPSv2 (2.0 GB, licence: Apache-2.0): get it with 'hf download "
HPS += "xswu/HPSv2 HPS_v2.1_compressed.pt'"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no network."""

    def refused(*_: object) -> None:
        raise AssertionError("a scorer asked the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(cache: Path, repository: str) -> Path:
    """The folder in which huggingface_hub keeps the newest files of a repository."""
    model = cache / f"models--{repository.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0123abcd")
    (model / "snapshots" / "0123abcd").mkdir(parents=True)
    return model / "snapshots" / "0123abcd"


def refusal(name: str, weights: Path | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        make_scorer(name, weights)
    return str(caught.value)


def test_a_file_in_the_cache_is_found(tiny: None, cache: Path, tmp_path: Path) -> None:
    write_open_clip(cached(cache, "xswu/HPSv2"))
    assert make_scorer("hps_v2.1")
    write_reward(tmp_path)
    (tmp_path / "vocab.txt").rename(cached(cache, "google-bert/bert-base-uncased") / "vocab.txt")
    assert make_scorer("image_reward", tmp_path / "ImageReward.pt")


def test_a_folder_may_hold_the_files_of_several_scorers(tiny: None, tmp_path: Path) -> None:
    for name, write, inside in (
        ("pickscore", write_clip, "PickScore_v1"),
        ("clip_score", write_clip, "CLIP-ViT-H-14-laion2B-s32B-b79K"),
        ("aesthetic", write_aesthetic, ""),
        ("image_reward", write_reward, "ImageReward"),
    ):
        folder = tmp_path / "all" / inside
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)
        if name == "image_reward":
            (folder / "vocab.txt").rename(folder.parent / "vocab.txt")
        assert make_scorer(name, tmp_path / "all"), name


def test_names_of_open_clip_and_of_transformers_give_the_same_scores(tiny: None, tmp_path: Path) -> None:
    state = OpenClip().state_dict()
    save_file(state, tmp_path / "theirs.safetensors")
    save_file(clip_names(state), tmp_path / "ours.safetensors")
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "parallel.pt")
    pixels = torch.rand(2, 3, 60, 50, generator=torch.Generator().manual_seed(0))
    names = ("theirs.safetensors", "ours.safetensors", "parallel.pt")
    found = [make_pixel_scorer("clip_score", tmp_path / name).score_pixels(pixels, ["a", "b"]) for name in names]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_an_old_pickle_without_zip_is_read(tiny: None, tmp_path: Path) -> None:
    head = write_aesthetic(tmp_path)
    torch.save(randomised(head_shapes(EMBEDDED)), head, _use_new_zipfile_serialization=False)
    assert make_scorer("aesthetic", head)


def test_what_is_not_in_the_cache_is_named_with_its_licence_and_command(cache: Path) -> None:
    assert refusal("hps_v2.1") == f"{HPS}; it is not in the Hugging Face cache ({cache})"
    for name, row in SCORERS.items():
        if row.files:
            told = refusal(name)
            assert row.files[0].licence in told and f"'{row.files[0].command}'" in told


def test_what_is_not_where_it_should_be_is_named(cache: Path, tmp_path: Path) -> None:
    gone, empty = tmp_path / "gone.pt", tmp_path / "empty"
    empty.mkdir()
    assert refusal("hps_v2.1", gone) == f"{gone}: no such file or folder; {HPS}"
    assert refusal("hps_v2.1", empty) == f"{empty} holds none of HPS_v2.1_compressed.pt; {HPS}"
    (empty / "ImageReward.pt").touch()
    assert refusal("image_reward", empty) == (
        "ImageReward 1.0 needs vocab.txt of google-bert/bert-base-uncased (0.2 MB, licence: Apache-2.0): get it with "
        "'hf download google-bert/bert-base-uncased vocab.txt'; it is neither in "
        f"{empty} nor in the Hugging Face cache ({cache})"
    )


def test_another_models_file_is_told(tiny: None, tmp_path: Path) -> None:
    head = tmp_path / "head.pth"
    torch.save(randomised(head_shapes(EMBEDDED)), head)
    told = refusal("hps_v2.1", head)
    assert told.startswith(f"{head} lacks ") and told.endswith(f"it is not the expected kind of model; {HPS}")
    wide = tiny_clip().state_dict() | {"logit_scale": torch.zeros(3)}
    save_file(wide, tmp_path / "wide.safetensors")
    assert "logit_scale has the shape (3), not ()" in refusal("pickscore", tmp_path / "wide.safetensors")
    holed = tiny_clip().state_dict() | {"logit_scale": torch.tensor(torch.nan)}
    save_file(holed, tmp_path / "holed.safetensors")
    assert "not all finite" in refusal("pickscore", tmp_path / "holed.safetensors")


def test_a_vocabulary_of_another_model_is_told(tiny: None, tmp_path: Path) -> None:
    write_reward(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(995))]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    assert "vocab.txt holds 1,000 words, not 10: it is cut short, or another" in refusal("image_reward", tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(words[:9]))
    assert "vocab.txt holds 9 words, not 10: it is cut short, or another" in refusal("image_reward", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("cut.pt", b"", "is damaged or not fully downloaded"),
        ("page.pt", b"<!doctype html><p>log in", "is a web page, not a model"),
        ("pointer.pt", b"version https://git-lfs.github.com/spec/v1\noid", "is a git-lfs pointer"),
        ("cut.safetensors", b"\x09\0\0\0\0\0\0\0{}", "cannot be read as safetensors"),
        ("pickle.safetensors", b"\x80\x02}q\0.", "is a pickle, whatever its name"),
    ],
)
def test_a_damaged_file_is_told(name: str, content: bytes, told: str, tmp_path: Path, tiny: None) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    if name == "cut.pt":
        whole = write_open_clip(tmp_path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    found = refusal("hps_v2.1", path)
    assert found.startswith(f"{path} {told}") and found.endswith(HPS)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_could_run_code_is_not_read(zipped: bool, tmp_path: Path, tiny: None) -> None:
    path = tmp_path / "more.pt"
    torch.save({"step": fractions.Fraction(1, 2)}, path, _use_new_zipfile_serialization=zipped)
    assert (
        refusal("hps_v2.1", path) == f"{path} holds more than weights, which is not read, as it could run code; {HPS}"
    )
    torch.save(print, path, _use_new_zipfile_serialization=zipped)  # torch's words for builtins are others
    assert "holds more than weights, which is not read" in refusal("hps_v2.1", path)
    path.write_bytes(b"cposix\nsystem\n(S'exit'\ntR.")
    assert "holds more than weights, which is not read" in refusal("hps_v2.1", path)
    for other in ([1, 2], {"state_dict": [1, 2]}, {"step": 3}):
        torch.save(other, path)
        assert refusal("hps_v2.1", path) == f"{path} holds something else than a model's weights; {HPS}"
