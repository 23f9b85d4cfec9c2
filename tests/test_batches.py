"""Which pairs a step sees, and that its draws do not depend on how it is packed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from fakes import SD15_SCHEDULE

from dspo_train.config import DataSpec
from dspo_train.data import draws
from dspo_train.data.batch import PairBatch
from dspo_train.data.cache import EncodingCache
from dspo_train.data.pair_source import EncodedPair, PairSource
from dspo_train.data.source import epoch_order
from dspo_train.images.buckets import Bucket
from dspo_train.models.process import from_scheduler_config

SQUARE, WIDE = Bucket(64, 64), Bucket(96, 48)


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
        pairs.append(
            EncodedPair(str(i), str(i), bucket, places["winner"], places["loser"], caption, (i, i, i, i, i, i))
        )
    cache.write(tmp_path / "empty.safetensors", {"context": torch.full((1, 4, 8), -1.0)})

    def make(**changes) -> PairSource:
        settings = {"per_process": 4, "largest": 4, "data": DataSpec(64, 16), "sized": False, **changes}
        return PairSource(
            pairs, cache=cache, noise=from_scheduler_config(SD15_SCHEDULE), seed=5, scaling=0.5, shift=0.1,
            empty_caption=tmp_path / "empty.safetensors", **settings,
        )  # fmt: skip

    return make


def rows(batches: list[PairBatch]) -> list[tuple]:
    """Every pair of some batches as comparable values, in a canonical order."""
    found = []
    for batch in batches:
        for i in range(len(batch)):
            tensors = (batch.winner, batch.loser, batch.noise, batch.timesteps, batch.conditioning.context)
            found.append(tuple(tuple(t[i].flatten().tolist()) for t in tensors))
    return sorted(found)


@pytest.mark.parametrize("step", range(4))
def test_a_step_is_the_same_in_any_packing(make_source, step):
    data = DataSpec(64, 16, flip=True, caption_dropout=0.5)
    whole = rows(list(make_source(data=data).step(step)))
    assert len(whole) == 4
    assert rows(list(make_source(data=data, largest=1).step(step))) == whole
    assert rows(list(make_source(data=data, largest=3).step(step))) == whole
    two = [make_source(data=data, per_process=2, process=p, processes=2) for p in (0, 1)]
    assert rows([b for source in two for b in source.step(step)]) == whole


def test_batches_hold_one_shape_and_no_more_than_asked(make_source):
    for step in range(4):
        for batch in make_source(largest=3).step(step):
            assert 1 <= len(batch) <= 3
            assert batch.winner.shape == batch.loser.shape == batch.noise.shape


def test_latents_are_drawn_from_the_posterior_in_model_units(make_source):
    """(mean + exp(logvar / 2) posterior - shift) * scaling, the same posterior draw on both sides."""
    source = make_source(per_process=1, largest=1)
    (batch,) = source.step(0)
    pair = source.pairs[source.indices(0)[0]]
    draws_of = []
    for side, latent in ((pair.winner, batch.winner), (pair.loser, batch.loser)):
        mean, log_variance = source.cache.read(side)["plain"].chunk(2)
        draws_of.append((latent[0] / 0.5 + 0.1 - mean) / (log_variance / 2).exp())
    torch.testing.assert_close(draws_of[0], draws_of[1], rtol=1e-3, atol=1e-4)
    assert draws_of[0].std() > 0.5


def test_flips_are_shared_by_winner_and_loser(make_source):
    source = make_source(data=DataSpec(64, 16, flip=True))
    seen = set()
    for step in range(6):
        for position, index in enumerate(source.indices(step)):
            winner, loser, *_ = source._draw(step, position, source.pairs[index])
            views = []
            for latent, path in ((winner, source.pairs[index].winner), (loser, source.pairs[index].loser)):
                stored = source.cache.read(path)
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
    contexts = [b.conditioning.context for b in make_source(data=DataSpec(64, 16, caption_dropout=1.0)).step(0)]
    assert all((context == -1).all() for context in contexts)


def test_sdxl_sizes_come_with_their_pair(make_source):
    for batch in make_source(sized=True).step(1):
        assert batch.conditioning.time_ids is not None
        assert torch.equal(batch.conditioning.time_ids[:, 0], batch.conditioning.context[:, 0, 0])
