"""How quickly images that are there already are listed and collected, and a set of them is voted on.

python -m benchmarks.gather --output ~/ComfyUI/output --input ~/ComfyUI/input

Writes images with ComfyUI's metadata into the output folder of a running, idle ComfyUI, does over HTTP what the panel
does, and removes them and the set.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .votes import Panel, measure, say, timed

OF_A_PROMPT = 9
NODES = 40  # of the graph in each file; about 10 KB


def graph(prompt: str, seed: int) -> str:
    sampler = {"positive": ["6", 0], "latent_image": ["9", 0], "seed": seed, "steps": 20, "cfg": 7.0}
    nodes = {
        "3": {"class_type": "KSampler", "inputs": sampler},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": prompt}},
        "9": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512}},
    }
    filler = {"class_type": "PrimitiveString", "inputs": {"value": "x" * 200}}
    return json.dumps({**nodes, **{str(n): filler for n in range(100, 100 + NODES)}})


def write_images(folder: Path, count: int, side: int) -> None:
    """`OF_A_PROMPT` images of each prompt: flat grey with a square of noise, so that each is another."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.full((side, side, 3), 128, np.uint8)
        pixels[:64, :64] = generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        about = PngInfo()
        about.add_text("prompt", graph(f"picture {number // OF_A_PROMPT}", number))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=about, compress_level=1)
        (folder / f"{number:06}.png").write_bytes(buffer.getvalue())


class Gatherer(Panel):
    def listing(self, folder: str) -> dict[str, Any]:
        """The first page, asked for until all files are read."""
        while True:
            found = self.get("gather", source="output", folder=folder, limit=24)
            if found["reading"] is None:
                return found

    def post(self, path: str, **fields: Any) -> Any:
        return self._ask("POST", f"/api/dspo/{path}", json.dumps(fields).encode())

    def collect(self, folder: str) -> dict[str, Any]:
        self.post("gather", source="output", folder=folder, set=self.place["set"], everything=True)
        while (job := self.get("gather.status")["job"])["state"] == "running":
            time.sleep(0.1)
        return job


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--output", type=Path, required=True, help="the output folder of that ComfyUI")
    parser.add_argument("--input", type=Path, required=True, help="its input folder")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=512, help="of the images, in pixels")
    args = parser.parse_args()
    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    panel = Gatherer(args.url, name)
    times: dict[str, list[float]] = {}
    try:
        write_images(args.output / name, args.images, args.side)
        found = timed(times.setdefault("list, first", []), lambda: panel.listing(name))
        say(f"{found['images']} images of {found['total']} prompts, {args.side} pixels wide")
        for _ in range(5):
            timed(times.setdefault("list", []), lambda: panel.listing(name))
            timed(
                times.setdefault("list, next page", []),
                lambda: panel.get("gather", source="output", folder=name, offset=24, limit=24),
            )
        job = timed(times.setdefault("collect", []), lambda: panel.collect(name))
        say(f"{job['state']}: {job['added']} images, {job['pairs']} pairs")
        again = timed(times.setdefault("collect again", []), lambda: panel.collect(name))
        say(f"again: {again['added']} added, {again['already']} already there")
        times |= measure(panel, 100)
        for what, each in times.items():
            slow = sorted(each)[int(0.95 * len(each))]
            say(f"{what:16} median {statistics.median(each):10.1f} ms   95% {slow:10.1f} ms   n {len(each)}")
    finally:
        shutil.rmtree(args.output / name, ignore_errors=True)
        shutil.rmtree(args.input / name, ignore_errors=True)


if __name__ == "__main__":
    main()
