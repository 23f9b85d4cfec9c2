"""The words of the graph for what the library's messages name in backticks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .. import objectives
from ..config.naming import names_in_graph
from .presets import OWN_NUMBER

_LABELLED = {  # inputs whose label says it in other words
    "accumulate": "accumulate (passes per step)",
    "data.flip": "flip (mirror half)",
    "lora.targets": "targets (trained layers)",
}
_OTHERS = {
    "previews": "preview_every",
    "gradient_checkpointing": "gradient_checkpointing",
    "continue_from": "continue_from",
    OWN_NUMBER: OWN_NUMBER,
    "allow_empty_captions": "allow_empty_captions in DSPO Preference Set",
    "prediction": "the model's prediction type (by ModelSamplingDiscrete, between its loader and this node)",
}
_ARGUMENTS = {
    f"objective_args.{name}": OWN_NUMBER for info in objectives.OBJECTIVES.values() if (name := info.own_number)
}

GRAPH_WORDS: Mapping[str, str] = MappingProxyType({**names_in_graph(), **_LABELLED, **_ARGUMENTS, **_OTHERS})
"""By dotted setting name, or the name of another argument: the input of a node."""
