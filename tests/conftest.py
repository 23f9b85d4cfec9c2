"""What holds for every test: one thread, unless the environment asks for more."""

from __future__ import annotations

import os

# The tiny models' tensors are too small to be shared out: on two cores, two threads spend most of their time waiting
# for each other, far more so beside other programs. Set before torch is imported, and inherited by child processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
