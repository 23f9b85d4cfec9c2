"""Liked and disliked pictures encoded by a real encoder, and what a step draws of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import FakeDenoiser
from PIL import Image
from tiny_runs import write_base, write_pairs
from torch import Tensor

from dspo_train.config import DataSpec
from dspo_train.data.cache import EncodingCache
from dspo_train.data.encode import Opening, empty_caption
from dspo_train.data.paired import encode_pairs
from dspo_train.data.unpaired import EncodedImage, UnpairedBatch, UnpairedSource, encode_images
from dspo_train.exceptions import DatasetError
from dspo_train.images.buckets import Bucket
from dspo_train.models.base import Base, load_base
from dspo_train.pairs import scan_folder, scan_pairs
from dspo_train.training.forward import pair_errors

DATA = DataSpec(64, 16)
SQUARE, WIDE, TALL = (64, 64), (160, 96), (96, 160)
BUCKETS = {SQUARE: Bucket(64, 64), WIDE: Bucket(80, 48), TALL: Bucket(48, 80)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(write_base(tmp_path_factory.mktemp("base")))


def write_picture(path: Path, seed: int, size: tuple[int, int] = SQUARE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_opinions(folder: Path, liked: list[tuple[int, int]], disliked: list[tuple[int, int]]) -> Path:
    """Noise pictures of the given sizes; every caption is another number of dogs."""
    for side, sizes in (("liked", liked), ("disliked", disliked)):
        for i, size in enumerate(sizes):
            write_picture(folder / side / f"{i}.png", i + 100 * (side == "liked"), size)
            (folder / side / f"{i}.txt").write_text(f"{side} dog {i}", encoding="utf-8")
    return folder


FIVE, TWO = [SQUARE] * 5, [SQUARE] * 2
MIXED = [SQUARE, WIDE, WIDE, WIDE, SQUARE], [WIDE, SQUARE, SQUARE, SQUARE]


class Set:
    """An encoded folder, from which sources of any packing are made."""

    def __init__(self, folder: Path, base: Base, data: DataSpec = DATA) -> None:
        self.base, self.data = base, data
        self.cache = EncodingCache(folder / "cache")
        self.opinions = encode_images(scan_folder(folder), base.encoder, self.cache, data, seed=3)

    def source(self, **changes) -> UnpairedSource:
        encoder = self.base.encoder
        settings = {"per_process": 4, "largest": 4, "sized": False, "seed": 5, **changes}
        return UnpairedSource(
            self.opinions, cache=self.cache, noise=self.base.noise, data=self.data,
            scaling=encoder.scaling, shift=encoder.shift, empty_caption=empty_caption(encoder, self.cache), **settings,
        )  # fmt: skip


@pytest.fixture(scope="module")
def uneven(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Set:
    """Five liked, two disliked, of one shape."""
    return Set(write_opinions(tmp_path_factory.mktemp("uneven"), FIVE, TWO), base)


@pytest.fixture(scope="module")
def mixed(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Set:
    """Two shapes on both sides, with flips and dropped captions: 2 and 3 squares, 3 and 1 wide."""
    data = DataSpec(64, 16, flip=True, caption_dropout=0.3)
    return Set(write_opinions(tmp_path_factory.mktemp("mixed"), *MIXED), base, data)


def parts(batch: UnpairedBatch, row: int) -> list[Tensor]:
    """All that belongs to a row: liked and disliked latent, and of both noise, timestep and caption."""
    found = [batch.liked[row], batch.disliked[row]]
    for of_both in (batch.noise, batch.timesteps, batch.conditioning.context):
        found += [of_both[row], of_both[row + len(batch)]]
    return found


def rows(batches: list[UnpairedBatch]) -> list[tuple]:
    """Every row as comparable values, in a canonical order."""
    found = [tuple(tuple(t.flatten().tolist()) for t in parts(b, i)) for b in batches for i in range(len(b))]
    return sorted(found)


def test_encodings_lie_in_the_order_of_the_scan(uneven):
    keys = [opinion.key for opinion in uneven.opinions]
    assert keys == [f"liked/{i}.png" for i in range(5)] + [f"disliked/{i}.png" for i in range(2)]
    assert [opinion.liked for opinion in uneven.opinions] == [True] * 5 + [False] * 2
    assert len({opinion.content for opinion in uneven.opinions}) == 7
    assert all(uneven.cache.has(opinion.picture) and uneven.cache.has(opinion.caption) for opinion in uneven.opinions)


def test_a_picture_of_a_pair_is_not_encoded_again(base, tmp_path):
    """The same files as a pair and as opinions have the same encodings, byte for byte and by name."""
    for name, seed in (("a_w", 1), ("a_l", 2)):
        write_picture(tmp_path / "pairs" / f"{name}.png", seed)
    (tmp_path / "pairs/a.txt").write_text("red dog")
    cache = EncodingCache(tmp_path / "cache")
    (pair,) = encode_pairs(scan_pairs(tmp_path / "pairs").pairs, base.encoder, cache, DATA, seed=0)
    for side, name in (("liked", "a_w"), ("disliked", "a_l")):
        (tmp_path / "set" / side).mkdir(parents=True)
        (tmp_path / "pairs" / f"{name}.png").rename(tmp_path / "set" / side / "a.png")
        (tmp_path / "set" / side / "a.txt").write_text("red dog")
    liked, disliked = encode_images(scan_folder(tmp_path / "set"), base.encoder, cache, DATA, seed=0)
    assert (liked.picture, disliked.picture) == (pair.winner, pair.loser)
    assert liked.caption == disliked.caption == pair.caption
    assert liked.time_ids == pair.time_ids


@pytest.mark.parametrize(("longest", "shapes"), [(2.0, {SQUARE, WIDE}), (1.0, {SQUARE})])
def test_the_longest_bucket_is_a_setting_with_pairs_and_without(base, tmp_path, longest, shapes):
    data = DataSpec(64, 16, max_aspect=longest)
    opening = Opening(base.encoder, base.process, EncodingCache(tmp_path / "cache"))
    liked = encode_images(scan_folder(write_opinions(tmp_path / "set", *MIXED)).images, data, opening)
    pairs = encode_pairs(scan_pairs(write_pairs(tmp_path / "pairs", 4)).pairs, data, opening)
    wanted = {BUCKETS[shape] for shape in shapes}
    assert {opinion.bucket for opinion in liked} == {pair.bucket for pair in pairs} == wanted


def test_processes_share_the_encoding(base, tmp_path):
    """Of seven pictures the first process encodes four, the second three; both name the same places."""
    scan = scan_folder(write_opinions(tmp_path, FIVE, TWO))
    cache = EncodingCache(tmp_path / "cache")
    seen: list[tuple[int, int]] = []
    named = [
        encode_images(
            scan, base.encoder, cache, DATA, seed=0, share=(i, 2), on_progress=lambda d, n: seen.append((d, n))
        )
        for i in (0, 1)
    ]
    assert named[0] == named[1]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4), (1, 3), (2, 3), (3, 3)]
    assert all(cache.has(opinion.picture) for opinion in named[0])


def test_one_side_alone_is_refused(base, tmp_path):
    scan = scan_folder(write_opinions(tmp_path, FIVE, []))
    with pytest.raises(DatasetError, match=r"5 liked, 0 disliked"):
        encode_images(scan, base.encoder, EncodingCache(tmp_path / "cache"), DATA, seed=0)


FALLBACK = {
    "both sides have both": ([SQUARE, WIDE], [SQUARE, WIDE], [SQUARE, WIDE, SQUARE, WIDE]),
    "the nearest with both": ([SQUARE, WIDE, TALL], [SQUARE, WIDE], [SQUARE, WIDE, SQUARE, SQUARE, WIDE]),
    "none has both": ([WIDE, WIDE], [TALL], [WIDE, WIDE, WIDE]),
}


@pytest.mark.parametrize("name", FALLBACK)
def test_every_bucket_holds_both_sides(base, tmp_path, name):
    liked, disliked, expected = FALLBACK[name]
    small = Set(write_opinions(tmp_path, liked, disliked), base)
    assert [opinion.bucket for opinion in small.opinions] == [BUCKETS[size] for size in expected]
    for opinion in small.opinions:
        width, height = opinion.bucket
        assert small.cache.read(opinion.picture)["plain"].shape == (8, height // 8, width // 8)
    for step in range(3):
        for batch in small.source().step(step):
            assert batch.liked.shape == batch.disliked.shape


def test_sizes_tell_where_the_bucket_was_cut(base, tmp_path):
    """A 96 x 160 picture in a 64 x 64 bucket is scaled to 64 x 107 and cut at (107 - 64) / 2 = 21.5, rounded to 22."""
    small = Set(write_opinions(tmp_path, [SQUARE, TALL], [SQUARE]), base)
    assert [opinion.time_ids for opinion in small.opinions[:2]] == [(64, 64, 0, 0, 64, 64), (160, 96, 22, 0, 64, 64)]


def test_random_crops_differ_by_picture_and_repeat_by_seed(base, tmp_path):
    scan = scan_folder(write_opinions(tmp_path, [SQUARE, TALL, TALL], [SQUARE]))
    data = DataSpec(64, 16, crop="random")
    cache = EncodingCache(tmp_path / "cache")
    tops = [[o.time_ids[2] for o in encode_images(scan, base.encoder, cache, data, seed=s)][1:3] for s in (1, 1, 2)]
    assert tops[0] == tops[1] != tops[2]
    assert tops[0][0] != tops[0][1]


@pytest.mark.parametrize("per_process", [1, 2, 4, 5])
def test_every_liked_picture_is_seen_before_any_comes_again(uneven, per_process):
    """Five liked pictures: in ceil(5 / per step) steps all, and only the filling of the last step twice."""
    source = uneven.source(per_process=per_process)
    steps = -(-5 // per_process)
    for epoch in range(3):
        drawn = [pair for step in range(steps) for pair in source.indices(epoch * steps + step)]
        assert [liked for liked, _ in drawn[:5]] != [liked for liked, _ in drawn[5:]]
        assert {liked for liked, _ in drawn[:5]} == {0, 1, 2, 3, 4}
        shorter = Counter(disliked for _, disliked in drawn[:5])
        assert sorted(shorter.values()) == [2, 3]
        assert set(shorter) == {5, 6}


def test_a_step_larger_than_the_set_repeats_it(uneven):
    counts = Counter(liked for liked, _ in uneven.source(per_process=12).indices(0))
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]


def test_every_picture_of_every_bucket_is_seen_in_an_epoch(mixed):
    """Squares: 2 liked and 3 disliked make 3 rows; wide ones: 3 and 1 make 3. Six rows, three steps of two."""
    source = mixed.source(per_process=2)
    for epoch in range(4):
        drawn = [pair for step in range(3) for pair in source.indices(3 * epoch + step)]
        assert {liked for liked, _ in drawn} == set(range(5))
        assert {disliked for _, disliked in drawn} == set(range(5, 9))
        for liked, disliked in drawn:
            assert source.opinions[liked].bucket == source.opinions[disliked].bucket


def test_partners_are_drawn_independently(uneven):
    """In 60 epochs each of ten combinations comes 30 times on average; fixed partners would come 60 times or never."""
    source = uneven.source(per_process=5)
    counts = Counter(pair for step in range(60) for pair in source.indices(step))
    assert len(counts) == 10
    assert sum(counts.values()) == 300
    assert all(15 <= count <= 45 for count in counts.values())


@pytest.mark.parametrize("step", range(4))
def test_a_step_is_the_same_in_any_packing(mixed, step):
    whole = rows(list(mixed.source().step(step)))
    assert len(whole) == 4
    assert rows(list(mixed.source(largest=1).step(step))) == whole
    assert rows(list(mixed.source(largest=3).step(step))) == whole
    two = [mixed.source(per_process=2, process=p, processes=2) for p in (0, 1)]
    assert rows([batch for source in two for batch in source.step(step)]) == whole


def test_a_resumed_run_draws_what_an_unbroken_one_does(mixed):
    """A source made anew at step 7 knows nothing of the steps before."""
    unbroken = mixed.source()
    history = [rows(list(unbroken.step(step))) for step in range(9)]
    resumed = mixed.source()
    assert [rows(list(resumed.step(step))) for step in (7, 8)] == history[7:]
    assert len({str(step) for step in history}) == 9


def test_seeds_differ(mixed):
    assert rows(list(mixed.source().step(0))) != rows(list(mixed.source(seed=6).step(0)))


def test_batches_hold_one_shape_and_no_more_than_asked(mixed):
    sizes = [len(batch) for step in range(6) for batch in mixed.source(largest=3).step(step)]
    assert sum(sizes) == 24
    assert max(sizes) <= 3


def test_both_sides_have_noise_and_timestep_of_their_own(uneven):
    batches = [batch for step in range(8) for batch in uneven.source().step(step)]
    timesteps = torch.cat([b.timesteps.view(2, -1) for b in batches], dim=1)
    assert (timesteps[0] != timesteps[1]).float().mean() > 0.9
    noise = torch.cat([b.noise.view(2, len(b), -1) for b in batches], dim=1)  # (2, 32, 4 * 8 * 8)
    assert torch.corrcoef(noise.flatten(1))[0, 1].abs() < 0.05
    assert 0.95 < noise.std() < 1.05


def test_captions_and_latents_are_those_of_their_side(uneven):
    """Every row's context is the caption of its picture, and its latent lies at that picture's mean."""
    source, encoder = uneven.source(per_process=2, largest=2), uneven.base.encoder
    for step in range(3):
        (batch,) = source.step(step)
        clean, _, _, conditioning = batch.stacked()
        liked, disliked = zip(*source.indices(step), strict=True)
        for row, index in enumerate(liked + disliked):
            opinion: EncodedImage = source.opinions[index]
            side = "liked" if row < 2 else "disliked"
            assert opinion.key.startswith(side + "/")
            number = opinion.key.removeprefix(side + "/").removesuffix(".png")
            expected = encoder.prompts([f"{side} dog {number}"]).context[0]
            assert torch.equal(conditioning.context[row], expected)
            mean, log_variance = source.cache.read(opinion.picture)["plain"].chunk(2)
            draw = (clean[row] / source.scaling + source.shift - mean) / (log_variance / 2).exp()
            assert 0.7 < draw.std() < 1.3


def test_dropped_captions_are_the_empty_one(base, tmp_path):
    small = Set(write_opinions(tmp_path, FIVE, TWO), base, DataSpec(64, 16, caption_dropout=1.0))
    (batch,) = small.source().step(0)
    empty = base.encoder.prompts([""]).context[0]
    assert all(torch.equal(context, empty) for context in batch.conditioning.context)


def test_flips_are_drawn_for_each_side(mixed):
    """Which view a latent was drawn from is told by which gives a standard normal posterior draw."""
    source, seen = mixed.source(), set()
    for step in range(8):
        for position, pair in enumerate(source.indices(step)):
            views = []
            for side, index in zip(("liked", "disliked"), pair, strict=True):
                clean, *_ = source._draw(side, step, position, source.opinions[index])
                distance = {}
                for view, moments in source.cache.read(source.opinions[index].picture).items():
                    mean, log_variance = moments.chunk(2)
                    draw = (clean / source.scaling + source.shift - mean) / (log_variance / 2).exp()
                    distance[view] = (draw.square().mean() - 1).abs().item()
                views.append(min(distance, key=lambda view: distance[view]))
            seen.add(tuple(views))
    assert len(seen) == 4


def test_sdxl_sizes_are_those_of_their_side(base, tmp_path):
    """Originals of 64 x 64 and 128 x 128 in one bucket: the first two columns are the height and width of each."""
    small = Set(write_opinions(tmp_path, [SQUARE, SQUARE], [(128, 128)]), base)
    (batch,) = small.source(sized=True).step(0)
    time_ids = batch.stacked()[3].time_ids
    assert time_ids is not None
    assert time_ids.dtype == torch.float32
    assert time_ids[:4].tolist() == [[64, 64, 0, 0, 64, 64]] * 4
    assert time_ids[4:].tolist() == [[128, 128, 0, 0, 64, 64]] * 4


def test_a_batch_moves_whole(uneven):
    (batch,) = uneven.source().step(0)
    moved = batch.to("meta")
    clean, noise, timesteps, conditioning = moved.stacked()
    assert {t.device.type for t in (clean, noise, timesteps, conditioning.context)} == {"meta"}
    assert len(moved) == 4
    assert len(clean) == len(noise) == len(timesteps) == len(conditioning) == 8


def test_errors_are_measured_on_each_picture_with_its_own_noise(uneven):
    """A denoiser that is one matrix, followed by hand."""
    denoiser = FakeDenoiser()
    (batch,) = uneven.source().step(0)
    errors = pair_errors(denoiser, batch)
    for row in range(4):
        for side, found in ((batch.liked, errors.policy_w), (batch.disliked, errors.policy_l)):
            place = row + (0 if side is batch.liked else 4)
            signal = denoiser.noise.alphas_cumprod[batch.timesteps[place]].float()
            noisy = signal.sqrt() * side[row] + (1 - signal).sqrt() * batch.noise[place]
            predicted = torch.einsum("oc,chw->ohw", denoiser.base, noisy)
            torch.testing.assert_close(found[row], (predicted - batch.noise[place]).square().mean(), rtol=1e-4, atol=0)
