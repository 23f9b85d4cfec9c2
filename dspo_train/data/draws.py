"""Random numbers that depend on what they are for, not on what was drawn before.

Generators seeded by (seed, purpose, step, position) make a run resumable and splittable without stored generator state:
step 731 draws the same numbers after a crash, in another process or with another packing of the batch.
"""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for one purpose; equal arguments give equal draws on any machine."""
    return torch.Generator().manual_seed(number(seed, *purpose))


def number(seed: int, *purpose: object) -> int:
    """A 63-bit hash of all arguments."""
    text = "\0".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big") >> 1
