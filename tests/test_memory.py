"""The memory estimate: arithmetic by hand, what must grow with what, and the table against one new count."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from types import ModuleType
from typing import get_args

import pytest
import torch

from dspo_train.config import Targets
from dspo_train.exceptions import ConfigError
from dspo_train.models.families import Family
from dspo_train.runs import memory
from dspo_train.runs.advice import Names, advice
from dspo_train.runs.memory import ALLOWANCE, GIB, Setup, adapter_bytes, fits, need_of
from dspo_train.runs.preflight import needs_checkpointing

FAMILIES: tuple[Family, ...] = get_args(Family)
SETUP = Setup("sd15", 512, 4, "bf16", 16, "attention", checkpointing=False)
XL = Setup("sdxl", 1024, 1, "bf16", 16, "attention", checkpointing=False)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return importlib.import_module("benchmarks.memory")


@pytest.mark.parametrize(
    ("changes", "bytes_each"),
    [
        ({"precision": "fp32"}, 4 + 4 + 8),  # itself, gradient, two moments
        ({}, 4 + 4 + 8 + 2),  # and autocast's copy
        ({"refine": True}, 4 + 4 + 8 + 2 + 4),  # and the frozen one
        ({"optimizer": "adamw8bit"}, 4 + 4 + 2 + 2 + 8 / 256),  # two bytes, and two float32 scales a block of 256
    ],
)
def test_the_adapter_of_one_layer_by_hand(changes, bytes_each):
    """Rank 16 on 320 x 320: down 16 x 320 and up 320 x 16 are 10,240 parameters."""
    assert adapter_bytes(10_240, replace(SETUP, **changes)) == 10_240 * bytes_each


def test_an_estimate_is_the_sum_of_its_parts():
    """512 px are 64 x 64 = 4096 latent pixels; 4 pairs are 8 pictures. SD1.5 has 859,520,964 parameters in its UNet."""
    need, row = need_of(SETUP), memory.ACTIVATIONS["sd15", "attention", True, False]
    assert need.weights == 2 * 859_520_964
    assert need.activations == 8 * (4096 * (row.pixel + 16 * row.rank) + row.picture)
    assert need.workspace == 8 * 4096 * row.transient + ALLOWANCE
    assert need.total == need.weights + need.adapter + need.activations + need.workspace
    assert need.encoding == 2 * (83_653_863 + 123_060_480) + 4096 * memory.VAE_PIXEL[2] + ALLOWANCE
    assert need.peak == max(need.total, need.encoding)


def test_sft_keeps_the_graph_of_the_winners_only():
    both, winners = need_of(SETUP), need_of(replace(SETUP, objective="sft"))
    assert 2 * winners.activations == both.activations
    assert winners.workspace == both.workspace  # the reference still sees both


def test_sdxls_vae_is_in_float32_under_fp16():
    """83,653,863 parameters at 2 bytes more, and the activations of 128 x 128 latent pixels."""
    half, mixed = need_of(XL), need_of(replace(XL, precision="fp16"))
    growth = memory.VAE_PIXEL[4] - memory.VAE_PIXEL[2]
    assert mixed.encoding - half.encoding == 2 * 83_653_863 + 128 * 128 * growth
    assert mixed.total == half.total


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("targets", get_args(Targets))
@pytest.mark.parametrize(
    "more",
    [{"resolution": 1024}, {"batch_size": 5}, {"rank": 17}, {"refine": True}],
    ids=lambda more: next(iter(more)),
)
def test_more_of_anything_needs_more(family, precision, targets, more):
    for checkpointing in (False, True):
        setup = replace(SETUP, family=family, precision=precision, targets=targets, checkpointing=checkpointing)
        assert need_of(replace(setup, **more)).total > need_of(setup).total


@pytest.mark.parametrize("family", FAMILIES)
def test_what_saves_memory_saves_it_in_every_family(family):
    for targets in get_args(Targets):
        for precision in ("fp32", "bf16"):
            setup = replace(SETUP, family=family, targets=targets, precision=precision)
            saved, kept = need_of(replace(setup, checkpointing=True)), need_of(setup)
            assert saved.activations + saved.workspace < 0.5 * (kept.activations + kept.workspace)
    totals = [need_of(replace(SETUP, family=family, targets=targets)).total for targets in get_args(Targets)]
    assert totals == sorted(set(totals))
    assert need_of(replace(SETUP, family=family)).total < need_of(replace(SETUP, family=family, precision="fp32")).total


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "auto"}, "the precision is 'auto'; known: fp32, bf16, fp16"),
        ({"family": "flux"}, "the family is 'flux'; known: sd15, sd2, sdxl"),
        ({"targets": "all"}, "lora.targets is 'all'; known: attention, "),
        ({"optimizer": "sgd"}, "optim.name is 'sgd'; known: adamw, adamw8bit"),
        ({"objective": "ppo"}, "unknown objective 'ppo'"),
    ],
)
def test_unknown_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        need_of(replace(SETUP, **changes))


def test_no_advice_where_the_run_fits():
    need = need_of(SETUP)
    assert advice(need, need.peak) == []
    assert advice(need, need.peak - 1) != []


def test_advice_tells_what_each_change_comes_to():
    need, lighter = need_of(SETUP), need_of(replace(SETUP, checkpointing=True))
    first = advice(need, lighter.peak)[0]
    expected = f"{lighter.peak / GIB:.1f} GiB instead of {need.peak / GIB:.1f}"
    assert first == f"turn gradient checkpointing on: about {expected}"


def test_lowering_the_batch_keeps_the_pairs_of_a_step():
    """4 pairs accumulated twice are 8: as 2 pairs 4 times, or as 1 pair 8 times; the largest that fits is offered."""
    need, two = need_of(SETUP), need_of(replace(SETUP, batch_size=2))
    assert any("batch_size to 2 and raise accumulate to 4" in line for line in advice(need, two.peak, accumulate=2))
    assert any("batch_size to 1 and raise accumulate to 8" in line for line in advice(need, two.peak - 1, accumulate=2))


def test_advice_leaves_out_what_is_lowered_already_or_saves_nothing():
    lean = replace(SETUP, checkpointing=True, batch_size=1)
    lines = advice(need_of(lean), 0)
    assert not any(word in line for line in lines for word in ("checkpointing", "batch_size", "rank", "targets"))


def test_where_one_change_is_not_enough_they_are_added_up():
    setup = replace(XL, batch_size=4, precision="fp32")
    lines = advice(need_of(setup), 8 * GIB)
    assert lines[-1].startswith("all of these together: about ") and "still more" not in lines[-1]
    assert lines[0].startswith("turn gradient checkpointing on") and "bf16" in lines[1]
    assert lines[-1] not in advice(need_of(setup), need_of(replace(setup, checkpointing=True)).peak)
    assert advice(need_of(setup), 2 * GIB)[-1].endswith("still more than the 2.0 GiB there are")


def test_the_height_of_the_encoding_counts():
    """100 GiB of encoding outweigh the training; with a tenth to spare they need 111.2 GiB."""
    need = replace(need_of(XL), encoding=100 * GIB)
    assert need.peak == 100 * GIB and not fits(need, 100 * GIB) and fits(need, 112 * GIB)


def test_checkpointing_is_decided_by_the_whole_memory_less_a_tenth():
    limit = need_of(SETUP).total / 0.9
    assert needs_checkpointing(SETUP, int(limit) - 2)
    assert not needs_checkpointing(SETUP, int(limit) + 2)


def test_live_bytes_by_hand(benchmark):
    """1024 floats are 4 KiB. Two of them at once, a view for nothing; one goes, and a third comes."""
    with benchmark.LiveBytes() as live:
        first = torch.ones(1024)
        second = first + 1
        view = second.view(32, 32)
        assert live.live == live.peak == 8192
        del first
        assert (live.live, live.peak) == (4096, 8192)
        third = view * 2
        assert (live.live, live.peak) == (8192, 8192)
        del second, view, third
    assert (live.live, live.peak) == (0, 8192)


def test_parameters_are_those_of_the_published_models(benchmark):
    assert benchmark.parameters("sd15") == memory.SIZES["sd15"]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_table_holds_against_a_new_count(benchmark, checkpointing):
    """SD1.5 at 256 pixels, 1 pair, rank 16: counted again on the full-size UNet."""
    found = benchmark.measure("sd15", side=256, checkpointing=checkpointing)
    need = need_of(replace(SETUP, resolution=256, batch_size=1, checkpointing=checkpointing))
    assert found.saved == pytest.approx(found.kept, rel=1e-3)  # two ways to count the graph
    assert need.activations == pytest.approx(found.saved, rel=0.15)
    assert benchmark.expected_peak(need) == pytest.approx(found.peak, rel=0.15)


def test_previews_count_beside_the_weights_and_come_first_in_the_advice():
    """SDXL in half precision, 1024 pixels: UNet and adapter, beside the larger of text encoders and decoding VAE."""
    setup = replace(XL, checkpointing=True, previews=True)
    need, sizes = need_of(setup), memory.SIZES["sdxl"]
    decoding = 2 * sizes.vae + 128 * 128 * memory.DECODED_PIXEL[2]
    assert need.preview == need.weights + need.adapter + max(2 * sizes.text, decoding) + ALLOWANCE
    assert need_of(replace(setup, previews=False)).preview == 0
    assert need.peak == max(need.total, need.preview, need.encoding)
    full = replace(setup, precision="fp16")  # SDXL's VAE works in float32 then
    assert need_of(full).preview - need.preview > 128 * 128 * memory.DECODED_PIXEL[2]
    assert need_of(full).peak == need_of(full).preview
    lines = advice(need_of(full), need_of(full).peak - 1, names=Names(previews="preview_every"))
    assert lines[0].startswith("set preview_every to 0")


def test_a_reduced_model_counts_in_proportion():
    whole, half = need_of(XL), need_of(replace(XL, share=0.5))
    assert half.weights == whole.weights // 2
    assert abs(half.activations - whole.activations / 2) <= 1
    assert half.encoding == whole.encoding
    for line in advice(half, half.peak - 1):
        assert f"instead of {memory.gib(half.peak)}" in line


def test_advice_speaks_the_words_of_the_place():
    names = Names("pairs_at_once", "passes", None, "size", "layers", "rank")
    text = " ".join(advice(need_of(replace(XL, batch_size=4, targets="attention+mlp")), 0, names=names))
    assert all(word in text for word in ("pairs_at_once to 1", "passes to 4", "size to", "layers attention"))
    assert "optim" not in text and "data." not in text
