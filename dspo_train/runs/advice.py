"""What to change in a run that needs more memory than is available."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from .memory import MemoryNeed, Setup, gib, need_of

WORTH = 0.02  # share of the peak: a smaller saving is not worth a suggestion


def advice(need: MemoryNeed, available: int, *, accumulate: int = 1, fixed: Collection[str] = ()) -> list[str]:
    """What to change, mildest first, so that the run needs at most `available` bytes; empty if it already does.

    Each line stands alone and gives the peak with only that change. If no line is enough, the last one gives the peak
    with all of them.

    Args:
        fixed: settings that the front end does not offer, such as `optim.name`.
    """
    if need.peak <= available:
        return []
    lines, together, enough = [], need.setup, False
    for name, text, changes in _changes(need.setup, available, accumulate):
        changed = _changed(need.setup, need.setup, **changes)
        if name in fixed or need.peak - changed.peak < WORTH * need.peak:
            continue
        lines.append(f"{text}: about {gib(changed.peak)} GiB instead of {gib(need.peak)}")
        together, enough = replace(together, **changes), enough or changed.peak <= available
    if len(lines) > 1 and not enough:
        peak = _changed(need.setup, together).peak
        short = "" if peak <= available else f", still more than the {gib(available)} GiB available"
        lines.append(f"all of these together: about {gib(peak)} GiB{short}")
    return lines


_Change = tuple[str, str, dict[str, object]]


def _changes(setup: Setup, available: int, accumulate: int) -> Iterator[_Change]:
    """Setting, advice and change, mildest first: what affects only speed before what affects the result."""
    if setup.previews:
        yield "previews", "set `previews` to 0", {"previews": False}
    if not setup.checkpointing:
        yield "gradient_checkpointing", "turn `gradient_checkpointing` on", {"checkpointing": True}
    if setup.precision == "fp32":
        older = "" if setup.shared else " (fp16 on cards before 2020)"
        yield "precision", f"set `precision` to bf16{older}", {"precision": "bf16"}
    smaller = [n for n in range(setup.batch_size - 1, 0, -1) if setup.batch_size % n == 0]
    if smaller:
        batch = _first_that_fits(setup, available, "batch_size", smaller)
        passes = accumulate * setup.batch_size // batch
        text = f"lower `batch_size` to {batch} and raise `accumulate` to {passes}, which gives the same training"
        yield "batch_size", text, {"batch_size": batch}
    if setup.optimizer == "adamw" and not setup.shared:  # bitsandbytes is for graphics cards
        yield "optim.name", "set `optim.name` to adamw8bit", {"optimizer": "adamw8bit"}
    sides = list(range((setup.resolution - 1) // 64 * 64, max(64, setup.resolution // 2) - 1, -64))
    if sides:
        side = _first_that_fits(setup, available, "resolution", sides)
        yield "data.resolution", f"lower `data.resolution` to {side}", {"resolution": side}
    if setup.method == "full":
        yield "method", "set `method` to lora", {"method": "lora"}
        return
    if setup.targets != "attention":
        yield "lora.targets", "set `lora.targets` to attention", {"targets": "attention"}
    ranks = [rank for rank in (64, 32, 16, 8) if rank < setup.rank]
    if ranks:
        rank = _first_that_fits(setup, available, "rank", ranks)
        yield "lora.rank", f"lower `lora.rank` to {rank}", {"rank": rank}


def _first_that_fits(setup: Setup, available: int, name: str, values: list[int]) -> int:
    """The first value at which the run fits; the last if none does."""
    return next((v for v in values if _changed(setup, setup, **{name: v}).peak <= available), values[-1])


def _changed(original: Setup, setup: Setup, **changes: object) -> MemoryNeed:
    """The need of a setup whose resolution and rank are at most the original's; the count is scaled for these two."""
    changed = replace(setup, **changes)
    return need_of(changed, like=replace(changed, resolution=original.resolution, rank=original.rank))
