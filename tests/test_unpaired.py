"""Liked and disliked pictures encoded by a real encoder, and what a step draws of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import FakeDenoiser, bare
from PIL import Image
from tiny_runs import config, write_base, write_pairs
from torch import Tensor

from dspo_train.config import DataSpec
from dspo_train.data.batch import Batch
from dspo_train.data.cache import EncodingCache
from dspo_train.data.encode import Opening, Workers, empty_caption
from dspo_train.data.encodings import Encodings
from dspo_train.data.paired import encode_pairs
from dspo_train.data.source import Share
from dspo_train.data.unpaired import EncodedImage, UnpairedData, UnpairedSource, encode_images
from dspo_train.exceptions import DatasetError
from dspo_train.images.buckets import Bucket
from dspo_train.models.base import Base, load_base
from dspo_train.models.families import FAMILIES
from dspo_train.models.process import Process
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


def opening(base: Base, folder: Path) -> Opening:
    return Opening(base.encoder, base.process, EncodingCache(folder / "cache"))


class Set:
    """An encoded folder, from which sources of any packing are made."""

    def __init__(self, folder: Path, base: Base, data: DataSpec = DATA) -> None:
        self.base, self.data = base, data
        opened = opening(base, folder)
        self.cache = opened.cache
        self.images = encode_images(scan_folder(folder).images, data, opened, seed=3)

    def source(self, *share: int, process: Process | None = None, sized: bool = False, seed: int = 5) -> UnpairedSource:
        encoder, frame = self.base.encoder, FAMILIES["sdxl" if sized else "sd15"].frame
        return UnpairedSource(
            encodings=Encodings(self.cache, encoder.scaling, encoder.shift, frame, empty_caption(encoder, self.cache)),
            process=process or self.base.process,
            data=self.data,
            seed=seed,
            share=Share(*(share or (4, 4))),
            images=self.images,
        )


@pytest.fixture(scope="module")
def uneven(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Set:
    """Five liked, two disliked, of one shape."""
    return Set(write_opinions(tmp_path_factory.mktemp("uneven"), FIVE, TWO), base)


@pytest.fixture(scope="module")
def mixed(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Set:
    """Two shapes on both sides, with flips and dropped captions: 2 and 3 squares, 3 and 1 wide."""
    data = DataSpec(64, 16, flip=True, caption_dropout=0.3)
    return Set(write_opinions(tmp_path_factory.mktemp("mixed"), *MIXED), base, data)


def parts(batch: Batch, row: int) -> list[Tensor]:
    """All that belongs to a row: of liked and disliked the noisy latent, noise, time and caption."""
    found = []
    for of_both in (batch.noisy, batch.target, batch.t, batch.conditioning.tensors["context"]):
        found += [of_both[row], of_both[row + len(batch)]]
    return found


def rows(batches: list[Batch]) -> list[tuple]:
    """Every row as comparable values, in a canonical order."""
    found = [tuple(tuple(t.flatten().tolist()) for t in parts(b, i)) for b in batches for i in range(len(b))]
    return sorted(found)


def test_encodings_lie_in_the_order_of_the_scan(uneven):
    keys = [image.key for image in uneven.images]
    assert keys == [f"liked/{i}.png" for i in range(5)] + [f"disliked/{i}.png" for i in range(2)]
    assert [image.liked for image in uneven.images] == [True] * 5 + [False] * 2
    assert len({image.content for image in uneven.images}) == 7
    assert all(uneven.cache.has(image.image) and uneven.cache.has(image.caption) for image in uneven.images)


def test_a_picture_of_a_pair_is_not_encoded_again(base, tmp_path):
    """The same files as a pair and as opinions have the same encodings, byte for byte and by name."""
    for name, seed in (("a_w", 1), ("a_l", 2)):
        write_picture(tmp_path / "pairs" / f"{name}.png", seed)
    (tmp_path / "pairs/a.txt").write_text("red dog")
    opened = opening(base, tmp_path)
    (pair,) = encode_pairs(scan_pairs(tmp_path / "pairs").pairs, DATA, opened, seed=0)
    for side, name in (("liked", "a_w"), ("disliked", "a_l")):
        (tmp_path / "set" / side).mkdir(parents=True)
        (tmp_path / "pairs" / f"{name}.png").rename(tmp_path / "set" / side / "a.png")
        (tmp_path / "set" / side / "a.txt").write_text("red dog")
    liked, disliked = encode_images(scan_folder(tmp_path / "set").images, DATA, opened, seed=0)
    assert (liked.image, disliked.image) == (pair.winner, pair.loser)
    assert liked.caption == disliked.caption == pair.caption
    assert liked.frame == pair.frame


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
    openings = [
        Opening(base.encoder, base.process, cache, Workers(i, 2), lambda d, n: seen.append((d, n))) for i in (0, 1)
    ]
    named = [encode_images(scan.images, DATA, each, seed=0) for each in openings]
    assert named[0] == named[1]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4), (1, 3), (2, 3), (3, 3)]
    assert all(cache.has(image.image) for image in named[0])


def test_one_side_alone_is_refused(tmp_path):
    scan = scan_folder(write_opinions(tmp_path, FIVE, []))
    with pytest.raises(DatasetError, match=r"5 liked, 0 disliked"):
        UnpairedData(scan).check(config())


FALLBACK = {
    "both sides have both": ([SQUARE, WIDE], [SQUARE, WIDE], [SQUARE, WIDE, SQUARE, WIDE]),
    "the nearest with both": ([SQUARE, WIDE, TALL], [SQUARE, WIDE], [SQUARE, WIDE, SQUARE, SQUARE, WIDE]),
    "none has both": ([WIDE, WIDE], [TALL], [WIDE, WIDE, WIDE]),
}


@pytest.mark.parametrize("name", FALLBACK)
def test_every_bucket_holds_both_sides(base, tmp_path, name):
    liked, disliked, expected = FALLBACK[name]
    small = Set(write_opinions(tmp_path, liked, disliked), base)
    assert [image.bucket for image in small.images] == [BUCKETS[size] for size in expected]
    for image in small.images:
        width, height = image.bucket
        assert small.cache.read(image.image)["plain"].shape == (8, height // 8, width // 8)
    for step in range(3):
        for batch in small.source().step(step):
            liked, disliked = batch.noisy.chunk(2)
            assert liked.shape == disliked.shape


def test_sizes_tell_where_the_bucket_was_cut(base, tmp_path):
    """A 96 x 160 picture in a 64 x 64 bucket is scaled to 64 x 107 and cut at (107 - 64) / 2 = 21.5, rounded to 22."""
    small = Set(write_opinions(tmp_path, [SQUARE, TALL], [SQUARE]), base)
    assert [image.frame for image in small.images[:2]] == [(64, 64, 0, 0, 64, 64), (160, 96, 22, 0, 64, 64)]


def test_random_crops_differ_by_picture_and_repeat_by_seed(base, tmp_path):
    scan = scan_folder(write_opinions(tmp_path, [SQUARE, TALL, TALL], [SQUARE]))
    data = DataSpec(64, 16, crop="random")
    opened = opening(base, tmp_path)
    tops = [[image.frame.top for image in encode_images(scan.images, data, opened, seed=s)][1:3] for s in (1, 1, 2)]
    assert tops[0] == tops[1] != tops[2]
    assert tops[0][0] != tops[0][1]


@pytest.mark.parametrize("per_process", [1, 2, 4, 5])
def test_every_liked_picture_is_seen_before_any_comes_again(uneven, per_process):
    """Five liked pictures: in ceil(5 / per step) steps all, and only the filling of the last step twice."""
    source = uneven.source(per_process, 4)
    steps = -(-5 // per_process)
    for epoch in range(3):
        drawn = [pair for step in range(steps) for pair in source.indices(epoch * steps + step)]
        assert [liked for liked, _ in drawn[:5]] != [liked for liked, _ in drawn[5:]]
        assert {liked for liked, _ in drawn[:5]} == {0, 1, 2, 3, 4}
        shorter = Counter(disliked for _, disliked in drawn[:5])
        assert sorted(shorter.values()) == [2, 3]
        assert set(shorter) == {5, 6}


def test_a_step_larger_than_the_set_repeats_it(uneven):
    counts = Counter(liked for liked, _ in uneven.source(12, 4).indices(0))
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]


def test_every_picture_of_every_bucket_is_seen_in_an_epoch(mixed):
    """Squares: 2 liked and 3 disliked make 3 rows; wide ones: 3 and 1 make 3. Six rows, three steps of two."""
    source = mixed.source(2, 4)
    for epoch in range(4):
        drawn = [pair for step in range(3) for pair in source.indices(3 * epoch + step)]
        assert {liked for liked, _ in drawn} == set(range(5))
        assert {disliked for _, disliked in drawn} == set(range(5, 9))
        for liked, disliked in drawn:
            assert source.images[liked].bucket == source.images[disliked].bucket


def test_partners_are_drawn_independently(uneven):
    """In 60 epochs each of ten combinations comes 30 times on average; fixed partners would come 60 times or never."""
    source = uneven.source(5, 4)
    counts = Counter(pair for step in range(60) for pair in source.indices(step))
    assert len(counts) == 10
    assert sum(counts.values()) == 300
    assert all(15 <= count <= 45 for count in counts.values())


@pytest.mark.parametrize("step", range(4))
def test_a_step_is_the_same_in_any_packing(mixed, step):
    whole = rows(list(mixed.source().step(step)))
    assert len(whole) == 4
    assert rows(list(mixed.source(4, 1).step(step))) == whole
    assert rows(list(mixed.source(4, 3).step(step))) == whole
    two = [mixed.source(2, 4, p, 2) for p in (0, 1)]
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
    sizes = [len(batch) for step in range(6) for batch in mixed.source(4, 3).step(step)]
    assert sum(sizes) == 24
    assert max(sizes) <= 3


def test_both_sides_have_noise_and_time_of_their_own(uneven):
    batches = [batch for step in range(8) for batch in uneven.source().step(step)]
    times = torch.cat([b.t.view(2, -1) for b in batches], dim=1)
    assert (times[0] != times[1]).float().mean() > 0.9
    noise = torch.cat([b.target.view(2, len(b), -1) for b in batches], dim=1)  # (2, 32, 4 * 8 * 8)
    assert torch.corrcoef(noise.flatten(1))[0, 1].abs() < 0.05
    assert 0.95 < noise.std() < 1.05


def test_captions_and_latents_are_those_of_their_side(uneven):
    """Every row's context is the caption of its picture, and its latent lies at that picture's mean."""
    source, encoder = uneven.source(2, 2, process=bare()), uneven.base.encoder
    for step in range(3):
        (batch,) = source.step(step)
        liked, disliked = zip(*source.indices(step), strict=True)
        for row, index in enumerate(liked + disliked):
            image: EncodedImage = source.images[index]
            side = "liked" if row < 2 else "disliked"
            assert image.key.startswith(side + "/")
            number = image.key.removeprefix(side + "/").removesuffix(".png")
            expected = encoder.prompts([f"{side} dog {number}"]).tensors["context"][0]
            assert torch.equal(batch.conditioning.tensors["context"][row], expected)
            mean, log_variance = uneven.cache.read(image.image)["plain"].chunk(2)
            draw = (batch.noisy[row] / encoder.scaling + encoder.shift - mean) / (log_variance / 2).exp()
            assert 0.7 < draw.std() < 1.3


def test_dropped_captions_are_the_empty_one(base, tmp_path):
    small = Set(write_opinions(tmp_path, FIVE, TWO), base, DataSpec(64, 16, caption_dropout=1.0))
    (batch,) = small.source().step(0)
    empty = base.encoder.prompts([""]).tensors["context"][0]
    assert all(torch.equal(context, empty) for context in batch.conditioning.tensors["context"])


def test_flips_are_drawn_for_each_side(mixed):
    """Which view a latent was drawn from is told by which gives a standard normal posterior draw."""
    source, seen, encoder = mixed.source(), set(), mixed.base.encoder
    for step in range(8):
        for position, pair in enumerate(source.indices(step)):
            views = []
            for side, index in zip(("liked", "disliked"), pair, strict=True):
                image = source.images[index]
                clean = source._draw(side, step, position, image).clean
                distance = {}
                for view, moments in mixed.cache.read(image.image).items():
                    mean, log_variance = moments.chunk(2)
                    draw = (clean / encoder.scaling + encoder.shift - mean) / (log_variance / 2).exp()
                    distance[view] = (draw.square().mean() - 1).abs().item()
                views.append(min(distance, key=lambda view: distance[view]))
            seen.add(tuple(views))
    assert len(seen) == 4


def test_sdxl_sizes_are_those_of_their_side(base, tmp_path):
    """Originals of 64 x 64 and 128 x 128 in one bucket: the first two columns are the height and width of each."""
    small = Set(write_opinions(tmp_path, [SQUARE, SQUARE], [(128, 128)]), base)
    (batch,) = small.source(sized=True).step(0)
    time_ids = batch.conditioning.tensors["time_ids"]
    assert time_ids.dtype == torch.float32
    assert time_ids[:4].tolist() == [[64, 64, 0, 0, 64, 64]] * 4
    assert time_ids[4:].tolist() == [[128, 128, 0, 0, 64, 64]] * 4


def test_a_batch_moves_whole(uneven):
    (batch,) = uneven.source().step(0)
    moved = batch.to("meta")
    tensors = (moved.noisy, moved.target, moved.t, moved.conditioning.tensors["context"])
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert len(moved) == 4
    assert [len(tensor) for tensor in tensors] == [8] * 4 and len(moved.conditioning) == 8


def test_errors_are_measured_on_each_picture_with_its_own_noise(uneven):
    """A denoiser that is one matrix, followed by hand."""
    denoiser = FakeDenoiser()
    (batch,), (plain,) = uneven.source().step(0), uneven.source(process=bare()).step(0)
    errors = pair_errors(denoiser, batch)
    for place, found in enumerate(torch.cat([errors.policy_w, errors.policy_l])):
        clean, noise = plain.noisy[place], plain.target[place]
        signal = denoiser.process.alphas_cumprod[batch.t[place]].float()
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        predicted = torch.einsum("oc,chw->ohw", denoiser.weight, noisy)
        torch.testing.assert_close(found, (predicted - noise).square().mean(), rtol=1e-4, atol=0)
