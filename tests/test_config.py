from __future__ import annotations

import pytest

from dspo_train.config import OptimSpec, TrainConfig, from_dict, with_settings
from dspo_train.exceptions import ConfigError


def test_defaults_survive_a_round_trip():
    assert from_dict(TrainConfig().to_dict()) == TrainConfig()
    assert from_dict({}) == TrainConfig()


def test_settings_are_laid_over_a_file():
    values = with_settings(
        {"steps": 10, "optim": {"lr": 1e-3, "warmup": 2}},
        {"optim.lr": "5e-5", "objective_args.strength": "3", "data.flip": "true", "objective": "dspo"},
    )
    config = from_dict(values)
    assert config.steps == 10
    assert config.optim == OptimSpec(lr=5e-5, warmup=2)
    assert config.objective_args == {"strength": 3.0}
    assert config.data.flip is True


def test_a_whole_float_is_accepted_for_a_count():
    assert from_dict({"steps": 1e3}).steps == 1000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stpes": 3}, r"unknown setting stpes; did you mean `steps`\?"),
        ({"optim": {"learning": 1}}, "unknown setting optim.learning; known: name, lr"),
        ({"optim": {"lrr": 1}}, r"did you mean `optim.lr`\?"),
        ({"optim": 3}, "optim: expected a group of settings, got 3"),
        ({"steps": "many"}, "`steps`: expected a whole number, got 'many'"),
        ({"steps": 1.5}, "`steps`: expected a whole number, got 1.5"),
        ({"steps": True}, "`steps`: expected a whole number, got True"),
        ({"steps": 0}, "`steps` must be between 1 and"),
        ({"batch_size": -2}, "`batch_size` must be between 1 and"),
        ({"accumulate": 0}, "`accumulate` must be between 1 and"),
        ({"seed": -1}, "`seed` must be between 0 and"),
        ({"precision": "fp8"}, "`precision`: unknown value 'fp8'; known: auto, bf16, fp16, fp32"),
        ({"device": "cuda:7"}, "`device`: unknown value 'cuda:7'; known: auto, cpu"),
        ({"lora": {"rank": 0}}, "`lora.rank` must be between 1 and 1024, got 0"),
        ({"lora": {"alpha": 0}}, "`lora.alpha` must be between"),
        ({"lora": {"dropout": 1.0}}, "`lora.dropout` must be between 0 and 0.9"),
        ({"lora": {"targets": "everything"}}, "`lora.targets`: unknown value 'everything'"),
        ({"optim": {"lr": 0}}, "`optim.lr` must be between"),
        ({"optim": {"lr": float("nan")}}, "`optim.lr` must be between"),
        ({"optim": {"lr": "1e-4x"}}, "`optim.lr`: expected a number"),
        ({"optim": {"name": "sgd"}}, "`optim.name`: unknown value 'sgd'; known: adamw, adamw8bit"),
        ({"optim": {"schedule": "step"}}, "`optim.schedule`: unknown value 'step'"),
        ({"optim": {"beta2": 1.0}}, "`optim.beta2` must be between"),
        ({"steps": 10, "optim": {"warmup": 10}}, "`optim.warmup` 10 must be shorter than the run's 10 steps"),
        ({"data": {"flip": 1}}, "`data.flip`: expected true or false, got 1"),
        ({"data": {"crop": "left"}}, "`data.crop`: unknown value 'left'; known: center, random"),
        ({"data": {"bucket_step": 20}}, "`data.bucket_step` must be a multiple of 8"),
        ({"data": {"resolution": 32, "bucket_step": 64}}, "`data.resolution` 32 is smaller than `data.bucket_step` 64"),
        ({"data": {"caption_dropout": 2}}, "`data.caption_dropout` must be between"),
        ({"objective_args": {"strength": "strong"}}, "`objective_args.strength`: expected a number, got 'strong'"),
    ],
)
def test_broken_settings(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(values)
