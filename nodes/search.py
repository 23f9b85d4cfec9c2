"""The words by which ComfyUI's node search finds the nodes, besides their names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from comfy_api.v0_0_2 import io

ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "DSPOPreferenceSet": ("vote", "preference", "rate", "rank", "taste", "pairs", "dataset", "like", "reward"),
        "DSPOTrainLora": (
            *("dpo", "train", "lora training", "fine-tune", "finetune", "align", "alignment", "preference"),
            *("diffusion dpo", "kto", "rlhf", "reward", "taste", "style", "learn"),
        ),
        "DSPOTrainingOptions": ("dpo options", "training settings", "early stop", "validation", "ema", "held out"),
        "DSPOApplyLora": ("load lora", "lora loader", "use lora", "align", "taste", "style"),
        "DSPONegativeLora": ("negative prompt", "npo", "avoid", "dislike"),
        "DSPOCompareSampler": ("compare", "before after", "side by side", "ksampler", "ab test", "strength"),
        "DSPOABGrid": ("compare", "grid", "contact sheet", "xy plot", "side by side", "ab test"),
        "DSPOCollectPairs": ("vote", "pick", "rate", "rank", "preference", "best of", "choose", "collect", "favourite"),
        "DSPOCandidates": ("best of", "batch", "variations", "seeds", "generate", "pick", "vote", "prompts"),
        "DSPOBlindTest": ("vote", "blind", "compare", "win rate", "ab test", "evaluate", "rate", "pick"),
        "DSPOBlindTestImages": ("vote", "blind", "compare images", "win rate", "ab test", "evaluate", "rate", "pick"),
        "DSPOTaste": ("preference model", "reward model", "aesthetic", "personal", "learn", "accuracy", "votes"),
        "DSPOScoreImages": ("best of", "rank", "sort", "aesthetic score", "pick", "reward", "filter", "taste"),
        "DSPOPlayground": ("tiny model", "demo", "try", "test model", "without checkpoint", "example"),
    }
)

N = TypeVar("N", bound=type[io.ComfyNode])


def findable(node: N) -> N:
    """Put the node's words into its schema, where the core's schemas take them."""
    define = node.define_schema

    def define_schema(_: type[io.ComfyNode]) -> io.Schema:
        schema = define()
        if hasattr(schema, "search_aliases"):
            schema.search_aliases = list(ALIASES.get(schema.node_id, ()))
        return schema

    node.define_schema = classmethod(define_schema)  # type: ignore[method-assign, assignment]
    return node
