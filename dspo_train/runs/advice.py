"""What to change in a run that needs more memory than there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .memory import MemoryNeed, Setup, gib, need_of

WORTH = 0.02  # share of the peak: a saving below this is not worth a suggestion


@dataclass(frozen=True)
class Names:
    """What the settings are called where the person changes them; None for one that cannot be changed there."""

    batch_size: str = "batch_size"
    accumulate: str = "accumulate"
    optimizer: str | None = "optim.name"
    resolution: str = "data.resolution"
    targets: str = "lora.targets"
    rank: str = "lora.rank"
    previews: str | None = None


def advice(need: MemoryNeed, available: int, *, accumulate: int = 1, names: Names = Names()) -> list[str]:
    """What to change, mildest first, so that the run needs at most `available` bytes; nothing if it does already.

    Each line stands for itself, with the run's peak if only that is changed. Where no line is enough, the last tells
    what all of them come to.
    """
    if need.peak <= available:
        return []
    lines, together, enough = [], need.setup, False
    for text, changes in _changes(need.setup, available, accumulate, names):
        changed = need_of(replace(need.setup, **changes))
        if need.peak - changed.peak < WORTH * need.peak:
            continue
        lines.append(f"{text}: about {gib(changed.peak)} GiB instead of {gib(need.peak)}")
        together, enough = replace(together, **changes), enough or changed.peak <= available
    if len(lines) > 1 and not enough:
        peak = need_of(together).peak
        short = "" if peak <= available else f", still more than the {gib(available)} GiB there are"
        lines.append(f"all of these together: about {gib(peak)} GiB{short}")
    return lines


_Change = tuple[str, dict[str, object]]


def _changes(setup: Setup, available: int, accumulate: int, names: Names) -> Iterator[_Change]:
    """What could be changed, mildest first: first what alters the speed alone, last what alters the LoRA."""
    if setup.previews and names.previews is not None:
        yield f"set {names.previews} to 0", {"previews": False}
    if not setup.checkpointing:
        yield "turn gradient checkpointing on", {"checkpointing": True}
    if setup.precision == "fp32":
        yield "use precision bf16 (fp16 on cards before 2020)", {"precision": "bf16"}
    smaller = [n for n in range(setup.batch_size - 1, 0, -1) if setup.batch_size % n == 0]
    if smaller:
        batch = _first_that_fits(setup, available, "batch_size", smaller)
        passes = accumulate * setup.batch_size // batch
        text = f"lower {names.batch_size} to {batch} and raise {names.accumulate} to {passes}"
        yield f"{text}, which trains the same", {"batch_size": batch}
    if setup.optimizer == "adamw" and names.optimizer is not None:
        yield f"use {names.optimizer} adamw8bit", {"optimizer": "adamw8bit"}
    sides = list(range((setup.resolution - 1) // 64 * 64, max(64, setup.resolution // 2) - 1, -64))
    if sides:
        side = _first_that_fits(setup, available, "resolution", sides)
        yield f"lower {names.resolution} to {side}", {"resolution": side}
    if setup.targets != "attention":
        yield f"use {names.targets} attention", {"targets": "attention"}
    ranks = [rank for rank in (64, 32, 16, 8) if rank < setup.rank]
    if ranks:
        rank = _first_that_fits(setup, available, "rank", ranks)
        yield f"lower {names.rank} to {rank}", {"rank": rank}


def _first_that_fits(setup: Setup, available: int, name: str, values: list[int]) -> int:
    """The first value with which the run fits; the last if none does."""
    return next((v for v in values if need_of(replace(setup, **{name: v})).peak <= available), values[-1])
