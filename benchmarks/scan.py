"""How long a scan takes, and how much memory: `python benchmarks/scan.py --pairs 10000`.

Writes small PNGs with captions to a temporary folder, scans them, and removes them.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import time
import tracemalloc
import zlib
from pathlib import Path

from dspo_train.pairs import scan_pairs


def write_png(path: Path, side: int, shade: int) -> None:
    """Write a square of one colour; different values of `shade` below 2^24 give different pixels."""
    pixels = (b"\0" + shade.to_bytes(3, "big") * side) * side
    body = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels, 1)),
        (b"IEND", b""),
    )
    chunks = [len(d).to_bytes(4, "big") + k + d + zlib.crc32(k + d).to_bytes(4, "big") for k, d in body]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def write_pairs(folder: Path, pairs: int, side: int) -> None:
    for number in range(pairs):
        name = f"pair{number:06d}"
        write_png(folder / f"{name}_w.png", side, 2 * number)
        write_png(folder / f"{name}_l.png", side, 2 * number + 1)
        (folder / f"{name}.txt").write_text(f"an image of thing {number}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--deep", action="store_true", help="decode every image")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, options.pairs, options.side)
        start = time.perf_counter()
        found = len(scan_pairs(folder, deep=options.deep).pairs)
        seconds = time.perf_counter() - start
        tracemalloc.start()
        scan = scan_pairs(folder, deep=options.deep)
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(scan.pairs) == found == options.pairs, scan.defects[:3]
    sys.stdout.write(
        f"{options.pairs} pairs in {seconds:.2f} s ({2 * options.pairs / seconds:.0f} images/s), "
        f"peak {peak / 2**20:.1f} MiB, of which the result {kept / 2**20:.1f} MiB\n"
    )


if __name__ == "__main__":
    main()
