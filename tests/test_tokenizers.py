from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import tiny_tokenizer

from dspo_train.exceptions import ModelError
from dspo_train.models.families import FAMILIES
from dspo_train.models.tokenizers import load_tokenizers


def test_the_vocabulary_of_clip_ships_with_the_package(tmp_path: Path) -> None:
    """Ids as published: "a photo of a cat" between start and end, then each encoder's own padding."""
    first, second = load_tokenizers(FAMILIES["sdxl"], tmp_path / "m.safetensors", None)
    ids = [49406, 320, 1125, 539, 320, 2368, 49407]
    for tokenizer, pad in ((first, 49407), (second, 0)):
        found = tokenizer(["a photo of a cat"], padding="max_length", max_length=77, truncation=True).input_ids[0]
        assert found == ids + [pad] * (77 - len(ids))


@pytest.mark.parametrize("place", ["tokenizer", "m/tokenizer", "m", "."])
def test_one_beside_the_model_goes_before_it(tmp_path: Path, place: str) -> None:
    tiny_tokenizer(tmp_path / place)
    found = load_tokenizers(FAMILIES["sdxl"], tmp_path / "m.safetensors", None)
    assert [tokenizer.pad_token for tokenizer in found] == ["<|endoftext|>", "!"]
    assert all(len(tokenizer) < 1000 for tokenizer in found)


def test_one_that_is_given_is_the_only_one(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path / "tokenizer")
    with pytest.raises(ModelError, match="no tokenizer found"):
        load_tokenizers(FAMILIES["sd15"], tmp_path / "m.safetensors", tmp_path / "elsewhere")
