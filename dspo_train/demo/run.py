"""The whole loop on the embedded model: draw candidates, label them by a known taste, train, compare.

Only the taste, which votes in place of a person, is special to the demonstration: candidates are drawn by the ordinary
sampler, the pairs are an ordinary folder, and the LoRA comes from an ordinary run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from .. import files
from ..config import DataSpec, LoraSpec, OptimSpec, TrainConfig
from ..evaluate.shapes import SIZE, captions
from ..exceptions import RunError
from ..lora.attach import LoraWeights, applied
from ..lora.writing import load_lora
from ..models.base import Base, load_base
from ..models.sampling import SampleSpec, sample
from ..runs.diffusers_model import DiffusersSource
from ..runs.job import Job
from ..runs.session import open_session
from ..scorers.scorer import Scorer
from ..scorers.table import make_scorer
from ..scorers.toys import look
from ..sheets.comparison import comparison_grid
from ..training.trainer import StepReport
from .taste import Verdict, judge

TASTE = "large_and_dark"  # in `SCORERS`
MODEL = Path(__file__).parent / "model"
SAMPLING = SampleSpec(width=SIZE, height=SIZE, steps=12, guidance=2.0)
GRID_PROMPTS = ("a red heart", "a yellow circle", "a teal star", "a green cross")
GRID_STRENGTHS = (0.5, 1.0, 1.5)

CONFIG = TrainConfig(
    objective="dspo",
    objective_args={"strength": 5.0},
    steps=160,
    batch_size=24,
    save_every=40,
    precision="fp32",
    device="cpu",
    lora=LoraSpec(rank=8, alpha=8.0, targets="attention+mlp"),
    optim=OptimSpec(lr=5e-4, warmup=10, schedule="cosine"),
    data=DataSpec(resolution=SIZE, bucket_step=SIZE),
)


@dataclass(frozen=True)
class DemoSize:
    """How much is drawn: candidates (two make a pair) and test images for each of the 48 captions."""

    candidates: int = 8
    tests: int = 4
    config: TrainConfig = CONFIG


@dataclass(frozen=True)
class DemoResult:
    verdict: Verdict
    pairs: int
    lora: Path
    grid: Path
    curve: Path
    seconds: float


Say = Callable[[str], None]
Count = Callable[[str, int, int], None]
Watch = Callable[[StepReport, int], None]


def run_demo(out: Path, size: DemoSize, *, say: Say, count: Count, watch: Watch) -> DemoResult:
    """Write `pairs/`, `run/` and `ab_grid.png` in `out`, and report what was measured.

    Args:
        say: called with each line of the report.
        count: called with (stage, done, total) while images are drawn.
        watch: called with each training report and the number of steps.

    Raises:
        RunError: `out` holds something other than an earlier demonstration.
    """
    started = time.monotonic()
    _clear(out)
    base = load_base(MODEL)
    say(f"Drawing {len(captions()) * size.candidates} candidates with the embedded model")
    pairs = draw_pairs(base, out / "pairs", size.candidates, count)
    say(f"{pairs} pairs labelled by the hidden taste (larger shapes, darker backgrounds): {out / 'pairs'}")
    job = Job(DiffusersSource(MODEL), out / "pairs", out / "run" / "demo-taste", size.config)
    with open_session(job) as session:
        for report in session.reports():
            watch(report, size.config.steps)
        folder = session.folder
    say(f"LoRA: {folder.result}")
    say("Drawing test images with and without it, from new seeds")
    weights = load_lora(folder.result, base.unet).weights
    prompts = [caption for caption in captions() for _ in range(size.tests)]
    seeds = range(10**6, 10**6 + len(prompts))
    before = _sample(base, prompts, seeds, count, "base")
    with applied(base.unet, weights):
        after = _sample(base, prompts, seeds, count, "with the LoRA")
    verdict = judge(make_scorer(TASTE), prompts, before, after)
    grid = out / "ab_grid.png"
    files.write_image(grid, draw_grid(base, weights, verdict))
    return DemoResult(verdict, pairs, folder.result, grid, folder.curve, time.monotonic() - started)


def _clear(out: Path) -> None:
    """Remove an earlier demonstration, and refuse anything else."""
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; give a folder with --out")
    mark = out / "dspo-demo.txt"
    if out.exists() and any(out.iterdir()) and not mark.exists():
        raise RunError(f"{out} is not empty and was not made by this demonstration; give another --out")
    for part in ("pairs", "run"):
        shutil.rmtree(out / part, ignore_errors=True)
    files.write_text(mark, "Made by `python -m dspo_train demo`, which replaces pairs/, run/ and ab_grid.png here.\n")


def _sample(base: Base, prompts: Sequence[str], seeds: Sequence[int], count: Count, stage: str) -> list[Image.Image]:
    return sample(
        base, prompts, seeds, SAMPLING, batch_size=64, on_progress=lambda done, total: count(stage, done, total)
    )


def draw_pairs(base: Base, folder: Path, candidates: int, count: Count) -> int:
    """Draw candidates and write them in pairs: see `write_pairs`. -> number of pairs written"""
    prompts = [caption for caption in captions() for _ in range(candidates)]
    images = _sample(base, prompts, range(len(prompts)), count, "candidates")
    return write_pairs(folder, prompts, images, candidates, make_scorer(TASTE))


def write_pairs(
    folder: Path, prompts: Sequence[str], images: Sequence[Image.Image], candidates: int, scorer: Scorer
) -> int:
    """Write every two of the images as `NAME_w.png`, `NAME_l.png`, `NAME.txt`. -> number of pairs written

    A pair with an unrecognisable image is not labelled, as a person would skip it.

    Args:
        candidates: images of each prompt, which follow each other.
    """
    folder.mkdir(parents=True)
    written = 0
    for first in range(0, len(images) - 1, 2):
        pair = list(images[first : first + 2])
        if any(look(image).shape is None for image in pair):
            continue
        if torch.diff(scorer.score(pair, prompts[first : first + 2])) > 0:  # the second is the better one
            pair.reverse()
        name = f"{prompts[first].replace(' ', '-')}-{first // 2 % (candidates // 2):02d}"
        for image, side in zip(pair, "wl", strict=True):
            files.write_image(folder / f"{name}_{side}.png", image)
        files.write_text(folder / f"{name}.txt", prompts[first] + "\n")
        written += 1
    return written


def draw_grid(base: Base, weights: LoraWeights, verdict: Verdict) -> Image.Image:
    """Base and LoRA strengths side by side, with one seed per row, chosen in advance."""
    seeds = range(2 * 10**6, 2 * 10**6 + len(GRID_PROMPTS))
    return comparison_grid(
        base,
        weights,
        GRID_STRENGTHS,
        GRID_PROMPTS,
        lambda name: sample(base, GRID_PROMPTS, seeds, SAMPLING, batch_size=64),
        title="The same prompts and seeds, before and after",
        subtitle=f"a taste for larger shapes and darker backgrounds; win rate of LoRA 1 over base {verdict.win_rate}",
    )
