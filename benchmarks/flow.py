"""Which objective teaches the flow model of the playground a known taste.

    cd ComfyUI && python PACK/benchmarks/flow.py [--steps 150] [--objectives dspo diffusion_dpo:sharpness=3 ...]

Everything goes through ComfyUI's own classes, as in the graph: candidates, training, and test images from prompts and
seeds that no pair has. Pairs, batches and noise are the same for every objective.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from in_comfy import started

CANDIDATES, TESTS = 4, 2  # for each of the 48 captions
SAMPLING = {"steps": 16, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
OBJECTIVES = (
    "dspo",
    "diffusion_dpo:sharpness=3",
    "ipo:tau=2",
    "diffusion_kto:sharpness=10",
    "dspo_paper:beta=1",
    "sft",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--objectives", nargs="+", default=OBJECTIVES, metavar="NAME[:ARGUMENT=VALUE]")
    parser.add_argument("--taste", default="large_and_dark")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pack = started()
    import torch

    run, shapes, captions = pack.dspo_train__demo__run, Shapes(pack), pack.dspo_train__evaluate__shapes.captions()
    scorer = pack.dspo_train__scorers__table.make_scorer(given.taste)
    tests = [caption for caption in captions for _ in range(TESTS)]
    before = shapes.drawn(captions, TESTS, first_seed=10**6)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        prompts = [caption for caption in captions for _ in range(CANDIDATES)]
        candidates = shapes.drawn(captions, CANDIDATES, first_seed=0)
        pairs = run.write_pairs(out / "pairs", prompts, candidates, CANDIDATES, scorer)
        say(f"{pairs} pairs, {given.steps} steps of 8, torch {torch.__version__}; {len(tests)} test images")
        say("| objective | win rate | reward | caption fit |")
        say("|---|---|---|---|")
        for number, objective in enumerate(given.objectives):
            lora = shapes.trained(objective, out / "pairs", out / str(number), given.steps, given.seed)
            after = shapes.drawn(captions, TESTS, first_seed=10**6, lora=lora)
            seen = pack.dspo_train__demo__taste.judge(scorer, tests, before, after)
            reward = f"{seen.reward_before:+.2f} to {seen.reward_after:+.2f}"
            fit = f"{seen.fit_before:.0%} to {seen.fit_after:.0%}"
            say(f"| {objective} | {seen.win_rate} | {reward} | {fit} |")


class Shapes:
    """The flow model of the playground, to draw with and to train."""

    def __init__(self, pack: Any) -> None:
        import torch

        self.pack = pack
        with torch.inference_mode():  # as when a node runs
            self.model, self.clip, self.vae = pack.nodes__comfy__playground.load("shapes-flow")

    def drawn(self, captions: Sequence[str], count: int, *, first_seed: int, lora: Path | None = None) -> list[Any]:
        """`count` images of each caption, by stock nodes."""
        import comfy.sd  # pyright: ignore[reportMissingImports]
        import comfy.utils  # pyright: ignore[reportMissingImports]
        import torch

        core: Any = importlib.import_module("nodes")  # core's, not the pack's
        images: list[Any] = []
        with torch.inference_mode():
            model = self.model
            if lora is not None:
                model = comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(str(lora)), 1.0, 0)[0]
            negative = core.CLIPTextEncode().encode(self.clip, "")[0]
            for seed, caption in enumerate(captions, first_seed):
                positive = core.CLIPTextEncode().encode(self.clip, caption)[0]
                latent = core.EmptyLatentImage().generate(64, 64, count)[0]
                given = {"positive": positive, "negative": negative, "latent_image": latent}
                (latent,) = core.KSampler().sample(model=model, seed=seed, **given, **SAMPLING)
                pixels = core.VAEDecode().decode(self.vae, latent)[0].movedim(-1, 1)
                images += self.pack.dspo_train__images__decode.to_images(2 * pixels - 1)
        return images

    def trained(self, objective: str, pairs: Path, folder: Path, steps: int, seed: int) -> Path:
        """-> the LoRA's file"""
        import torch

        name, _, arguments = objective.partition(":")
        named = dict(pair.split("=") for pair in arguments.split(",") if pair)
        config = self.pack.dspo_train__config.from_dict(
            {
                "objective": name,
                "objective_args": {key: float(value) for key, value in named.items()},
                "steps": steps,
                "batch_size": 8,
                "seed": seed,
                "precision": "fp32",
                "device": "auto" if torch.cuda.is_available() else "cpu",
                "lora": {"rank": 8, "alpha": 8.0, "targets": "attention+mlp"},
                "optim": {"lr": 1e-3, "warmup": 10, "schedule": "cosine"},
                "data": {"resolution": 64, "bucket_step": 64},
            }
        )
        wired = self.pack.nodes__comfy__model.Wired(self.model, self.clip, self.vae)
        source = self.pack.nodes__comfy__model.WiredSource(wired)
        job = self.pack.dspo_train__runs__job.Job(source, pairs, folder, config, cache=pairs.with_name("cache"))
        with torch.inference_mode(False), self.pack.dspo_train__runs__session.open_session(job) as session:
            for _ in session.reports():
                pass
            return session.folder.result


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
