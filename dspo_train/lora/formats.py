"""How the LoRA of a model is named and labelled in files: one value for each kind of model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..models.families import Family, LoraLabels
from ..models.unet_names import BlockLayout
from .keys import kohya_name, name_table, resolve
from .layers import adaptable_layers


@dataclass(frozen=True)
class LoraFormat:
    """The names of a model's layers in LoRA files.

    Attributes:
        stem: from a layer's path in the network to the stem of its keys in the files that are written.
        labels: how files are labelled.
    """

    stem: Callable[[str], str]
    labels: LoraLabels


def unet_format(family: Family, unet: nn.Module) -> LoraFormat:
    """Of a UNet that diffusers loaded: kohya's names, under the block names that kohya's own trainer writes."""
    config: Any = unet.config
    layout = BlockLayout.of(config)
    return LoraFormat(
        stem=lambda path: kohya_name(path, layout, family.lora.blocks),
        labels=family.lora,
    )


def unet_names(unet: nn.Module) -> Callable[[str], str | None]:
    """From every spelling of the layers of a UNet that diffusers loaded to their paths."""
    config: Any = unet.config
    table = name_table(adaptable_layers(unet), BlockLayout.of(config))
    return lambda name: resolve(name, table)
