"""How well clicks are foretold, and which questions tell more: `python -m benchmarks.rounds.clicks_needed --out DIR`.

Pairs of two base images of one caption, labelled by each of the ten tastes. A quarter of the captions is never asked
about: on its pairs the accuracy is measured. Nothing is trained but the taste model.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.taste.summary import interval
from benchmarks.taste.worlds import Candidate, candidates
from dspo_train.config import TrainConfig
from dspo_train.demo.run import MODEL
from dspo_train.evaluate.shapes import SIZE, captions
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.taste.comparisons import Comparisons, collect
from dspo_train.taste.features import DenoiserFeatures
from dspo_train.taste.head import Head, fit_head

from .one_shot import say
from .tastes import Taste

COUNTS = (25, 50, 100, 200)
SEEDS = (0,)
FIRST, STEP = 10, 5  # clicks at random before there is a guide, and between two fits of it
RANDOM_SHARE = 4  # every fourth question is at random, as in the panel


def features_of(out: Path, found: Sequence[Candidate]) -> np.ndarray:
    """Of all candidates, computed once."""
    place = out / "features.npy"
    if not place.exists():
        model = DiffusersSource(MODEL).load(TrainConfig(), "fp32", torch.device("cpu"))
        images, prompts = [each.picture for each in found], [each.caption for each in found]
        np.save(place, DenoiserFeatures(model, SIZE, at_once=64).of(images, prompts))
    return np.load(place)


def pools(found: Sequence[Candidate], seed: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Rows of the pairs to ask about, and of those to measure on."""
    dice, asked, measured = random.Random(seed), [], []
    texts = captions()
    dice.shuffle(texts)
    for number, caption in enumerate(texts):
        rows = [row for row, candidate in enumerate(found) if candidate.caption == caption]
        dice.shuffle(rows)
        (measured if number < len(texts) // 4 else asked).extend(zip(rows[::2], rows[1::2], strict=False))
    dice.shuffle(asked)
    return asked, measured


def judged(taste: Taste, found: Sequence[Candidate], pairs: Sequence[tuple[int, int]]) -> Comparisons:
    return collect(
        (str(a), str(b), float(taste(found[a].reading) > taste(found[b].reading)), found[a].caption, True)
        for a, b in pairs
    )


def fitted(comparisons: Comparisons, vectors: np.ndarray, seed: int) -> tuple[Head, float, float]:
    """The head, its own estimate of its accuracy, and the seconds of the fit."""
    began = time.perf_counter()
    head, known = fit_head(comparisons, vectors[[int(image) for image in comparisons.images]], seed=seed)
    return head, known.accuracy, time.perf_counter() - began


def foretold(
    head: Head, taste: Taste, found: Sequence[Candidate], pairs: Sequence[tuple[int, int]], vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the first image of each pair, and whether it is the better one."""
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    better = np.array([taste(found[a].reading) > taste(found[b].reading) for a, b in pairs])
    return head.probability(vectors[first], vectors[second]), better


def actively(
    taste: Taste, found: Sequence[Candidate], pool: list[tuple[int, int]], count: int, vectors: np.ndarray, seed: int
) -> list[tuple[int, int]]:
    """The questions of a panel that asks what tells most, one in four at random."""
    waiting, asked = list(pool[FIRST:]), list(pool[:FIRST])
    while len(asked) < count:
        head, _, _ = fitted(judged(taste, found, asked), vectors, seed)
        first, second = (np.array(side) for side in zip(*waiting, strict=True))
        order = np.argsort(-head.disagreement(vectors[first], vectors[second]), kind="stable").tolist()
        at_random = (STEP + RANDOM_SHARE - 1) // RANDOM_SHARE
        mixed = dict.fromkeys([*order[: STEP - at_random], *range(len(waiting))])
        chosen = list(mixed)[: min(STEP, count - len(asked))]
        asked += [waiting[place] for place in chosen]
        waiting = [pair for place, pair in enumerate(waiting) if place not in set(chosen)]
    return asked


def main() -> None:
    parser = argparse.ArgumentParser(description="How well clicks are foretold, and which questions tell more.")
    parser.add_argument("--out", type=Path, default=Path("taste"))
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    found = candidates(out)
    vectors = features_of(out, found)
    rows: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    sure, true = [], []
    for number in range(10):
        taste = Taste(number)
        for seed in SEEDS:
            pool, measured = pools(found, seed)
            for count in COUNTS:
                ways = {"random": pool[:count]}
                if count <= 100:
                    ways["active"] = actively(taste, found, pool, count, vectors, seed)
                for way, asked in ways.items():
                    head, own, seconds = fitted(judged(taste, found, asked), vectors, seed)
                    probability, better = foretold(head, taste, found, measured, vectors)
                    rows.setdefault((way, count), []).append(
                        (float(((probability > 0.5) == better).mean()), own, seconds)
                    )
                    if (way, count) == ("random", 100):
                        sure += np.maximum(probability, 1 - probability).tolist()
                        true += ((probability > 0.5) == better).tolist()
        say(f"taste {number} done")
    write(rows, np.array(sure), np.array(true))


def write(rows: dict[tuple[str, int], list[tuple[float, float, float]]], sure: np.ndarray, true: np.ndarray) -> None:
    say("| questions | clicks | accuracy on other captions (95% over tastes and seeds) | its own estimate | seconds |")
    say("|---|---|---|---|---|")
    for (way, count), found in sorted(rows.items(), key=lambda item: (item[0][1], item[0][0])):
        accuracy, own, seconds = zip(*found, strict=True)
        low, high = interval(accuracy)
        cells = f"{statistics.fmean(accuracy):.1%} ({low:.1%} to {high:.1%}) | {statistics.fmean(own):.1%}"
        say(f"| {way} | {count} | {cells} | {statistics.median(seconds):.2f} |")
    for count in COUNTS:
        if ("active", count) in rows:
            ahead = [a[0] - b[0] for a, b in zip(rows["active", count], rows["random", count], strict=True)]
            low, high = interval(ahead)
            say(f"active less random at {count}: {statistics.fmean(ahead):+.1%} ({low:+.1%} to {high:+.1%})")
    say("| foretold | came true | pairs |")
    say("|---|---|---|")
    edges = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0 + 1e-9])
    for low, high in itertools.pairwise(edges):
        inside = (sure >= low) & (sure < high)
        if inside.any():
            say(f"| {sure[inside].mean():.0%} | {true[inside].mean():.0%} | {inside.sum()} |")


if __name__ == "__main__":
    main()
