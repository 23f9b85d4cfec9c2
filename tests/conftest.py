"""What holds for every test: one thread, unless the environment asks for more, and loggers as they were."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

# The tiny models' tensors are too small to be shared out: on two cores, two threads spend most of their time waiting
# for each other, far more so beside other programs. Set before torch is imported, and inherited by child processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")


QUIETED = ("transformers", "diffusers", "huggingface_hub", "accelerate", "torch.distributed")


@pytest.fixture(autouse=True)
def loggers_are_put_back() -> Iterator[None]:
    """The command line quiets the libraries below: a test that listens to them would hear nothing after one of it."""
    before = {name: logging.getLogger(name).level for name in QUIETED}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
