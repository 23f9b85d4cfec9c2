"""The memory that training the published models needs: `python -m benchmarks.memory` prints docs/comfyui.md's table.

It is counted as in a run's own check, without a GPU or weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import get_args

from dspo_train.models.blueprint import Blueprint, text_parameters
from dspo_train.models.families import FAMILIES, Family
from dspo_train.models.single_file import template
from dspo_train.runs.memory import gib, need_of
from dspo_train.runs.preflight import setup_of
from dspo_train.runs.presets import PresetName, configure
from dspo_train.runs.sizes import BlueprintSizes

PRESETS: tuple[PresetName, ...] = get_args(PresetName)


def published(family: Family) -> BlueprintSizes:
    """The full-size model of a family."""
    unet, vae = (json.dumps(template(family, part)) for part in ("unet", "vae"))
    texts = [template(family, part.config) for part in family.text_parts]
    return BlueprintSizes(Blueprint(family, unet, vae, text_parameters(texts)))


def rows() -> Iterator[str]:
    yield f"| | {' | '.join(preset.capitalize() for preset in PRESETS)} |"
    yield "|---" * (1 + len(PRESETS)) + "|"
    for family in FAMILIES.values():
        yield f"| {family.title} | {' | '.join(cell(family, preset) for preset in PRESETS)} |"


def cell(family: Family, preset: PresetName) -> str:
    """GiB without and with gradient checkpointing, in bf16 with one pair per forward pass."""
    peaks = []
    for checkpointing in (False, True):
        changes = {"steps": 400, "batch_size": 1, "precision": "bf16", "gradient_checkpointing": checkpointing}
        setup = setup_of(published(family), configure(preset, family.resolution, changes))
        peaks.append(gib(need_of(setup).peak))
    return ", ".join(peaks)


def main() -> None:
    for row in rows():
        sys.stdout.write(row + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
