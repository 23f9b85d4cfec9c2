"""What will not work, said before the long work begins."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import TrainConfig
from ..data.split import normalised
from ..exceptions import DatasetError, RunError
from ..pairs import Scan
from . import memory
from .advice import Names, advice

if TYPE_CHECKING:  # that module loads diffusers
    from ..models.single_file import SingleFile

FEW = 20  # pairs; a rule of thumb, said as such
OFTEN = 100  # times that each pair is seen
LATENT_VALUES = 2 * 4 / 64  # mean and log-variance of four channels, for every 8 x 8 pixels
TEXT_BYTES = 77 * 2048 * 4  # one caption's embedding; SDXL's, the largest, in float32
SPARE = 256 * 2**20  # bytes; a disk is never filled to the brim
_CAPTIONS = {"pairs": "cat_w.png, cat_l.png: cat.txt", "images": "liked/cat.png: liked/cat.txt"}


def check_pairs(scan: Scan, config: TrainConfig) -> list[str]:
    """Are there pairs, or liked and disliked pictures? -> what their owner should know before such a run

    Raises:
        DatasetError: nothing usable, or nothing with a caption; the message says what to do.
    """
    left_out = [defect for defect in scan.defects if defect.fatal]
    silent = sum(defect.kind == "no_caption" for defect in left_out)
    kind = scan.noun
    if silent and not scan.rows:
        raise DatasetError(
            f"{scan.folder.name}: none of its {silent} {kind} has a caption. Write the prompts into text files "
            f"beside them ({_CAPTIONS[kind]}), or allow empty captions in the Preference Set node"
        )
    scan.usable()
    what, count = _fewest(scan, config)
    notes = []
    if silent:
        notes.append(f"{silent} {kind} are left out because they have no caption")
    if others := len(left_out) - silent:
        notes.append(f"{others} defects left {kind} out: see the Preference Set node's report")
    if count < FEW:
        notes.append(
            f"{count} {what} are few: expect the style of these pictures more than a taste; 50 or more is better"
        )
    seen = config.steps * config.batch_size * config.accumulate / count
    if seen > OFTEN:
        fewer = max(1, math.ceil(config.steps * OFTEN / seen))
        each = f"each of the {count} {what}" if scan.unpaired else "each pair"
        notes.append(f"{each} will be seen {seen:.0f} times: fewer steps ({fewer}) or more {kind} would be wiser")
    return notes


def _fewest(scan: Scan, config: TrainConfig) -> tuple[str, int]:
    """Pairs to train on, held-out ones about; or the smaller side's pictures, which come as often as the other's."""
    if not scan.unpaired:
        one = config.data.one_per_prompt
        count = len({normalised(pair.prompt) for pair in scan.pairs}) if one else len(scan.pairs)
        return "pairs", max(1, round(count * (1 - config.held_out.share)))
    sides = ("liked images", len(scan.liked)), ("disliked images", len(scan.disliked))
    return min(sides, key=lambda side: side[1])


def setup_of(file: SingleFile, config: TrainConfig, *, refine: bool = False, previews: bool = False) -> memory.Setup:
    """What the memory of a run depends on; its precision is settled, not `auto`."""
    return memory.Setup(
        family=file.family.name,
        resolution=config.data.resolution,
        batch_size=config.batch_size,
        precision=config.precision,
        rank=config.lora.rank,
        targets=config.lora.targets,
        checkpointing=config.gradient_checkpointing,
        optimizer=config.optim.name,
        objective=config.objective,
        refine=refine,
        previews=previews,
        copies=(config.ema > 0) + (config.moving_reference > 0),
        share=min(1.0, file.unet_parameters / memory.SIZES[file.family.name].unet),
    )


def needs_checkpointing(setup: memory.Setup, total: int) -> bool:
    """Does a run fit into `total` bytes only with gradient checkpointing? Previews do not count: they can be left.

    By the device's whole memory and not by what is free now, so that a resumed run decides the same.
    """
    without = replace(setup, checkpointing=False, previews=False)
    return not memory.fits(memory.need_of(without), total)


def check_memory(setup: memory.Setup, total: int, accumulate: int, names: Names) -> list[str]:
    """Does the run fit the device? -> what its owner should know

    Args:
        total: bytes that the device has, free or not.
        names: of the settings, where they are changed.

    Raises:
        RunError: it needs more than there is; the message says what to lower.
    """
    need = memory.need_of(setup)
    if need.peak > total:
        raise RunError(too_large(setup, total, accumulate, names))
    if memory.fits(need, total):
        return []
    return [f"the device's {memory.gib(total)} GiB may just do, if nothing else uses them"]


def check_free(setup: memory.Setup, free: int) -> list[str]:
    """Are `free` bytes of the device enough? -> what to do if they may not be"""
    need = memory.need_of(setup)
    if need.peak <= free:
        return []
    wanted = memory.gib(need.peak)
    return [f"only {memory.gib(free)} GiB are free and about {wanted} are needed: close other programs that use them"]


def too_large(setup: memory.Setup, total: int, accumulate: int, names: Names) -> str:
    """What to lower where the memory does not do, or turned out not to."""
    need = memory.need_of(setup)
    ways = advice(need, min(total, need.peak - 1), accumulate=accumulate, names=names)
    known = f"this run needs about {memory.gib(need.peak)} GiB; the device has {memory.gib(total)} GiB. What helps:"
    return "\n".join([f"out of memory: {known}", *(f"- {way}" for way in ways)])


def check_disk(out: Path, cache: Path, scan: Scan, family: str, config: TrainConfig) -> None:
    """Is there room for the encodings, the checkpoints and the result?

    Raises:
        RunError: there is not; both figures are given.
    """
    pictures = len(scan.usable()) * (1 if scan.unpaired else 2)
    encodings = pictures * (config.data.resolution**2 * LATENT_VALUES * 4 + TEXT_BYTES)
    adapter = 4 * config.lora.rank * memory.SIZES[family].widths[config.lora.targets]  # bytes, float32
    checkpoints = (config.keep_checkpoints + 1) * 4 * adapter  # weights, two moments, and the LoRA file
    needs = [(_existing(cache), encodings), (_existing(out), checkpoints)]
    for folder, _ in needs:
        same = [need for other, need in needs if other.stat().st_dev == folder.stat().st_dev]
        need, free = sum(same) + SPARE, shutil.disk_usage(folder).free
        if free < need:
            raise RunError(
                f"the disk of {folder} has {_gb(free)} free, but this run may write up to {_gb(need)} "
                f"({_gb(encodings)} of them encoded pictures, once for every set); free some space"
            )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there already."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
