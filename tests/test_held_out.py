"""Figures on held-out pairs: worked by hand, equal to the digit, and deaf to everything but the weights."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

import pytest
import tiny_runs
import torch
from fakes import FakeDenoiser, bare, ddpm

from dspo_train.config import DataSpec, LoraSpec
from dspo_train.data.bank import Bank
from dspo_train.data.cache import EncodingCache
from dspo_train.data.encode import Opening, empty_caption
from dspo_train.data.encodings import Encodings
from dspo_train.data.pair_source import EncodedPair, PairSource
from dspo_train.data.paired import encode_pairs
from dspo_train.data.source import Share
from dspo_train.data.split import split
from dspo_train.exceptions import ConfigError
from dspo_train.images.buckets import Bucket
from dspo_train.lora.attach import attached
from dspo_train.models.base import load_base
from dspo_train.models.conditioning import Frame
from dspo_train.models.families import FAMILIES
from dspo_train.pairs import scan_pairs
from dspo_train.runs.choosing import Evaluation, best, evaluations, should_stop
from dspo_train.runs.diffusers_model import DiffusersModel
from dspo_train.training import held_out
from dspo_train.training.denoiser import TrainedDenoiser
from dspo_train.training.forward import pair_errors
from dspo_train.training.held_out import measure, origin_predictions

SQUARE, WIDE = Bucket(64, 64), Bucket(96, 48)
NAN = math.nan


# Which pairs


PROMPTS = [f"prompt {i}" for i in range(100)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("share", "held"), [(0.1, 10), (0.25, 25), (0.9, 90)])
def test_one_pair_a_prompt_gives_the_share_exactly(seed, share, held):
    train, test = split(PROMPTS, share, seed)
    assert len(test) == held
    assert sorted(train + test) == list(range(100))
    assert list(train) == sorted(train) and list(test) == sorted(test)


def test_a_prompt_lies_on_one_side_however_it_is_spelled():
    """Three spellings of each of 20 prompts; NFKC makes the full-width letters plain."""
    spelled = [f(f"A red dog {i}") for i in range(20) for f in (str, lambda p: f"  {p.upper()}\t", fullwidth)]
    train, test = split(spelled, 0.2, 0)
    assert len(test) == 12
    assert not {i // 3 for i in train} & {i // 3 for i in test}


def fullwidth(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if c != " " else c for c in text)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("sizes", [(1, 1), (9, 1), (1, 9), (1, 1, 50), (3, 3, 3, 3)])
def test_neither_side_is_empty(sizes, share):
    prompts = [f"p{i}" for i, size in enumerate(sizes) for _ in range(size)]
    for seed in range(8):
        train, test = split(prompts, share, seed)
        assert train and test


def test_a_prompt_with_most_of_the_pairs_is_not_held_out_for_a_small_share():
    """90 pairs of one prompt and 10 single ones; 10% is all the single ones."""
    prompts = ["common"] * 90 + PROMPTS[:10]
    assert all(split(prompts, 0.1, seed)[1] == tuple(range(90, 100)) for seed in range(8))


def test_a_new_prompt_leaves_the_others_on_their_side():
    """The share of 101 pairs is 20.2, still 20: the new one takes the place of one, or stays out."""
    before = {PROMPTS[i] for i in split(PROMPTS, 0.2, 0)[1]}
    for new in (f"new {i}" for i in range(30)):
        after = {[*PROMPTS, new][i] for i in split([*PROMPTS, new], 0.2, 0)[1]}
        assert len(before - after) <= 1 and after - before <= {new}


def test_the_order_of_the_pairs_does_not_matter_and_the_seed_does():
    def held(prompts: list[str], seed: int) -> set[str]:
        return {prompts[i] for i in split(prompts, 0.2, seed)[1]}

    assert held(PROMPTS, 0) == held(PROMPTS[::-1], 0)
    assert held(PROMPTS, 0) != held(PROMPTS, 1)


@pytest.mark.parametrize(
    ("prompts", "share", "message"),
    [
        (["a dog", "A  DOG"], 0.2, "two prompts or more, but the 2 pairs have 1; set `held_out.share` to 0"),
        ([], 0.2, "the 0 pairs have 0"),
        (PROMPTS, 0.0, "between 0 and 1"),
        (PROMPTS, 1.0, "between 0 and 1"),
        (PROMPTS, NAN, "between 0 and 1"),
    ],
)
def test_what_cannot_be_split_is_said(prompts, share, message):
    with pytest.raises(ConfigError, match=message):
        split(prompts, share, 0)


# Which draws


@pytest.fixture
def source(tmp_path: Path) -> PairSource:
    """Seven pairs of two shapes, with encodings written by hand."""
    cache = EncodingCache(tmp_path)
    pairs = []
    for i in range(7):
        bucket = WIDE if i in (2, 5) else SQUARE
        generator = torch.Generator().manual_seed(i)
        places = {}
        for side in ("winner", "loser"):
            places[side] = tmp_path / f"{i}{side}.safetensors"
            shape = (8, bucket.height // 8, bucket.width // 8)
            cache.write(places[side], {view: torch.randn(shape, generator=generator) for view in ("plain", "flipped")})
        caption = tmp_path / f"{i}caption.safetensors"
        cache.write(caption, {"context": torch.full((1, 4, 8), float(i))})
        frame = Frame(i, i, i, i, i, i)
        pairs.append(EncodedPair(str(i), f"hash {i}", bucket, places["winner"], places["loser"], caption, frame))
    return PairSource(
        encodings=Encodings(cache, 0.5, 0.1, FAMILIES["sd15"].frame, tmp_path / "none.safetensors"),
        process=ddpm(),
        data=DataSpec(64, 16),
        seed=5,
        share=Share(rows=4, at_once=3),
        pairs=tuple(pairs),
    )


def trained(scale: float = 0.05) -> FakeDenoiser:
    denoiser = FakeDenoiser()
    denoiser.delta.data.normal_(0, scale, generator=torch.Generator().manual_seed(1))
    return denoiser


def values(bank: Bank, pair: EncodedPair) -> list[tuple]:
    """A pair's draws as comparable values."""
    return [tuple(tuple(t.flatten().tolist()) for t in (row.noisy, row.target, row.t)) for row in bank.of(pair)]


