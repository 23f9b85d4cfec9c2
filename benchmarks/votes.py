"""How quickly the voting routes of a running ComfyUI answer: `python benchmarks/votes.py --input ~/ComfyUI/input`.

Writes a set of small images into the input folder, votes on it over HTTP, and removes it; a vote is on the disk before
it is answered. Every request has a connection of its own. Restart ComfyUI for the `first` figures, and keep it idle.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import shutil
import statistics
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
from PIL import Image

from dspo_train.preferences import NewImage, PreferenceStore

PICTURES = 9  # per prompt, each compared with every other: 36 pairs
PAIRS = PICTURES * (PICTURES - 1) // 2


class Panel:
    """Requests as the panel sends them."""

    def __init__(self, url: str, set: str) -> None:
        self.host, self.place = urlsplit(url).netloc, {"place": "sets", "set": set}

    def get(self, path: str, **fields: Any) -> Any:
        return self._ask("GET", f"/api/dspo/{path}?{urlencode(fields)}", None)

    def vote(self, question: dict[str, str]) -> Any:
        answer = {"pair": question["pair"], "outcome": "win", "winner": question["left"], "seconds": 1.0}
        fields = {**self.place, **answer, "id": uuid.uuid4().hex, "client": "benchmark"}
        return self._ask("POST", "/api/dspo/vote", json.dumps(fields).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        connection = http.client.HTTPConnection(self.host, timeout=600)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", "X-DSPO": "1"})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            sys.exit(f"{method} {path}: {answer.status} {content.decode(errors='replace')}")
        return json.loads(content)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_set(folder: Path, pairs: int) -> int:
    """Write groups of 16 x 16 pixel noise images. -> number of pairs, `pairs` or a few more"""
    generator = np.random.default_rng(0)
    store = PreferenceStore(folder)
    for number in range(-(-pairs // PAIRS)):
        noise = generator.integers(0, 255, (PICTURES, 16, 16, 3), dtype=np.uint8)
        store.add_group(f"picture {number}", [NewImage(png(each), n) for n, each in enumerate(noise)])
    return store.progress().total


def timed(times: list[float], ask: Any) -> Any:
    started = time.perf_counter()
    answer = ask()
    times.append(1000 * (time.perf_counter() - started))
    return answer


def measure(panel: Panel, requests: int) -> dict[str, list[float]]:
    """Milliseconds by name, in the order of the requests."""
    times: dict[str, list[float]] = {name: [] for name in ("sets, first", "next, first", "sets", "next", "vote")}
    timed(times["sets, first"], lambda: panel.get("sets"))
    timed(times["next, first"], lambda: panel.get("next", **panel.place, count=4))
    for _ in range(requests):
        found = timed(times["next"], lambda: panel.get("next", **panel.place, count=4))
        question = found["questions"][0]
        timed(times["vote"], lambda it=question: panel.vote(it))
    for _ in range(max(1, requests // 10)):
        timed(times["sets"], lambda: panel.get("sets"))
    return times


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--input", type=Path, required=True, help="the input folder of that ComfyUI")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--keep", action="store_true", help="keep the set, to look at it in the panel")
    args = parser.parse_args()
    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    try:
        total = write_set(args.input / name, args.pairs)
        say(f"{total} pairs in {args.input / name}")
        for what, times in measure(Panel(args.url, name), args.requests).items():
            slow = sorted(times)[int(0.95 * len(times))]
            say(f"{what:12} median {statistics.median(times):8.1f} ms   95% {slow:8.1f} ms   n {len(times)}")
    finally:
        if not args.keep:
            shutil.rmtree(args.input / name, ignore_errors=True)


if __name__ == "__main__":
    main()
