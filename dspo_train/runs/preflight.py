"""What will not work, reported before the long work begins: one check for the command line and the graph."""

from __future__ import annotations

import gc
import logging
import math
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..config import TrainConfig
from ..data.split import normalised
from ..exceptions import DatasetError, RunError
from ..files.words import many, shortened
from ..pairs import Defect, Scan, crop_note
from ..stepwise.cost import cost_of
from . import memory
from .advice import advice
from .session import check_settings
from .sizes import Sizes

FEW = 20  # pairs; a rule of thumb
SHOWN = 5  # defects that a note names
OFTEN = 100  # times that each pair is seen
FLOAT = 4  # bytes per number in an encoding or a checkpoint
SPARE = 256 * 2**20  # bytes that are left free on the disk
_CAPTIONS = {"pairs": "cat_w.png, cat_l.png: cat.txt", "images": "liked/cat.png: liked/cat.txt"}

_FULL = re.compile("can't allocate memory|not enough memory|out of memory")  # torch of the host's memory, and of MPS

log = logging.getLogger("dspo")


def setup_of(
    model: Sizes, config: TrainConfig, *, refine: bool = False, previews: bool = False, shared: bool = False
) -> memory.Setup:
    """What the memory of a run depends on; the config's precision must be resolved, not `auto`."""
    return memory.Setup(
        model=model,
        resolution=config.data.resolution,
        batch_size=config.batch_size,
        precision=config.precision,
        rank=config.lora.rank,
        targets=config.lora.targets,
        checkpointing=config.gradient_checkpointing,
        optimizer=config.optim.name,
        objective=config.objective,
        method=config.method,
        refine=refine,
        previews=previews,
        copies=(config.ema > 0) + (config.moving_reference > 0),
        shared=shared,
        stepwise=config.stepwise,
    )


def check_run(
    scan: Scan,
    config: TrainConfig,
    setup: memory.Setup,
    total: int,
    *,
    out: Path,
    cache: Path,
    fixed: Collection[str] = (),
) -> list[str]:
    """Check data, settings, memory and disk before anything is loaded. -> notes for the user

    Args:
        total: bytes of memory that the device has, free or not.
        out: where runs are written.
        cache: where encodings are written.
        fixed: settings that the front end does not offer, so that no message advises to change them.

    Raises:
        ConfigError, DatasetError, RunError: this run cannot work; the message says what to do.
    """
    notes = check_pairs(scan, config, fixed)
    check_settings(config, scan, refine=setup.refine)
    if config.stepwise.method != "off":
        notes.append(str(cost_of(config.stepwise, min(config.stepwise.plan.trained, config.stepwise.steps - 1))))
    notes += check_memory(setup, total, config.accumulate, fixed)
    check_disk(out, cache, scan, config, setup)
    return notes


def ran_out_of_memory(work: Callable[[], object]) -> bool:
    """Do the work. -> whether memory ran out, in which case nothing holds the tensors any more"""
    try:
        work()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        log.exception("out of memory")
    else:
        return False
    gc.collect()
    return True


def is_out_of_memory(error: Exception) -> bool:
    """Of the device or the host; some devices have no exception of their own for it."""
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or bool(_FULL.search(str(error)))


def check_pairs(scan: Scan, config: TrainConfig, fixed: Collection[str] = ()) -> list[str]:
    """Check that there are pairs, or liked and disliked images. -> notes for the user

    Raises:
        DatasetError: nothing is usable, or nothing has a caption; the message says what to do.
    """
    left_out = [defect for defect in scan.defects if defect.fatal]
    silent = sum(defect.kind == "no_caption" for defect in left_out)
    kind = scan.noun
    if silent and not scan.rows:
        allowed = "" if "allow_empty_captions" in fixed else ", or set `allow_empty_captions`"
        raise DatasetError(
            f"{scan.folder.name}: none of its {silent} {kind} has a caption. Write the prompts to text files "
            f"beside them ({_CAPTIONS[kind]}){allowed}"
        )
    scan.usable()
    what, count = _fewest(scan, config)
    notes = []
    if silent:
        notes.append(f"{many(silent, kind[:-1])} left out for want of a caption{_first(left_out, 'no_caption')}")
    if others := [defect for defect in left_out if defect.kind != "no_caption"]:
        title = f"{many(len(others), 'defect')} left {kind} out:"
        notes.append("\n  ".join([title, *shortened(others, SHOWN)]))
    if count < FEW:
        few = f"only 1 {what}" if count == 1 else f"{count} {what}s are few"
        own = config.stepwise.method != "off"
        what_of_it = "little is known of the taste" if own else "the LoRA may learn their style rather than a taste"
        notes.append(f"{few}: {what_of_it}; 50 are better")
    seen = config.steps * config.batch_size * config.accumulate / count
    if seen > OFTEN and config.stepwise.method == "off":
        fewer = max(1, math.ceil(config.steps * OFTEN / seen))
        each = f"each {what}" if scan.unpaired else "each pair"
        notes.append(f"{each} will be seen {seen:.0f} times: lower `steps` to {fewer}, or add {kind}")
    data = config.data
    if cropped := crop_note(scan, data.resolution, data.bucket_step, data.max_aspect):
        notes.append(cropped)
    return notes