def only(source: PairSource, *indices: int, **changes) -> PairSource:
    return dataclasses.replace(source, pairs=tuple(source.pairs[i] for i in indices), **changes)


def packed(source: PairSource, at_once: int) -> PairSource:
    return dataclasses.replace(source, share=Share(4, at_once))


def test_every_quarter_is_hit_equally_often(source):
    bank = Bank(source, draws=8)
    found = [[int(row.row_times) for row in bank.of(pair)] for pair in source.pairs]
    for steps in found:
        assert Counter(step // 250 for step in steps) == {0: 2, 1: 2, 2: 2, 3: 2}
    assert len({step for steps in found for step in steps}) > 40  # of 56, anywhere in their quarter


def test_where_few_draws_leave_quarters_out_pairs_begin_with_different_ones(source):
    first = [int(next(Bank(source, draws=1).of(pair)).row_times) // 250 for pair in source.pairs]
    assert len(set(first)) > 1


def test_draws_depend_on_seed_pair_and_number_alone(source):
    """Not on other pairs, their order, the packing, flips, dropped captions or the part that is trained on."""
    wanted = [values(Bank(source, draws=4), pair) for pair in source.pairs]
    data = DataSpec(64, 16, flip=True, caption_dropout=1.0)
    other = packed(only(source, 6, 3, data=data), 1)
    assert [values(Bank(other, draws=4), pair) for pair in other.pairs] == [wanted[6], wanted[3]]
    assert values(Bank(source, draws=6), source.pairs[0])[:4] == wanted[0]
    assert values(Bank(only(source, 0, seed=6), draws=4), source.pairs[0]) != wanted[0]
    assert len({str(pair) for pair in wanted}) == 7


def test_batches_hold_one_shape_all_draws_and_no_more_rows_than_asked(source):
    batches = list(Bank(source, draws=4).batches())
    assert {len(batch) for batch in batches} <= {1, 2, 3}
    assert sum(map(len, batches)) == 7 * 4
    sides = [batch.conditioning.tensors["context"].chunk(2) for batch in batches]
    for side in zip(*sides, strict=True):
        assert Counter(torch.cat(side)[:, 0, 0].tolist()) == {float(i): 4 for i in range(7)}


def test_batches_do_not_depend_on_the_order_of_the_pairs(source):
    here, there = (Bank(only(source, *order), draws=4).batches() for order in (range(7), reversed(range(7))))
    assert all(torch.equal(a.target, b.target) for a, b in zip(here, there, strict=True))


def test_latents_are_of_the_unmirrored_pictures_with_one_posterior_draw_for_both(source):
    """(mean + exp(logvar / 2) posterior - shift) * scaling, solved for the posterior's noise."""
    pair = source.pairs[0]
    (row,) = Bank(dataclasses.replace(source, process=bare()), draws=1).of(pair)
    found = []
    for path, latent in zip((pair.winner, pair.loser), row.noisy, strict=True):
        mean, log_variance = source.encodings.cache.read(path)["plain"].chunk(2)
        found.append((latent / 0.5 + 0.1 - mean) / (log_variance / 2).exp())
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_winner_and_loser_of_a_draw_share_noise_and_time(source):
    for row in Bank(source, draws=4).of(source.pairs[0]):
        assert len(row) == 1
        assert torch.equal(row.target[0], row.target[1]) and row.t[0] == row.t[1]
        assert not torch.equal(row.noisy[0], row.noisy[1])


def test_sdxl_sizes_come_with_their_pair(source):
    sized = dataclasses.replace(source.encodings, frame=FAMILIES["sdxl"].frame)
    for batch in Bank(dataclasses.replace(source, encodings=sized), draws=2).batches():
        given = batch.conditioning.tensors
        assert torch.equal(given["time_ids"][:, 0], given["context"][:, 0, 0])


def test_a_bank_needs_pairs_and_draws(source):
    with pytest.raises(ConfigError, match="no held-out pairs"):
        Bank(only(source), draws=8)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        Bank(source, draws=0)


# Which figures


def test_an_untrained_model_has_no_margin_and_half_the_accuracy(source):
    held = measure(FakeDenoiser(), Bank(source, draws=4), "cpu")
    nothing = held_out.Quarter(0.0, 0.5, 0.0, 0.0, 0.0)
    assert held == held_out.HeldOut(0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5, (nothing, nothing, nothing, nothing), 7, 4)


def test_figures_are_means_of_what_training_calls_errors(source):
    bank, denoiser = Bank(source, draws=4), trained()
    e = [pair_errors(denoiser, batch) for batch in bank.batches()]
    held = measure(denoiser, bank, "cpu")

    def mean(name: str) -> float:
        return torch.cat([getattr(part, name) for part in e]).double().mean().item()

    assert held.margin == pytest.approx(mean("margin"), abs=1e-7)
    assert held.winner_change == pytest.approx(mean("policy_w") - mean("reference_w"), abs=1e-7)
    assert held.loser_change == pytest.approx(mean("policy_l") - mean("reference_l"), abs=1e-7)
    assert held.drift == pytest.approx((mean("drift_w") + mean("drift_l")) / 2, abs=1e-7)
    assert held.margin == pytest.approx(held.loser_change - held.winner_change, abs=1e-12)
    assert held.drift > 0 and 0 < held.accuracy < 1


def test_accuracies_by_hand(source):
    """Pair 0 has margins 1, 1, 1, -2; pair 1 0, 0, 0, 2. Right: 3 of 4, and 3/2 + 1 of 4; mean margins 0.25 and 0.5.

    Rows are the winner's change, the loser's, the drift, the quarter. The pairs' accuracies 0.75 and 0.625 have the
    standard deviation 0.125 / sqrt(2), and the mean of two the standard error 0.0625.
    """
    table = torch.zeros(4, 8, dtype=torch.float64)
    table[1] = torch.tensor([1, 1, 1, -2, 0, 0, 0, 2])
    table[2] = 3.0
    table[3] = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    held = held_out._summed_up(table, Bank(only(source, 0, 1), draws=4))
    assert (held.accuracy, held.pair_accuracy, held.margin, held.drift) == (5.5 / 8, 1.0, 3 / 8, 3.0)
    assert held.accuracy_error == pytest.approx(0.0625)
    assert [quarter.accuracy for quarter in held.quarters] == [0.75, 0.75, 0.75, 0.5]
    assert [quarter.margin for quarter in held.quarters] == [0.5, 0.5, 0.5, 0.0]


def test_quarters_average_to_the_whole(source):
    held = measure(trained(), Bank(source, draws=8), "cpu")
    for name in ("margin", "accuracy", "winner_change", "loser_change", "drift"):
        assert sum(getattr(q, name) for q in held.quarters) / 4 == pytest.approx(getattr(held, name), abs=1e-12)
    assert len({quarter.margin for quarter in held.quarters}) == 4


def test_two_measurements_are_equal_to_the_digit(source):
    bank = Bank(source, draws=4)
    torch.manual_seed(1)
    first = measure(trained(), bank, "cpu")
    torch.manual_seed(2)
    state = torch.get_rng_state()
    backwards = Bank(only(source, *reversed(range(7))), draws=4)
    assert measure(trained(), bank, "cpu") == measure(trained(), backwards, "cpu") == first
    assert torch.equal(torch.get_rng_state(), state)


def test_packing_changes_rounding_at_most(source):
    one, five = (measure(trained(), Bank(packed(source, n), draws=4), "cpu") for n in (1, 5))
    assert numbers(one) == pytest.approx(numbers(five), rel=1e-5, abs=1e-8)
    assert (one.accuracy, one.pair_accuracy) == (five.accuracy, five.pair_accuracy)


def numbers(held: held_out.HeldOut) -> list[float]:
    parts = (held, *held.quarters)
    return [getattr(p, name) for p in parts for name in ("margin", "winner_change", "loser_change", "drift")]


def test_another_pair_changes_the_mean_by_its_share(source):
    """Pairs measured apart average to all of them: none influences another."""
    apart = [measure(trained(), Bank(only(source, i), draws=4), "cpu") for i in range(7)]
    whole = measure(trained(), Bank(source, draws=4), "cpu")
    assert sum(held.margin for held in apart) / 7 == pytest.approx(whole.margin, rel=1e-5, abs=1e-9)
    assert sum(held.accuracy for held in apart) / 7 == pytest.approx(whole.accuracy, abs=1e-12)
    assert all(math.isnan(held.accuracy_error) for held in apart)


def test_swapped_labels_turn_the_margin_round(source):
    swapped = [dataclasses.replace(pair, winner=pair.loser, loser=pair.winner) for pair in source.pairs]
    here = measure(trained(), Bank(source, draws=4), "cpu")
    there = measure(trained(), Bank(dataclasses.replace(source, pairs=tuple(swapped)), draws=4), "cpu")
    assert there.margin == pytest.approx(-here.margin, rel=1e-5, abs=1e-9)
    assert there.accuracy == pytest.approx(1 - here.accuracy, abs=1e-12)
    assert there.winner_change == pytest.approx(here.loser_change, rel=1e-5, abs=1e-9)


def test_one_picture_on_both_sides_is_a_tie(source):
    same = tuple(dataclasses.replace(pair, loser=pair.winner) for pair in source.pairs)
    held = measure(trained(), Bank(packed(dataclasses.replace(source, pairs=same), 1), draws=4), "cpu")
    assert held.margin == pytest.approx(0.0, abs=1e-7)
    assert held.winner_change == pytest.approx(held.loser_change, abs=1e-7) != 0.0


def test_kept_predictions_change_nothing_but_the_work(source):
    bank, denoiser = Bank(source, draws=4), Counting()
    expected = measure(denoiser, bank, "cpu")
    batches = len(list(bank.batches()))
    origin = origin_predictions(denoiser, bank, "cpu")
    some = origin_predictions(denoiser, bank, "cpu", most=sum(p.nbytes for p in origin[:3]))
    assert (len(origin), len(some)) == (batches, 3)
    for kept, anew in ((origin, 0), (some, batches - 3), ((), batches)):
        denoiser.predictions = 0
        assert measure(denoiser, bank, "cpu", origin=kept) == expected
        assert denoiser.predictions == batches + anew


class Counting(FakeDenoiser):
    """A trained denoiser that counts its predictions; its reference has moved, its origin has not."""

    def __init__(self) -> None:
        super().__init__()
        self.delta = trained().delta
        self.predictions = 0

    def predict(self, noisy, t, conditioning):
        self.predictions += 1
        return super().predict(noisy, t, conditioning)

    def reference(self):
        raise AssertionError("held-out figures are against the start, not against a reference that may move")


def test_no_prediction_records_a_gradient(source):
    bank = Bank(only(source, 0), draws=2)
    assert all(not p.requires_grad for p in origin_predictions(trained(), bank, "cpu"))


def test_a_broken_model_ranks_nothing_right_and_says_so(source):
    denoiser = trained()
    denoiser.delta.data.fill_(NAN)
    held = measure(denoiser, Bank(source, draws=4), "cpu")
    assert math.isnan(held.margin) and math.isnan(held.drift)
    assert held.accuracy == held.pair_accuracy == 0.0


def test_reports_are_flat_and_lead_back(source):
    held = measure(trained(), Bank(source, draws=4), "cpu")
    report = {"step": 25, "margin": 9.0, **held_out.to_report(held)}
    assert report["held_out_margin"] == held.margin
    assert report["held_out_quarters"][2]["accuracy"] == held.quarters[2].accuracy
    assert held_out.from_report(json.loads(json.dumps(report))) == held
    assert held_out.from_report({"step": 26}) is held_out.from_report({"held_out_accuracy": None}) is None
    again = {**report, **held_out.to_report(dataclasses.replace(held, accuracy=0.25))}
    assert evaluations([{"step": 50, **held_out.to_report(held)}, report, {"step": 26}, again]) == (
        Evaluation(25, 0.25, held.accuracy_error, held.winner_change),
        Evaluation(50, held.accuracy, held.accuracy_error, held.winner_change),
    )


# Which step


def history(*rows: tuple[float, float], error: float = 0.0) -> list[Evaluation]:
    """Measurements of (accuracy, winner's change), at steps 10, 20, ..."""
    return [Evaluation(10 * (n + 1), accuracy, error, change) for n, (accuracy, change) in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "error", "step"),
    [
        ([(0.6, 0.0), (0.8, 0.0), (0.7, 0.0)], 0.0, 20),
        ([(0.6, -9.0), (0.8, 5.0), (0.7, -9.0)], 0.0, 20),  # accuracy before the winner's error
        ([(0.8, -1.0), (0.8, -2.0), (0.8, -1.5)], 0.0, 20),  # of equals the lower winner's error
        ([(0.8, -1.0), (0.8, -1.0)], 0.0, 10),  # then the earlier
        ([(0.80, 0.0), (0.81, 1.0), (0.79, -1.0)], 0.03, 30),  # within one standard error they are equals
        ([(0.80, 0.0), (0.81, 1.0), (0.79, -1.0)], 0.01, 10),
        ([(0.80, 0.0), (0.81, 1.0)], NAN, 20),  # a single pair has no standard error
        ([(0.5, 0.0), (0.0, NAN)], 0.9, 10),  # broken
    ],
)
def test_the_step_to_keep(rows, error, step):
    chosen = best(history(*rows, error=error))
    assert chosen is not None and chosen.step == step


def test_a_step_that_was_not_kept_in_its_turn_is_not_wanted_later():
    """Step 30 puts step 10 out of reach; step 20 was passed over for step 10 and its weights are gone."""
    rows = history((0.70, -5.0), (0.75, -3.0), (0.76, -1.0), error=0.05)
    assert [best(rows[:n]) for n in (1, 2, 3)] == [rows[0], rows[0], rows[2]]


def test_the_kept_step_is_the_newest_or_the_one_kept_before():
    """And always within one standard error of the highest accuracy, whatever comes."""
    for seed in range(200):
        draw = torch.rand(12, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
        rows = [Evaluation(n, accuracy, error / 4, change) for n, (accuracy, error, change) in enumerate(draw)]
        kept = [best(rows[: n + 1]) for n in range(12)]
        assert all(now in (rows[n], kept[n - 1]) for n, now in enumerate(kept))
        last, highest = kept[-1], max(rows, key=lambda e: e.accuracy)
        assert last is not None and last.accuracy >= highest.accuracy - highest.accuracy_error


def test_no_measurements_no_best_step_and_no_stop():
    assert best([]) is best(history((0.0, NAN))) is None
    assert not should_stop([], 1)


def test_stopping_waits_for_as_many_measurements_as_asked():
    run = history((0.6, 0.0), (0.8, -1.0), (0.7, 0.0), (0.8, 0.0), (0.7, 0.0))
    assert [should_stop(run[: n + 1], 2) for n in range(5)] == [False, False, False, True, True]
    assert not any(should_stop(run, patience) for patience in (0, 4))


def test_a_level_accuracy_does_not_stop_a_run_whose_winners_still_gain():
    run = history((0.75, -1.0), (0.74, -2.0), (0.75, -3.0), (0.73, -4.0), error=0.03)
    assert not should_stop(run, 1)


# A real model


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.slow
def test_a_fresh_lora_measures_as_nothing_and_a_changed_one_the_same_twice(tmp_path, family):
    config = tiny_runs.config()
    base = load_base(tiny_runs.write_base(tmp_path / "base", family), dtype=torch.float32)
    scan = scan_pairs(tiny_runs.write_pairs(tmp_path / "pairs"))
    cache = EncodingCache(tmp_path / "cache")
    encoder = base.encoder
    encoded = encode_pairs(scan.pairs, config.data, Opening(encoder, base.process, cache), seed=0)
    _, held = split(scan.prompts, 0.4, 0)
    assert len(held) == 3  # six pairs, two prompts
    source = PairSource(
        encodings=Encodings(cache, encoder.scaling, encoder.shift, encoder.frame, empty_caption(encoder, cache)),
        process=base.process,
        data=config.data,
        seed=0,
        share=Share(rows=2, at_once=2),
        pairs=tuple(encoded[i] for i in held),
    )
    bank = Bank(source, draws=4)
    with attached(base.unet, LoraSpec(rank=2, dropout=0.5), seed=0) as adapter:
        denoiser = TrainedDenoiser(DiffusersModel(base, base.device, tmp_path / "base"), adapter)
        origin = origin_predictions(denoiser, bank, "cpu")
        fresh = measure(denoiser, bank, "cpu", origin=origin)
        assert (fresh.margin, fresh.accuracy, fresh.pair_accuracy, fresh.drift) == (0.0, 0.5, 0.5, 0.0)
        for parameter in adapter.parameters.values():
            parameter.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
        changed = measure(denoiser, bank, "cpu", origin=origin)
        assert changed == measure(denoiser, bank, "cpu")
        assert changed.drift > 0 and changed.margin != 0
