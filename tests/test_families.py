"""A new family is a row of one table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open
from tiny_runs import config, write_base, write_pairs

from dspo_train.models.base import load_base
from dspo_train.models.families import FAMILIES, Family, LoraLabels
from dspo_train.models.sampling import default_spec, sample
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session

# Like SD 1.x, but with a name of its own for the text embedding, and LoRA files with the original block names.
THIRD = dataclasses.replace(
    FAMILIES["sd15"],
    name="third",
    title="a third family",
    in_folder=lambda config: config["sample_size"] == 24,
    guidance=3.5,
    text=lambda outputs: {"words": outputs[0].last_hidden_state},
    shapes=lambda config: {"words": (77, config["cross_attention_dim"])},
    inputs=lambda given, dtype: {"encoder_hidden_states": given["words"].to(dtype)},
    lora=LoraLabels("ldm", "third_v1", False, {"epsilon": "third/lora"}),
)


@pytest.fixture
def third() -> Iterator[Family]:
    known = dict(FAMILIES)
    FAMILIES.clear()
    FAMILIES.update({"third": THIRD, **known})
    yield THIRD
    FAMILIES.clear()
    FAMILIES.update(known)


def third_base(folder: Path) -> Path:
    base = write_base(folder)
    place = base / "unet" / "config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "sample_size": 24}), encoding="utf-8")
    return base


def test_a_row_is_enough_to_load_draw_train_and_save(third, tmp_path):
    base = load_base(third_base(tmp_path / "base"))
    assert base.family is third
    spec = dataclasses.replace(default_spec(base), width=64, height=64, steps=2)
    assert spec.guidance == 3.5
    (image,) = sample(base, ["red dog"], [1], spec)
    assert image.size == (64, 64)
    job = Job(DiffusersSource(tmp_path / "base"), write_pairs(tmp_path / "pairs"), tmp_path / "run", config(steps=2))
    with open_session(job) as session:
        assert len(list(session.reports())) == 2
        result = session.folder.result
    with safe_open(str(result), framework="pt") as file:
        assert file.metadata()["ss_base_model_version"] == "third_v1"
        assert file.metadata()["modelspec.architecture"] == "third/lora"
        assert any(key.startswith("lora_unet_input_blocks_") for key in file.keys())  # noqa: SIM118


def test_every_row_is_complete(tmp_path):
    for name, family in FAMILIES.items():
        assert family.name == name and family.text_parts and family.lora.architecture["epsilon"]
        assert family.resolution % 64 == 0 and family.guidance >= 1
