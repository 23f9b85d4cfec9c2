"""What the presets do to the embedded model: `python benchmarks/presets.py [STEPS]`.

Each preset trains as the ComfyUI node would (4 pairs per step) on the demonstration's pairs, and the known taste judges
test images from other seeds. The embedded model is tiny: the order of the presets carries over to other models, the
figures do not.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from dspo_train.demo.run import MODEL, SAMPLING, TASTE, draw_pairs
from dspo_train.demo.taste import judge
from dspo_train.evaluate.shapes import SIZE, captions
from dspo_train.lora.attach import applied
from dspo_train.lora.writing import load_lora
from dspo_train.models.base import load_base
from dspo_train.models.families import FAMILIES
from dspo_train.models.sampling import sample
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.presets import PRESETS, configure
from dspo_train.runs.session import open_session
from dspo_train.scorers.table import make_scorer

CANDIDATES, TESTS = 8, 4  # for each of the 48 captions
HERE = {"data.resolution": SIZE, "device": "cpu", "precision": "fp32"}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(steps: int) -> None:
    base = load_base(MODEL)
    prompts = [caption for caption in captions() for _ in range(TESTS)]
    seeds = range(10**6, 10**6 + len(prompts))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        pairs = draw_pairs(base, out / "pairs", CANDIDATES, lambda stage, done, total: None)
        before = sample(base, prompts, seeds, SAMPLING, batch_size=64)
        say(f"{pairs} pairs, {steps} steps of 4; {len(prompts)} test images")
        say(f"{'preset':10} {'win rate':>26} {'taste':>14} {'fit':>16} {'seconds':>8}")
        for name in PRESETS:
            started = time.monotonic()
            config = configure(name, FAMILIES["sd15"].resolution, {**HERE, "steps": steps})
            with open_session(Job(DiffusersSource(MODEL), out / "pairs", out / "runs" / name, config)) as session:
                for _ in session.reports():
                    pass
                result = session.folder.result
            seconds = time.monotonic() - started
            with applied(base.unet, load_lora(result, base.unet).weights):
                after = sample(base, prompts, seeds, SAMPLING, batch_size=64)
            seen = judge(make_scorer(TASTE), prompts, before, after)
            taste = f"{seen.reward_before:+.2f} {seen.reward_after:+.2f}"
            fit = f"{seen.fit_before:.1%} {seen.fit_after:.1%}"
            say(f"{name:10} {seen.win_rate!s:>26} {taste:>14} {fit:>16} {seconds:8.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