def _first(defects: Sequence[Defect], kind: str) -> str:
    """The places of the first defects of a kind, in brackets."""
    places = [defect.where for defect in defects if defect.kind == kind]
    more = ", ..." if len(places) > SHOWN else ""
    return f" ({', '.join(places[:SHOWN])}{more})"


def _fewest(scan: Scan, config: TrainConfig) -> tuple[str, int]:
    """What there is to train on, in the singular, and about how many: pairs, or images of the smaller side, since both
    sides are drawn equally often.
    """
    if not scan.unpaired:
        one = config.data.one_per_prompt
        count = len({normalised(pair.prompt) for pair in scan.pairs}) if one else len(scan.pairs)
        return "pair", max(1, round(count * (1 - config.held_out.share)))
    sides = ("liked image", len(scan.liked)), ("disliked image", len(scan.disliked))
    return min(sides, key=lambda side: side[1])


def at_most_the_pairs(config: TrainConfig, scan: Scan) -> TrainConfig:
    """The config with no more pairs in a forward pass than there are: a pass would hold the same pair twice."""
    return replace(config, batch_size=min(config.batch_size, max(1, _fewest(scan, config)[1])))


def needs_checkpointing(setup: memory.Setup, total: int) -> bool:
    """Does the run need gradient checkpointing to fit on the device?

    Decided by the device's whole memory, not by what is free now, so that a resumed run decides the same.
    """
    without = replace(setup, checkpointing=False, previews=False)
    return not memory.fits(memory.need_of(without), total)


def check_memory(setup: memory.Setup, total: int, accumulate: int, fixed: Collection[str] = ()) -> list[str]:
    """Check that the run fits on the device. -> notes for the user

    Raises:
        RunError: it needs more memory than there is; the message says what to lower.
    """
    need = memory.need_of(setup)
    if need.peak > total:
        raise RunError(too_large(setup, total, accumulate, fixed))
    if memory.fits(need, total):
        return []
    user = "the memory" if setup.shared else "the GPU"
    return [f"the device's {memory.gib(total)} GiB are just enough if no other program uses {user}"]


def check_free(setup: memory.Setup, free: int, accumulate: int = 1, fixed: Collection[str] = ()) -> list[str]:
    """Check whether `free` bytes of the device are enough. -> what to do if they may not be

    Raises:
        RunError: the host's memory is too small for what the run adds to it, even with the weights there already and
            without the allowance: the system would end the process, where a graphics card only refuses.
    """
    need = memory.need_of(setup)
    if need.peak <= free:
        return []
    there = need.weights + memory.ALLOWANCE
    if setup.shared and need.peak - there > free:
        raise RunError(_too_large(need, free + there, f"only {memory.gib(free)} GiB are free", accumulate, fixed))
    wanted = memory.gib(need.peak)
    return [f"only {memory.gib(free)} GiB are free, but about {wanted} GiB are needed: close other programs"]


def too_large(setup: memory.Setup, total: int, accumulate: int, fixed: Collection[str] = ()) -> str:
    """The message for a run that does not fit, or turned out not to: what to lower."""
    return _too_large(memory.need_of(setup), total, f"the device has {memory.gib(total)} GiB", accumulate, fixed)


def _too_large(need: memory.MemoryNeed, available: int, there: str, accumulate: int, fixed: Collection[str]) -> str:
    ways = advice(need, min(available, need.peak - 1), accumulate=accumulate, fixed=fixed)
    sizes = f"this run needs about {memory.gib(need.peak)} GiB, but {there}"
    if not ways:
        return f"out of memory: {sizes}; close other programs"
    return "\n".join([f"out of memory: {sizes}. What helps:", *(f"- {way}" for way in ways)])


def check_disk(out: Path, cache: Path, scan: Scan, config: TrainConfig, setup: memory.Setup) -> None:
    """Check that there is room for the encodings, the checkpoints and the result.

    Raises:
        RunError: there is not; the message gives both figures.
    """
    images = sum(len(row.images) for row in scan.usable())
    values = setup.latent_pixels * setup.model.moment_values + setup.model.caption_values
    encodings = images * values * FLOAT
    weights = memory.trained_parameters(setup) * FLOAT
    checkpoints = (config.keep_checkpoints + 1) * 4 * weights  # weights, two moments, and the LoRA file
    needs = [(_existing(cache), encodings), (_existing(out), checkpoints)]
    for folder, _ in needs:
        same = [need for other, need in needs if other.stat().st_dev == folder.stat().st_dev]
        need, free = sum(same) + SPARE, shutil.disk_usage(folder).free
        if free < need:
            raise RunError(
                f"the disk of {folder} has {_gb(free)} free, but this run may write up to {_gb(need)} "
                f"({_gb(encodings)} of that is encoded images, written once per set); free some space"
            )


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
