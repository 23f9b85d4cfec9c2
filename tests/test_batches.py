"""Which pairs a step sees, and that its draws do not depend on how it is packed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from fakes import bare, ddpm

from dspo_train.config import DataSpec
from dspo_train.data import draws
from dspo_train.data.batch import Batch
from dspo_train.data.cache import EncodingCache
from dspo_train.data.encodings import Encodings
from dspo_train.data.pair_source import EncodedPair, PairSource
from dspo_train.data.source import Share, epoch_order
from dspo_train.images.buckets import Bucket
from dspo_train.models.conditioning import Frame
from dspo_train.models.families import FAMILIES
from dspo_train.models.process import Ddpm

SQUARE, WIDE = Bucket(64, 64), Bucket(96, 48)
DATA = DataSpec(64, 16)


def test_draws_depend_on_their_purpose_alone():
    a, b = draws.generator(3, "pair", 7, 0), draws.generator(3, "pair", 7, 0)
    assert torch.equal(torch.rand(5, generator=a), torch.rand(5, generator=b))
    numbers = {draws.number(*key) for key in [(3, "pair", 7, 0), (4, "pair", 7, 0), (3, "pair", 8, 0), (3, "pair", 70)]}
    assert len(numbers) == 4


@pytest.mark.parametrize(("pairs", "per_step"), [(10, 2), (10, 3), (3, 8), (1, 4), (7, 7)])
def test_an_epoch_sees_every_pair(pairs, per_step):
    order = epoch_order(tuple([SQUARE] * pairs), per_step, 0, 0)
    assert len(order) == -(-pairs // per_step) * per_step
    counts = Counter(order)
    assert set(counts) == set(range(pairs))
    assert max(counts.values()) <= max(2, -(-per_step // pairs))


def test_most_steps_hold_one_shape():
    """9 squares and 7 wide ones in steps of 4: 2 + 1 whole steps, and the other 4 pairs mixed in one."""
    buckets = tuple([SQUARE] * 9 + [WIDE] * 7)
    order = epoch_order(buckets, 4, 0, 0)
    kinds = [{buckets[i] for i in order[s : s + 4]} for s in range(0, 16, 4)]
    assert sorted(len(kind) for kind in kinds) == [1, 1, 1, 2]


def test_epochs_and_seeds_differ():
    buckets = tuple([SQUARE] * 20)
    assert epoch_order(buckets, 4, 0, 0) != epoch_order(buckets, 4, 0, 1)
    assert epoch_order(buckets, 4, 0, 0) != epoch_order(buckets, 4, 1, 0)


@pytest.fixture
def make_source(tmp_path: Path):
    """Seven pairs of two shapes, with encodings written by hand."""
    cache = EncodingCache(tmp_path)
    pairs = []
    for i in range(7):
        bucket = WIDE if i in (2, 5) else SQUARE
        size = (bucket.height // 8, bucket.width // 8)
        generator = torch.Generator().manual_seed(i)
        places = {}
        for side in ("winner", "loser"):
            views = {view: torch.randn(8, *size, generator=generator) for view in ("plain", "flipped")}
            places[side] = tmp_path / f"{i}{side}.safetensors"
            cache.write(places[side], views)
        caption = tmp_path / f"{i}caption.safetensors"
        cache.write(caption, {"context": torch.full((1, 4, 8), float(i))})
        frame = Frame(i, i, i, i, i, i)
        pairs.append(EncodedPair(str(i), str(i), bucket, places["winner"], places["loser"], caption, frame))
    cache.write(tmp_path / "empty.safetensors", {"context": torch.full((1, 4, 8), -1.0)})

    def make(*share: int, data: DataSpec = DATA, process: Ddpm | None = None, sized: bool = False) -> PairSource:
        frame = FAMILIES["sdxl" if sized else "sd15"].frame
        return PairSource(
            encodings=Encodings(cache, 0.5, 0.1, frame, tmp_path / "empty.safetensors"),
            process=process or ddpm(),
            data=data,
            seed=5,
            share=Share(*(share or (4, 4))),
            pairs=pairs,
        )

    return make


def rows(batches: list[Batch]) -> list[tuple]:
    """Every pair of some batches as comparable values, in a canonical order: winner's and loser's."""
    found = []
    for batch in batches:
        for i in range(len(batch)):
            tensors = (batch.noisy, batch.target, batch.t, batch.conditioning.tensors["context"])
            sides = (tensor[place] for tensor in tensors for place in (i, i + len(batch)))
            found.append(tuple(tuple(side.flatten().tolist()) for side in sides))
    return sorted(found)


@pytest.mark.parametrize("step", range(4))
def test_a_step_is_the_same_in_any_packing(make_source, step):
    data = DataSpec(64, 16, flip=True, caption_dropout=0.5)
    whole = rows(list(make_source(data=data).step(step)))
    assert len(whole) == 4
    assert rows(list(make_source(4, 1, data=data).step(step))) == whole
    assert rows(list(make_source(4, 3, data=data).step(step))) == whole
    two = [make_source(2, 4, p, 2, data=data) for p in (0, 1)]
    assert rows([b for source in two for b in source.step(step)]) == whole


def test_batches_hold_one_shape_and_no_more_than_asked(make_source):
    for step in range(4):
        for batch in make_source(4, 3).step(step):
            assert 1 <= len(batch) <= 3
            assert batch.noisy.shape == batch.target.shape
            assert len(batch.noisy) == len(batch.t) == len(batch.conditioning) == 2 * len(batch)


@pytest.mark.parametrize("step", range(4))
def test_winners_come_before_losers_that_share_noise_time_and_caption(make_source, step):
    for batch in make_source().step(step):
        for tensor in (batch.target, batch.t, batch.conditioning.tensors["context"]):
            winners, losers = tensor.chunk(2)
            assert torch.equal(winners, losers)
        winners, losers = batch.noisy.chunk(2)
        assert not torch.equal(winners, losers)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_batches_are_noised_by_the_process(make_source, prediction):
    """The same draws, without and with noise added."""
    process = ddpm(prediction)
    plain, noised = (list(make_source(process=each).step(0)) for each in (bare(), process))
    for one, other in zip(plain, noised, strict=True):
        noisy, target = process.sample(one.noisy, one.target, one.t)
        assert torch.equal(other.noisy, noisy) and torch.equal(other.target, target) and torch.equal(other.t, one.t)


def test_latents_are_drawn_from_the_posterior_in_model_units(make_source):
    """(mean + exp(logvar / 2) posterior - shift) * scaling, the same posterior draw on both sides."""
    source = make_source(1, 1, process=bare())
    (batch,) = source.step(0)
    pair = source.pairs[source.indices(0)[0]]
    draws_of = []
    for side, latent in zip((pair.winner, pair.loser), batch.noisy, strict=True):
        mean, log_variance = source.encodings.cache.read(side)["plain"].chunk(2)
        draws_of.append((latent / 0.5 + 0.1 - mean) / (log_variance / 2).exp())
    torch.testing.assert_close(draws_of[0], draws_of[1], rtol=1e-3, atol=1e-4)
    assert draws_of[0].std() > 0.5


def test_flips_are_shared_by_winner_and_loser(make_source):
    source = make_source(data=DataSpec(64, 16, flip=True))
    seen = set()
    for step in range(6):
        for position, index in enumerate(source.indices(step)):
            pair = source.pairs[index]
            views = []
            for latent, path in zip(source._draw(step, position, pair).clean, (pair.winner, pair.loser), strict=True):
                stored = source.encodings.cache.read(path)
                distance = {}
                for view in ("plain", "flipped"):
                    mean, log_variance = stored[view].chunk(2)
                    distance[view] = ((latent / 0.5 + 0.1 - mean) / (log_variance / 2).exp()).std()
                    distance[view] = abs(distance[view] - 1) + abs((latent / 0.5 + 0.1 - mean).mean())
                views.append(min(distance, key=lambda v: distance[v]))
            seen.add(tuple(views))
    assert ("plain", "plain") in seen
    assert ("flipped", "flipped") in seen


def test_dropped_captions_are_the_empty_one(make_source):
    batches = list(make_source(data=DataSpec(64, 16, caption_dropout=1.0)).step(0))
    contexts = [batch.conditioning.tensors["context"] for batch in batches]
    assert contexts and all((context == -1).all() for context in contexts)


def test_sdxl_sizes_come_with_their_pair(make_source):
    for batch in make_source(sized=True).step(1):
        given = batch.conditioning.tensors
        assert torch.equal(given["time_ids"][:, 0], given["context"][:, 0, 0])
